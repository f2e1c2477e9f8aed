"""Malformed input, written down: what to put into a folder, what to run, what must be said.

Each case is a function of the folder; it returns nothing.  `CASES` maps a name to (function,
arguments of the command, pattern of the message).
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

Make = Callable[[Path], object]
CASES: dict[str, tuple[Make, list[str], str]] = {}
RNG = np.random.default_rng(0)

RECIPE = """\
name: mine
shape: [1, 8, 8]
model: hvae
scales:
  small:
    model:
      likelihood: {kind: logistic}
      layers: [{stage: {kind: mlp}, latent: d4}]
    training: {epochs: 1, batch_size: 4}
    variants: {vanilla: {}}
"""


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def text(folder: Path, name: str, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)


# ---------------------------------------------------------------------- recipes
USE_RECIPE = ["--pair", "digits-photos", "--detector", "vanilla-hvae", "--recipe", "bad.yaml"]
YAML = {
    "empty": ("", "must hold a mapping"),
    "a-list": ("- 1\n- 2\n", "must hold a mapping.*not list"),
    "a-word": ("recipe", "must hold a mapping.*not str"),
    "a-number": ("3", "must hold a mapping.*not int"),
    "null": ("~", "must hold a mapping"),
    "no-utf8": (b"name: \xff\xfe", "not UTF-8"),
    "a-control-character": (b"name: a\x00b", "not valid YAML"),
    "a-tab": ("name: x\n\tshape: [1, 8, 8]\n", "line 2"),
    "unclosed-bracket": ("shape: [1, 8", "bad.yaml, line 2"),
    "unclosed-quote": ('name: "x\n', "bad.yaml"),
    "two-documents": ("name: a\n---\nname: b\n", "bad.yaml"),
    "duplicate-key": (RECIPE + "name: again\n", "key 'name' stands twice"),
    "duplicate-inner-key": (RECIPE.replace("epochs: 1", "epochs: 1, epochs: 2"), "stands twice"),
    "alias": ("a: &a [1]\nb: *a\n", "line 2: aliases .* not allowed"),
    "recursive-alias": ("a: &a [*a]\n", "aliases .* not allowed"),
    "billion-laughs": (
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n"
                                     for i in range(1, 12)),
        "aliases .* not allowed",
    ),
    "merge-key": ("a: &a {x: 1}\nb:\n  <<: *a\n", "aliases .* not allowed"),
    "deep-lists": ("a: " + "[" * 100_000, "nested more than"),
    "deep-mappings": ("".join("{a: " for _ in range(5000)), "nested more than"),
    "python-object": ("name: !!python/object/apply:os.system ['true']\n", "tag .* is not allowed"),
    "python-name": ("name: !!python/name:os.system\n", "tag .* is not allowed"),
    "unknown-tag": ("name: !mine 3\n", "tag .* is not allowed"),
    "bad-integer": ("name: !!int abc\n", "not valid YAML"),
    "bad-timestamp": ("name: 2020-99-99\n", "not valid YAML"),
    "bad-boolean": ("name: !!bool maybe\n", "not valid YAML"),
    "bad-binary": ("name: !!binary '&'\n", "bad.yaml"),
    "number-key": ("1: x\n", "key 1 is not text"),
    "list-key": ("[1, 2]: x\n", "is not text"),
    "null-key": ("~: x\n", "is not text"),
    "too-large": ("# " + "x" * (1 << 20) + "\nname: x\n", "larger than"),
    "unknown-key": (RECIPE + "shpae: [1, 8, 8]\n", "unknown key 'shpae'; nearest: shape"),
    "missing-model": (RECIPE.replace("model: hvae\n", ""), "'model' is missing"),
    "missing-shape": (RECIPE.replace("shape: [1, 8, 8]\n", ""), "'shape' is missing"),
    "empty-scales": ("name: x\nshape: [1, 8, 8]\nmodel: hvae\nscales: {}\n", "'scales' must map"),
    "scales-list": ("name: x\nshape: [1, 8, 8]\nmodel: hvae\nscales: [1]\n", "'scales' must map"),
    "unknown-scale": (RECIPE.replace("small:", "smal:"), "unknown key 'smal'; nearest: small"),
    "scale-word": ("name: x\nshape: [1, 8, 8]\nmodel: hvae\nscales: {small: x}\n", "a mapping"),
    "variants-list": (RECIPE.replace("{vanilla: {}}", "[vanilla]"), "variants must be a mapping"),
    "variant-word": (RECIPE.replace("{vanilla: {}}", "{vanilla: x}"), "must be a mapping"),
    "other-variant": (RECIPE.replace("{vanilla: {}}", "{hvk: {}}"), "unknown variant .* 'vanilla'"),
    "unknown-model": (RECIPE.replace("model: hvae", "model: hvea"), "unknown model 'hvea'; near"),
    "model-number": (RECIPE.replace("model: hvae", "model: 3"), "'model' must be a name"),
    "name-list": (RECIPE.replace("name: mine", "name: [a]"), "'name' must be a name"),
    "in-dist-word": (RECIPE + "in_dist: digits\n", "'in_dist' must be a list"),
    "in-dist-numbers": (RECIPE + "in_dist: [1]\n", "'in_dist' must be a list"),
    "shape-words": (RECIPE.replace("[1, 8, 8]", "[a, b, c]"), "three whole numbers"),
    "shape-short": (RECIPE.replace("[1, 8, 8]", "[1, 8]"), "three whole numbers"),
    "shape-zero": (RECIPE.replace("[1, 8, 8]", "[1, 0, 8]"), "three whole numbers"),
    "shape-negative": (RECIPE.replace("[1, 8, 8]", "[1, -8, 8]"), "three whole numbers"),
    "shape-true": (RECIPE.replace("[1, 8, 8]", "[true, 8, 8]"), "three whole numbers"),
    "shape-huge": (RECIPE.replace("[1, 8, 8]", f"[1, {10**4000}, 8]"), "three whole numbers"),
    "epochs-zero": (RECIPE.replace("epochs: 1", "epochs: 0"), "epochs: must be at least 1, not 0"),
    "epochs-word": (RECIPE.replace("epochs: 1", "epochs: many"), "epochs: must be a whole number"),
    "epochs-half": (RECIPE.replace("epochs: 1", "epochs: 0.5"), "epochs: must be a whole number"),
    "epochs-true": (RECIPE.replace("epochs: 1", "epochs: yes"), "epochs: must be a number"),
    "epochs-huge": (RECIPE.replace("epochs: 1", f"epochs: {10**18}"), "epochs: must be at most"),
    "epochs-list": (RECIPE.replace("epochs: 1", "epochs: [1]"), "epochs: must be a whole number"),
    "batch-huge": (RECIPE.replace("batch_size: 4", f"batch_size: {10**12}"), "must be at most"),
    "snapshots-falling": (RECIPE.replace("epochs: 1", "epochs: 1, snapshots: [2, 1]"),
                          "training: snapshots are numbers of epochs in ascending order"),
    "snapshots-number": (RECIPE.replace("epochs: 1", "epochs: 1, snapshots: 2"),
                         "snapshots: must be a list, not 2"),
    "snapshots-zero": (RECIPE.replace("epochs: 1", "epochs: 1, snapshots: [0]"),
                       "snapshots.0: must be at least 1, not 0"),
    "snapshots-none": (RECIPE.replace("epochs: 1", "epochs: 1, snapshots: []"),
                       "snapshots: must hold at least 1"),
    "snapshots-cosine": (RECIPE.replace("epochs: 1", "epochs: 1, snapshots: [1], schedule: cosine"),
                         "training: snapshots need schedule: constant"),
    "snapshots-stopping": (
        RECIPE.replace("epochs: 1", "epochs: 1, snapshots: [1], early_stop: {patience: 1}"),
        "training: snapshots and early_stop exclude each other"),
    "lr-negative": (RECIPE.replace("epochs: 1", "epochs: 1, lr: -1"), "lr: must be greater"),
    "lr-nan": (RECIPE.replace("epochs: 1", "epochs: 1, lr: .nan"), "lr: must be (a fin|gre)"),
    "lr-inf": (RECIPE.replace("epochs: 1", "epochs: 1, lr: .inf"), "lr: must be a finite number"),
    "lr-mapping": (RECIPE.replace("epochs: 1", "epochs: 1, lr: {a: 1}"), "lr: must be a number"),
    "betas-short": (RECIPE.replace("epochs: 1", "epochs: 1, betas: [0.9]"), "betas"),
    "optimiser": (RECIPE.replace("epochs: 1", "epochs: 1, optimiser: lion"), "optimiser: .*'adam'"),
    "training-list": (RECIPE.replace("{epochs: 1, batch_size: 4}", "[1]"), "training"),
    "unknown-setting": (RECIPE.replace("epochs: 1", "epochs: 1, lrr: 1"), "'lrr'; nearest: lr"),
    "no-layers": (RECIPE.replace("[{stage: {kind: mlp}, latent: d4}]", "[]"), "hold at least 1"),
    "latent-word": (RECIPE.replace("latent: d4", "latent: z4"), "latent"),
    "latent-huge": (RECIPE.replace("latent: d4", f"latent: d{10**9}"), "recipe mine.*weights"),
    "latent-absurd": (RECIPE.replace("latent: d4", f"latent: d{10**30}"), "recipe mine"),
    "stage-kind": (RECIPE.replace("kind: mlp", "kind: lstm"), "layers"),
    "gated-number": (RECIPE.replace("likelihood:", "gated: 1\n      likelihood:"), "true or false"),
    "likelihood-kind": (RECIPE.replace("kind: logistic", "kind: poisson"), "likelihood"),
    "measure-samples": (
        RECIPE.replace("variants:", "measure: {importance_samples: 0}\n    variants:"),
        "importance_samples: must be at least 1",
    ),
}  # fmt: skip
for name, (content, message) in YAML.items():
    CASES[f"yaml-{name}"] = (partial(text, name="bad.yaml", content=content), USE_RECIPE, message)
CASES["yaml-is-a-folder"] = (lambda f: (f / "bad.yaml").mkdir(), USE_RECIPE, "is not a file")
CASES["yaml-is-a-device"] = (
    lambda f: (f / "bad.yaml").symlink_to("/dev/zero"), USE_RECIPE, "is not a file",
)  # fmt: skip
CASES["yaml-is-a-pipe"] = (lambda f: os.mkfifo(f / "bad.yaml"), USE_RECIPE, "is not a file")
CASES["yaml-is-a-loop"] = (
    lambda f: (f / "bad.yaml").symlink_to("bad.yaml"), USE_RECIPE, "cannot read bad.yaml",
)  # fmt: skip
CASES["yaml-is-absent"] = (
    lambda f: None,
    USE_RECIPE,
    f"cannot read bad.yaml: {os.strerror(errno.ENOENT)}",
)
CASES["suite-pairs-word"] = (
    partial(text, name="s.yaml", content="pairs: digits-photos\ndetectors: [png-length]\n"),
    ["--suite", "s.yaml"], "'pairs' must be a list",
)  # fmt: skip
CASES["suite-unknown-key"] = (
    partial(text, name="s.yaml", content="pares: [a]\n"), ["--suite", "s.yaml"], "unknown key",
)  # fmt: skip
CASES["suite-unknown-detector"] = (
    partial(text, name="s.yaml", content="pairs: [digits-photos]\ndetectors: [png]\n"),
    ["--suite", "s.yaml"], "unknown detector 'png'",
)  # fmt: skip

# ---------------------------------------------------------------------- arrays
TRIVIAL = ["--detector", "mean-intensity", "--in-dist"]
BAD_NPZ = [*TRIVIAL, "bad.npz", "--ood", "digits"]


def npy(array: np.ndarray, *, shape: str = "") -> bytes:
    """An .npy file, with another shape written into its header if one is given."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    data = file.getvalue()
    if not shape:
        return data
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data[128:]


def npz(folder: Path, members: dict[str, bytes], *, packed: bool = False) -> None:
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(folder / "bad.npz", "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def encrypted(folder: Path) -> None:
    npz(folder, {"images.npy": npy(pixels(9, 8, 8))})
    data = bytearray((folder / "bad.npz").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (folder / "bad.npz").write_bytes(bytes(data))


def flipped(folder: Path) -> None:
    npz(folder, {"images.npy": npy(pixels(30, 8, 8))})
    data = bytearray((folder / "bad.npz").read_bytes())
    data[900] ^= 4
    (folder / "bad.npz").write_bytes(bytes(data))


def bomb(folder: Path) -> None:
    npz(folder, {"images.npy": npy(np.zeros((5_000_000, 8, 8), np.uint8))}, packed=True)


def unknown_packing(folder: Path) -> None:
    npz(folder, {"images.npy": npy(pixels(9, 8, 8))})
    data = bytearray((folder / "bad.npz").read_bytes())
    for place in (8, data.index(b"PK\x01\x02") + 10):
        data[place] = 77
    (folder / "bad.npz").write_bytes(bytes(data))


def with_nan() -> np.ndarray:
    out = pixels(9, 8, 8).astype(np.float32)
    out[7, 3, 3] = np.nan
    return out


ARRAYS: dict[str, tuple[object, str]] = {
    "objects": (np.array([[{}]], dtype=object), "Python objects"),
    "texts": (np.full((9, 8, 8), "a"), "images are <U1"),
    "complex": (np.ones((9, 8, 8), complex), "images are complex"),
    "dates": (np.zeros((9, 8, 8), "M8[s]"), "images are datetime"),
    "structured": (np.zeros((9, 8, 8), [("a", "u1")]), "images are"),
    "nan": (with_nan(), "image 7 holds nan"),
    "infinite": (np.full((9, 8, 8), np.inf), "image 0 holds inf"),
    "fractions": (np.full((9, 8, 8), 7.5), "no rule says what black and white are"),
    "below-minus-one": (np.full((9, 8, 8), -1.5), "name them, as in 'bad.npz@range.-1.5:"),
    "negative": (np.full((9, 8, 8), -1), "values run from -1"),
    "seventeen-bits": (np.full((9, 8, 8), 70_000), "values run from 70000 to 70000"),
    "no-images": (np.zeros((0, 8, 8), np.uint8), "no images"),
    "no-rows": (np.zeros((9, 0, 8), np.uint8), "no images"),
    "one-image": (pixels(1, 8, 8), "1 images cannot be cut"),
    "two-channels": (pixels(9, 8, 8, 2), "shape"),
    "five-axes": (pixels(2, 2, 2, 2, 2), "shape"),
    "one-axis": (pixels(64), "shape"),
    "a-number": (np.uint8(3), "shape"),
    "a-nan": (np.float64("nan"), "shape"),
}
for name, (array, message) in ARRAYS.items():
    data = npy(np.asarray(array))
    CASES[f"npz-{name}"] = (partial(npz, members={"images.npy": data}), BAD_NPZ, message)
GOOD = npy(pixels(9, 8, 8))
for name, (members, message) in {
    "no-members": ({}, "no array 'images' .it holds nothing"),
    "other-name": ({"pictures.npy": GOOD}, "it holds pictures"),
    "no-array": ({"images.npy": b"hello"}, "cannot be read"),
    "empty-member": ({"images.npy": b""}, "cannot be read"),
    "cut-header": ({"images.npy": GOOD[:20]}, "cannot be read"),
    "cut-data": ({"images.npy": GOOD[:-1]}, "cannot be read"),
    "header-code": ({"images.npy": b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os')" * 2},
                    "cannot be read"),
    "promised-terabytes": ({"images.npy": npy(pixels(9, 8, 8), shape="(10**3, 8, 8)")},
                           "cannot be read"),
    "promised-too-many": ({"images.npy": npy(pixels(9, 8, 8), shape="(99999999999, 8, 8)")},
                          "cannot be read"),
    "negative-shape": ({"images.npy": npy(pixels(9, 8, 8), shape="(-9, 8, 8)")}, "cannot be read"),
    "group-count": ({"images.npy": GOOD, "groups.npy": npy(np.arange(3))}, "9 images but groups"),
    "group-floats": ({"images.npy": GOOD, "groups.npy": npy(np.ones(9))}, "one number or text"),
}.items():  # fmt: skip
    CASES[f"npz-{name}"] = (partial(npz, members=members), BAD_NPZ, message)
CASES |= {
    "npz-bomb": (bomb, BAD_NPZ, "would unpack to 320,000,128"),
    "npz-encrypted": (encrypted, BAD_NPZ, "cannot be read"),
    "npz-flipped-bit": (flipped, BAD_NPZ, "cannot be read"),
    "npz-unknown-packing": (unknown_packing, BAD_NPZ, "cannot be read"),
    "npz-html": (partial(text, name="bad.npz", content="<html>"), BAD_NPZ, "cannot be read"),
    "npz-empty": (partial(text, name="bad.npz", content=""), BAD_NPZ, "cannot be read"),
    "npz-pickle": (partial(text, name="bad.npz", content=b"\x80\x04N."), BAD_NPZ, "cannot be read"),
    "npz-folder": (lambda f: (f / "bad.npz").mkdir(), BAD_NPZ, "no images in it"),
    "npz-loop": (lambda f: (f / "bad.npz").symlink_to("bad.npz"), BAD_NPZ, "no such file"),
    "npz-pipe": (lambda f: os.mkfifo(f / "bad.npz"), BAD_NPZ, "neither a file nor a folder"),
    "npz-other-size": (
        lambda f: np.savez(f / "bad.npz", images=pixels(30, 9, 9)), BAD_NPZ, "digits@resize",
    ),
}  # fmt: skip

# ---------------------------------------------------------------------- images
BAD_FOLDER = [*TRIVIAL, "digits", "--ood", "bad"]
PNG = b"\x89PNG\r\n\x1a\n"


def encode(array: np.ndarray, kind: str, **more: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **more)  # type: ignore[arg-type]
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that claims a size; its pixels are missing."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def image(folder: Path, data: bytes, name: str = "a.png") -> None:
    (folder / "bad").mkdir()
    (folder / "bad" / name).write_bytes(data)


def gif(folder: Path) -> None:
    frames = [Image.fromarray(pixels(8, 8)) for _ in range(3)]
    (folder / "bad").mkdir()
    frames[0].save(folder / "bad" / "a.gif", save_all=True, append_images=frames[1:])
    data = (folder / "bad" / "a.gif").read_bytes()
    (folder / "bad" / "a.gif").write_bytes(data[:30])


def two_sizes(folder: Path) -> None:
    image(folder, encode(pixels(8, 8), "PNG"))
    (folder / "bad" / "b.png").write_bytes(encode(pixels(9, 8), "PNG"))


TORN = encode(pixels(40, 40), "PNG")
IMAGES: dict[str, tuple[bytes, str, str]] = {
    "torn-png": (TORN[:300], "a.png", "a.png: not a readable image"),
    "png-head": (TORN[:20], "a.png", "a.png: not a readable image"),
    "flipped-png": (TORN[:200] + b"\x00\x01" + TORN[202:], "a.png", "not a readable image"),
    "empty-png": (b"", "a.png", "not a readable image"),
    "html-png": (b"<html></html>", "a.png", "not a readable image"),
    "torn-jpeg": (encode(pixels(40, 40, 3), "JPEG")[:200], "a.jpg", "not a readable image"),
    "torn-gif": (b"GIF89a\x08\x00", "a.gif", "not a readable image"),
    "torn-tiff": (encode(pixels(40, 40), "TIFF")[:60], "a.tif", "not a readable image"),
    "torn-webp": (encode(pixels(40, 40, 3), "WEBP")[:40], "a.webp", "not a readable image"),
    "torn-bmp": (encode(pixels(40, 40), "BMP")[:80], "a.bmp", "not a readable image"),
    "ppm-words": (b"P5 a b 255\n", "a.pgm", "not a readable image"),
    "zero-width": (png_of(0, 8), "a.png", "not a readable image"),
    "10000x10000": (png_of(10_000, 10_000), "a.png", "10000×10000 pixels are too many"),
    "2-giga-pixels": (png_of(2**31 - 1, 2**31 - 1), "a.png", "(too many|not a readable)"),
    "no-pixels": (png_of(8, 8), "a.png", "not a readable image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "a.png", "not a readable"),
    "a-pickle": (b"\x80\x04\x95\x00", "a.png", "not a readable image"),
    "one-pixel": (encode(pixels(1, 1), "PNG"), "a.png", "1×1×1 .*use bad@resize"),
    "colour": (encode(pixels(8, 8, 3), "PNG"), "a.png", "use bad@grey"),
}
for name, (data, file, message) in IMAGES.items():
    CASES[f"image-{name}"] = (partial(image, data=data, name=file), BAD_FOLDER, message)
CASES |= {
    "image-torn-animation": (gif, BAD_FOLDER, "a.gif: not a readable image"),
    "image-two-sizes": (two_sizes, BAD_FOLDER, "image 1 is 9×8, image 0 is 8×8"),
    "image-no-files": (lambda f: (f / "bad").mkdir(), BAD_FOLDER, "no images in it"),
    "image-other-files": (partial(image, data=b"x", name="a.txt"), BAD_FOLDER, "no images in it"),
    "image-loop": (
        lambda f: ((f / "bad").mkdir(), (f / "bad" / "a.png").symlink_to("a.png")),
        BAD_FOLDER, "no images in it",
    ),
    "image-folder-loop": (
        lambda f: ((f / "bad").mkdir(), (f / "bad" / "in").symlink_to(f / "bad")),
        BAD_FOLDER, "this link leads back to a folder above it; remove it",
    ),
}  # fmt: skip

# ---------------------------------------------------------------------- published archives
NOTMNIST = ["--detector", "mean-intensity", "--in-dist", "grey.npz", "--ood", "notmnist",
            "--data", "."]  # fmt: skip
LETTER = encode(pixels(28, 28), "PNG")


def grey(folder: Path) -> None:
    np.savez(folder / "grey.npz", images=pixels(30, 28, 28))


def tar(folder: Path, members: dict[str, bytes]) -> None:
    grey(folder)
    with tarfile.open(folder / "notMNIST_small.tar.gz", "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def tar_bomb(folder: Path) -> None:
    """A member that claims a terabyte."""
    grey(folder)
    info = tarfile.TarInfo("notMNIST_small/A/x.png")
    info.size = 1 << 40
    (folder / "notMNIST_small.tar.gz").write_bytes(gzip.compress(info.tobuf() + b"\x00" * 10_240))


def tar_header_bomb(folder: Path) -> None:
    """An extended header of a gigabyte of zeros, packed to a megabyte."""
    grey(folder)
    info = tarfile.TarInfo("x")
    info.size, info.type = 1 << 30, tarfile.XHDTYPE
    with gzip.open(folder / "notMNIST_small.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(540):
            file.write(bytes(1 << 20))


def tar_link(folder: Path) -> None:
    grey(folder)
    with tarfile.open(folder / "notMNIST_small.tar.gz", "w:gz") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("notMNIST_small/A/x.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)


for name, (members, message) in {
    "traversal": ({"../../A/x.png": b"x"}, r"A/x\.png is not readable"),
    "absolute": ({"/etc/A/x.png": b"x"}, r"x\.png is not readable"),
    "no-class": ({"x.png": LETTER}, "not in a folder A to J"),
    "wrong-class": ({"n/Z/x.png": LETTER}, "not in a folder A to J"),
    "two-letters": ({"n/AB/x.png": LETTER}, "not in a folder A to J"),
    "other-size": ({"n/A/x.png": encode(pixels(27, 28), "PNG")}, "not an image of 28×28"),
    "huge-image": ({"n/A/x.png": png_of(100_000, 100_000)}, "is not readable"),
    "large-member": ({"n/A/x.png": bytes(5 << 20)}, "has 5,242,880 bytes"),
    "nothing": ({}, "no images in it"),
}.items():
    CASES[f"tar-{name}"] = (partial(tar, members=members), NOTMNIST, message)
CASES |= {
    "tar-terabyte": (tar_bomb, NOTMNIST, "not the published archive"),
    "tar-header-bomb": (tar_header_bomb, NOTMNIST, "not the published archive"),
    "tar-links": (tar_link, NOTMNIST, "no images in it"),
    "tar-html": (
        lambda f: (grey(f), text(f, "notMNIST_small.tar.gz", "<html>")), NOTMNIST,
        "not the published archive",
    ),
    "tar-cut": (
        lambda f: (tar(f, {"n/A/x.png": LETTER * 9}),
                   text(f, "notMNIST_small.tar.gz",
                        (f / "notMNIST_small.tar.gz").read_bytes()[:200])),
        NOTMNIST, "not the published archive",
    ),
}  # fmt: skip

TINY = ["--detector", "mean-intensity", "--in-dist", "colour.npz", "--ood", "tiny-imagenet",
        "--data", "."]  # fmt: skip
JPEG = encode(pixels(64, 64, 3), "JPEG")


def tiny(folder: Path, members: dict[str, bytes]) -> None:
    np.savez(folder / "colour.npz", images=pixels(30, 32, 32, 3))
    with zipfile.ZipFile(folder / "tiny-imagenet-200.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


NOTES = b"v.JPEG\tn01\t0\n"
for name, (members, message) in {
    "no-annotations": ({"t/val/v.JPEG": JPEG}, "not the Tiny ImageNet archive"),
    "not-annotated": ({"t/val/w.JPEG": JPEG, "t/val/val_annotations.txt": NOTES}, "not the Tiny"),
    "annotation-words": ({"t/val/v.JPEG": JPEG, "t/val/val_annotations.txt": b"v"}, "not the Tiny"),
    "no-images": ({"t/val/val_annotations.txt": NOTES}, "no images of the test split"),
    "torn-image": ({"t/val/v.JPEG": JPEG[:99], "t/val/val_annotations.txt": NOTES}, "v.JPEG is"),
    "bomb": ({"t/val/v.JPEG": bytes(300 << 20), "t/val/val_annotations.txt": NOTES},
             "v.JPEG .314,572,800 bytes"),
    "png-inside": ({"t/val/v.JPEG": LETTER, "t/val/val_annotations.txt": NOTES}, "v.JPEG is not"),
}.items():  # fmt: skip
    CASES[f"zip-{name}"] = (partial(tiny, members=members), TINY, message)
CASES["zip-html"] = (
    lambda f: (tiny(f, {}), text(f, "tiny-imagenet-200.zip", "<html>")), TINY, "not the Tiny",
)  # fmt: skip


def norb(folder: Path, dat: bytes, cat: bytes) -> None:
    grey(folder)
    stem = "smallnorb-5x01235x9x18x6x2x96x96-testing"
    (folder / f"{stem}-dat.mat.gz").write_bytes(gzip.compress(dat))
    (folder / f"{stem}-cat.mat.gz").write_bytes(gzip.compress(cat))


def matrix(magic: int, sizes: list[int], data: bytes) -> bytes:
    return np.array([magic, len(sizes), *sizes], "<u4").tobytes() + data


CATEGORIES = matrix(0x1E3D4C54, [1, 1, 1], np.zeros(1, "<i4").tobytes())
NORB = ["--detector", "mean-intensity", "--in-dist", "grey.npz", "--ood", "smallnorb",
        "--data", "."]  # fmt: skip
for name, dat in {
    "no-magic": matrix(7, [1, 2, 96, 96], bytes(2 * 96 * 96)),
    "huge-sizes": matrix(0x1E3D4C55, [2**32 - 1, 2**32 - 1, 96, 96], bytes(9)),
    "many-axes": np.array([0x1E3D4C55, 2**32 - 1], "<u4").tobytes(),
    "no-axes": matrix(0x1E3D4C55, [], bytes(20)),
    "three-axes": matrix(0x1E3D4C55, [1, 96, 96], bytes(96 * 96)),
    "too-few-labels": matrix(0x1E3D4C55, [2, 2, 96, 96], bytes(4 * 96 * 96)),
    "short": matrix(0x1E3D4C55, [1, 2, 96, 96], bytes(5)),
}.items():
    CASES[f"norb-{name}"] = (partial(norb, dat=dat, cat=CATEGORIES), NORB, "fetch (it|both) again")

MNIST = ["--detector", "mean-intensity", "--in-dist", "grey.npz", "--ood", "mnist", "--data", "."]


def idx(folder: Path, data: bytes) -> None:
    grey(folder)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(data)


for name, data in {
    "html": b"<html>", "empty": b"", "cut": np.array([0x803, 9, 28, 28], ">u4").tobytes(),
    "huge": np.array([0x803, 2**31, 2**31, 2**31], ">u4").tobytes() + bytes(9),
}.items():  # fmt: skip
    CASES[f"idx-{name}"] = (partial(idx, data=data), MNIST, "run `oodbench data fetch mnist`")

# ---------------------------------------------------------------------- plug-ins and names
PLUG = ["--pair", "digits-photos", "--plugin", "p.py", "--detector", "bad-plugin"]
HEAD = "from oodbench import Detector, register\n@register('bad-plugin')\nclass D(Detector):\n"
MEASURE = "    def measure(self, images):\n        return {'a': "
for name, (code, message) in {
    "raises": ("raise RuntimeError('broken\\nbadly')\n", "p.py.*RuntimeError: broken"),
    "exits": ("import sys; sys.exit(0)\n", "p.py.*SystemExit"),
    "syntax": ("def (:\n", "p.py.*SyntaxError"),
    "null-bytes": ("x = 1\x00\n", "p.py"),
    "imports-nothing": ("import nothing_at_all\n", "ModuleNotFoundError.*nothing_at_all"),
    "registers-nothing": ("x = 1\n", "unknown detector 'bad-plugin'"),
    "bad-category": ("from oodbench import register\nregister('x', category='y')\n", "'y'"),
    "bad-name": ("from oodbench import register\nregister('a b')\n", "'a b' must be non-empty"),
    "no-detector": ("from oodbench import register\nregister('bad-plugin')(int)\n", "subclass"),
    "takes-a-name": (
        "from oodbench import Detector, register\n"
        "from oodbench.detect.detector import DETECTORS\nDETECTORS.get('png-length')\n"
        "@register('png-length')\nclass D(Detector): pass\n", "two detectors are named",
    ),
    "no-measure": (HEAD + "    pass\n", "measure raised NotImplementedError"),
    "measure-raises": (
        HEAD + "    def measure(self, images):\n        return 1 / 0\n",
        r"'bad-plugin': measure raised ZeroDivisionError: .*p\.py, line 5",
    ),
    "fit-raises": (
        HEAD + "    def fit(self, train, context):\n        raise KeyError('x')\n",
        "fit raised KeyError",
    ),
    "measure-nothing": (HEAD + "    def measure(self, images):\n        return {}\n", "a mapping"),
    "measure-shape": (
        HEAD + "    def measure(self, images):\n        return {'a': images}\n", "has shape",
    ),
    "measure-words": (
        HEAD + "    def measure(self, images):\n        return {'a': 'b'}\n", "bad-plugin",
    ),
    "measure-nan": (
        HEAD + MEASURE + "images.flatten(1)[:, 0] / 0.0}\n",
        "not finite",
    ),
    "score-shape": (
        HEAD + MEASURE + "images.double().flatten(1)[:, 0]}\n"
        "    def score(self, statistics):\n        return statistics['a'][:3]\n", "has shape",
    ),
    "score-raises": (
        HEAD + MEASURE + "images.double().flatten(1)[:, 0]}\n"
        "    def score(self, statistics):\n        return statistics['b']\n", "raised KeyError",
    ),
}.items():  # fmt: skip
    CASES[f"plugin-{name}"] = (partial(text, name="p.py", content=code), PLUG, message)
CASES |= {
    "plugin-folder": (lambda f: (f / "p.py").mkdir(), PLUG, "there is no such file"),
    "plugin-loop": (lambda f: (f / "p.py").symlink_to("p.py"), PLUG, "there is no such file"),
    "name-empty": (lambda f: None, [*TRIVIAL, "", "--ood", "digits"], "names no data set"),
    "name-at": (lambda f: None, [*TRIVIAL, "digits@", "--ood", "photos"], "unknown variant"),
    "name-many-at": (lambda f: None, [*TRIVIAL, "digits@a@b", "--ood", "photos"], "variant"),
    "name-quotes": (lambda f: None, [*TRIVIAL, "a \"b' c/", "--ood", "digits"], "no such folder"),
    "name-unicode": (lambda f: None, [*TRIVIAL, "./ж☃", "--ood", "digits"], "ж☃: there is no"),
    "name-newline": (lambda f: None, [*TRIVIAL, "./a\nb", "--ood", "digits"], "cannot be printed"),
    "name-surrogate": (lambda f: None, [*TRIVIAL, "./\udcff", "--ood", "digits"], "be printed"),
    "name-null": (lambda f: None, [*TRIVIAL, "./a\0b", "--ood", "digits"], "be printed"),
    "name-markup": (lambda f: None, [*TRIVIAL, "./[/bold]", "--ood", "digits"], "no such folder"),
    "name-long": (lambda f: None, [*TRIVIAL, "./" + "a" * 5000, "--ood", "digits"], "."),
    "detector-colons": (
        lambda f: None, ["--pair", "digits-photos", "--detector", "a:b:c@d"], "unknown detector",
    ),
    "detector-recipe": (
        lambda f: None, ["--pair", "digits-photos", "--detector", "png-length@F3"], "no recipes",
    ),
    "pair-dashes": (lambda f: None, ["--pair", "---"], "unknown pair '---'"),
    "data-loop": (
        lambda f: (f / "d").symlink_to("d"), ["--pair", "digits-photos", "--data", "d"],
        "no such folder",
    ),
}  # fmt: skip


# ---------------------------------------------------------------------- parts of a name
def labelled(folder: Path) -> None:
    np.savez(folder / "own.npz", images=pixels(30, 8, 8), labels=np.arange(30) % 3)


OWN = [*TRIVIAL, "own.npz", "--ood"]
for name, (data_set, message) in {
    "class-unknown": ("digits[ten]", "unknown class of digits 'ten'; nearest: 0"),
    "class-beyond": ("digits[5-12]", "no class 12; digits has the classes 0 to 9"),
    "class-backwards": ("digits[4-2]", "the range 4-2 is empty"),
    "class-none": ("digits[]", "name classes between the brackets"),
    "class-huge": (f"digits[{'9' * 400}]", "unknown class of digits"),
    "class-huge-range": ("own.npz[0-999999999]", "its classes have no names here"),
    "class-open": ("digits[3", "unknown data set"),
    "class-twice": ("digits[1][2]", "unknown data set"),
    "class-without-labels": ("photos[0]", "come without labels.*use photos whole"),
    "class-absent": ("own.npz[2-4]", "no image has the label 3, 4; the labels here are"),
    "class-name-of-own": ("own.npz[cat]", "its classes have no names here"),
    "step-unknown": ("digits@blurr(2)", "unknown variant of digits 'blurr'; nearest: blur"),
    "step-no-number": ("digits@blur", "blur takes a number in brackets.*'digits@blur.2.'"),
    "step-word": ("digits@noise(much)", "must be a number from 0 to 1"),
    "step-nan": ("digits@blur(nan)", "must be a number from 0 to 100"),
    "step-infinite": ("digits@contrast_factor(1e999)", "must be a number from 0 to 10"),
    "step-half": ("digits@jpeg(0.5)", "must be a whole number from 1 to 95"),
    "step-needless": ("digits@shuffle(2)", "shuffle takes no number; write digits@shuffle"),
    "step-open": ("digits@blur(2", "unknown variant of digits"),
    "size-zero": ("photos@resize(0)", "must be a whole number from 1 to 4096"),
    "size-other": ("photos@resize(9)", "1×9×9 .*1×8×8"),
    "drawn-none": ("uniform(0)", "write the number of images, 'uniform.5000.'"),
    "drawn-words": ("constant(many)", "write the number of images"),
    "drawn-shape": ("gaussian(9,1x9x9)", "1×9×9 .*use gaussian.9."),
    "drawn-classes": ("uniform[3]", "a generated set has no classes"),
    "drawn-too-many": ("uniform(99999999,3x4096x4096)", "more than half of the memory"),
}.items():
    CASES[f"name-{name}"] = (labelled, [*OWN, data_set], message)
CASES["name-drawn-id"] = (
    labelled, [*TRIVIAL, "uniform", "--ood", "digits"], "to stand alone or as the ID set it needs",
)  # fmt: skip
CASES["name-resize-id"] = (
    labelled, [*TRIVIAL, "own.npz@resize", "--ood", "digits"], "name the size, as in 'own.npz@res",
)  # fmt: skip


# ---------------------------------------------------------------------- exported detectors
def manifest(text_: str | bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / "x").mkdir()
        text(folder / "x", "detector.json", text_)

    return make


def sealed_manifest(**body: object) -> Make:
    from oodbench.canonical_json import digest

    return manifest(json.dumps({"export": body, "sha256": digest(body)}))  # type: ignore[arg-type]


EXPORTED = {
    "absent": (lambda f: None, "no detector.json in it; make such a folder with"),
    "empty": (lambda f: (f / "x").mkdir(), "no detector.json in it"),
    "a-file": (partial(text, name="x", content="x"), os.strerror(errno.ENOTDIR)),
    "empty-manifest": (manifest(""), "does not match its checksum"),
    "bytes": (manifest(b"\xff\xfe"), "does not match its checksum"),
    "a-list": (manifest("[]"), "does not match its checksum"),
    "a-number": (manifest('{"export": 3, "sha256": 3}'), "does not match its checksum"),
    "deep": (manifest("[" * 100_000), "does not match its checksum"),
    "a-pickle": (manifest(b"\x80\x04N."), "does not match its checksum"),
    "other-schema": (sealed_manifest(schema=9), "another version of oodbench"),
    "nothing-else": (sealed_manifest(schema=1), "not a whole export"),
    "files-a-list": (sealed_manifest(schema=1, files=[1]), "not a whole export"),
    "traversal": (sealed_manifest(schema=1, files={"../../etc/passwd": {}}), "outside its folder"),
    "absolute": (sealed_manifest(schema=1, files={"/etc/passwd": {}}), "outside its folder"),
    "no-file": (sealed_manifest(schema=1, files={"a": {"sha256": ""}}), os.strerror(errno.ENOENT)),
    "no-detector": (sealed_manifest(schema=1, files={}), "not a whole export"),
}  # fmt: skip
EXPORTS = {
    "no-set": (["mean-intensity"], "name the ID set with one of --pair and --in-dist"),
    "two-sets": (["mean-intensity", "--pair", "digits-photos", "--in-dist", "digits"], "with one"),
    "no-detector": (["mean", "--in-dist", "digits"], "unknown detector 'mean'; nearest: mean-int"),
    "no-scale": (["mean-intensity", "--in-dist", "digits", "--scale", "tiny"], "unknown scale"),
    "tpr-zero": (["mean-intensity", "--in-dist", "digits", "--tpr", "0"], "lies in 0 … 100 %"),
    "tpr-nan": (["mean-intensity", "--in-dist", "digits", "--tpr", "nan"], "lies in 0 … 100 %"),
    "a-share": (
        ["mean-intensity", "--in-dist", "digits", "--tpr", "0.95"],
        "give percent, --accept 95",
    ),
    "too-few-images": (
        ["mean-intensity", "--in-dist", "digits", "--accept", "99.9"],
        "500 ID test images cannot hold a false alarm of 0.1 %: give 999 ID test images or more",
    ),
    "no-alarm-at-all": (
        ["mean-intensity", "--in-dist", "digits", "--accept", "100"],
        "accept 99.8 %",
    ),
    "two-scores": (["hvk:L", "--score", "L", "--in-dist", "digits"], "leave out --score L"),
    "many-scores": (["vanilla-hvae", "--in-dist", "digits"], "several scores; choose one with --"),
    "no-score": (["vanilla-hvae:LRR", "--in-dist", "digits"], "unknown score of vanilla-hvae"),
    "there-already": (["mean-intensity", "--in-dist", "digits", "--out", "."], "there already"),
}


# ---------------------------------------------------------------------- archives of a store
def member(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> Make:
    def make(folder: Path) -> None:
        with tarfile.open(folder / "r.tar", "w") as archive:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))

    return make


def compressed(folder: Path) -> None:
    (folder / "r.tar").write_bytes(gzip.compress(bytes(1 << 28)))


SLOT = f"run/ab/ab{'0' * 62}"
IMPORTS: dict[str, tuple[Make, str]] = {
    "absent": (lambda f: None, "there is no such file"),
    "empty": (partial(text, name="r.tar", content=""), "not an archive"),
    "html": (partial(text, name="r.tar", content="<html>" * 200), "not an archive"),
    "compressed-bomb": (compressed, "not an archive"),
    "traversal": (member("../../../etc/cron.d/x"), "is no file of a store"),
    "absolute": (member("/etc/cron.d/x"), "is no file of a store"),
    "traversal-inside": (member(f"{SLOT}/../../x"), "is no file of a store"),
    "dot-file": (member(f"{SLOT}/.bashrc"), "is no file of a store"),
    "symlink": (member(f"{SLOT}/record.json", b"", tarfile.SYMTYPE), "is no file of a store"),
    "hard-link": (member(f"{SLOT}/record.json", b"", tarfile.LNKTYPE), "is no file of a store"),
    "device": (member(f"{SLOT}/record.json", b"", tarfile.CHRTYPE), "is no file of a store"),
    "folder": (member(SLOT, b"", tarfile.DIRTYPE), "is no file of a store"),
    "no-record": (member(f"{SLOT}/scores.parquet"), "where a record should"),
    "bad-record": (member(f"{SLOT}/record.json", b"{}"), "does not match its checksum"),
    "deep-record": (member(f"{SLOT}/record.json", b"[" * 100_000), "does not match its checksum"),
    "only-an-end": (
        member("oodbench-end.json", json.dumps({"schema": 1, "entries": 3}).encode()),
        "entries are missing",
    ),
}  # fmt: skip

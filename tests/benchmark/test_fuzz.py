"""Parsers on bytes that nobody wrote: an error of ours in one line, or a result; nothing else."""

from __future__ import annotations

import gzip
import io
import logging
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from oodbench.datasets.pairs import get_pair
from oodbench.datasets.sources.archives import read_tar
from oodbench.datasets.sources.norb import read_norb_matrix
from oodbench.datasets.sources.raw_images import as_images, read_npz
from oodbench.datasets.sources.user_files import read_image
from oodbench.datasets.spec import parse_name
from oodbench.datasets.split_cache import Slot, Split
from oodbench.declare.recipes import read_recipe, recipe_files, resolve
from oodbench.declare.yaml_files import read_yaml
from oodbench.errors import OodbenchError
from oodbench.flow.plan import parse_detector
from oodbench.flow.suites import read_suite
from oodbench.share.transfer import export_store, import_store
from oodbench.store.checkpoint_files import read_sealed, write_sealed
from oodbench.store.payload import pack_table, pack_tensors, unpack_table, unpack_tensors
from oodbench.store.store import Key, Store, read_record

MANY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
#: Where, and what to do there: replace, insert, delete, repeat or cut.
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from("rixdc"), st.binary(min_size=1, max_size=6)),
    min_size=1, max_size=4,
)  # fmt: skip


def edited(data: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    """The bytes after some edits; the middle of structures is reached as often as their ends."""
    for share, kind, new in edits:
        at = int(share * len(data))
        if kind == "r":
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "i":
            data = data[:at] + new + data[at:]
        elif kind == "x":
            data = data[:at] + data[at + len(new) :]
        elif kind == "d":
            data = data[:at] + data[max(0, at - 40) :]
        else:
            data = data[:at]
    return data


def check_error(error: Exception) -> None:
    """One line that says something."""
    assert str(error)
    assert isinstance(error, ValueError) or "\n" not in str(error)


def image_bytes(kind: str, mode: str = "RGB") -> bytes:
    generator = np.random.default_rng(0)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(generator.integers(0, 255, (9, 7, 3), dtype=np.uint8)).convert(mode)
    image.save(file, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
    return file.getvalue()


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, images=np.arange(128, dtype=np.uint8).reshape(2, 8, 8))
    return file.getvalue()


def tar_bytes() -> bytes:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in ("n/A/é.png", "n/B/" + "b" * 120 + ".png"):
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"hello"))
    return file.getvalue()


NORB = np.array([0x1E3D4C55, 4, 1, 2, 4, 4], "<u4").tobytes() + bytes(32)
FILES: dict[str, tuple[bytes, str, Callable[[Path], object]]] = {
    "npz": (npz_bytes(), "x.npz", lambda p: [as_images(a, "x") for a in read_npz(p).values()]),
    "png": (image_bytes("PNG"), "x.png", read_image),
    "png-palette": (image_bytes("PNG", "P"), "x.png", read_image),
    "jpeg": (image_bytes("JPEG"), "x.jpg", read_image),
    "jpeg-cmyk": (image_bytes("JPEG", "CMYK"), "x.jpg", read_image),
    "gif": (image_bytes("GIF", "P"), "x.gif", read_image),
    "tiff": (image_bytes("TIFF"), "x.tif", read_image),
    "bmp": (image_bytes("BMP"), "x.bmp", read_image),
    "webp": (image_bytes("WEBP"), "x.webp", read_image),
    "ppm": (image_bytes("PPM"), "x.ppm", read_image),
    "norb": (gzip.compress(NORB), "x.gz", read_norb_matrix),
    "norb-inside": (NORB, "x.gz", lambda p: read_norb_matrix(recompressed(p))),
    "tar": (tar_bytes(), "x.tar.gz", lambda p: read_tar(p, ".png")),
    "tar-inside": (gzip.decompress(tar_bytes()), "x.gz",
                   lambda p: read_tar(recompressed(p), ".png")),
}  # fmt: skip


def recompressed(path: Path) -> Path:
    path.write_bytes(gzip.compress(path.read_bytes(), 1))
    return path


@pytest.mark.parametrize("name", FILES)
@given(edits=EDITS)
@MANY
def test_files_of_images(name: str, edits: list[tuple[float, str, bytes]]) -> None:
    data, file, read = FILES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        path.write_bytes(edited(data, edits))
        try:
            read(path)
        except OodbenchError as error:
            check_error(error)


# ---------------------------------------------------------------------- declarations
RECIPE = Path(recipe_files()["D2"].origin).read_bytes()
YAML_TEXT = st.text(st.sampled_from("ab01 \n\t:-,[]{}&*!|>'\"#%@`?~.<=\\é\x00\ud800"), max_size=60)


def declarations(path: Path) -> None:
    for read in (read_yaml, read_recipe, read_suite):
        try:
            found = read(path)
        except OodbenchError as error:
            check_error(error)
            continue
        if read is read_recipe:
            for scale in found.scales:  # type: ignore[union-attr]
                for variant in found.variants:  # type: ignore[union-attr]
                    try:
                        resolve(found, scale, variant).fit_parts()  # type: ignore[arg-type]
                    except OodbenchError as error:
                        check_error(error)


@given(edits=EDITS)
@MANY
def test_edited_recipes(edits: list[tuple[float, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.yaml")
        path.write_bytes(edited(RECIPE, edits))
        declarations(path)


@given(YAML_TEXT)
@settings(max_examples=300, deadline=None)
def test_any_text_as_a_declaration(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.yaml")
        path.write_bytes(text.encode(errors="surrogatepass"))
        declarations(path)


NAMES = st.text(max_size=30) | st.text("abct-@:/.\\'\" é\n0", max_size=30)


@pytest.mark.parametrize("parse", [parse_name, get_pair, parse_detector], ids=lambda f: f.__name__)
@given(text=NAMES)
@settings(max_examples=150, deadline=None)
def test_any_text_as_a_name(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except OodbenchError as error:
        check_error(error)


# ---------------------------------------------------------------------- the store
@given(edits=EDITS)
@MANY
def test_records_and_scratch(
    edits: list[tuple[float, str, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    """What was changed at all is never read as sound."""
    caplog.set_level(logging.CRITICAL)
    key = Key("score", {"measure": "a" * 64, "b": [2.5, "x"]})
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.write(key, {"scores.parquet": b"payload"}, {"name": "x"})
        path = Path(folder, key.path, "record.json")
        before = path.read_bytes()
        after = edited(before, edits)
        path.write_bytes(after)
        found = store.find(key)
        assert (found is None) or read_record(before) == found.record
        scratch = Path(folder, "scratch", "block")
        write_sealed(scratch, b"payload")
        whole = scratch.read_bytes()
        scratch.write_bytes(edited(whole, edits))
        assert read_sealed(scratch) == (b"payload" if edited(whole, edits) == whole else None)


@given(edits=EDITS)
@MANY
def test_archives_of_a_store(
    edits: list[tuple[float, str, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.tar")
        path.write_bytes(edited(archive(), edits))
        target = Store(Path(folder, "target"))
        try:
            import_store(target, path)
        except OodbenchError as error:
            check_error(error)
            assert not Path(folder, "target").exists()
        else:
            ours = {e.path: e.record for stage in ("run", "fit") for e in target.entries(stage)}
            assert len(ours) == 2  # only padding was touched


_archive: list[bytes] = []


def test_the_archive_that_is_edited_is_sound(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(archive())
    assert import_store(Store(tmp_path / "target"), tmp_path / "x.tar").written == 2


def archive() -> bytes:
    """The archive of a store with one run and one fit, made once."""
    if not _archive:
        import oodbench

        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder, "store"))
            oodbench.run("digits-photos", ["mean-intensity"], store=f"{folder}/store", quiet=True)
            run = next(iter(store.entries("run")))
            small = Store(Path(folder, "small"))
            about = {"name": "x", "in_dist": "digits", "seconds": 1.5, "train_images": 9,
                     "machine": {"device": "cpu"}}  # fmt: skip
            fit = small.write(Key("fit", {"x": 1}), {"state.safetensors": b"payload" * 9}, about)
            parts = {"id_scores": fit.digest, "ood_scores": "a" * 64, "metrics": {"revision": 1}}
            record = {k: v for k, v in run.record.items() if k not in ("parts", "files")}
            small.write(Key("run", parts), {}, record)
            export_store(small, Path(folder, "x.tar"))
            _archive.append(Path(folder, "x.tar").read_bytes())
    return _archive[0]


@given(edits=EDITS)
@MANY
def test_payloads(edits: list[tuple[float, str, bytes]]) -> None:
    """Unpackers say ValueError; the checksum has refused such bytes before they are asked."""
    import torch

    tensors = pack_tensors({"a": torch.arange(6.0), "b": torch.ones(2, 2)})
    table = pack_table({"x": np.arange(9.0), "y": np.ones((9, 2))})
    for data, unpack in ((tensors, unpack_tensors), (table, unpack_table)):
        try:
            unpack(edited(data, edits))
        except ValueError as error:
            check_error(error)


@given(edits=EDITS)
@MANY
def test_descriptions_of_split_arrays(
    edits: list[tuple[float, str, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    images = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
    with tempfile.TemporaryDirectory() as folder:
        slot = Slot(Path(folder), "x")
        first = slot.fill(lambda: Split(images), ())
        slot.json.write_bytes(edited(slot.json.read_bytes(), edits))
        assert slot.read() in (None, first)
        assert slot.fill(lambda: Split(images), ())["fingerprint"] == first["fingerprint"]
        slot.verify()


def test_a_zip_with_every_compression_flag() -> None:
    """Each of the method numbers a zip header can hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npz")
        for method in (0, 1, 6, 8, 9, 12, 14, 93, 95, 98, 99):
            data = bytearray(npz_bytes())
            central = data.index(b"PK\x01\x02")
            data[8] = data[central + 10] = method
            path.write_bytes(bytes(data))
            if method == zipfile.ZIP_DEFLATED:
                assert read_npz(path)["images"].shape == (2, 8, 8)
            else:
                with pytest.raises(OodbenchError):
                    read_npz(path)

"""Whatever a reader leaves out, changes or takes for something else is said of the set, once."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import DataPlaces, load
from oodbench.datasets.reading.image_decoding import CHANGES
from oodbench.errors import DataError

RNG = np.random.default_rng(11)
COLOUR, GREY = (
    RNG.integers(0, 256, (9, 8, 8, 3), np.uint8),
    RNG.integers(0, 256, (9, 8, 8), np.uint8),
)


def read(path: Path, **how: bool) -> ImageSet:
    return load(str(path), "test", DataPlaces((), path.parent / "cache"), **how)  # type: ignore[arg-type]


def notes(path: Path, **how: bool) -> list[str]:
    return [note for note in read(path, **how).note.split("; ") if note]


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------------- image files
def transparent(folder: Path) -> None:
    alpha = np.full((8, 8, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([COLOUR[0], alpha], axis=2)).save(folder / "opaque.png")
    alpha[0] = 9
    Image.fromarray(np.concatenate([COLOUR[1], alpha], axis=2)).save(folder / "clear.png")


def turned(folder: Path) -> None:
    for value in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = value
        Image.fromarray(COLOUR[2]).save(folder / f"{value}.jpg", exif=exif)


def other_colours(folder: Path) -> None:
    Image.fromarray(COLOUR[3]).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(COLOUR[3]).quantize(16).save(folder / "palette.png")


def previews(folder: Path) -> None:
    picture = Image.fromarray(COLOUR[4])
    picture.save(folder / "camera.jpg", format="MPO", save_all=True,
                 append_images=[picture.resize((4, 4))])  # fmt: skip
    small = picture.resize((4, 4))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    picture.save(folder / "scan.tif", save_all=True, append_images=[small])


def deep(folder: Path) -> None:
    """An RGB PNG of 16 bits, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (COLOUR[5].astype(">u2") * 257).reshape(8, -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    (folder / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("make", "change", "count"),
    [(transparent, "transparent", 1), (turned, "turned", 1), (other_colours, "colours", 1),
     (previews, "previews", 2), (deep, "deep", 1)],
)  # fmt: skip
def test_what_is_done_to_the_pixels_of_files(
    make: Callable[[Path], None], change: str, count: int, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    make(tmp_path / "s")
    assert notes(tmp_path / "s") == [f"{count} {CHANGES[change]}"]


def test_every_change_of_one_folder_is_named_once(tmp_path: Path) -> None:
    """Together with what is skipped, what has no class, pages, and grey among colours."""
    root = tmp_path / "s"
    (root / "a").mkdir(parents=True)
    for make in (transparent, turned, other_colours, previews, deep):
        make(root / "a")
    Image.fromarray(GREY[0]).save(root / "a" / "grey.png")
    first, *more = map(Image.fromarray, COLOUR[6:9])
    first.save(root / "a" / "pages.tif", save_all=True, append_images=more)
    Image.fromarray(COLOUR[0]).save(root / "stray.png")
    (root / "val").mkdir()
    (root / "notes.txt").write_text("x")
    found = notes(root)
    assert sorted(found) == sorted([
        *(f"{count} {CHANGES[name]}" for name, count in
          (("deep", 1), ("turned", 1), ("transparent", 1), ("colours", 1), ("previews", 2))),
        "1 grey images stand in three equal channels",
        "3 images are pages or frames of 1 files (a/pages.tif)",
        "1 images lie beside its folders, which are no classes therefore",
        "val/ is a folder like any other: there is none for training",
        "skipped: 1 files ending in .txt (notes.txt)",
    ])  # fmt: skip
    assert read(root).labels is None


def test_many_files_say_what_few_do(tmp_path: Path) -> None:
    """The processes that decode many files tell of the changes too."""
    from oodbench.datasets.reading.image_decoding import decode
    from oodbench.datasets.reading.parallel_decoding import Workers

    for make in (transparent, turned, other_colours, previews, deep):
        make(tmp_path)
    paths = sorted(str(path) for path in tmp_path.iterdir())
    with Workers(1) as workers:
        found = list(workers.decode(paths, [1] * len(paths), [1] * len(paths)))
    expected = [decode(Path(path), path).changes for path in paths]
    assert [one.changes for one in found] == expected
    assert {name for changes in expected for name in changes} == set(CHANGES)


def test_colours_that_are_grey_everywhere_become_one_channel(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    Image.fromarray(np.repeat(GREY[0][..., None], 3, axis=2)).save(tmp_path / "s" / "0.png")
    Image.fromarray(GREY[1]).save(tmp_path / "s" / "1.png")
    assert notes(tmp_path / "s") == ["1 images in colours that are all grey: one channel is kept"]
    assert read(tmp_path / "s").shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("parts", "said"),
    [(("val", "test"), "test/ and val/ are folders like any other: there is none for training"),
     (("train",), "train/ is a folder like any other: there is none for testing"),
     (("train", "test"), None)],
)  # fmt: skip
def test_folders_that_are_named_as_parts(
    parts: tuple[str, ...], said: str | None, tmp_path: Path
) -> None:
    for part in parts:
        (tmp_path / "s" / part).mkdir(parents=True)
        Image.fromarray(GREY[0]).save(tmp_path / "s" / part / "0.png")
    found = notes(tmp_path / "s")
    assert found == ([said] if said else [])


def test_images_beside_the_classes_of_a_part(tmp_path: Path) -> None:
    for name in ("train/a/0", "train/b/0", "test/a/0", "test/cover"):
        path = tmp_path / "s" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY[0]).save(path)
    assert notes(tmp_path / "s") == [
        "1 images of test/ lie beside its folders, which are no classes therefore"
    ]


# ---------------------------------------------------------------------- archives
def test_links_of_archives_are_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name in ("a/0.png", "a/1.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png(GREY[0]))
            archive.addfile(member, io.BytesIO(png(GREY[0])))
        for name, kind in (("a/2.png", tarfile.LNKTYPE), ("a/3.png", tarfile.SYMTYPE),
                           ("a/4.png", tarfile.FIFOTYPE)):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a/0.png"
            archive.addfile(member)
    assert notes(tmp_path / "t.tar") == [
        "skipped: 2 links (a/2.png, a/3.png), 1 neither files nor folders (a/4.png)"
    ]
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as packed:
        packed.writestr("a/0.png", png(GREY[0]))
        link = zipfile.ZipInfo("a/1.png")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "0.png")
    assert notes(tmp_path / "z.zip") == ["skipped: 1 links (a/1.png)"]


# ---------------------------------------------------------------------- arrays and tables
def test_arrays_and_columns_that_are_not_used(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from scipy.io import savemat

    np.savez(tmp_path / "a.npz", images=GREY, labels=np.arange(9), masks=GREY, x=GREY)
    assert notes(tmp_path / "a.npz") == ["its arrays masks, x are not used"]
    np.savez(tmp_path / "p.npz", train=GREY, val=GREY[:2], val_labels=np.arange(2), test=GREY[:3])
    assert notes(tmp_path / "p.npz") == ["its val part is not used"]
    savemat(tmp_path / "m.mat", {"X": GREY.transpose(1, 2, 0)[:, :, None], "y": np.arange(1, 10),
                                 "extra": np.ones(3)})  # fmt: skip
    assert notes(tmp_path / "m.mat") == ["its arrays extra are not used"]
    savemat(tmp_path / "ten.mat", {"X": np.repeat(GREY, 2, 0)[:10].transpose(1, 2, 0)[:, :, None],
                                   "y": np.arange(1, 11)})  # fmt: skip
    assert notes(tmp_path / "ten.mat") == [
        "of its labels 1 … 10 the last is taken as 0, as SVHN means it"
    ]
    rows = [{"image": {"bytes": png(one), "path": None}, "coarse_label": 0, "label": i}
            for i, one in enumerate(GREY)]  # fmt: skip
    (tmp_path / "q").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "q" / "test.parquet")
    (tmp_path / "q" / "README.md").write_text("x")
    assert notes(tmp_path / "q") == [
        "its columns coarse_label are not used", "skipped: 1 files ending in .md (README.md)"
    ]  # fmt: skip


def test_two_arrays_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", X=GREY, x=GREY[::-1])
    with pytest.raises(DataError, match="X and x differ in case alone; rename all but one"):
        read(tmp_path / "c.npz")


def test_a_table_with_two_columns_of_parts_is_refused(tmp_path: Path) -> None:
    lines = ["usage,split,1x1,1x2,2x1,2x2", *(f"train,test,{i},2,3,4" for i in range(6))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match="the columns usage and split say the same; keep one"):
        read(tmp_path / "t.csv")


# ---------------------------------------------------------------------- labels
def labels_of(path: Path, labels: np.ndarray) -> ImageSet:
    np.savez(path, images=GREY, labels=labels)
    return read(path)


def test_labels_that_a_number_cannot_hold_are_not_used(tmp_path: Path) -> None:
    for number, labels in enumerate((np.full(9, 2**63, np.uint64), np.full(9, 1e300),
                                     np.full(9, -1e300))):  # fmt: skip
        found = labels_of(tmp_path / f"{number}.npz", labels)
        assert found.labels is None
        assert found.note == "labels are not used: they are larger than 64 bits hold"
    assert labels_of(tmp_path / "last.npz", np.full(9, 2**63 - 1)).labels is not None


def test_bytes_that_are_no_text_stay_apart(tmp_path: Path) -> None:
    held = np.array([b"caf\xe9", b"caf\xe8", b"caf"] * 3)
    found = labels_of(tmp_path / "b.npz", held)
    assert found.labels is not None
    assert len(set(found.labels.tolist())) == 3


def test_a_text_that_is_missing_is_no_class(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": png(one), "path": None}, "label": "owl" if i else None}
            for i, one in enumerate(GREY)]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "n.parquet")
    assert notes(tmp_path / "n.parquet") == ["labels are not used: they are of the type object"]

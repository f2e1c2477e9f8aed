"""Files in which people keep images: the same pixels, labels and parts from every format."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodbench.datasets import parse_name
from oodbench.datasets.loading import DataPlaces, load
from oodbench.errors import DataError, OodbenchError

RNG = np.random.default_rng(7)
TRAIN = RNG.integers(0, 256, (12, 9, 9), dtype=np.uint8)
TEST = RNG.integers(0, 256, (7, 9, 9), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)
MARKS = np.arange(12) % 3, np.arange(7) % 3


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    return DataPlaces((), tmp_path / "cache")


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


# ---------------------------------------------------------------------- divided files
def medmnist(path: Path) -> Path:
    np.savez(path / "m.npz", train_images=TRAIN, val_images=TRAIN[:2], test_images=TEST,
             train_labels=MARKS[0][:, None], val_labels=MARKS[0][:2, None],
             test_labels=MARKS[1][:, None])  # fmt: skip
    return path / "m.npz"


def keras(path: Path) -> Path:
    np.savez(path / "k.npz", x_train=TRAIN, y_train=MARKS[0], x_test=TEST, y_test=MARKS[1])
    return path / "k.npz"


def ours(path: Path) -> Path:
    np.savez(path / "o.npz", train=TRAIN, test=TEST, train_labels=MARKS[0], test_labels=MARKS[1])
    return path / "o.npz"


def idx_folder(path: Path) -> Path:
    folder = path / "raw"
    folder.mkdir()
    for start, images, marks in (("train", TRAIN, MARKS[0]), ("t10k", TEST, MARKS[1])):
        data = gzip.compress(idx(images))
        (folder / f"{start}-images-idx3-ubyte.gz").write_bytes(data)
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(idx(marks.astype(np.uint8)))
    return folder


def archive(path: Path) -> Path:
    with zipfile.ZipFile(path / "a.zip", "w") as file:
        for part, images, marks in (("Train", TRAIN, MARKS[0]), ("Test", TEST, MARKS[1])):
            for number, (image, mark) in enumerate(zip(images, marks, strict=True)):
                file.writestr(f"set/{part}/class{mark}/{number:02}.png", png(image))
        file.writestr("__MACOSX/set/Train/class0/._00.png", b"\0\5\x16\7")
    return path / "a.zip"


def folder(path: Path) -> Path:
    for part, images, marks in (("train", TRAIN, MARKS[0]), ("val", TEST, MARKS[1])):
        for number, (image, mark) in enumerate(zip(images, marks, strict=True)):
            file = path / "f" / part / f"class{mark}" / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(image))
    return path / "f"


def table(path: Path, images: np.ndarray, marks: np.ndarray, classes: bool = True) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": png(image), "path": None}, "label": int(mark)}
            for image, mark in zip(images, marks, strict=True)]  # fmt: skip
    held = pa.Table.from_pylist(rows)
    if classes:
        features = {"image": {"_type": "Image"},
                    "label": {"names": ["owl", "cat", "dog"], "_type": "ClassLabel"}}  # fmt: skip
        info = json.dumps({"info": {"features": features}}).encode()
        held = held.replace_schema_metadata({b"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(held, path)


def shards(path: Path) -> Path:
    data = path / "p" / "data"
    table(data / "train-00000-of-00002.parquet", TRAIN[:7], MARKS[0][:7])
    table(data / "train-00001-of-00002.parquet", TRAIN[7:], MARKS[0][7:])
    table(data / "test-00000-of-00001.parquet", TEST, MARKS[1])
    return path / "p"


def fer(path: Path) -> Path:
    with (path / "fer.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for usage, images, marks in (
            ("Training", TRAIN, MARKS[0]),
            ("PrivateTest", TEST, MARKS[1]),
        ):
            for image, mark in zip(images, marks, strict=True):
                writer.writerow([mark, " ".join(map(str, image.ravel())), usage])
    return path / "fer.csv"


Make = Callable[[Path], Path]
DIVIDED: list[Make] = [medmnist, keras, ours, idx_folder, archive, folder, shards, fer]


@pytest.mark.parametrize("make", DIVIDED)
def test_the_parts_that_a_file_names_are_used(
    make: Make, tmp_path: Path, places: DataPlaces
) -> None:
    name = str(make(tmp_path))
    for split, images, marks in (("train", TRAIN, MARKS[0]), ("test", TEST, MARKS[1])):
        found = load(name, split, places, divide=True)
        assert found.labels is not None
        if make in (archive, folder):  # in the order of the folders
            order = np.lexsort((np.arange(len(marks)), marks))
            images, marks = images[order], marks[order]
        np.testing.assert_array_equal(found.images[:, 0], images)
        assert found.labels.tolist() == marks.tolist()
        assert "share" not in found.note
    whole = load(f"{name}[1]", "test", places)
    np.testing.assert_array_equal(np.sort(whole.images[:, 0], axis=0),
                                  np.sort(TEST[MARKS[1] == 1], axis=0))  # fmt: skip


def test_a_part_that_is_not_used_is_said(tmp_path: Path, places: DataPlaces) -> None:
    assert load(str(medmnist(tmp_path)), "test", places).note == "its val part is not used"
    assert "val/ for testing" in load(str(folder(tmp_path)), "test", places).note
    alone = str(tmp_path / "p" / "data" / "train-00001-of-00002.parquet")
    shards(tmp_path)
    found = load(alone, "test", places)
    np.testing.assert_array_equal(found.images[:, 0], TRAIN[7:])
    assert found.note == "shard 2 of 2 alone (name the folder for all)"
    Path(alone).unlink()
    with pytest.raises(DataError, match="1 of the 2 shards train are there"):
        load(str(tmp_path / "p"), "test", places)


def test_class_names_of_parquet_are_known(tmp_path: Path, places: DataPlaces) -> None:
    name = str(shards(tmp_path))
    found = load(f"{name}[cat]", "train", places, divide=True)
    np.testing.assert_array_equal(found.images[:, 0], TRAIN[MARKS[0] == 1])
    with pytest.raises(OodbenchError, match=r"unknown class of .*; nearest: cat"):
        load(f"{name}[cta]", "train", places, divide=True)


# ---------------------------------------------------------------------- undivided files
def undivided(path: Path) -> dict[str, np.ndarray]:
    """Names of files of one part, with the images (N, H, W, C) that they hold."""
    from scipy.io import savemat

    np.savez(path / "arr.npz", TRAIN)
    np.savez(path / "pair.npz", TRAIN, MARKS[0])
    np.savez(path / "X.npz", X=TRAIN, y=MARKS[0])
    np.save(path / "plain.npy", COLOUR)
    (path / "x-images-idx3-ubyte").write_bytes(idx(TRAIN))
    (path / "x-labels-idx1-ubyte").write_bytes(idx(MARKS[0].astype(np.uint8)))
    savemat(path / "m.mat", {"X": COLOUR.transpose(1, 2, 3, 0), "y": np.arange(1, 9)[:, None]})
    with (path / "named.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        names = [f"{r}x{c}" for r in range(1, 7) for c in range(1, 6)]
        writer.writerow(["label", *names])
        writer.writerows([k, *COLOUR[k, :, :, 0].ravel()] for k in range(8))
    np.savetxt(path / "bare.csv", np.column_stack([MARKS[0], TRAIN.reshape(12, -1)]), "%d", ",")
    np.savetxt(path / "rgb.csv", np.repeat(TRAIN[..., None], 3, -1).reshape(12, -1), "%d", ",")
    with gzip.open(path / "packed.csv.gz", "wb") as out:
        out.write((path / "bare.csv").read_bytes())
    table(path / "one.parquet", TRAIN, MARKS[0], classes=False)
    for ending, mode in (
        (".tar", "w"),
        (".tar.gz", "w:gz"),
        (".tar.xz", "w:xz"),
        (".tbz2", "w:bz2"),
    ):
        with tarfile.open(path / f"t{ending}", mode) as packed:  # type: ignore[call-overload]
            for number in reversed(range(8)):  # not in the order of the names
                data = png(COLOUR[number])
                info = tarfile.TarInfo(f"pictures/{number}.png")
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
    grey = TRAIN[..., None]
    return {
        "arr.npz": grey, "pair.npz": grey, "X.npz": grey, "plain.npy": COLOUR,
        "x-images-idx3-ubyte": grey, "m.mat": COLOUR, "named.csv": COLOUR[..., :1],
        "bare.csv": grey, "rgb.csv": np.repeat(grey, 3, -1), "packed.csv.gz": grey,
        "one.parquet": grey, "t.tar": COLOUR, "t.tar.gz": COLOUR, "t.tar.xz": COLOUR,
        "t.tbz2": COLOUR,
    }  # fmt: skip


def test_the_same_pixels_from_every_kind_of_file(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labelled = {"pair.npz", "X.npz", "x-images-idx3-ubyte", "named.csv", "bare.csv", "m.mat",
                "packed.csv.gz", "one.parquet"}  # fmt: skip
    for name, images in undivided(tmp_path).items():
        assert parse_name(name).is_path, name
        found = load(name, "test", places)
        np.testing.assert_array_equal(found.images, images.transpose(0, 3, 1, 2), err_msg=name)
        assert (found.labels is not None) == (name in labelled), name
        if name in labelled - {"m.mat", "named.csv"}:
            assert found.labels is not None
            assert found.labels.tolist() == MARKS[0].tolist(), name
        train = load(name, "train", places, divide=True)
        assert len(train) == len(images) * 4 // 5, name


def test_ten_is_the_digit_zero_in_svhn(tmp_path: Path, places: DataPlaces) -> None:
    from scipy.io import savemat

    marks = np.array([1, 10, 3, 10, 9, 2, 5, 7])
    savemat(tmp_path / "test_32x32.mat", {"X": COLOUR.transpose(1, 2, 3, 0), "y": marks[:, None]})
    found = load(str(tmp_path / "test_32x32.mat"), "test", places)
    assert found.labels is not None
    assert found.labels.tolist() == (marks % 10).tolist()


# ---------------------------------------------------------------------- what is not read
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"hello", r"files ending in \.txt are not read; those that are: folders"),
        ("archive.7z", b"7z", r"files ending in \.7z are not read"),
        ("mystery", b"x", "files without an ending are not read"),
        ("photo.png", b"x", "it is one image; name the folder"),
        ("a.csv", b"name,age\nx,3\n", "the column 'name' holds no numbers"),
        ("a.csv", b"1,2,3,4,5,6,7\n", "no square image"),
        ("a.csv", b"", "nothing in it"),
        ("a.npy", b"\x80\x04N.", "cannot be read as an .npy"),
        ("a.mat", b"x" * 200, r"not a readable \.mat file"),
        ("a.parquet", b"PAR1", "not a readable Parquet file"),
        ("a.zip", b"PK", "cannot be read as an archive"),
        ("a.tar.gz", b"\x1f\x8b", "cannot be read as an archive"),
        ("x-idx3-ubyte", b"\0\0\x08", "not an idx file"),
    ],
)
def test_a_file_of_another_kind_is_named_as_such(
    name: str, content: bytes, message: str, tmp_path: Path, places: DataPlaces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(name, "test", places)
    assert "\n" not in str(caught.value)
    assert "unknown data set" not in str(caught.value)


@pytest.mark.parametrize("name", ["no.npy", "no.csv", "no.parquet", "no.zip", "no-ubyte.gz"])
def test_a_file_that_is_not_there_is_said_to_be_missing(name: str, places: DataPlaces) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        load(name, "test", places)


def test_a_small_archive_that_unpacks_to_much_is_refused(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oodbench.datasets.formats import image_archive

    monkeypatch.setattr(image_archive, "ALWAYS_UNPACKED", 1000)
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as packed:
        info = tarfile.TarInfo("a.png")
        info.size = 1_000_000
        packed.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(DataError, match="unpacks to more than"):
        load(str(tmp_path / "t.tar.gz"), "test", places)
    monkeypatch.setattr(image_archive, "MAX_FILE", 1000)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(100_000))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        load(str(tmp_path / "z.zip"), "test", places)


def test_links_in_an_archive_are_not_followed(tmp_path: Path, places: DataPlaces) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as packed:
        data = png(COLOUR[0])
        info = tarfile.TarInfo("a.png")
        info.size = len(data)
        packed.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    assert len(load(str(tmp_path / "t.tar"), "test", places)) == 1

"""Values that are not 8-bit: one rule for a whole set, said or refused; what an array keeps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodbench.datasets import parse_name
from oodbench.datasets.corruptions import corrupt
from oodbench.datasets.loading import DataPlaces, load
from oodbench.datasets.single_images import read_loose
from oodbench.errors import DataError

RNG = np.random.default_rng(11)


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    return DataPlaces((), tmp_path / "cache")


def by_hand(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The nearest of 0 … 255 in exact fractions; a tie goes to the even one."""
    low_, high_ = Fraction(low), Fraction(high)
    out = [
        min(255, max(0, round((Fraction(float(v)) - low_) * 255 / (high_ - low_))))
        for v in values.ravel()
    ]
    return np.array(out, dtype=np.uint8).reshape(values.shape)


def integers(low: int, high: int, dtype: str) -> np.ndarray:
    out = RNG.integers(low, high + 1, (6, 5, 4)).astype(dtype)
    out[0, 0, 0], out[5, 4, 3] = low, high
    return out


CASES = {
    "bool": (integers(0, 1, "bool"), 0, 1, "1-bit values 0 and 1 mapped from 0 … 1"),
    "binary": (integers(0, 1, "uint8"), 0, 1, "8-bit values 0 and 1 mapped from 0 … 1"),
    "ones": (np.ones((6, 5, 4)), 0, 1, "64-bit float values 1 … 1 mapped from 0 … 1"),
    "bytes": (integers(0, 255, "uint8"), 0, 255, ""),
    "dark": (integers(0, 2, "uint8"), 0, 255, ""),
    "black": (np.zeros((6, 5, 4), "uint8"), 0, 255, ""),
    "wide": (integers(3, 255, "int64"), 0, 255, "64-bit integer values 3 … 255 taken as they are"),
    "twelve": (integers(0, 3987, "uint16"), 0, 4095,
               "16-bit integer values 0 … 3,987 mapped from 0 … 4,095"),
    "sixteen": (integers(9, 60_000, "uint16"), 0, 65535,
                "16-bit integer values 9 … 60,000 mapped from 0 … 65,535"),
    "fractions": (RNG.random((6, 5, 4)).astype("float32"), 0, 1, "mapped from 0 … 1"),
    "signed": (2 * RNG.random((6, 5, 4)) - 1, -1, 1, "mapped from -1 … 1"),
    "counts": (integers(0, 200, "float32"), 0, 255, "values 0 … 200 taken as they are"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_rule_for_arrays(name: str, tmp_path: Path, places: DataPlaces) -> None:
    values, low, high, note = CASES[name]
    np.savez(tmp_path / "x.npz", images=values)
    found = load(str(tmp_path / "x.npz"), "test", places)
    expected = values if note == "" else by_hand(values, low, high)
    np.testing.assert_array_equal(found.images[:, 0], expected)
    assert note in found.note
    assert (found.note == "") == (note == "")
    assert found.values == (None if (low, high) == (0, 255) else (low, high))


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bit_files_have_one_rule(kind: str, tmp_path: Path, places: DataPlaces) -> None:
    """A dark image is scaled as the bright ones are, in both parts of the set."""
    held = [integers(0, 4000, "uint16")[0], np.full((5, 4), 200, "uint16"),
            np.full((5, 4), 300, "uint16")]  # fmt: skip
    for part, images in (("train", held[:1]), ("test", held[1:])):
        (tmp_path / "s" / part).mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / "s" / part / f"{index}.{kind}")
    for part, images in (("train", held[:1]), ("test", held[1:])):
        found = load(str(tmp_path / "s"), part, places, divide=True)
        np.testing.assert_array_equal(
            found.images[:, 0], [by_hand(image, 0, 4095) for image in images]
        )
        assert "mapped from 0 … 4,095" in found.note
    asked = load(f"{tmp_path}/s@range(0:65535)", "test", places)
    np.testing.assert_array_equal(asked.images[:, 0].max((1, 2)), [1, 1])
    assert asked.note == "values mapped from 0 … 65,535, as asked"
    assert str(parse_name(f"{tmp_path}/s@range( 0 : 65535.0 )")) == f"{tmp_path}/s@range(0:65535)"


def test_both_parts_of_an_array_have_one_rule(tmp_path: Path, places: DataPlaces) -> None:
    np.savez(tmp_path / "x.npz", train=integers(0, 4000, "uint16"), test=integers(0, 90, "uint16"),
             val=integers(0, 65_535, "uint16"))  # fmt: skip
    notes = [load(str(tmp_path / "x.npz"), s, places, divide=True).note for s in ("train", "test")]
    assert all("mapped from 0 … 4,095" in note for note in notes)


def test_float_files_and_mixed_folders(tmp_path: Path, places: DataPlaces) -> None:
    (tmp_path / "f").mkdir()
    floats = [RNG.random((5, 4)).astype("float32") for _ in range(3)]
    for index, image in enumerate(floats):
        Image.fromarray(image).save(tmp_path / "f" / f"{index}.tif")
    grey = integers(0, 255, "uint8")[0]
    Image.fromarray(grey).save(tmp_path / "f" / "9.png")
    found = load(str(tmp_path / "f"), "test", places)
    expected = [*(by_hand(image, 0, 1) for image in floats), grey]
    np.testing.assert_array_equal(found.images[:, 0], expected)
    assert found.note.startswith("3 images hold 32-bit float values 0.0")
    Image.fromarray(np.full((5, 4), 7.5, "float32")).save(tmp_path / "f" / "3.tif")
    with pytest.raises(DataError, match=r"no rule says .*name them, as in '.*f@range\("):
        load(str(tmp_path / "f"), "test", places)
    settled = load(f"{tmp_path}/f@range(0:10)", "test", places)
    assert settled.images[3].max() == round(7.5 * 25.5)


def test_black_and_white_files_of_zero_and_one(tmp_path: Path, places: DataPlaces) -> None:
    held = [np.zeros((5, 4), "uint8"), *integers(0, 1, "uint8")[:3]]
    (tmp_path / "b").mkdir()
    for index, image in enumerate(held):
        Image.fromarray(image).save(tmp_path / "b" / f"{index}.png")
    found = load(str(tmp_path / "b"), "test", places)
    np.testing.assert_array_equal(found.images[:, 0], 255 * np.stack(held))
    assert "4 images hold 8-bit values 0 and 1 mapped from 0 … 1" in found.note
    kept = load(f"{tmp_path}/b@range(0:255)", "test", places)
    np.testing.assert_array_equal(kept.images[:, 0], held)


def test_sixteen_bit_colour_is_said(tmp_path: Path, places: DataPlaces) -> None:
    """A PNG of 16 bits a channel, of which Pillow gives the upper 8."""
    import struct
    import zlib

    values = RNG.integers(0, 65536, (4, 3, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        seal = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + seal

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 4, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0.png").write_bytes(data)
    found = load(str(tmp_path / "c"), "test", places)
    np.testing.assert_array_equal(found.images[0].transpose(1, 2, 0), values >> 8)
    assert found.note == "1 colour files have 16 bits a channel, of which the upper 8 are read"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "x.npz@range",
            r"takes the values of black and white, the smaller first, as in \(0:4095\)",
        ),
        ("x.npz@range(5)", "takes the values"),
        ("x.npz@range(5:5)", "takes the values"),
        ("x.npz@range(9:1)", "takes the values"),
        ("x.npz@range(0:inf)", "takes the values"),
        ("x.npz@range(a:b)", "takes the values"),
        ("x.npz@grey@range(0:9)", "write it once, first"),
        ("x.npz@range(0:9)@range(0:9)", "write it once, first"),
        ("digits@range(0:9)", "range is for files of your own"),
    ],
)
def test_a_range_that_is_none(
    name: str, message: str, places: DataPlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", images=integers(0, 255, "uint8"))
    with pytest.raises(DataError, match=message):
        load(name, "test", places)


# ---------------------------------------------------------------------- one image by itself
def test_a_scored_image_is_scaled_as_the_id_set_was(tmp_path: Path) -> None:
    wide = integers(0, 4000, "uint16")[0]
    Image.fromarray(wide).save(tmp_path / "w.png")
    grey = integers(0, 255, "uint8")[0]
    Image.fromarray(grey).save(tmp_path / "g.png")
    Image.fromarray(wide.astype("float32") / 4095).save(tmp_path / "f.tif")
    shape = (1, 5, 4)
    plain = read_loose([tmp_path / "w.png", tmp_path / "g.png", tmp_path / "f.tif"], shape)
    np.testing.assert_array_equal(plain.images[:, 0], [by_hand(wide, 0, 65535), grey])
    assert "say what black and white are, with --range" in plain.unreadable[str(tmp_path / "f.tif")]
    known = read_loose([tmp_path / "w.png", tmp_path / "g.png"], shape, values=(0, 4095))
    np.testing.assert_array_equal(known.images[:, 0], [by_hand(wide, 0, 4095), grey])
    asked = read_loose([tmp_path / "f.tif"], shape, ["range(0:1)"])
    np.testing.assert_array_equal(
        asked.images[0, 0], by_hand(np.float32(wide.astype("float32") / 4095), 0, 1)
    )
    Image.fromarray(np.full((5, 4), 5000, "uint16")).save(tmp_path / "brighter.png")
    beyond = read_loose([tmp_path / "brighter.png"], shape, values=(0, 4095))
    assert list(beyond.unreadable) == [str(tmp_path / "brighter.png")]


def test_a_window_follows_from_the_image(tmp_path: Path) -> None:
    """A file alone, in its folder, and after others gets the same window."""
    (tmp_path / "f").mkdir()
    for index in range(6):
        image = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "f" / f"{index}.png")
    together = read_loose([tmp_path / "f"], (3, 16, 16), ["crop"])
    for index, name in enumerate(together.names):
        alone = read_loose([name], (3, 16, 16), ["crop"])
        np.testing.assert_array_equal(alone.images[0], together.images[index])
    last = read_loose([tmp_path / "f", together.names[0]], (3, 16, 16), ["crop"])
    np.testing.assert_array_equal(last.images[6], last.images[0])
    placed = read_loose([together.names[0]] * 9, (3, 16, 16), ["crop"], by_position=True)
    assert len({bytes(image) for image in placed.images}) > 1


# ---------------------------------------------------------------------- what an array keeps
def test_an_array_keeps_its_channels_through_every_step(tmp_path: Path, places: DataPlaces) -> None:
    grey = RNG.integers(0, 256, (8, 9, 9, 1), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=np.repeat(grey, 3, axis=3))
    for steps in ("", "@hflip", "@blur(1)", "@resize(5)", "@invert"):
        assert load(f"{tmp_path}/x.npz{steps}", "test", places).shape[0] == 3, steps
    assert load(f"{tmp_path}/x.npz@grey", "test", places).shape[0] == 1


def test_a_share_is_corrupted_as_the_whole_set_is(tmp_path: Path, places: DataPlaces) -> None:
    images, labels = RNG.integers(0, 256, (30, 6, 6), dtype=np.uint8), np.arange(30) % 3
    name = f"{tmp_path}/x.npz"
    np.savez(name, images=images, labels=labels)
    whole = load(f"{name}@noise(0.2)", "test", places).images
    for index in range(30):
        expected = corrupt(images[index][..., None], "noise(0.2)", index, "test")
        np.testing.assert_array_equal(whole[index, 0], expected[..., 0])
    share = load(f"{name}@noise(0.2)", "test", places, divide=True).images
    plain = load(name, "test", places, divide=True).images
    chosen = [next(i for i in range(30) if np.array_equal(images[i], p[0])) for p in plain]
    np.testing.assert_array_equal(share, whole[chosen])
    some = load(f"{name}[1]@noise(0.2)", "test", places, divide=True).images
    np.testing.assert_array_equal(some, whole[[i for i in chosen if labels[i] == 1]])


# ---------------------------------------------------------------------- one path, one division
@pytest.mark.parametrize("kind", ["npz", "folder", "link"])
def test_an_own_set_against_itself_holds_no_training_image(
    kind: str, tmp_path: Path, places: DataPlaces
) -> None:
    images = RNG.integers(0, 256, (40, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(40) % 4)
    (tmp_path / "link.npz").symlink_to("x.npz")
    name = other = f"{tmp_path}/x.npz"
    if kind == "folder":
        name = other = f"{tmp_path}/f"
        for index, image in enumerate(images):
            path = tmp_path / "f" / f"{index % 4}" / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    elif kind == "link":
        other = f"{tmp_path}/link.npz"
    train = {bytes(image) for image in load(name, "train", places, divide=True).images}
    test = load(name, "test", places, divide=True)
    for steps in ("", "@hflip@hflip", "@invert@invert"):
        ood = load(f"{other}{steps}", "test", places, beside=name)
        np.testing.assert_array_equal(ood.images, test.images)
        assert not train & {bytes(image) for image in ood.images}
    some = load(f"{other}[1,2]", "test", places, beside=f"{name}[0-1]")
    assert not train & {bytes(image) for image in some.images}
    # Classes that the ID set has not hold none of its training images: all of them are OOD.
    apart = load(f"{other}[2-3]", "test", places, beside=f"{name}[0-1]")
    assert len(apart) == 20
    assert len(load(other, "test", places, beside="digits")) == 40

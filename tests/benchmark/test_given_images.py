"""What a trained detector is given becomes what it learned from, or is refused by name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from oodbench.canonical_json import JSON
from oodbench.datasets.duplicates import image_hashes
from oodbench.datasets.loading import DataPlaces, load, steps_of
from oodbench.datasets.spec import parse_name
from oodbench.deploy.given_images import Preparation
from oodbench.errors import DataError

RNG = np.random.default_rng(0)
GREY, COLOUR = Preparation((1, 8, 8)), Preparation((3, 8, 8))
FLAT = RNG.integers(0, 256, (5, 8, 8), dtype=np.uint8)
BRIGHT = RNG.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def png(image: np.ndarray, **more: JSON) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **more)
    return buffer.getvalue()


# ---------------------------------------------------------------------- one layout per shape
@pytest.mark.parametrize(
    "given",
    [
        FLAT, FLAT[:, None], FLAT[..., None], torch.from_numpy(FLAT), list(FLAT), tuple(FLAT),
        [image[None] for image in FLAT], [image[..., None] for image in FLAT],
        [torch.from_numpy(image) for image in FLAT], [Image.fromarray(image) for image in FLAT],
        [png(image) for image in FLAT], (image for image in FLAT), FLAT.astype(np.int32),
        [FLAT[0], Image.fromarray(FLAT[1]), png(FLAT[2]), torch.from_numpy(FLAT[3]), FLAT[4][None]],
    ],
)  # fmt: skip
def test_grey_images_in_every_form_are_the_same_images(given: object) -> None:
    found = GREY.read(given)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.images, FLAT[:, None])
    assert found.names == list("01234")


@pytest.mark.parametrize(
    "given",
    [
        BRIGHT, BRIGHT.transpose(0, 3, 1, 2), list(BRIGHT), list(BRIGHT.transpose(0, 3, 1, 2)),
        torch.from_numpy(BRIGHT), [Image.fromarray(image) for image in BRIGHT],
        [png(image) for image in BRIGHT],
    ],
)  # fmt: skip
def test_colour_images_in_every_form_are_the_same_images(given: object) -> None:
    found = COLOUR.read(given)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.images, BRIGHT.transpose(0, 3, 1, 2))


def test_one_picture_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(BRIGHT[0]))
    for given in (Image.fromarray(BRIGHT[0]), png(BRIGHT[0]), [BRIGHT[0]], BRIGHT[:1],
                  tmp_path / "a.png", str(tmp_path / "a.png")):  # fmt: skip
        assert COLOUR.read(given).images.shape == (1, 3, 8, 8)
    for size in ((40, 40), (23, 31)):
        one = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
        assert GREY.read([one], ["grey", "resize"]).images.shape == (1, 1, 8, 8)


def test_sizes_may_differ_in_a_list() -> None:
    given = [RNG.integers(0, 256, (h, w), dtype=np.uint8) for h, w in ((9, 12), (8, 8), (30, 20))]
    found = GREY.read(given, ["resize"]).images
    assert found.shape == (3, 1, 8, 8)
    np.testing.assert_array_equal(found[1, 0], given[1])


@pytest.mark.parametrize(
    ("shape", "which"),
    [((40, 40, 3), GREY), ((3, 8, 8), COLOUR), ((3, 8, 8), GREY), ((8, 8, 1), GREY)],
)
def test_a_shape_that_can_be_read_in_two_ways_is_refused(
    shape: tuple[int, ...], which: Preparation
) -> None:
    with pytest.raises(DataError, match=rf"one image or {shape[0]} grey ones; give \[image\]"):
        which.read(np.zeros(shape, np.uint8), ["grey", "resize"])
    with pytest.raises(DataError, match="second or last"):
        Preparation((3, 5, 5)).read(np.zeros((2, 3, 5, 3), np.uint8))
    assert Preparation((3, 4, 3)).read(np.zeros((2, 3, 4, 3), np.uint8)).images.shape[1] == 3


@pytest.mark.parametrize("given", [7, None, [None], [7], np.zeros(5, np.uint8), [b"junk"],
                                   {"a": 1}, [["a.png"]], [FLAT]])  # fmt: skip
def test_what_is_no_image_is_refused_in_one_line(given: object) -> None:
    with pytest.raises(DataError) as caught:
        GREY.read(given)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


# ---------------------------------------------------------------------- steps of the ID set
STEPS = ("grey", "resize(8)", "blur(1)", "contrast_factor(0.5)")


def files(folder: Path, count: int = 8) -> list[np.ndarray]:
    folder.mkdir()
    out = []
    for i in range(count):
        image = Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8))
        image = image.filter(ImageFilter.GaussianBlur(2))
        image.save(folder / f"{i}.png")
        out.append(np.asarray(image))
    return out


@pytest.mark.parametrize("convert", [(), ("grey",), ("grey", "resize")])
def test_new_images_are_made_as_those_of_the_id_set(
    tmp_path: Path, convert: tuple[str, ...]
) -> None:
    raw = files(tmp_path / "id")
    name = "@".join([str(tmp_path / "id"), *STEPS])
    places = DataPlaces((), tmp_path / "cache")
    known = {s: load(name, s, places, divide=True).images for s in ("train", "test")}
    expected = {image.tobytes() for part in known.values() for image in part}
    preparation = Preparation((1, 8, 8), steps_of(parse_name(name)))
    for given in (tmp_path / "id", raw):
        found = preparation.read(given, convert).images  # type: ignore[arg-type]
        assert {image.tobytes() for image in found} == expected
    again = preparation.read(known["test"], prepared=True).images
    np.testing.assert_array_equal(again, known["test"])


def test_another_sizing_than_that_of_the_id_set_is_refused(tmp_path: Path) -> None:
    files(tmp_path / "id", 2)
    preparation = Preparation((1, 8, 8), STEPS)
    with pytest.raises(
        DataError, match=r"went through grey, resize\(8\).* not through crop; leave"
    ):
        preparation.read(tmp_path / "id", ["grey", "crop"])


def test_images_that_went_through_the_steps_are_known_and_not_taken_twice() -> None:
    hashes = {image_hashes(image[None, None]) for image in FLAT}
    preparation = Preparation((1, 8, 8), ("blur(1)",), known=hashes.__contains__)
    with pytest.raises(DataError, match=r"image 0 is an image of the ID set.*blur\(1\) already"):
        preparation.read(FLAT[3:])
    np.testing.assert_array_equal(preparation.read(FLAT, prepared=True).images, FLAT[:, None])
    plain = Preparation((1, 8, 8), known=hashes.__contains__)
    np.testing.assert_array_equal(plain.read(FLAT).images, FLAT[:, None])


def test_the_steps_of_a_bare_name_are_those_it_means() -> None:
    assert steps_of(parse_name("digits")) == ()
    assert steps_of(parse_name("digits@invert")) == ("invert",)
    assert "invert" in steps_of(parse_name("omniglot"))

"""Images as a user of a trained detector gives them, brought through the steps of its ID set.

    paths of image files, folders, files of data     "photo.png", ["a.png", Path("folder")]
    one array of images    (N, H, W) grey, (N, H, W, 3), (N, 3, H, W), (N, H, W, 1), (N, 1, H, W)
    a list of images       each an array (H, W), (H, W, 1|3) or (1|3, H, W), a tensor, a PIL image,
                           the bytes of an image file, or a path; sizes may differ

A shape that can be read in two ways is refused, with how to write either.  What is asked for comes
first (`STEPS`), then the steps that the ID set went through, so that new images are made as those
were that the detector learned; `prepared` images went through them already.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from oodbench.datasets.duplicates import image_hashes
from oodbench.datasets.naming import SIZING, step_name
from oodbench.datasets.reading.image_decoding import decode
from oodbench.datasets.reading.pixel_values import Asked, scale_alone
from oodbench.datasets.single_images import (
    Loose,
    Shape,
    asked_values,
    check_steps,
    fit_image,
    read_loose,
    steps_to,
)
from oodbench.datasets.sources.raw_images import as_images
from oodbench.errors import DataError

if TYPE_CHECKING:
    import torch
    from PIL import Image

    Given: TypeAlias = (
        "np.ndarray | torch.Tensor | Image.Image | bytes | str | Path"
        " | Sequence[np.ndarray | torch.Tensor | Image.Image | bytes | str | Path]"
    )

CHANNELS = (1, 3)


@dataclass(frozen=True)
class Preparation:
    """How given images become those of a detector.

    `shape` (C, H, W) and `steps` are those of its ID set, as are the `values` of wide pixels;
    `known` says of hashes of images whether one is an ID test image.
    """

    shape: Shape
    steps: tuple[str, ...] = ()
    values: tuple[float, float] | None = None
    known: Callable[[bytes], bool] = lambda hashes: False

    def read(
        self, images: Given, convert: Sequence[str] = (), *, prepared: bool = False,
        by_position: bool = False,
    ) -> Loose:  # fmt: skip
        """The images with their names; DataError where one does not fit or cannot be told."""
        steps = () if prepared else self.steps
        asked = _asked(convert, steps)
        chain, values = (*asked, *steps), asked_values(convert, self.values)

        def prepare(name: str, image: np.ndarray, place: int | None) -> np.ndarray:
            if steps:
                self._check_new(name, image)
            return fit_image(image, self.shape, chain, place)

        single = isinstance(images, np.ndarray) or hasattr(images, "detach")
        listed = [] if single else _listed(images)
        if listed and all(isinstance(one, str | Path) for one in listed):
            return read_loose(
                cast("list[str | Path]", listed), self.shape, convert, values=self.values,
                by_position=by_position, prepare=prepare,
            )  # fmt: skip
        pictures = (
            list(_stacked(_scaled(_array(images), values), self.shape))
            if single
            else [_picture(one, f"image {i}", values) for i, one in enumerate(listed)]
        )
        out = []
        for index, picture in enumerate(pictures):
            done = prepare(f"image {index}", picture, index if by_position else None)
            self._check_shape(index, done, asked)
            out.append(done.transpose(2, 0, 1))
        stacked = np.stack(out) if out else np.zeros((0, *self.shape), np.uint8)
        return Loose(list(map(str, range(len(out)))), {}, np.ascontiguousarray(stacked))

    def _check_new(self, name: str, image: np.ndarray) -> None:
        """DataError on an ID test image: it went through the steps already."""
        first = np.ascontiguousarray(image.transpose(2, 0, 1))
        if first.shape == self.shape and self.known(image_hashes(first[None])):
            raise DataError(
                f"{name} is an image of the ID set, which went through {', '.join(self.steps)}"
                " already; give prepared=True (--prepared) for images that did"
            )

    def _check_shape(self, index: int, done: np.ndarray, asked: Sequence[str]) -> None:
        lacking = steps_to(self.shape, done.shape)
        if lacking:
            size = "×".join(map(str, (done.shape[2], *done.shape[:2])))
            raise DataError(
                f"image {index} has the shape {size}, the detector takes"
                f" {'×'.join(map(str, self.shape))} (channels×height×width); give"
                f" convert={[*asked, *lacking]}"
            )


def _asked(convert: Sequence[str], steps: Sequence[str]) -> list[str]:
    """What is asked for and is no step of the ID set; DataError where it is another sizing."""
    own = {step_name(step) for step in steps}
    sizing = own & set(SIZING)
    asked = check_steps(convert)
    other = [step for step in asked if step in SIZING and sizing and step not in sizing]
    if other:
        raise DataError(
            f"the ID set went through {', '.join(steps)}, not through {other[0]}; leave {other[0]}"
            " out, its own steps are applied"
        )
    return [step for step in asked if step not in own]


def _listed(images: Given) -> list[object]:
    """One thing or several, as a list."""
    if isinstance(images, str | Path | bytes | bytearray) or hasattr(images, "convert"):
        return [images]
    try:
        return list(cast("Sequence[object]", images))
    except TypeError as error:
        raise DataError(
            f"images are {type(images).__name__}; give paths, an array, or a list of images"
        ) from error


def _array(value: object) -> np.ndarray:
    """An array or tensor as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _stacked(array: np.ndarray, shape: Shape) -> np.ndarray:
    """(N, H, W, C) of one array of images; DataError where it can be read in two ways."""
    where = f"images of shape {array.shape}"
    if (
        array.ndim == 3
        and array.shape[0] != 1
        and (array.shape[2] in CHANNELS or array.shape[0] in CHANNELS)
    ):
        raise DataError(
            f"{where} may be one image or {array.shape[0]} grey ones; give [image] or image[None]"
            " for one, images[:, None] for several"
        )
    if array.ndim == 4 and array.shape[1] in CHANNELS and array.shape[3] in CHANNELS:
        fits = [array.shape[1:] == shape, (array.shape[3], *array.shape[1:3]) == shape]
        if fits[0] == fits[1]:
            raise DataError(f"{where}: channels stand second or last; give a list of images")
        if fits[0]:
            array = array.transpose(0, 2, 3, 1)
    return as_images(array, "images")


def _picture(value: object, where: str, values: Asked | None) -> np.ndarray:
    """(H, W, C) uint8 of one image."""
    if isinstance(value, str | Path):
        return _decoded(Path(value), str(value), values)
    if isinstance(value, bytes | bytearray):
        return _decoded(bytes(value), where, values)
    if hasattr(value, "convert"):
        return _decoded(_saved(cast("Image.Image", value)), where, values)
    array = _array(value)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not {array.shape[0], array.shape[2]} & set(CHANNELS):
        raise DataError(
            f"{where} has the shape {array.shape}; an image is (H, W), (H, W, 3) or (3, H, W)"
        )
    if array.shape[2] not in CHANNELS:
        array = array.transpose(1, 2, 0)
    images: np.ndarray = as_images(_scaled(array, values)[None], where)
    return np.asarray(images[0])


def _scaled(array: np.ndarray, values: Asked | None) -> np.ndarray:
    scale = None if values is None else values.of(array.dtype == np.uint8)
    return array if scale is None else scale.apply(array)


def _decoded(source: Path | bytes, where: str, values: Asked | None) -> np.ndarray:
    return scale_alone(decode(source, where).frames[0], values, where)


def _saved(image: Image.Image) -> bytes:
    """A PIL image as the bytes of a file, to be read as every file is."""
    buffer = io.BytesIO()
    if image.mode in ("HSV", "LAB", "YCbCr", "CMYK"):
        image = image.convert("RGB")
    image.save(buffer, "TIFF" if image.mode == "F" else "PNG")
    return buffer.getvalue()

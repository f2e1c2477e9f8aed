"""Small pictures of test images, taken from the data sets where they are found on this machine."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import DataPlaces, load
from oodbench.datasets.materialise import Shape
from oodbench.datasets.paths.shown_names import shown_name
from oodbench.errors import OodbenchError

#: A data set, or why it cannot be shown.
Found: TypeAlias = ImageSet | str
#: The longer side of a picture at most, in pixels.
SIDE = 64
#: All pictures of a page together, in characters; a page of more is slow to open.
BUDGET = 24_000_000


def png(image: np.ndarray, side: int = SIDE) -> str:
    """(C, H, W) uint8 as a base64 PNG, made smaller where it is larger than `side`."""
    from PIL import Image

    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    if max(picture.size) > side:
        picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


class Thumbnails:
    """The pictures of a page, each held once; `places` None leaves all out."""

    def __init__(self, places: DataPlaces | None, budget: int = BUDGET) -> None:
        self.places, self.left = places, budget
        self.pictures: dict[str, dict[str, str]] = {}
        self._sets: dict[tuple[str, bool, Shape | None, int, str], ImageSet | None] = {}

    def find(
        self, name: str, fingerprint: str, *, own: bool, like: Shape | None, count: int = 0,
        beside: str = "",
    ) -> Found:  # fmt: skip
        """The test split with this fingerprint, or why there is none to show.

        `own`: it is the ID set; otherwise `like` is the ID images' shape and `count` their number
        where they are known, `beside` the ID set's name.
        """
        if self.places is None:
            return "The page was made without pictures."
        key = (name, own, like, count, beside)
        if key not in self._sets:
            try:
                self._sets[key] = load(
                    name, "test", self.places, like=like, count=count, divide=own,
                    beside=beside or None,
                )  # fmt: skip
            except OodbenchError:
                self._sets[key] = None
        found = self._sets[key]
        if found is None:
            return (
                f"The test images of {shown_name(name)} were not found where this page was made;"
                " --data names the folder that holds them."
            )
        if found.fingerprint != fingerprint:
            return f"The images found as {shown_name(name)} are not those that were measured."
        return found

    def take(self, images: ImageSet, indices: Sequence[int]) -> str:
        """Put pictures on the page; why they are left out, or ""."""
        held = self.pictures.setdefault(images.fingerprint[:12], {})
        for index in indices:
            if str(index) in held:
                continue
            picture = png(np.asarray(images.images[index]))
            if len(picture) > self.left:
                return "Left out: the page holds as many pictures as it can. Limit it with --pair."
            self.left -= len(picture)
            held[str(index)] = picture
        return ""

    def to_json(self) -> dict[str, JSON]:
        """Pictures by the first digits of their set's fingerprint, then by index."""
        return cast("dict[str, JSON]", self.pictures)

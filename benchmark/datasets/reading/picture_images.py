"""Images that stand in image files: decoded one after another, with one scale of values for all.

8-bit images pass as they are read, and nothing is held.  Where a set holds wider pixels, all its
images are looked at once before the first of them is scaled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Protocol

import numpy as np

from oodbench.datasets.reading.image_decoding import CHANGES, Decoded
from oodbench.datasets.reading.pixel_values import (
    PLAIN,
    Asked,
    Scale,
    Seen,
    asked_for,
    look,
    said,
    scale_of,
)
from oodbench.datasets.sources.raw_images import Reading


class Files(Protocol):
    """Encoded images in order, wherever they stand."""

    @property
    def names(self) -> Sequence[str]:
        """What each file is called."""

    def frames(self) -> Mapping[int, int]:
        """How many images the files hold that may hold several, by the place of the file."""

    def decode(self, chosen: Sequence[int], expected: Mapping[int, int]) -> Iterator[Decoded]:
        """The files at the places `chosen`, one after another."""


@dataclass(frozen=True)
class PictureImages:
    """`parts`: the places of each part's files among `files`; `name` is the set's."""

    files: Files
    parts: Mapping[str, np.ndarray]
    name: str

    @cached_property
    def _held(self) -> Mapping[int, int]:
        """The number of images of files with other than one."""
        return {place: count for place, count in self.files.frames().items() if count != 1}

    def images_of(self, part: str) -> np.ndarray:
        """The place of the file of every image of a part."""
        places = self.parts[part]
        if not self._held:
            return places
        return np.repeat(places, [self._held.get(int(place), 1) for place in places])

    def names(self, part: str) -> list[str]:
        """The file of every image of a part, ``file#1`` for a page or frame of several."""
        found, met = [], dict[int, int]()
        for place in self.images_of(part).tolist():
            name = self.files.names[place]
            met[place] = met.get(place, -1) + 1
            found.append(f"{name}#{met[place]}" if place in self._held else name)
        return found

    def counts(self) -> Mapping[str, int]:
        """The number of images of every part."""
        return {part: len(self.images_of(part)) for part in self.parts}

    def read(
        self, part: str, chosen: np.ndarray | None, asked: Asked | None, reading: Reading
    ) -> Iterator[np.ndarray]:
        """(H, W, C) uint8, one image after another."""
        places = self.images_of(part)
        wanted = range(len(places)) if chosen is None else chosen
        return self._scaled(part, places, {int(i) for i in wanted}, _Scaling(self, asked, reading))

    def _scaled(
        self, part: str, places: np.ndarray, wanted: set[int], scaling: _Scaling
    ) -> Iterator[np.ndarray]:
        several = sorted({int(p) for p in self.parts[part] if int(p) in self._held})
        if several:
            held = sum(self._held[place] for place in several)
            scaling.reading.notes.append(
                f"{held:,} images are pages or frames of {len(several):,} files"
                f" ({self.files.names[several[0]]}{', …' if len(several) > 1 else ''})"
            )
        files = [int(p) for p in dict.fromkeys(places[sorted(wanted)].tolist())]
        firsts = {int(place): i for i, place in reversed(list(enumerate(places.tolist())))}
        changed = Counter[str]()
        for place, decoded in zip(files, self.files.decode(files, self._held), strict=True):
            changed.update(decoded.changes)
            for number, frame in enumerate(decoded.frames):
                if firsts[place] + number in wanted:
                    yield scaling.apply(frame)
        scaling.reading.notes += [
            f"{changed[name]:,} {said}" for name, said in CHANGES.items() if changed[name]
        ]

    def look(self, enough: Callable[[Seen], bool] = lambda _: False) -> Mapping[bool, Seen]:
        """What the 8-bit images (True) and the others (False) of all parts are.

        It ends with the first image after which 8-bit images are `enough`.
        """
        seen: dict[bool, list[Seen]] = {}
        every = list(range(len(self.files.names)))
        for place, decoded in zip(every, self.files.decode(every, self._held), strict=True):
            for frame in decoded.frames:
                one = look(frame, self.files.names[place])
                seen.setdefault(one.eight_bit, []).append(one)
                if enough(one):
                    return {True: one}
        return {eight_bit: reduce(add, found) for eight_bit, found in seen.items()}


class _Scaling:
    """The scale of 8-bit images and that of wider ones, found when the first of them is met."""

    def __init__(self, images: PictureImages, asked: Asked | None, reading: Reading) -> None:
        self.images, self.asked, self.reading = images, asked, reading
        self.scales: dict[bool, Scale] = {}

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """A frame as uint8."""
        eight_bit = frame.dtype == np.uint8
        if eight_bit not in self.scales:
            # Pixels above 1 are 8-bit ones; where there are none they may be 0 and 1 alone.
            asked = None if self.asked is None else self.asked.of(eight_bit)
            plain = eight_bit and asked is None and frame.max() > 1
            self.scales[eight_bit] = PLAIN if plain else self._find(eight_bit, asked)
        return self.scales[eight_bit].apply(frame)

    def _find(self, eight_bit: bool, asked: Scale | None) -> Scale:
        if asked is not None:
            self._note(asked_for(asked), asked)
            return asked

        def enough(seen: Seen) -> bool:
            return eight_bit and seen.eight_bit and seen.high > 1

        seen = self.images.look(enough)[eight_bit]
        scale = scale_of(seen, self.images.name)
        found = said(seen, scale)
        self._note(f"{seen.count:,} images hold {found}" if found else "", scale)
        return scale

    def _note(self, note: str, scale: Scale) -> None:
        if note and note not in self.reading.notes:
            self.reading.notes.append(note)
        if scale != PLAIN:
            self.reading.values = (scale.low, scale.high)

"""From a source to the array of a split: classes chosen, steps applied, one uint8 array filled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from oodbench.datasets.common_corruptions import Photographs
from oodbench.datasets.corruptions import no_photographs
from oodbench.datasets.naming import SIZING, step_name
from oodbench.datasets.reading.image_decoding import grey_if_equal
from oodbench.datasets.sources.raw_images import Found, Raw
from oodbench.datasets.spec import DatasetName
from oodbench.datasets.split_cache import Split
from oodbench.datasets.subsets import keep_classes
from oodbench.datasets.transforms import apply
from oodbench.errors import DataError, listed
from oodbench.progress import Progress, Task

Shape = tuple[int, int, int]
#: Images from which on reading them shows a progress bar.
SHOWN = 3_000


@dataclass(frozen=True)
class Source:
    """Where a split comes from and the steps it goes through.

    `default` are the steps that a prepared array has behind it, `target` the shape that sizing
    steps lead to, `classes` the names of the labels where they are declared, `photographs` those
    of the step ``frost``.
    """

    found: Found
    chain: tuple[str, ...]
    target: Shape | None
    default: tuple[str, ...] = ()
    expected: int = 0
    classes: tuple[str, ...] = ()
    photographs: Photographs = no_photographs


def materialise(source: Source, wanted: DatasetName, split: str, progress: Progress) -> Split:
    """The images (N, C, H, W) uint8 of a source, with what is known of them."""
    raw, target = source.found.read(), source.target
    if wanted.classes:
        raw = keep_classes(raw, wanted, source.classes or raw.classes)
    steps = [step for step in source.chain if step_name(step) != "range"]
    unknown = ""
    if raw.final and source.default:
        assert isinstance(raw.images, np.ndarray)
        held = raw.images.shape[1:3]
        fits = target is None or held == target[1:]
        steps, unknown = after_default(source.default, source.chain, wanted, fits)
        if target is not None and not fits:
            raise DataError(
                f"{wanted}: the prepared array is {held[0]}×{held[1]};"
                f" {target[1]}×{target[2]} needs the native images"
            )
    if isinstance(raw.images, np.ndarray) and not steps:
        images = np.ascontiguousarray(raw.images.transpose(0, 3, 1, 2))
    else:
        bar = progress.task(f"read {wanted} {split}", raw.count)
        with bar if raw.count >= SHOWN else nullcontext(Task()) as task:
            images = _Transforming(raw, steps, wanted, source, split).images(task)
    notes = "; ".join(filter(None, (raw.notes(), unknown)))
    return Split(images, raw.labels, notes, raw.groups, raw.unlabelled, raw.reading.values)


def after_default(
    default: Sequence[str], chain: Sequence[str], wanted: DatasetName, fits: bool
) -> tuple[list[str], str]:
    """What is left to do on an array that already went through the default variant, and a note.

    Where it is of the size wanted (`fits`), resizing it changes nothing, whatever made it so.
    """
    sizing = [[s for s in steps if step_name(s) in SIZING] for steps in (default, chain)]
    note = ""
    if sizing[0][:1] != sizing[1][:1]:
        if not (fits and sizing[1][:1] == ["resize"]):
            raise DataError(
                f"{wanted}: the prepared array already went through {sizing[0][0]!r};"
                f" {(sizing[1] or ['its absence'])[0]!r} needs the native images"
            )
        note = "an array of this size, taken as it is: resized or cropped is not known"
    # Undo the default's inversion, then do what was asked for; two inversions are none.
    left: list[str] = []
    undo = [s for s in default if s == "invert"]
    for step in [*undo, *(s for s in chain if step_name(s) not in SIZING)]:
        if step == "invert" and left[-1:] == ["invert"]:
            left.pop()
        else:
            left.append(step)
    return left, note


class _Transforming:
    """The images of a source through steps, into one array of the first one's size."""

    def __init__(
        self, raw: Raw, steps: Sequence[str], wanted: DatasetName, source: Source, split: str
    ) -> None:
        target = source.target
        sizing = [step for step in steps if step in SIZING]
        if target is None and sizing:
            named = str(wanted).replace(f"@{sizing[0]}", f"@{sizing[0]}(32)")
            raise DataError(
                f"{wanted}: {sizing[0]} takes its size from the ID set, and there is none here;"
                f" name the size, as in '{named}'"
            )
        self.raw, self.steps, self.wanted, self.split = raw, steps, wanted, split
        self.target, self.photographs = target, source.photographs
        # Image files say badly whether they are grey; an array has the channels it has.
        self.collapses = (
            wanted.is_path and "rgb" not in steps and not isinstance(raw.images, np.ndarray)
        )

    def images(self, task: Task) -> np.ndarray:
        """(N, C, H, W) uint8; DataError where the sizes differ."""
        raw = self.raw
        indices: Iterable[int] = range(raw.count) if raw.indices is None else raw.indices.tolist()
        size = (self.target[1], self.target[2]) if self.target else (0, 0)
        out: np.ndarray | None = None
        first, colour = 0, not self.collapses
        grey = 0
        for place, (index, image) in enumerate(zip(indices, raw.images, strict=True)):
            done = apply(image, self.steps, size, index, self.split, self.photographs)
            done = done.transpose(2, 0, 1)
            if out is None:
                _check_room(done.nbytes * raw.count, self.wanted)
                out, first = np.empty((raw.count, *done.shape), np.uint8), index
            elif done.shape[1:] != out.shape[2:]:
                raise self._misfit((index, done.shape[1:]), (first, out.shape[2:]))
            grey += done.shape[0] == 1
            if done.shape[0] > out.shape[1]:
                out = np.repeat(out, 3, axis=1)
            colour = colour or grey_if_equal(done.transpose(1, 2, 0)).shape[2] == 3
            out[place] = done
            task.advance(1)
        assert out is not None
        if self.collapses and colour and grey:
            raw.reading.notes.append(f"{grey:,} grey images stand in three equal channels")
        elif self.collapses and not colour and grey < raw.count:
            raw.reading.notes.append(
                f"{raw.count - grey:,} images in colours that are all grey: one channel is kept"
            )
        return out if colour else np.ascontiguousarray(out[:, :1])

    def _misfit(
        self, one: tuple[int, tuple[int, ...]], other: tuple[int, tuple[int, ...]]
    ) -> DataError:
        (index, size), (first, expected) = one, other
        side, made = "", ""
        if not self.target:
            sides = _recipe_sides()
            least = min(*size, *expected)
            side = f"({max((s for s in sides if s <= least), default=min(sides, default=least))})"
            made = f"; recipes are made for the sides {listed(sides, 9)}" if sides else ""
        name = self.wanted
        return DataError(
            f"{name}: image {index} is {size[0]}×{size[1]}, image {first} is"
            f" {expected[0]}×{expected[1]}; use {name}@resize{side} or {name}@crop{side}{made}"
        )


def _recipe_sides() -> list[int]:
    """The sides of the square images that recipes are made for."""
    from oodbench.declare.recipes import recipe_files

    return sorted({file.shape[1] for file in recipe_files().values()
                   if file.shape[1] == file.shape[2]})  # fmt: skip


def _check_room(wanted_bytes: int, name: DatasetName) -> None:
    """DataError where a split would take more than half of this machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if wanted_bytes > memory / 2:
        raise DataError(
            f"{name}: its images take {wanted_bytes / 2**30:,.0f} GiB, more than half of the"
            f" memory here ({memory / 2**30:,.0f} GiB); use fewer or smaller ones (@resize)"
        )

"""What a user's file or folder holds: parts, labels, groups; and the part that is wanted of it.

A set that is divided has the parts ``train`` and ``test``, one that is not the part ``""``.  Where
an undivided set has to serve as ID training and test set, it is cut 80/20 by a seeded permutation:
of its images, or of its groups where dependent images are declared to be such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from oodbench.datasets.reading.labels import Labels
from oodbench.datasets.reading.pixel_values import Asked
from oodbench.datasets.sources.raw_images import Raw, Reading
from oodbench.errors import DataError, listed
from oodbench.seeding import derive_seed


class Images(Protocol):
    """The images of every part, read when they are asked for."""

    def names(self, part: str) -> list[str] | None:
        """The file of every image of a part; None where images are no files."""

    def counts(self) -> Mapping[str, int]:
        """The number of images of every part."""

    def read(
        self, part: str, chosen: np.ndarray | None, asked: Asked | None, reading: Reading
    ) -> np.ndarray | Iterable[np.ndarray]:
        """The images of a part (those `chosen`), uint8 (N, H, W, C) or one after another.

        The values are scaled as `asked`, else by one rule for all parts; `reading` says how.
        """


@dataclass(frozen=True)
class Contents:
    """`groups` by part: (N,) int64.  `usual` are the classes that the set has without brackets."""

    where: str
    images: Images
    labels: Labels = field(default_factory=Labels)
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    usual: tuple[int, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """`divide`: an undivided set is cut; `classes`: some are named; `values`: a scale is asked."""

    split: str
    divide: bool = False
    classes: bool = False
    values: Asked | None = None


def raw_of(contents: Contents, wanted: Wanted) -> Raw:
    """The images of a split; DataError where there is no such part or too few images to cut."""
    counts, labels = contents.images.counts(), contents.labels
    part = "" if "" in counts else wanted.split
    if part not in counts:
        held = " and ".join(f"{name} part" for name in counts)
        raise DataError(f"{contents.where}: it has no {part} part (it has a {held})")
    count, marks, groups = counts[part], labels.of(part), contents.groups.get(part)
    notes, chosen = list(contents.notes), None
    if labels.problem:
        notes.append(f"labels are not used: {labels.problem}")
    if part == "" and wanted.divide:
        chosen, note = share(count, wanted.split, groups)
        notes.append(note)
    if contents.usual and not wanted.classes and marks is not None:
        usual = np.flatnonzero(np.isin(marks, contents.usual))
        chosen = usual if chosen is None else np.intersect1d(chosen, usual)
    if chosen is not None and not len(chosen):
        raise DataError(f"{contents.where}: no image is left for the {wanted.split} part")
    reading = Reading()
    names = contents.images.names(part)
    images = contents.images.read(part, chosen, wanted.values, reading)
    return Raw(
        images,
        count if chosen is None else len(chosen),
        marks if marks is None or chosen is None else marks[chosen],
        note="; ".join(notes),
        classes=labels.classes,
        indices=chosen,
        groups=groups if groups is None or chosen is None else groups[chosen],
        unlabelled=labels.problem,
        reading=reading,
        names=names if names is None or chosen is None else [names[i] for i in chosen.tolist()],
    )


def share(count: int, split: str, groups: np.ndarray | None = None) -> tuple[np.ndarray, str]:
    """Sorted indices of the 80 % for training or the 20 % for testing, and what to say of it."""
    units = count if groups is None else len(np.unique(groups))
    what = "images" if groups is None else "groups"
    if units < 5:
        raise DataError(
            f"{units} {what} cannot be cut into training and test images; give 5 or more"
        )
    order = np.random.default_rng(derive_seed("80/20", units)).permutation(units)
    cut = units * 4 // 5
    taken = np.sort(order[:cut] if split == "train" else order[cut:])
    percent = "80" if split == "train" else "20"
    if groups is None:
        return taken, f"a seeded {percent} % share of {count} images"
    kept = np.isin(np.unique(groups, return_inverse=True)[1], taken)
    return np.flatnonzero(kept), f"a seeded {percent} % share of {units} groups of {count} images"


def number_groups(
    stored: Mapping[str, np.ndarray], counts: Mapping[str, int], where: str
) -> dict[str, np.ndarray]:
    """Groups of any kind as numbers; DataError where a part has not one for every image."""
    out = {}
    for part, array in stored.items():
        if array.shape != (counts[part],) or array.dtype.kind not in "iubUS":
            raise DataError(
                f"{where}: {counts[part]:,} images but groups of shape {array.shape} and type"
                f" {array.dtype}; give one number or text for every image"
            )
        out[part] = np.unique(array, return_inverse=True)[1].astype(np.int64)
    return out


def not_used(what: str, names: Sequence[str]) -> str:
    """What is said of arrays or columns that nothing is read of."""
    return f"its {what} {listed(names, 5)} are not used"


def undivided(parts: Mapping[str, object], where: str) -> tuple[dict[str, str], str]:
    """Which stored part serves as which, from the parts that are there, and what to say of it.

    A validation part is the test part where there is no other; a lone part is a set undivided.
    """
    if len(parts) == 1:
        (only,) = parts
        return {"": only}, "" if only in ("", "test") else f"its {only} part is all there is"
    if "train" not in parts:
        raise DataError(f"{where}: it has the parts {', '.join(parts)} and none for training")
    test = "test" if "test" in parts else "val"
    left = [name for name in parts if name not in ("train", test)]
    said = "" if test == "test" else "its validation part is the test part"
    unused = ", ".join(left)
    return {"train": "train", "test": test}, said or (
        f"its {unused} part is not used" if unused else ""
    )

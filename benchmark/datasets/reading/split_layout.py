"""The parts and classes that the folders of a data set name, as the common layouts do.

train/ and test/, val/ or valid/   of any case: ImageNet, Imagenette, GTSRB, Kaggle
train/good and test/good, test/…   MVTec AD: of test/, `good` alone is like the training images
a folder for every class           below the parts, or at once
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from oodbench.datasets.reading.contents import undivided
from oodbench.datasets.reading.labels import Labels
from oodbench.errors import DataError

PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "eval"),
}
GOOD = "good"


@dataclass(frozen=True)
class Layout:
    """`parts`: the places of the images of every part among all; `labels` by their folders."""

    parts: Mapping[str, np.ndarray]
    labels: Labels
    notes: tuple[str, ...] = ()
    usual: tuple[int, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def part_named(word: str) -> str:
    """``train``, ``test`` or ``val`` for any of their names, else ""."""
    return next((part for part, words in PARTS.items() if word.lower() in words), "")


def recognise(files: Sequence[str], folders: Iterable[str], where: str) -> Layout:
    """Parts and classes of images by their paths, "/" between folders.

    DataError where two folders name one part, or where a part that is named has no image.
    """
    folders = list(folders)
    held = _parts(folders, where)
    if "train" not in held or len(held) == 1:
        parts: dict[str, np.ndarray] = {"": np.arange(len(files))}
        labels = _labels(files, parts, {"": ""}, folders)
        return Layout(parts, labels, (*_lone(held), *_unlabelled(files, labels, {"": ""}, parts)))
    roles, note = undivided(held, where)
    names = {role: held[part] for role, part in roles.items()}
    if [names[role] for role in ("train", "test")] != ["train", "test"]:
        note = f"{names['train']}/ is for training, {names['test']}/ for testing"
    parts, notes = {}, [note] if note else []
    for role, name in names.items():
        chosen = [i for i, file in enumerate(files) if file.startswith(f"{name}/")]
        if not chosen:
            raise DataError(f"{where}/{name}: no images in it")
        parts[role] = np.array(chosen)
    beside = len(files) - sum(map(len, parts.values()))
    unused = sum(len([f for f in files if f.startswith(f"{held[p]}/")]) for p in held
                 if p not in roles.values())  # fmt: skip
    if beside - unused:
        shown = " and ".join(f"{name}/" for name in names.values())
        notes.append(f"{beside - unused:,} images beside {shown} are not used")
    labels = _labels(files, parts, names, folders)
    notes += _unlabelled(files, labels, names, parts)
    usual = _usual(labels)
    if usual:
        others = int(np.sum(~np.isin(labels.values["test"], usual)))
        notes.append(
            f"{others:,} images of {names['test']}/ in other folders than {GOOD}/ are not used"
            " (name their classes in brackets)"
        )
    return Layout(parts, labels, tuple(notes), usual, names)


def _parts(folders: Iterable[str], where: str) -> dict[str, str]:
    """The folder of every part."""
    held: dict[str, str] = {}
    for name in folders:
        part = "" if "/" in name else part_named(name)
        if part in held:
            raise DataError(
                f"{where}: {held[part]}/ and {name}/ are both a {part} part; give the one that is"
                " meant another place"
            )
        if part:
            held[part] = name
    return held


def _labels(
    files: Sequence[str], parts: Mapping[str, np.ndarray], names: Mapping[str, str],
    folders: Sequence[str],
) -> Labels:  # fmt: skip
    """The folder of every image as its class, of the parts whose images all lie in folders."""
    depth = {part: name.count("/") + 1 if name else 0 for part, name in names.items()}
    classes = sorted({
        folder.split("/")[-1]
        for folder in folders
        for part, name in names.items()
        if folder.count("/") == depth[part] and (not name or folder.startswith(f"{name}/"))
    })  # fmt: skip
    number, values = {name: index for index, name in enumerate(classes)}, {}
    for part, chosen in parts.items():
        words = [files[i].split("/") for i in chosen]
        if all(len(word) > depth[part] + 1 for word in words):
            values[part] = np.array([number[word[depth[part]]] for word in words], dtype=np.int64)
    return Labels(values, tuple(classes) if values else ())


def _lone(held: Mapping[str, str]) -> list[str]:
    """What is said of folders that are named as parts and yet divide nothing."""
    if not held:
        return []
    lacking = "training" if "train" not in held else "testing"
    shown = " and ".join(f"{name}/" for name in held.values())
    verb = "are folders like any other" if len(held) > 1 else "is a folder like any other"
    return [f"{shown} {verb}: there is none for {lacking}"]


def _unlabelled(
    files: Sequence[str], labels: Labels, names: Mapping[str, str], parts: Mapping[str, np.ndarray]
) -> list[str]:
    """What is said of images beside the folders of classes: they have no class, so none has."""
    notes = []
    for part, chosen in parts.items():
        depth = names[part].count("/") + 1 if names[part] else 0
        beside = sum(len(files[i].split("/")) <= depth + 1 for i in chosen)
        if part not in labels.values and 0 < beside < len(chosen):
            where = f" of {names[part]}/" if names[part] else ""
            notes.append(
                f"{beside:,} images{where} lie beside its folders, which are no classes therefore"
            )
    return notes


def _usual(labels: Labels) -> tuple[int, ...]:
    """The class of MVTec's good images where the layout is that; else all are usual."""
    if GOOD not in labels.classes or set(labels.values) != {"train", "test"}:
        return ()
    good = labels.classes.index(GOOD)
    train, test = (set(labels.values[part].tolist()) for part in ("train", "test"))
    return (good,) if train == {good} and good in test and len(test) > 1 else ()

"""Arrays in ``.npz`` and ``.npy`` files, under the names that are in use.

    images, labels                            ours; also imgs, data, x, arr_0 and y, targets, arr_1
    train, test, train_labels, …              ours, divided
    train_images, val_images, test_images, …  MedMNIST
    x_train, y_train, x_test, y_test          Keras

``groups`` (``train_groups``, …) holds a number or text for every image: images that share it
depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from oodbench.datasets.reading.array_images import ArrayImages, StoredArray
from oodbench.datasets.reading.contents import Contents, not_used, number_groups, undivided
from oodbench.datasets.reading.labels import Labels, understand
from oodbench.datasets.sources.raw_images import Member, array_header, open_npz, short_reason
from oodbench.errors import DataError

WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
IMAGES = ("images", "image", "imgs", "x", "data", "arr_0")
LABELS = ("labels", "label", "targets", "target", "y", "arr_1")
GROUPS = ("groups", "group")


def npz_contents(path: Path) -> Contents:
    """The contents of an .npz; DataError where no array is named as images are."""
    held_names = open_npz(path)
    members = {name.lower(): member for name, member in held_names.items()}
    if len(members) < len(held_names):
        twice = sorted(
            n for n in held_names if list(map(str.lower, held_names)).count(n.lower()) > 1
        )
        raise DataError(f"{path}: {' and '.join(twice)} differ in case alone; rename all but one")
    names = {part: found for part in WORDS if (found := _named(part, IMAGES, members))}
    plain = next((name for name in IMAGES if name in members), "")
    if not names and plain:
        names = {"": plain}
    if not names:
        held = ", ".join(members) or "nothing"
        raise DataError(f"{path}: no array 'images' (it holds {held}); name the array 'images'")
    roles, note = undivided(names, str(path))
    parts = {role: _stored(path, names[part], members) for role, part in roles.items()}
    counts = {role: stored.count for role, stored in parts.items()}
    labels, problem = _beside(roles, LABELS, members)
    groups, _ = _beside(roles, GROUPS, members)
    used = {found for part in names for kinds in (IMAGES, LABELS, GROUPS)
            if (found := _named(part, kinds, members))}  # fmt: skip
    unused = [name for name in members if name not in used]
    notes = [*([note] if note else []), *([not_used("arrays", unused)] if unused else [])]
    understood = Labels(problem=problem) if problem else understand(labels, counts)
    return Contents(
        str(path), ArrayImages(parts, str(path)), understood,
        number_groups(groups, counts, str(path)), tuple(notes),
    )  # fmt: skip


def npy_contents(path: Path) -> Contents:
    """The contents of an .npy: images alone."""

    def read() -> np.ndarray:
        try:
            with path.open("rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise _no_npy(path, error) from error

    try:
        with path.open("rb") as file:
            shape, dtype = array_header(file)
            held = path.stat().st_size - file.tell()
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize != held:
            raise ValueError("its header promises another number of bytes")
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise _no_npy(path, error) from error
    stored = StoredArray(read, shape, dtype, str(path))
    return Contents(str(path), ArrayImages({"": stored}, str(path)))


def _no_npy(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"{path}: it cannot be read as an .npy of plain numbers ({short_reason(error)}); save it"
        " with numpy.save(file, <uint8 array>)"
    )


def _stored(path: Path, name: str, members: Mapping[str, Member]) -> StoredArray:
    where = str(path) if name in IMAGES else f"{path}[{name}]"
    return StoredArray(members[name].read, members[name].shape, members[name].dtype, where)


def _named(part: str, kinds: tuple[str, ...], members: Mapping[str, Member]) -> str:
    """The array of a part by any of the names in use, "" where there is none."""
    return next((name for name in _names(part, kinds) if name in members), "")


def _names(part: str, kinds: tuple[str, ...]) -> Iterator[str]:
    for word in WORDS.get(part, ()):
        if kinds is IMAGES:
            yield word
        for kind in kinds:
            yield f"{word}_{kind}"
            yield f"{kind}_{word}"
    if part == "":
        yield from kinds


def _beside(
    roles: Mapping[str, str], kinds: tuple[str, ...], members: Mapping[str, Member]
) -> tuple[dict[str, np.ndarray], str]:
    """The arrays that stand beside the images, and why they cannot be read."""
    out = {}
    for role, part in roles.items():
        name = _named(part, kinds, members)
        if not name:
            continue
        if members[name].dtype.hasobject:
            return {}, f"{name} holds Python objects"
        out[role] = members[name].read()
    return out, ""

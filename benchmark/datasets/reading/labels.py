"""Labels as people store them, as numbers 0, 1, … with the names of the classes if there are any.

    whole numbers, also as floats, (N,) or (N, 1)     themselves
    texts                                             their place among the texts, sorted
    one-hot (N, K)                                    the column that holds the one
    true and false                                    1 and 0

Labels that are something else are not used, and what they are is kept: detectors that need none
are not stopped by them, and those that need them say why there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

#: Whole numbers from which on int64 holds none.
LIMIT = 2**63


@dataclass(frozen=True)
class Labels:
    """`values` (N,) int64 by part; `classes` their names; `problem`: why there are none."""

    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    problem: str = ""

    def of(self, part: str) -> np.ndarray | None:
        """The labels of a part, None where it has none."""
        return self.values.get(part)


def understand(stored: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> Labels:
    """The labels of a set by part, numbered alike in all; `counts` are the numbers of images."""
    plain = {part: _plain(array) for part, array in stored.items()}
    for part, array in plain.items():
        if len(array) != counts[part]:
            return Labels(problem=f"{counts[part]:,} images have {len(array):,} labels")
    if not plain:
        return Labels()
    kinds = {array.dtype.kind for array in plain.values()}
    shapes = {array.shape[1:] for array in plain.values()}
    if shapes - {()}:
        return _one_hot(plain) if len(shapes) == 1 else Labels(problem="their shapes differ")
    if kinds <= {"U"}:
        classes = sorted({text for array in plain.values() for text in array.tolist()})
        number = {text: index for index, text in enumerate(classes)}
        numbered = {
            part: np.array([number[t] for t in array.tolist()], dtype=np.int64)
            for part, array in plain.items()
        }
        return Labels(numbered, tuple(classes))
    if kinds - set("iubf"):
        types = sorted({str(array.dtype) for array in plain.values()})
        return Labels(problem=f"they are of the type {' and '.join(types)}")
    if not all(array.dtype.kind != "f" or np.all(np.isfinite(array) & (array == np.rint(array)))
               for array in plain.values()):  # fmt: skip
        return Labels(problem="they are no whole numbers")
    if any((array.dtype.kind in "uf" and len(array) and array.max() >= LIMIT)
           or (array.dtype.kind == "f" and len(array) and array.min() < -LIMIT)
           for array in plain.values()):  # fmt: skip
        return Labels(problem="they are larger than 64 bits hold")
    return Labels({part: array.astype(np.int64) for part, array in plain.items()})


def _plain(array: np.ndarray) -> np.ndarray:
    """Without empty axes, texts as str."""
    array = np.asarray(array)
    while array.ndim > 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 0:
        array = array[None]
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "backslashreplace")  # two texts stay two
    return array


def _one_hot(plain: Mapping[str, np.ndarray]) -> Labels:
    values = {}
    for part, array in plain.items():
        if array.ndim != 2 or array.dtype.kind not in "iubf":
            return Labels(problem=f"they have the shape {array.shape}")
        if not (np.all((array == 0) | (array == 1)) and np.all(array.sum(axis=1) == 1)):
            return Labels(problem=f"there are several for an image, {array.shape[1]} columns")
        values[part] = array.argmax(axis=1).astype(np.int64)
    return Labels(values)

"""Tables of pixels as text: an image a line, a value a column, a label first or last.

    label,pixel0,pixel1,…            Kaggle's MNIST; with or without the line of names
    label,1x1,1x2,…                  names that say row and column
    emotion,pixels,Usage             FER2013: the values of an image in one column, and its part

Without names of rows and columns, images are square, grey or RGB (channels last).
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oodbench.datasets.reading.array_images import ArrayImages, StoredArray
from oodbench.datasets.reading.contents import Contents, number_groups, undivided
from oodbench.datasets.reading.labels import understand
from oodbench.datasets.reading.split_layout import part_named
from oodbench.datasets.sources.raw_images import short_reason
from oodbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("label", "labels", "class", "target", "y", "emotion", "digit")
PARTS = {"training": "train", "publictest": "val", "privatetest": "test"}
PLACE = re.compile(r"([0-9]{1,4})x([0-9]{1,4})")


def is_pixel_csv(name: str) -> bool:
    """Whether a file of this name is a table of text."""
    return name.lower().endswith((".csv", ".csv.gz"))


def csv_contents(path: Path) -> Contents:
    """The images of a table; DataError where its columns are no pixels."""
    try:
        frame = _frame(path)
    except DataError:
        raise
    except Exception as error:  # pandas raises anything on a text that is no table
        raise DataError(f"{path}: not a table of pixels ({short_reason(error)})") from error
    names = [str(name) for name in frame.columns]
    label = _label_column(names, frame.shape[1])
    beside = {name: i for i, name in enumerate(names)
              if name.lower() in ("usage", "split", "part", "group", "groups")}  # fmt: skip
    for kind in (("usage", "split", "part"), ("group", "groups")):
        several = [name for name in beside if name.lower() in kind]
        if len(several) > 1:
            raise DataError(f"{path}: the columns {' and '.join(several)} say the same; keep one")
    pixels = [i for i in range(frame.shape[1]) if i != label and i not in beside.values()]
    images = _images(frame, pixels, [names[i] for i in pixels], path)
    usage = next((i for name, i in beside.items() if not name.lower().startswith("group")), None)
    rows = _rows(frame, usage, len(images))
    roles, note = undivided(rows, str(path))
    parts = {
        role: StoredArray(
            partial(_take, images, rows[part]), (len(rows[part]), *images.shape[1:]), images.dtype,
            str(path),
        )
        for role, part in roles.items()
    }  # fmt: skip
    counts = {role: stored.count for role, stored in parts.items()}

    def column(place: int | None) -> dict[str, np.ndarray]:
        if place is None:
            return {}
        values = frame.iloc[:, place].to_numpy()
        values = values.astype(str) if values.dtype.kind not in "iufb" else values
        return {role: values[rows[part]] for role, part in roles.items()}

    group = next((i for name, i in beside.items() if name.lower().startswith("group")), None)
    return Contents(
        str(path), ArrayImages(parts, str(path)), understand(column(label), counts),
        number_groups(column(group), counts, str(path)), (note,) if note else (),
    )  # fmt: skip


def _take(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    taken: np.ndarray = images[rows]
    return taken


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        first = next(csv.reader([file.readline()]), [])
    if not first:
        raise DataError(f"{path}: there is nothing in it")
    named = not all(_is_number(cell) for cell in first)
    frame = pd.read_csv(path, header=0 if named else None, low_memory=False)
    if not len(frame):
        raise DataError(f"{path}: there are no images in it")
    return frame


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label_column(names: Sequence[str], count: int) -> int | None:
    """The place of the labels by its name, or by what is left of a square."""
    for place, name in enumerate(names):
        if name.lower() in LABELS:
            return place
    # Columns without names are numbered; a label stands first.
    unnamed = names == [str(i) for i in range(count)]
    return 0 if unnamed and _square(count) is None and _square(count - 1) is not None else None


def _square(count: int) -> tuple[int, int, int] | None:
    """Height, width and channels of `count` values, None where they make no square."""
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if count and side * side * channels == count:
            return side, side, channels
    return None


def _images(frame: pd.DataFrame, places: list[int], names: list[str], path: Path) -> np.ndarray:
    """(N, H, W, C) of the numbers in the columns."""
    if len(places) == 1 and frame.iloc[:, places[0]].dtype.kind not in "iuf":
        lines = [np.array(text.split(), dtype=np.float64) for text in frame.iloc[:, places[0]]]
        if len({len(line) for line in lines}) != 1:
            raise DataError(f"{path}: the column {names[0]} holds other numbers of values")
        values = np.stack(lines)
    else:
        wrong = [
            n
            for n, i in zip(names, places, strict=True)
            if frame.iloc[:, i].dtype.kind not in "iuf"
        ]
        if wrong:
            raise DataError(
                f"{path}: the column {wrong[0]!r} holds no numbers; a table of images has a label"
                " and pixels, an image a line"
            )
        values = frame.iloc[:, places].to_numpy()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise DataError(f"{path}: line {row + 1} of the images has an empty value")
    shape = _named_shape(names) or _square(values.shape[1])
    if shape is None:
        raise DataError(
            f"{path}: {values.shape[1]:,} values a line are no square image, grey or RGB; name the"
            " columns '1x1', '1x2', … by row and column, or save an .npz"
        )
    if values.dtype.kind == "f" and np.array_equal(values, np.rint(values)):
        values = values.astype(np.int64)
    if values.min() >= 0 and values.max() <= 255 and values.dtype.kind in "iu":
        values = values.astype(np.uint8)
    return values.reshape(len(values), *shape)


def _named_shape(names: Sequence[str]) -> tuple[int, int, int] | None:
    """The shape that names such as ``28x28`` say, None where they are others."""
    found = [PLACE.fullmatch(name.lower()) for name in names]
    places = [(int(f[1]), int(f[2])) for f in found if f is not None]
    if len(places) != len(names) or not places:
        return None
    (top, left), (bottom, right) = places[0], places[-1]
    height, width = bottom - top + 1, right - left + 1
    expected = [(top + i, left + j) for i in range(height) for j in range(width)]
    return (height, width, 1) if places == expected else None


def _rows(frame: pd.DataFrame, usage: int | None, count: int) -> dict[str, np.ndarray]:
    """The lines of every part."""
    if usage is None:
        return {"": np.arange(count)}
    words = [str(word).lower() for word in frame.iloc[:, usage]]
    parts = [PARTS.get(word) or part_named(word) or word for word in words]
    return {
        part: np.array([i for i, p in enumerate(parts) if p == part]) for part in sorted(set(parts))
    }

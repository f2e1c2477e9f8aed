"""The idx format of MNIST (``…-images-idx3-ubyte``, gzipped or not), with the labels beside it.

Big-endian: two zero bytes, the type (8: unsigned byte), the number of dimensions, the sizes as
32-bit numbers, then the values.  http://yann.lecun.com/exdb/mnist
"""

from __future__ import annotations

import gzip
import math
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from oodbench.datasets.reading.array_images import ArrayImages, StoredArray
from oodbench.datasets.reading.contents import Contents, undivided
from oodbench.datasets.reading.labels import understand
from oodbench.datasets.sources.raw_images import ALWAYS_UNPACKED, MAX_RATIO, short_reason
from oodbench.errors import DataError

UNSIGNED_BYTE = 8
PARTS = {"train": "train", "t10k": "test", "test": "test", "val": "val", "valid": "val"}


def is_idx(name: str) -> bool:
    """Whether a file is named as idx files are."""
    plain = name.lower().removesuffix(".gz")
    return plain.endswith(("-ubyte", ".idx")) or ".idx" in plain


def is_idx_images(name: str) -> bool:
    """Whether an idx file holds images by its name, not labels."""
    return is_idx(name) and "label" not in name.lower()


def idx_contents(files: list[Path], where: Path) -> Contents:
    """The contents of idx files of images, each a part by its name where there are several."""
    named: dict[str, Path] = {}
    for path in files:
        part = _part(path.name) if len(files) > 1 else ""
        if part is None or part in named:
            raise DataError(
                f"{where}: cannot tell the parts of {path.name} and the others; name one"
            )
        named[part] = path
    roles, note = undivided(named, str(where))
    parts, labels = {}, {}
    for role, part in roles.items():
        path = named[part]
        dtype: np.dtype[np.generic] = np.dtype(np.uint8)
        parts[role] = StoredArray(partial(read_idx, path), idx_shape(path), dtype, str(path))
        beside = label_file(path)
        if beside is not None:
            labels[role] = read_idx(beside)
    counts = {role: stored.count for role, stored in parts.items()}
    images = ArrayImages(parts, str(where))
    return Contents(str(where), images, understand(labels, counts), notes=(note,) if note else ())


def _part(name: str) -> str | None:
    """The part that a file's name speaks of."""
    words = name.lower().replace(".", "-").replace("_", "-").split("-")
    return next((PARTS[word] for word in words if word in PARTS), None)


def label_file(images: Path) -> Path | None:
    """The file of labels beside one of images: ``-labels-idx1-`` for ``-images-idx3-``."""
    stem = images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    plain = stem.removesuffix(".gz")
    for name in (plain, f"{plain}.gz"):
        if name != images.name and (images.parent / name).is_file():
            return images.parent / name
    return None


def idx_shape(path: Path) -> tuple[int, ...]:
    """The sizes that an idx file's header names."""
    return _read(path, header_only=True).shape


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file, uint8; DataError where it is none, or is cut off."""
    return _read(path)


def _read(path: Path, header_only: bool = False) -> np.ndarray:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != UNSIGNED_BYTE:
                raise ValueError("it does not begin as an idx file of bytes does")
            sizes = np.frombuffer(file.read(4 * head[3]), ">u4").astype(int)
            if len(sizes) != head[3] or not head[3]:
                raise ValueError("its header is cut off")
            shape = tuple(int(size) for size in sizes)
            if header_only:
                return np.broadcast_to(np.uint8(0), shape)
            count = math.prod(shape)
            if count > max(ALWAYS_UNPACKED, MAX_RATIO * path.stat().st_size):
                raise ValueError(f"its header names {count:,} values")
            data = file.read(count + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not an idx file ({short_reason(error)})") from error
    if len(data) != count:
        raise DataError(f"{path}: it holds not the {count:,} values that its header names")
    return np.frombuffer(data, np.uint8).reshape(shape)

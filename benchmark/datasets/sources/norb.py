"""small NORB in its own binary format, both cameras one after the other."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from oodbench.datasets.sources.raw_images import Raw
from oodbench.errors import DataError

NORB_URL = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/"
NORB_STEM = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
#: MD5 as published in the loader of the HVK code (JakobHavtorn/hvae-oodd).
NORB_MD5 = {
    "train-dat": "66054832f9accfe74a0f4c36a75bc0a2",
    "train-cat": "23c8b86101fbf0904a000b43d3ed2fd9",
    "test-dat": "e4ad715691ed5a3a5f138751a4ceb071",
    "test-cat": "5aa791cd7e6016cf957ce9bdb93b8603",
}
NORB_MAGIC: dict[int, np.dtype[np.uint8] | np.dtype[np.int32]] = {
    0x1E3D4C55: np.dtype(np.uint8),
    0x1E3D4C54: np.dtype(np.int32).newbyteorder("<"),
}
#: The largest file, unpacked: 24,300 pairs of 96×96 images behind a header.
NORB_BYTES = 24_300 * 2 * 96 * 96 + 64


def norb_file(folder: Path, split: str, part: str) -> Path | None:
    """The file of a split's images (``dat``) or categories (``cat``), each looked for by itself."""
    name = f"{NORB_STEM[split]}-{part}.mat.gz"
    return next((p for p in (folder / "smallnorb" / name, folder / name) if p.is_file()), None)


def read_norb(dat: Path, cat: Path) -> Raw:
    images = read_norb_matrix(dat)
    labels = read_norb_matrix(cat).reshape(-1).astype(np.int64)
    if images.ndim != 4 or images.dtype != np.uint8 or len(labels) < len(images):
        raise DataError(f"{dat}: not images with the labels of {cat.name}; fetch both again")
    count, cameras = images.shape[:2]
    flat = images.reshape(count * cameras, *images.shape[2:])[..., None]
    return Raw(flat, len(flat), np.repeat(labels[:count], cameras))


def read_norb_matrix(path: Path) -> np.ndarray:
    """A matrix in NORB's binary format: magic, number of dimensions, at least three sizes, data."""
    try:
        with gzip.open(path) as file:
            data = file.read(NORB_BYTES + 1)
        if len(data) > NORB_BYTES:
            raise ValueError(f"more than {NORB_BYTES} bytes")
        magic, dims = np.frombuffer(data, "<u4", 2)
        stored = max(3, int(dims))
        sizes = np.frombuffer(data, "<u4", stored, 8)[: int(dims)].astype(int)
        kind = NORB_MAGIC[int(magic)]
        values: np.ndarray = np.frombuffer(data, kind, int(np.prod(sizes)), 8 + 4 * stored)
        return values.reshape(sizes)
    except (OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error) as error:
        raise DataError(f"{path}: not a matrix in NORB's format; fetch it again") from error

"""Images as a source gives them, before the transform; and the checks on arrays from files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oodbench.canonical import JSON
from oodbench.errors import DataError


@dataclass(frozen=True)
class Raw:
    """`images`: an array (N, H, W, C) uint8, or an iterable of such (H, W, C) arrays.

    `final` says that the array already went through the default transform.
    """

    images: np.ndarray | Iterable[np.ndarray]
    count: int
    labels: np.ndarray | None = None
    final: bool = False
    note: str = ""


@dataclass(frozen=True)
class Found:
    """A source that exists: where, how to recognise it unchanged, and how to read it."""

    where: str
    identity: JSON
    read: Callable[[], Raw]


def file_identity(path: Path) -> JSON:
    """Path, size and modification time: enough to see that a file was replaced."""
    stat = path.stat()
    return {"path": str(path.absolute()), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; DataError where it is unreadable or holds objects."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        reason = "it holds Python objects" if "allow_pickle" in str(error) else "it cannot be read"
        raise DataError(
            f"{path}: {reason} as an .npz of plain arrays; save it with"
            " numpy.savez(file, images=<uint8 array>)"
        ) from error


def as_images(array: np.ndarray, where: str) -> np.ndarray:
    """(N, H, W, C) uint8 from (N, H, W), (N, H, W, 1|3) or (N, 1|3, H, W); DataError otherwise."""
    if array.dtype != np.uint8:
        array = _to_uint8(array, where)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or (array.shape[3] not in (1, 3) and array.shape[1] not in (1, 3)):
        raise DataError(
            f"{where}: images have shape {array.shape}; expected (N, H, W), (N, H, W, 3) or"
            " (N, 3, H, W)"
        )
    if array.shape[3] not in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if 0 in array.shape:
        raise DataError(f"{where}: there are no images in it (shape {array.shape})")
    return array


def _to_uint8(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "uif":
        raise DataError(f"{where}: images are {array.dtype}; store them as uint8 0..255")
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            first = np.argwhere(~finite)[0]
            raise DataError(
                f"{where}: image {first[0]} holds {array[tuple(first)]}; images must be uint8"
                " 0..255 without NaN"
            )
    if array.size and (array.min() < 0 or array.max() > 255 or np.any(array != np.round(array))):
        raise DataError(
            f"{where}: values run from {array.min():g} to {array.max():g} as {array.dtype};"
            " store images as uint8 0..255"
        )
    if array.dtype.kind == "f" and array.size and array.max() <= 1:
        raise DataError(
            f"{where}: float values in 0..1 are ambiguous; store images as uint8 0..255"
        )
    return array.astype(np.uint8)

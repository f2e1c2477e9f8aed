"""Images as a source gives them, before the transform; and the checks on arrays from files."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.errors import DataError

#: How many times its size an archive may unpack to (images reach some 20), and what is never asked.
MAX_RATIO = 100
ALWAYS_UNPACKED = 1 << 28


@dataclass
class Reading:
    """What is known only once all images were read: `notes` for the caption of a table.

    `values` are the numbers that were taken as black and white where pixels were not 8-bit.
    """

    notes: list[str] = field(default_factory=list)
    values: tuple[float, float] | None = None


@dataclass(frozen=True)
class Raw:
    """`images`: an array (N, H, W, C) uint8, or an iterable of such (H, W, C) arrays.

    `final` says that the array already went through the default transform.  `classes` are the names
    of the labels where the source gives them, `unlabelled` says why labels that are there cannot be
    used; `groups` (N,) int64 are the sets of dependent images; `indices` say which images of the
    source these are where they are not all.  `reading` is filled while `images` are read.
    `names` are those of image files.
    """

    images: np.ndarray | Iterable[np.ndarray]
    count: int
    labels: np.ndarray | None = None
    final: bool = False
    note: str = ""
    classes: tuple[str, ...] = ()
    indices: np.ndarray | None = None
    groups: np.ndarray | None = None
    unlabelled: str = ""
    reading: Reading = field(default_factory=Reading)
    names: list[str] | None = None

    def notes(self) -> str:
        """Everything to say of the images, in one line; complete once they were read."""
        return "; ".join(note for note in (self.note, *self.reading.notes) if note)

    def chosen(self, indices: np.ndarray, images: np.ndarray | Iterable[np.ndarray]) -> Raw:
        """These `images`, which stand at `indices`, with what belongs to them."""
        whole = self.indices
        return replace(
            self,
            images=images,
            count=len(indices),
            labels=None if self.labels is None else self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            names=None if self.names is None else [self.names[i] for i in indices.tolist()],
            indices=indices if whole is None else whole[indices],
        )


@dataclass(frozen=True)
class Found:
    """A source that exists: where, how to recognise it unchanged, and how to read it.

    `changed_ns` is the time of the newest change where only times vouch for the content.
    """

    where: str
    identity: JSON
    read: Callable[[], Raw]
    changed_ns: int = 0


@dataclass(frozen=True)
class Member:
    """One array of an .npz: what its header says, and how to read it."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    read: Callable[[], np.ndarray]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; DataError where it is unreadable, holds objects or is a bomb."""
    return {name: member.read() for name, member in open_npz(path).items()}


def open_npz(path: Path) -> dict[str, Member]:
    """The arrays of an .npz by their headers; DataError as `read_npz`."""
    with _npz_errors(path), zipfile.ZipFile(path) as archive:
        _check_sizes(archive.infolist(), path)
        return {
            info.filename.removesuffix(".npy"): _member(archive, info, path)
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }


@contextmanager
def _npz_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise anything on a damaged file
        raise DataError(
            f"{path}: it cannot be read as an .npz of plain arrays ({short_reason(error)}); save it"
            " with numpy.savez(file, images=<uint8 array>)"
        ) from error


def _check_sizes(members: list[zipfile.ZipInfo], path: Path) -> None:
    """DataError where unpacking would give far more than images that are packed ever do."""
    held, whole = path.stat().st_size, sum(info.file_size for info in members)
    if sum(info.compress_size for info in members) > held:
        raise DataError(f"{path}: its members overlap or are cut off; save it again")
    if whole > max(ALWAYS_UNPACKED, MAX_RATIO * held):
        raise DataError(
            f"{path}: {held:,} bytes would unpack to {whole:,}, more than {MAX_RATIO} times as"
            " many; save it with numpy.savez"
        )


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Member:
    """A member by its header, which is held against its size before anything is allocated."""
    with archive.open(info) as file:
        shape, dtype = array_header(file)
        start = file.tell()
    promised = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and promised != info.file_size - start:
        raise ValueError(f"{info.filename} promises {promised:,} bytes and holds others")

    def read() -> np.ndarray:
        if dtype.hasobject:
            raise DataError(
                f"{path}: {info.filename} holds Python objects; save plain arrays with"
                " numpy.savez(file, images=<uint8 array>)"
            )
        with _npz_errors(path), zipfile.ZipFile(path) as again, again.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return Member(shape, dtype, read)


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of the .npy that begins here."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def short_reason(error: BaseException) -> str:
    """The first line of an error's text, or its type, to stand in brackets."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]


def as_images(array: np.ndarray, where: str) -> np.ndarray:
    """(N, H, W, C) uint8 from (N, H, W), (N, H, W, 1|3) or (N, 1|3, H, W); DataError otherwise."""
    if 0 in array.shape:
        raise DataError(f"{where}: there are no images in it (shape {array.shape})")
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
    return array


def _to_uint8(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "uif":
        raise DataError(f"{where}: images are {array.dtype}; store them as uint8 0..255")
    if array.ndim not in (3, 4):
        raise DataError(f"{where}: images have shape {array.shape}; expected (N, H, W) or more")
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

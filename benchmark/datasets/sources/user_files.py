"""A user's own images: the reader of each kind of file or folder, and which kinds there are.

    folder of images; folder of Parquet shards, or of idx files
    .npz .npy .mat .csv .parquet idx .zip .tar(.gz, .bz2, .xz)

What a kind holds is described where it is read, in `oodbench.datasets.formats`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.formats.idx import idx_contents, is_idx, is_idx_images, label_file
from oodbench.datasets.formats.image_archive import archive_contents, is_archive
from oodbench.datasets.formats.image_folder import ImageFolder, list_folder, no_images
from oodbench.datasets.formats.mat import mat_contents
from oodbench.datasets.formats.npz import npy_contents, npz_contents
from oodbench.datasets.formats.parquet import find_shards, parquet_contents
from oodbench.datasets.formats.pixel_csv import csv_contents, is_pixel_csv
from oodbench.datasets.reading.contents import Contents, Wanted, raw_of
from oodbench.datasets.reading.file_identity import changed_ns, file_identity
from oodbench.datasets.reading.image_decoding import ENDINGS, OTHER_IMAGES, decode
from oodbench.datasets.reading.pixel_values import scale_alone
from oodbench.datasets.sources.raw_images import Found
from oodbench.errors import DataError

KINDS = (
    "folders of images, .npz, .npy, .mat, .csv, .parquet, idx (…-idx3-ubyte), .zip and .tar of"
    " images"
)


def find_user_data(path: Path, wanted: Wanted) -> Found:
    """The source at `path`; DataError where there is nothing usable."""
    if path.is_dir():
        return _folder(path, wanted)
    if not path.exists():
        kind = "file" if path.suffix else "folder"
        raise DataError(f"{path}: there is no such {kind} (looked in {Path.cwd()})")
    if not path.is_file():
        raise DataError(f"{path}: it is neither a file nor a folder")
    read = _reader(path)
    beside = [found] if is_idx(path.name) and (found := label_file(path)) else []
    return _found([path, *beside], path, wanted, read)


def _reader(path: Path) -> Callable[[], Contents]:
    """How a file is read, by its ending; DataError with the kinds where it is of none."""
    name = path.name.lower()
    if name.endswith(".npz"):
        return lambda: npz_contents(path)
    if name.endswith(".npy"):
        return lambda: npy_contents(path)
    if name.endswith(".mat"):
        return lambda: mat_contents(path)
    if name.endswith(".parquet"):
        return lambda: parquet_contents([path], path)
    if is_pixel_csv(name):
        return lambda: csv_contents(path)
    if is_idx(name):
        return lambda: idx_contents([path], path)
    if is_archive(name):
        return lambda: archive_contents(path)
    if Path(name).suffix in ENDINGS | OTHER_IMAGES:
        raise DataError(f"{path}: it is one image; name the folder that holds the images of a set")
    kind = f"ending in {path.suffix}" if path.suffix else "without an ending"
    raise DataError(f"{path}: files {kind} are not read; those that are: {KINDS}")


def _folder(path: Path, wanted: Wanted) -> Found:
    listed = list_folder(path)
    if isinstance(listed, ImageFolder):
        contents = listed.contents
        identity: JSON = {"folder": listed.identity, **_asked(wanted)}
        where = path / wanted.split if "train" in contents.images.counts() else path
        return Found(str(where), identity, lambda: raw_of(contents, wanted), listed.changed_ns)
    shards = find_shards(path)
    if shards:
        beside_shards = str(listed.without(s.relative_to(path).as_posix() for s in shards))
        return _found(
            shards, path, wanted, lambda: _noted(parquet_contents(shards, path), beside_shards),
            beside_shards,
        )  # fmt: skip
    files = sorted(p for p in path.iterdir() if p.is_file() and is_idx_images(p.name))
    if files:
        beside = [found for p in files if (found := label_file(p)) is not None]
        taken = _once(files)
        other = str(listed.without(p.name for p in (*taken, *beside)))
        return _found(
            [*files, *beside], path, wanted, lambda: _noted(idx_contents(taken, path), other), other
        )
    raise no_images(path, listed)


def _once(files: list[Path]) -> list[Path]:
    """One of each file that stands packed and unpacked."""
    names = {path.name for path in files}
    return [p for p in files if p.suffix != ".gz" or p.name.removesuffix(".gz") not in names]


def _noted(contents: Contents, said: str) -> Contents:
    """With one more thing to say of them, where there is any."""
    return replace(contents, notes=(*contents.notes, said)) if said else contents


def _found(
    files: list[Path], path: Path, wanted: Wanted, read: Callable[[], Contents], skipped: str = ""
) -> Found:
    held: list[JSON] = [file_identity(file) for file in files]
    identity: JSON = {"files": held, "skipped": skipped, **_asked(wanted)}
    return Found(str(path), identity, lambda: raw_of(read(), wanted), changed_ns(files))


def _asked(wanted: Wanted) -> dict[str, JSON]:
    """What changes the images beside the files themselves."""
    values = wanted.values
    return {
        "split": wanted.split,
        "divide": wanted.divide,
        "classes": wanted.classes,
        "values": None if values is None else [values.scale.low, values.scale.high, values.wide],
    }


def read_image(path: Path) -> np.ndarray:
    """(H, W, 1 or 3) uint8 of a file that holds one image; DataError where it cannot be read."""
    return scale_alone(decode(path, str(path)).frames[0], None, str(path))

"""Published data sets on disk: prepared arrays, torchvision's roots, and the files of three others.

Every finder looks through the data folders and returns a `Found`, or None with nothing imported
that is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.naming import SIZING
from oodbench.datasets.reading.file_identity import changed_ns, file_identity
from oodbench.datasets.reading.labels import understand
from oodbench.datasets.sources.norb import NORB_STEM, norb_file, read_norb
from oodbench.datasets.sources.published_archives import read_notmnist, read_tiny_imagenet
from oodbench.datasets.sources.raw_images import Found, Raw, as_images, read_npz
from oodbench.datasets.sources.selections import base_of, parts_of, select
from oodbench.datasets.sources.torchvision_roots import find_root, missing_files, needed_files
from oodbench.datasets.spec import DatasetSpec
from oodbench.errors import DataError


def find_published(spec: DatasetSpec, split: str, folders: Sequence[Path]) -> Found | None:
    """The first source of a split in the folders: prepared arrays first, then native files.

    Of a selection its own arrays, else what its parts are found in.
    """
    if spec.source == "selection":
        own = (find_arrays(spec, split, folder) for folder in folders)
        return next(filter(None, own), None) or _find_selection(spec, folders)
    for folder in folders:
        found = find_arrays(spec, split, folder) or find_native(spec, split, folder)
        if found is not None:
            return found
    return None


def _find_selection(spec: DatasetSpec, folders: Sequence[Path]) -> Found | None:
    parts = [find_published(base_of(spec), part, folders) for part in parts_of(spec)]
    found = [part for part in parts if part is not None]
    return select(spec, found) if len(found) == len(parts) else None


def expected_files(spec: DatasetSpec, split: str, folders: Sequence[Path] = ()) -> str:
    """What was looked for, in words."""
    if spec.source == "arrays":
        return f"{spec.name}-{split}.npz"
    if spec.source == "selection":
        # A list is one of files by name, which arrays have not.
        named = _native_files if "list" in spec.options else expected_files
        of = [named(base_of(spec), part, folders) for part in parts_of(spec)]
        return f"{spec.name}-{split}.npz or what it is drawn from: {' and '.join(of)}"
    return f"{spec.name}-{split}.npz or {_native_files(spec, split, folders)}"


def _native_files(spec: DatasetSpec, split: str, folders: Sequence[Path]) -> str:
    if spec.source == "smallnorb":
        return f"{NORB_STEM.get(split, 'smallnorb')}-dat.mat.gz"
    if spec.source == "torchvision":
        first = needed_files(spec, split)[0]
        missing = missing_files(spec, split, folders)
        return f"torchvision's {spec.options['class']} root ({first}){missing}"
    return spec.options.get("file", "")


# ---------------------------------------------------------------------- prepared arrays
def array_files(spec: DatasetSpec, split: str, folder: Path) -> list[Path]:
    """``<dataset>-<split>.npz``, or its parts ``-1``, ``-2``, … in order; none where there is none.

    DataError where a part is missing.
    """
    stem = f"{spec.name}-{split}"
    whole = folder / f"{stem}.npz"
    if whole.is_file():
        return [whole]
    numbers = sorted(
        int(p.stem.removeprefix(f"{stem}-"))
        for p in folder.glob(f"{stem}-*.npz")
        if p.stem.removeprefix(f"{stem}-").isdigit()
    )
    if numbers != list(range(1, len(numbers) + 1)):
        missing = next(i for i in range(1, numbers[-1]) if i not in numbers)
        raise DataError(f"{folder}: {stem}-{missing}.npz is missing ({len(numbers)} parts found)")
    return [folder / f"{stem}-{number}.npz" for number in numbers]


def find_arrays(spec: DatasetSpec, split: str, folder: Path) -> Found | None:
    """The prepared arrays of a split in a folder, None where there are none."""
    paths = array_files(spec, split, folder)
    if not paths:
        return None
    identity: JSON = {"arrays": [file_identity(p) for p in paths]}
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} … {paths[-1].name}"
    return Found(where, identity, lambda: _read_arrays(spec, split, paths), changed_ns(paths))


def _read_arrays(spec: DatasetSpec, split: str, paths: list[Path]) -> Raw:
    images, labels = [], []
    for path in paths:
        arrays = read_npz(path)
        if "images" not in arrays:
            held = ", ".join(arrays) or "nothing"
            raise DataError(f"{path}: no array 'images' (it holds {held}); name the array 'images'")
        images.append(as_images(arrays["images"], str(path)))
        if "labels" in arrays:
            labels.append(arrays["labels"])
    if len({image.shape[1:] for image in images}) > 1:
        raise DataError(f"{paths[0]}: the parts hold images of different shapes")
    whole = np.concatenate(images) if len(images) > 1 else images[0]
    final = _check_prepared(spec, split, whole, paths[0])
    expected = spec.splits.get(split, 0)
    note = f"{len(whole):,} of {expected:,} images" if 0 < len(whole) < expected else ""
    if len(labels) != len(images):
        return Raw(whole, len(whole), final=final, note=note)
    found = understand({"": np.concatenate(labels)}, {"": len(whole)})
    if found.problem:
        note = "; ".join(n for n in (note, f"labels are not used: {found.problem}") if n)
    return Raw(whole, len(whole), found.of(""), final=final, note=note, unlabelled=found.problem)


def _check_prepared(spec: DatasetSpec, split: str, images: np.ndarray, path: Path) -> bool:
    """Whether images are as the default variant leaves them; DataError where they are others.

    Images of another size are native ones, where the default variant brings those to a size.
    """
    channels, height, width = spec.shape
    expected = spec.splits.get(split, 0)
    if 0 < expected < len(images):
        raise DataError(
            f"{path}: it holds {len(images):,} images, and {spec.title} has {expected:,} {split}"
            " images; another set needs another name"
        )
    final = images.shape[1:] == (height, width, channels)
    sized = any(step in SIZING for step in spec.variants.get(spec.default_variant, ()))
    if images.shape[3] != channels or not (final or sized):
        held = "×".join(map(str, (images.shape[3], *images.shape[1:3])))
        raise DataError(
            f"{path}: its images are {held} (channels×height×width), those of {spec.title}"
            f" {channels}×{height}×{width}; another set needs another name"
        )
    return final


# ---------------------------------------------------------------------- native files
def find_native(spec: DatasetSpec, split: str, folder: Path) -> Found | None:
    """The files as they are published, None where one is not there."""
    if spec.source == "arrays":
        return None
    if spec.source == "torchvision":
        return find_root(spec, split, folder)
    if spec.source == "smallnorb":
        dat, cat = (norb_file(folder, split, part) for part in ("dat", "cat"))
        if dat is None or cat is None:
            return None
        identity: JSON = {"files": [file_identity(dat), file_identity(cat)]}
        return Found(str(dat), identity, lambda: read_norb(dat, cat), changed_ns([dat, cat]))
    path = folder / spec.options["file"]
    if not path.is_file():
        return None
    reader = read_notmnist if spec.source == "notmnist" else read_tiny_imagenet
    return Found(
        str(path), {"files": [file_identity(path)]}, lambda: reader(path, split), changed_ns([path])
    )

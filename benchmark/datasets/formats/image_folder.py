"""A folder of images, by their parts and classes; ``groups.csv`` in it declares dependent images.

``groups.csv`` has the columns ``file`` (relative to the folder) and ``group``: frames of one video,
crops of one photograph.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.reading.contents import Contents, number_groups
from oodbench.datasets.reading.file_identity import file_identity, listing_identity
from oodbench.datasets.reading.image_decoding import (
    ENDINGS,
    Decoded,
    count_frames,
    may_hold_several,
)
from oodbench.datasets.reading.image_tree import ImageTree, Skipped, walk
from oodbench.datasets.reading.parallel_decoding import decode_files
from oodbench.datasets.reading.picture_images import PictureImages
from oodbench.datasets.reading.split_layout import Layout, recognise
from oodbench.errors import DataError

GROUPS = "groups.csv"


@dataclass(frozen=True)
class FolderFiles:
    """Image files of a folder; `sizes` in bytes."""

    root: Path
    names: Sequence[str]
    sizes: Sequence[int]

    def frames(self) -> Mapping[int, int]:
        """The number of images of every file that may hold several."""
        return {
            place: count_frames(self.root / name, str(self.root / name))
            for place, name in enumerate(self.names)
            if may_hold_several(name)
        }

    def decode(self, chosen: Sequence[int], expected: Mapping[int, int]) -> Iterator[Decoded]:
        """The files at `chosen`, on all cores where there are many."""
        paths = [str(self.root / self.names[place]) for place in chosen]
        counts = [expected.get(place, 1) for place in chosen]
        return decode_files(paths, counts, [self.sizes[place] for place in chosen])


@dataclass(frozen=True)
class ImageFolder:
    """A folder that was listed: what identifies it, and its contents."""

    identity: JSON
    changed_ns: int
    contents: Contents


def list_folder(root: Path) -> ImageFolder | Skipped:
    """A folder of images; what else is in it where there are none."""
    tree, stats = walk(root)
    if not tree.files:
        return tree.skipped
    listing, changed = listing_identity(root, zip(tree.files, stats, strict=True))
    beside: JSON = file_identity(root / GROUPS) if (root / GROUPS).is_file() else None
    identity: dict[str, JSON] = {
        "folder": listing, "folders": [*tree.folders], "skipped": str(tree.skipped),
        "groups": beside,
    }  # fmt: skip
    layout = recognise(tree.files, tree.folders, str(root))
    images = PictureImages(
        FolderFiles(root, tree.files, [stat.st_size for stat in stats]), layout.parts, str(root)
    )
    return ImageFolder(identity, changed, contents_of(tree, layout, images, root))


def contents_of(tree: ImageTree, layout: Layout, images: PictureImages, root: Path) -> Contents:
    """The contents of a folder or archive whose images were found and parted."""
    counts = images.counts() if layout.labels.values else {}
    labels = {
        part: values
        if counts[part] == len(values)
        else _repeated(values, layout.parts[part], images.images_of(part))
        for part, values in layout.labels.values.items()
    }
    notes = [*layout.notes, *([str(tree.skipped)] if tree.skipped.names else [])]
    groups = _groups(root / GROUPS, images, tree.files) if (root / GROUPS).is_file() else {}
    return Contents(
        str(root), images, type(layout.labels)(labels, layout.labels.classes), groups,
        tuple(notes), layout.usual,
    )  # fmt: skip


def _repeated(values: np.ndarray, files: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The value of every image's file."""
    of = dict(zip(files.tolist(), values.tolist(), strict=True))
    return np.array([of[place] for place in images.tolist()], dtype=np.int64)


def _groups(path: Path, images: PictureImages, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The group of every image by part; DataError where a file has none."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows = list(table)
        if not {"file", "group"} <= set(table.fieldnames or ()):
            raise KeyError("file, group")
        group = {row["file"]: row["group"] for row in rows}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(
            f"{path}: it must have the columns file and group, one line an image"
        ) from error
    missing = [name for name in names if name not in group]
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} images have no group, the first {missing[0]}; name every one"
        )
    stored = {
        part: np.array([str(group[names[place]]) for place in images.images_of(part)])
        for part in images.parts
    }
    return number_groups(stored, images.counts(), str(path))


def no_images(path: Path, skipped: Skipped) -> DataError:
    """There is nothing at a path that is read."""
    kinds = ", ".join(sorted(ENDINGS))
    held = f" ({skipped})" if skipped.names else ""
    return DataError(f"{path}: no images in it{held}; it should hold {kinds} files")

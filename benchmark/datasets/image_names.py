"""What the images of a split are called: their files, where a set is a folder or an archive."""

from __future__ import annotations

from pathlib import Path

from oodbench.datasets.formats.image_archive import is_archive
from oodbench.datasets.loading import cut_alike
from oodbench.datasets.reading.contents import Wanted
from oodbench.datasets.sources.user_files import find_user_data
from oodbench.datasets.spec import DatasetName, get_spec, parse_name
from oodbench.datasets.subsets import keep_classes
from oodbench.errors import OodbenchError


def image_names(
    name: str, split: str, *, divide: bool = False, beside: str | None = None
) -> list[str] | None:
    """The file of every image, relative to the set, in the order of `oodbench.datasets.load`.

    A page or frame of a file that holds several is ``file#1``.  None where the set is no folder or
    archive of images, or is not there any more.
    """
    try:
        wanted = parse_name(name)
        path = _path(wanted, split)
        if path is None or not (path.is_dir() or is_archive(path.name.lower())):
            return None
        divide = divide or (beside is not None and cut_alike(wanted, beside))
        raw = find_user_data(path, Wanted(split, divide, bool(wanted.classes))).read()
        if wanted.classes:
            raw = keep_classes(raw, wanted, raw.classes)
    except OodbenchError:
        return None
    return raw.names


def _path(wanted: DatasetName, split: str) -> Path | None:
    if wanted.generated:
        return None
    if wanted.is_path:
        return Path(wanted.base)
    spec = get_spec(wanted.base)
    return Path(spec.options[split]) if spec.source == "files" and split in spec.options else None

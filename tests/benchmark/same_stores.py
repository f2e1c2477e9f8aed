"""What two stores of the same runs must agree in, whoever made them, and when each was written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from oodbench.store.store import STAGES, Store

#: What stands in a record of when and where it was made.
VOLATILE = {
    "created", "seconds", "resumed", "images_per_second", "train_images_per_second",
    "train_seconds", "ms_per_image", "peak_memory_mb", "machine", "device",
}  # fmt: skip


def stable(value: object) -> object:
    """A record without what may differ between two runs."""
    if isinstance(value, Mapping):
        return {key: stable(item) for key, item in value.items() if key not in VOLATILE}
    return [stable(item) for item in value] if isinstance(value, list) else value


def contents(location: str | Path) -> dict[str, object]:
    """Records and the checksums of all payload files, by path."""
    found: dict[str, object] = {}
    store = Store(location)
    for stage in STAGES:
        for entry in store.entries(stage):
            files = {name: hashlib.sha256(entry.read(name)).hexdigest() for name in entry.files}
            found[entry.path] = (files, stable(entry.record))
    return found


def written(folder: Path) -> dict[str, int]:
    """When every record was written, in nanoseconds, by path."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.glob("*/*/*/record.json")
    }


def table(printed: str) -> str:
    """A printed table without the seconds that trainings took."""
    return re.sub(r"│\s*[\d,.]+│$", "", printed, flags=re.M)

"""What a finished store must hold again when the same run is made again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from oodbench.store.store import STAGES, Store

TIMES = {
    "created", "seconds", "resumed", "images_per_second", "train_images_per_second",
    "train_seconds", "ms_per_image", "peak_memory_mb", "machine",
}  # fmt: skip


def without_times(value: object) -> object:
    """A record without what may differ between two runs."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def content(folder: Path) -> dict[str, object]:
    """Everything that must be the same: records, payload bytes, split arrays, and the table."""
    found: dict[str, object] = {"table": (folder / "out").read_text().partition("\nModels")[0]}
    for stage in STAGES:
        for entry in Store(folder / "results" / "store").entries(stage):
            files = {name: hashlib.sha256(entry.read(name)).hexdigest() for name in entry.files}
            found[entry.path] = (files, without_times(dict(entry.record)))
    for path in sorted((folder / "results" / "data").glob("*.npy")):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found

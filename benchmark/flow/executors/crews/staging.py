"""Images in the store, for machines that have no copy of them.

``work/data/<digest>.json`` names what was asked for (a set, its split, the shape that it was
brought into) and the arrays, each a file named after its SHA-256, which is checked when it is
fetched.  A machine keeps them in the user's cache and maps them into memory, as it does its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oodbench.datasets.imageset import ImageSet
from oodbench.errors import DataError
from oodbench.store.ownership import TEMPORARY

if TYPE_CHECKING:
    from oodbench.store.storage import Storage

FOLDER = "work/data"


def stage(storage: Storage, loaded: Mapping[Hashable, ImageSet]) -> int:
    """Put every split that was asked for into the store; how many bytes were not there yet."""
    there, sent = storage.names(FOLDER), 0
    for asked, images in loaded.items():
        name = f"{_digest(asked)}.json"
        if name in there and _is_of(storage.read(f"{FOLDER}/{name}"), images):
            continue
        arrays: dict[str, str] = {}
        for kind in ("images", "labels", "groups"):
            values = getattr(images, kind)
            if values is None:
                continue
            data = _npy(values)
            file = arrays[kind] = f"{hashlib.sha256(data).hexdigest()}.npy"
            if there.get(file) != len(data):
                storage.write(f"{FOLDER}/{file}", data)
                there[file] = len(data)
                sent += len(data)
        about = {
            "asked": repr(asked), "arrays": arrays, "name": images.name, "split": images.split,
            "fingerprint": images.fingerprint, "expected": images.expected, "note": images.note,
            "unlabelled": images.unlabelled, "values": images.values,
        }  # fmt: skip
        storage.write(f"{FOLDER}/{name}", json.dumps(about).encode())
    return sent


def fetch(storage: Storage, asked: Hashable, cache: Path) -> ImageSet | None:
    """What `stage` put there for the same question, None where it did not.

    DataError where an array is gone or is not what its name says.
    """
    data = storage.read(f"{FOLDER}/{_digest(asked)}.json")
    if data is None:
        return None
    about: dict[str, Any] = json.loads(data)
    paths = {kind: _fetched(storage, name, cache) for kind, name in about["arrays"].items()}
    arrays = {
        kind: np.load(path, mmap_mode="r" if kind == "images" else None, allow_pickle=False)
        for kind, path in paths.items()
    }
    values = about["values"]
    return ImageSet(
        name=about["name"],
        split=about["split"],
        images=arrays["images"],
        fingerprint=about["fingerprint"],
        labels=arrays.get("labels"),
        expected=about["expected"],
        note=about["note"],
        groups=arrays.get("groups"),
        unlabelled=about["unlabelled"],
        values=None if values is None else (values[0], values[1]),
        verify=lambda: _check(paths["images"]),
    )


def _digest(asked: Hashable) -> str:
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:40]


def _is_of(data: bytes | None, images: ImageSet) -> bool:
    try:
        return data is not None and json.loads(data)["fingerprint"] == images.fingerprint
    except (ValueError, KeyError, TypeError):
        return False


def _npy(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    return out.getvalue()


def _fetched(storage: Storage, name: str, cache: Path) -> Path:
    """An array in the cache, fetched where it is not there or damaged."""
    path = cache / name
    if path.is_file() and _sound(path):
        return path
    data = storage.read(f"{FOLDER}/{name}")
    if data is None or hashlib.sha256(data).hexdigest() != name.partition(".")[0]:
        how = "gone" if data is None else "damaged"
        raise DataError(
            f"images in {storage.location}, {FOLDER}/{name}: {how};"
            " remove the folder, and the next run puts them there again"
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = cache / f"{TEMPORARY}{secrets.token_hex(6)}"
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"cannot write images to {cache}: {error.strerror}") from error
    return path


def _sound(path: Path) -> bool:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            hasher.update(part)
    return hasher.hexdigest() == path.name.partition(".")[0]


def _check(path: Path) -> None:
    if not _sound(path):
        raise DataError(f"{path} is damaged; remove it, and it is fetched again")

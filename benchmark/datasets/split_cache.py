"""One materialised split on disk: array, labels, and a JSON that vouches for both.

The JSON is written last and under its own checksum.  Reading it compares size and time of the
array, which is quick; `Slot.verify` reads every pixel.  Files that fail are set aside as
``*.damaged-<n>`` and the split is made again from its source.  The hashes of the images, by which
duplicates are found, are written beside them when they are first asked for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.duplicates import image_hashes
from oodbench.datasets.imageset import fingerprint, label_fingerprint
from oodbench.errors import DataError, StoreError
from oodbench.store.locks import locked
from oodbench.store.storage import DENIED, atomic_file, disk_error
from oodbench.store.store import DamagedEntryError

log = logging.getLogger("oodbench.store")


@dataclass(frozen=True)
class Split:
    """What is kept of a split: images (N, C, H, W), labels and groups (N,), what to say."""

    images: np.ndarray
    labels: np.ndarray | None = None
    note: str = ""
    groups: np.ndarray | None = None
    unlabelled: str = ""
    values: tuple[float, float] | None = None


class Slot:
    """The files of one split: ``<stem>.npy``, ``<stem>.labels.npy``, ``<stem>.json``."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem
        self.array = folder / f"{stem}.npy"
        self.marks = folder / f"{stem}.labels.npy"
        self.members = folder / f"{stem}.groups.npy"
        self.json = folder / f"{stem}.json"

    def read(self) -> dict[str, JSON] | None:
        """The JSON where the files beside it are those it speaks of, else None."""
        try:
            text = self.json.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._check_permitted(error)
            text = ""
        except ValueError:
            text = ""
        try:
            wrapped = json.loads(text)
            meta = cast("dict[str, JSON]", wrapped["meta"])
            if digest(meta) != wrapped["sha256"]:
                raise ValueError("its description does not match its checksum")
            stat = self.array.stat()
            if meta["array"] != [stat.st_size, stat.st_mtime_ns]:
                self._check_pixels(meta)
            if label_fingerprint(self.labels(meta)) != meta["labels"]:
                raise ValueError("its labels do not match their checksum")
            if label_fingerprint(self.groups(meta)) != meta["groups"]:
                raise ValueError("its groups do not match their checksum")
        except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
            self._check_permitted(error)
            self._set_aside((str(error).splitlines() or [type(error).__name__])[0])
            return None
        return meta

    def fill(
        self, make: Callable[[], Split], chain: Sequence[str], *, doubt: bool = False
    ) -> dict[str, JSON]:
        """Write array, labels and JSON, the JSON last; one process does it, the others wait.

        `doubt`: the source may have changed since under the same times; it is read again.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / f".{self.stem}.lock", f"the images of {self.stem}"):
                meta = self.read()
                if meta is None or meta["doubt"]:
                    meta = self._write(make(), chain, doubt)
        except OSError as error:
            raise disk_error(self.folder, error) from error
        return meta

    def images(self) -> np.ndarray:
        """(N, C, H, W) uint8, read-only and memory-mapped."""
        return cast(np.ndarray, np.load(self.array, mmap_mode="r", allow_pickle=False))

    def labels(self, meta: dict[str, JSON]) -> np.ndarray | None:
        """(N,) integers or None."""
        return None if meta["labels"] is None else _integers(self.marks)

    def groups(self, meta: dict[str, JSON]) -> np.ndarray | None:
        """(N,) integers or None."""
        return None if meta["groups"] is None else _integers(self.members)

    def hashes(self, meta: dict[str, JSON]) -> bytes:
        """What `image_hashes` gives: read, or made and written where it is not that of `meta`."""
        path = self.folder / f"{self.stem}.hashes"
        owner = str(meta["fingerprint"]).encode()
        try:
            held = path.read_bytes()
        except OSError:
            held = b""
        known, seal = held[:-32], held[-32:]
        if hashlib.sha256(owner + known).digest() == seal:
            return known
        made = image_hashes(self.images())
        # A cache that cannot be written to costs the time to make them again, nothing else.
        with suppress(StoreError), atomic_file(path) as file:
            file.write(made + hashlib.sha256(owner + made).digest())
        return made

    def verify(self) -> None:
        """Compare every pixel with the fingerprint; DamagedEntryError (files set aside) if not."""
        try:
            meta = cast("dict[str, JSON]", json.loads(self.json.read_text())["meta"])
            self._check_pixels(meta)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            self._check_permitted(error)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._set_aside(reason)
            raise DamagedEntryError(f"{self.array} was damaged: {reason}") from error

    def _check_permitted(self, error: Exception) -> None:
        """DataError where a file is there and may not be read: it may be sound, and not ours."""
        if isinstance(error, OSError) and error.errno in DENIED:
            raise DataError(
                f"cannot read {error.filename or self.array}: {error.strerror}; make it readable or"
                " set OODBENCH_CACHE to a folder of your own"
            ) from error

    def _check_pixels(self, meta: dict[str, JSON]) -> None:
        if fingerprint(self.images(), cast("list[str]", meta["chain"])) != meta["fingerprint"]:
            raise ValueError("its pixels do not match their checksum")

    def _write(self, made: Split, chain: Sequence[str], doubt: bool) -> dict[str, JSON]:
        for path, values in (
            (self.array, made.images), (self.marks, made.labels), (self.members, made.groups)
        ):  # fmt: skip
            if values is not None:
                with atomic_file(path) as file:
                    _save_array(file, values)
        stat = self.array.stat()
        meta: dict[str, JSON] = {
            "fingerprint": fingerprint(made.images, chain),
            "chain": list(chain),
            "array": [stat.st_size, stat.st_mtime_ns],
            "shape": list(made.images.shape),
            "note": made.note,
            "labels": label_fingerprint(made.labels),
            "groups": label_fingerprint(made.groups),
            "unlabelled": made.unlabelled,
            "values": None if made.values is None else list(made.values),
            "doubt": doubt,
        }
        with atomic_file(self.json) as file:
            file.write(json.dumps({"meta": meta, "sha256": digest(meta)}, indent=1).encode())
        return meta

    def _set_aside(self, reason: str) -> None:
        suffix = f".damaged-{time.time_ns()}"
        try:
            for path in (self.json, self.array, self.marks, self.members):
                if os.path.lexists(path):
                    os.rename(path, f"{path}{suffix}")
        except OSError as error:
            raise disk_error(self.folder, error) from error
        log.warning("%s: %s; set aside as *%s and made again", self.array, reason, suffix)


def _integers(path: Path) -> np.ndarray:
    return cast(np.ndarray, np.load(path, allow_pickle=False))


def _save_array(file: IO[bytes], values: np.ndarray) -> None:
    """numpy.save in pieces that go through `write`, so that a full disk keeps its error number."""
    values = np.ascontiguousarray(values)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
    for start in range(0, len(values), 4096):
        file.write(values[start : start + 4096].tobytes())

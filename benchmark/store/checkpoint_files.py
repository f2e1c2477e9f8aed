"""Scratch files that vouch for themselves: checkpoints and blocks of work that is not finished.

An entry of the store has a record with checksums; work in progress has none, so each of its files
carries its own.  The checksum covers the name of the file and of its folder (the key of the step),
so that the checkpoint of another key, or another block of the same measurement, is refused too.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path

from oodbench.store.storage import DENIED, atomic_file, disk_error

MAGIC = b"oodbench scratch 1\n"
log = logging.getLogger("oodbench.store")


def write_sealed(path: Path, data: bytes) -> None:
    """Write `data` under its checksum, whole or not at all; StoreError where the disk is full."""
    with atomic_file(path) as file:
        file.write(MAGIC + _seal(path, data) + b"\n")
        file.write(data)


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote there, or None; a file that is anything else is set aside."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in DENIED:
            raise disk_error(path, error, "read") from error
        set_aside_file(path, f"it cannot be read ({error.strerror})")
        return None
    head = len(MAGIC) + 64
    data = whole[head + 1 :]
    if whole[: head + 1] != MAGIC + _seal(path, data) + b"\n":
        set_aside_file(path, "it does not match its checksum")
        return None
    return data


def set_aside_file(path: Path, reason: str) -> None:
    """Rename a damaged file to ``*.damaged-<n>`` and say so; its step is then made again."""
    target = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    os.rename(path, target)
    log.warning("%s: %s; set aside as %s and made again", path, reason, target.name)


def _seal(path: Path, data: bytes) -> bytes:
    owner = f"{path.parent.name}/{path.name}\n".encode()
    return hashlib.sha256(owner + data).hexdigest().encode()

"""By what a file is known unchanged: its content where that is quick, else what no copy can forge.

Size and modification time survive a copy, an archive with fixed dates, or `touch -r`; inode and
change time do not.  Change times come in steps of milliseconds to seconds, so that a file that
changed within `DOUBT_NS` of being read may have changed again under the same time: whoever relies
on times alone reads such a file once more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from oodbench.canonical_json import JSON, digest

#: Bytes up to which a file is hashed, once per process: a tenth of a second.
HASHED = 1 << 26
DOUBT_NS = 3_000_000_000
_hashes: dict[tuple[str, int, int, int, int], str] = {}


def file_identity(path: Path) -> JSON:
    """The hash of a small file; path, size, times and inode of a large one."""
    stat = path.stat()
    if stat.st_size > HASHED:
        return {"path": str(path.absolute()), **_marks(stat)}
    known = (str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    found = _hashes.get(known)
    if found is None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not in_doubt(stat.st_ctime_ns):
            _hashes[known] = found
    return {"name": path.name, "sha256": found}


def changed_ns(paths: Iterable[Path]) -> int:
    """The newest change of the files that `file_identity` does not hash, 0 where it hashes all."""
    stats = (path.stat() for path in paths)
    return max((s.st_ctime_ns for s in stats if s.st_size > HASHED), default=0)


def listing_identity(root: Path, files: Iterable[tuple[str, os.stat_result]]) -> tuple[JSON, int]:
    """Many files below `root` by name, size, times and inode, and the newest change of them."""
    rows: list[JSON] = []
    newest = 0
    for name, stat in files:
        rows.append([name, *_marks(stat).values()])
        newest = max(newest, stat.st_ctime_ns)
    return {"folder": str(root.absolute()), "listing": digest(rows)}, newest


def in_doubt(changed: int) -> bool:
    """Whether a change at this time may be followed by another that no time tells apart."""
    import time

    return abs(time.time_ns() - changed) < DOUBT_NS


def _marks(stat: os.stat_result) -> dict[str, JSON]:
    return {
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }

"""Reading a file that others may have put there: a plain file, in the size it has, or an error.

A pipe would be waited for without end, and a device read until the memory is full.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_plain(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """The bytes of a plain file (links are followed); OSError on anything else.

    `limit`: how many bytes it may have, OSError (EFBIG) where there are more.
    """
    handle = os.open(path, _OPEN)  # O_NONBLOCK: a pipe opens at once
    with os.fdopen(handle, "rb", closefd=True) as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", os.fspath(path))
        if limit is not None and about.st_size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", os.fspath(path))
        return file.read()


def is_plain(path: Path) -> bool:
    """Whether a path leads to a plain file."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False

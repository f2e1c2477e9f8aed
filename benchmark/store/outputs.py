"""Files that the user names with ``--out``: complete when they appear, or as they were before.

A pipe or a device (``/dev/stdout``) is written to as it is, and a link leads to the file that is
replaced.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from oodbench.errors import OodbenchError, StoreError
from oodbench.store.storage import atomic_file


def write_output(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write the whole of `content` (text as UTF-8), or leave what is there; OodbenchError why."""
    data = content if isinstance(content, bytes) else content.encode()
    target = Path(os.path.realpath(path))
    try:
        os.stat(target.parent)  # a folder that is not there is a slip, not one to be made
        there = target.stat().st_mode if target.exists() else None
        if there is not None and not stat.S_ISREG(there):
            if stat.S_ISDIR(there):
                raise OodbenchError(f"{path} is a folder; name a file with --out")
            target.write_bytes(data)
            return
        with atomic_file(target, None if there is None else stat.S_IMODE(there)) as file:
            file.write(data)
    except StoreError as error:
        raise OodbenchError(
            f"{path} is left as it was: {error.__cause__ or error}; give another place with --out"
        ) from error
    except OSError as error:
        raise OodbenchError(f"cannot write {path}: {error.strerror or error}") from error

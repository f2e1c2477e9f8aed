"""One writer at a time: a lock of the kernel, free at once when its holder dies.

Where the file system has no such locks (some network mounts), a file that names its holder stands
for it; filelock removes one that a dead process of this machine left.  Who waits is told for whom:
at once where progress is shown, and after a few seconds in any case.
"""

from __future__ import annotations

import errno
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from oodbench.errors import StoreError
from oodbench.store.storage import disk_error

#: What a file system says that knows no locks.
LOCKLESS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
#: Seconds after which a wait is told of even with --quiet, and between two such lines.
PATIENCE, REPEAT = 5.0, 300.0
log = logging.getLogger("oodbench.store")
_told: set[Path] = set()


@contextmanager
def locked(path: Path, what: str, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of `path`, in a folder that is there; `what` is being made under it.

    Lock files stay: to remove one that another process waits for would let two in.
    """
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(path)
    started, told = time.monotonic(), 0.0
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of filelock, told of below
                lock.acquire(timeout=0 if not told else 1.0, poll_interval=0.2)
            break
        except Timeout:
            waited = time.monotonic() - started
            if not told and on_wait is not None:
                on_wait(f"another process is making {what}; waiting")
            if waited > PATIENCE and (told < PATIENCE or waited - told > REPEAT):
                log.warning("waiting for %s, %s", what, holder(path))
                told = waited
            told = told or 1e-9
        except OSError as error:
            if error.errno not in LOCKLESS or isinstance(lock, SoftFileLock):
                raise disk_error(path.parent, error) from error
            path = _stand_in(path)
            lock = SoftFileLock(path)
        except NotImplementedError as error:
            raise StoreError(
                f"{path.parent} is on a file system without locks; give another place"
            ) from error
    _tell_of_soft_lock(path)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def free(path: Path) -> Iterator[bool]:
    """Hold the lock of a file that may not be there; False where another process holds it."""
    from filelock import FileLock, Timeout

    if not os.path.lexists(path):
        yield True
        return
    lock = FileLock(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno in LOCKLESS:
            yield not os.path.lexists(_stand_in(path))
            return
        raise disk_error(path.parent, error) from error
    try:
        yield True
    finally:
        lock.release()


def _stand_in(path: Path) -> Path:
    """The file that stands for a lock, beside the one that the kernel would not lock."""
    return path.with_name(f"{path.name}.held")


def holder(path: Path) -> str:
    """Who holds a lock and the way out, as far as this machine can tell."""
    named = _named_holder(path)
    if named is not None:
        process, host, since = named
        return (
            f"held by process {process} of {host} since {since:%Y-%m-%d %H:%M:%S}; if that process"
            f" is no more, remove {path}"
        )
    process = _kernel_holder(path)
    if not process:
        return f"held by another process: {path}"
    if _state(process) == "T":
        return f"held by process {process}, which is stopped (kill -CONT {process}): {path}"
    return f"held by process {process}: {path}"


def _named_holder(path: Path) -> tuple[int, str, datetime] | None:
    """Process, machine and time of a file that stands for a lock."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            lines = file.read(1000).decode(errors="replace").split("\n")
            since = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime)
        return int(lines[0]), lines[1].strip(), since
    except (OSError, ValueError, IndexError):
        return None


def _kernel_holder(path: Path) -> int:
    """The process that holds a kernel lock on a file, 0 where the machine does not tell."""
    try:
        about = path.stat()
        listed = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return 0
    wanted = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    for line in listed:
        parts = line.split()
        if wanted in parts and "->" not in parts:
            return max(0, int(parts[parts.index(wanted) - 1]))
    return 0


def _state(process: int) -> str:
    """``T`` where a process is stopped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _tell_of_soft_lock(path: Path) -> None:
    """One line a folder where a file stands for the lock that the file system lacks."""
    named = _named_holder(path)
    if named is not None and named[0] == os.getpid() and path.parent not in _told:
        _told.add(path.parent)
        log.warning(
            "%s is on a file system without locks; files stand for them: one that a job on another"
            " machine left when it died has to be removed by hand",
            path.parent,
        )

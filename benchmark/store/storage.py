"""File back ends of the store: a local folder, or any URL that fsspec knows.

Paths are relative and use "/".  A write is never seen half done: the local back end writes a
temporary name in the same folder, flushes it to disk and renames it; object stores make an object
visible when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from oodbench.errors import StoreError
from oodbench.interruption import held
from oodbench.store.ownership import (
    RECORD,
    TEMPORARY,
    is_half_written,
    is_own_name,
    is_own_path,
    is_store,
    mark_store,
)
from oodbench.store.places import is_url, local_folder, shown, without_secrets
from oodbench.store.plain_files import read_plain

T = TypeVar("T")
#: Where results go when nobody says otherwise.
DEFAULT_STORE = "results/store"
#: How a file is opened that must not be there yet.
FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
#: Seconds between the times that a server is asked which was busy or hung up.
PAUSES = (0.2, 0.6, 1.8, 5.4)
#: What errors of libraries say that pass.
PASSING = (
    "500", "502", "503", "504", "SlowDown", "Unavailable", "InternalError", "Timeout", "timed out",
    "Connection", "Disconnected", "ClientOSError", "PayloadError", "IncompleteRead", "throttl",
)  # fmt: skip
#: What is there and may be sound, but not for us or not now (another user's file, a bad disk).
DENIED = {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
#: What something else than a file gives: damage, to be set aside and made again.
UNREADABLE = {*DENIED, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO}


class UnreadableFileError(StoreError):
    """A file of the store that is there but cannot be read; `path` is what stands in the way.

    `denied`: it may be sound, only not for this user or not now.
    """

    def __init__(self, path: str, reason: str, *, denied: bool = False) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.path, self.denied = path, denied


class Storage(Protocol):
    """What the store asks of a place to keep files."""

    location: str

    def read(self, path: str) -> bytes | None:
        """The bytes, or None where there is no such file."""

    def size(self, path: str) -> int | None:
        """How many bytes a file has, None where there is no such file."""

    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file, atomically."""

    def rename(self, source: str, target: str) -> None:
        """Move a folder."""

    def mark(self) -> None:
        """Leave the marker of a store, so that others know that what is in it is its own."""

    def owns(self, path: str) -> bool:
        """Whether a path is one that the store itself makes, reached without any link."""

    def folders(self, path: str) -> list[str]:
        """Names of the folders in `path`, sorted; empty where it does not exist."""

    def work_folder(self) -> Path:
        """A local folder for locks and the checkpoints of running work."""

    def recorded(self, stage: str) -> set[str]:
        """Digests of the entries of a stage that have a record; nothing of them is read."""

    def note(self, path: str, data: bytes) -> None:
        """Create or replace a file that may be lost: whole when it is seen, not flushed to disk."""

    def names(self, path: str) -> dict[str, int]:
        """Names and sizes of the files in a folder; none where it does not exist."""

    def remove(self, path: str) -> None:
        """Remove a file of work in progress; nothing happens where there is none."""


@contextmanager
def atomic_file(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is complete and flushed to disk, or not at all.

    Its permissions are those of the umask, or `mode` where the file system lets them be set.  A
    signal to stop waits until it is written.  Raises StoreError in one line where the disk is full
    or not writable.
    """
    temporary: str | None = None
    try:
        with held():
            path.parent.mkdir(parents=True, exist_ok=True)
            name = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")
            # Made with the permissions it keeps: many mounts refuse to change them afterwards.
            handle = os.open(name, FRESH, 0o666 & (mode or 0o666))
            temporary = str(name)
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                with suppress(OSError):
                    os.chmod(temporary, mode)
            os.replace(temporary, path)
            temporary = None
            _sync_folder(path.parent)
    except OSError as error:
        raise disk_error(path.parent, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


class LocalStorage:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)

    def read(self, path: str) -> bytes | None:
        try:
            return read_plain(f"{self.location}/{path}")  # a Path costs more than the read
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno not in UNREADABLE:
                raise StoreError(f"cannot read {self.root / path}: {reason}") from error
            denied = error.errno in DENIED
            raise UnreadableFileError(self._in_the_way(path), reason, denied=denied) from error

    def size(self, path: str) -> int | None:
        try:
            return os.stat(f"{self.location}/{path}").st_size
        except OSError:
            return None

    def write(self, path: str, data: bytes) -> None:
        with atomic_file(self.root / path) as file:
            file.write(data)

    def _in_the_way(self, path: str) -> str:
        """The first part of a path that should be a folder and is none, else the path itself."""
        parts = path.split("/")
        for end in range(1, len(parts)):
            above = "/".join(parts[:end])
            if os.path.lexists(self.root / above) and not (self.root / above).is_dir():
                return above
        return path

    def rename(self, source: str, target: str) -> None:
        try:
            os.rename(self.root / source, self.root / target)
        except FileNotFoundError:
            return  # another process set it aside first
        except OSError as error:
            raise disk_error(self.root, error) from error

    def mark(self) -> None:
        mark_store(self.root)

    def owns(self, path: str) -> bool:
        return is_store(self.root) and is_own_path(self.root, path)

    def folders(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.root / path) if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"cannot read {self.root / path}: {error.strerror}") from error

    def work_folder(self) -> Path:
        return self.root / "work"

    def recorded(self, stage: str) -> set[str]:
        found = set()
        for prefix in self.folders(stage):
            above = f"{self.location}/{stage}/{prefix}"
            for name in self.folders(f"{stage}/{prefix}"):
                if "." not in name and os.path.exists(f"{above}/{name}/{RECORD}"):
                    found.add(name)
        return found

    def note(self, path: str, data: bytes) -> None:
        target = self.root / path
        temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, target)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise disk_error(target.parent, error) from error

    def names(self, path: str) -> dict[str, int]:
        found = {}
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(self.root / path):
                with suppress(FileNotFoundError):  # it has gone meanwhile
                    if entry.is_file() and not is_half_written(entry.name):
                        found[entry.name] = entry.stat().st_size
        return found

    def remove(self, path: str) -> None:
        try:
            (self.root / path).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(self.root, error) from error


class RemoteStorage:
    """A URL of fsspec; locks and checkpoints of running work stay on this machine.

    Its libraries raise what they like where a server, a bucket or credentials are missing; all of
    it is a StoreError of one line, in which no password or signature of the URL stands.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url, self.location = url, shown(url)
        with self._saying("open the store"):
            self.files, self.root = fsspec.core.url_to_fs(url)

    @contextmanager
    def _saying(self, act: str, kept: str = "") -> Iterator[None]:
        try:
            yield
        except (StoreError, FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise
        except Exception as error:
            said = without_secrets(str(error), self.url)[:300] or type(error).__name__
            raise StoreError(f"cannot {act} {self.location}: {said}{kept}") from None

    def _asked(self, act: str, call: Callable[[], T], kept: str = "") -> T:
        """What the server gives, asked again after a while where it was busy or hung up."""
        with self._saying(act, kept):
            for pause in PAUSES:
                try:
                    return call()
                except Exception as error:
                    if not is_passing(error):
                        raise
                    time.sleep(pause)
            return call()

    def _full(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}" if path else str(self.root)

    def read(self, path: str) -> bytes | None:
        try:
            data: bytes = self._asked(
                f"read {path} of", lambda: self.files.cat_file(self._full(path))
            )
        except (FileNotFoundError, IsADirectoryError):
            return None
        return data

    def size(self, path: str) -> int | None:
        try:
            return int(self._asked(f"read {path} of", lambda: self._fresh().size(self._full(path))))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        full = self._full(path)

        def put() -> None:
            self.files.makedirs(full.rsplit("/", 1)[0], exist_ok=True)
            self.files.pipe_file(full, data)

        try:
            self._asked(f"write {path} to", put, "; what is finished is kept")
        except OSError as error:
            raise StoreError(
                f"cannot write {path} to {self.location}: there is no folder"
            ) from error

    def rename(self, source: str, target: str) -> None:
        try:
            self._asked(
                f"rename {source} of",
                lambda: self._fresh().mv(self._full(source), self._full(target), recursive=True),
            )
        except FileNotFoundError:
            return  # another process set it aside first

    def mark(self) -> None:
        """A URL needs none: nothing there is removed."""

    def owns(self, path: str) -> bool:
        return is_own_name(path)

    def folders(self, path: str) -> list[str]:
        return sorted(
            i["name"].rstrip("/").rsplit("/", 1)[-1]
            for i in self._listing(path)
            if i["type"] == "directory"
        )

    def work_folder(self) -> Path:
        from platformdirs import user_cache_path

        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        return user_cache_path("oodbench") / "work" / name

    def recorded(self, stage: str) -> set[str]:
        try:
            found: list[str] = self._asked(
                f"list {stage} of", lambda: self._fresh().find(self._full(stage))
            )
        except (FileNotFoundError, NotADirectoryError):
            return set()
        parts = (path.split("/") for path in found if path.endswith(f"/{RECORD}"))
        return {names[-2] for names in parts if "." not in names[-2]}

    def note(self, path: str, data: bytes) -> None:
        self.write(path, data)

    def names(self, path: str) -> dict[str, int]:
        return {
            i["name"].rsplit("/", 1)[-1]: int(i["size"] or 0)
            for i in self._listing(path)
            if i["type"] == "file"
        }

    def remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._asked(f"remove {path} of", lambda: self.files.rm_file(self._full(path)))

    def _listing(self, path: str) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            return list(self._fresh().ls(self._full(path), detail=True))

        try:
            return self._asked(f"list {path} of", ask)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _fresh(self) -> Any:
        """The file system, with nothing remembered of what stood there before."""
        self.files.invalidate_cache()
        return self.files


def open_storage(location: str | os.PathLike[str]) -> Storage:
    """The back end for a path or a URL."""
    text = os.fspath(location)
    return RemoteStorage(text) if is_url(text) else LocalStorage(local_folder(text))


def is_passing(error: Exception) -> bool:
    """Whether a server may answer if it is asked again: it was busy, or the connection dropped."""
    if isinstance(error, OSError):
        lasting = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError,
                   NotADirectoryError)  # fmt: skip
        return not isinstance(error, lasting) and error.errno not in (errno.ENOSPC, errno.EDQUOT)
    said = f"{type(error).__name__} {error}"
    return any(sign in said for sign in PASSING)


def disk_error(folder: Path, error: OSError, act: str = "write to") -> StoreError:
    """One line for a disk that is full, read-only or not ours."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        mend = "free some space there or give another place with --store; what is finished is kept"
    elif error.errno == errno.EFBIG:
        mend = "raise the limit on file sizes (ulimit -f); what is finished is kept"
    else:
        mend = "check its permissions or give another place with --store; what is finished is kept"
    return StoreError(f"cannot {act} {folder}: {reason}; {mend}")


def iterate_prefixes(storage: Storage, stage: str) -> Iterator[tuple[str, str]]:
    """(path, digest) of every entry folder of a stage."""
    for prefix in storage.folders(stage):
        for name in storage.folders(f"{stage}/{prefix}"):
            if "." not in name:
                yield f"{stage}/{prefix}/{name}", name


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems cannot sync a folder
        pass
    finally:
        os.close(handle)

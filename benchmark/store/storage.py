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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from oodbench.errors import StoreError
from oodbench.interruption import held
from oodbench.store.ownership import TEMPORARY, is_own_name, is_own_path, is_store, mark_store
from oodbench.store.places import is_url, local_folder, shown, without_secrets
from oodbench.store.plain_files import read_plain

#: Where results go when nobody says otherwise.
DEFAULT_STORE = "results/store"
#: How a file is opened that must not be there yet.
FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
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

    def _full(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}" if path else str(self.root)

    def read(self, path: str) -> bytes | None:
        try:
            with self._saying(f"read {path} of"):
                data: bytes = self.files.cat_file(self._full(path))
        except (FileNotFoundError, IsADirectoryError):
            return None
        return data

    def size(self, path: str) -> int | None:
        try:
            with self._saying(f"read {path} of"):
                return int(self.files.size(self._full(path)))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        full = self._full(path)
        try:
            with self._saying(f"write {path} to", "; what is finished is kept"):
                self.files.makedirs(full.rsplit("/", 1)[0], exist_ok=True)
                self.files.pipe_file(full, data)
        except OSError as error:
            raise StoreError(
                f"cannot write {path} to {self.location}: there is no folder"
            ) from error

    def rename(self, source: str, target: str) -> None:
        try:
            with self._saying(f"rename {source} of"):
                self.files.mv(self._full(source), self._full(target), recursive=True)
        except FileNotFoundError:
            return  # another process set it aside first

    def mark(self) -> None:
        """A URL needs none: nothing there is removed."""

    def owns(self, path: str) -> bool:
        return is_own_name(path)

    def folders(self, path: str) -> list[str]:
        try:
            with self._saying(f"list {path} of"):
                listing = self.files.ls(self._full(path), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(i["name"].rsplit("/", 1)[-1] for i in listing if i["type"] == "directory")

    def work_folder(self) -> Path:
        from platformdirs import user_cache_path

        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        return user_cache_path("oodbench") / "work" / name


def open_storage(location: str | os.PathLike[str]) -> Storage:
    """The back end for a path or a URL."""
    text = os.fspath(location)
    return RemoteStorage(text) if is_url(text) else LocalStorage(local_folder(text))


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

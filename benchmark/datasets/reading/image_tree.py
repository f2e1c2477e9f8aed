"""Image files below a folder or in an archive: what is taken, and what is not, by reason.

Hidden and foreign entries below the named folder are no data (a hidden folder above it changes
nothing).  Links to files and folders are followed; one that leads back to where it stands is
refused.  Images are in the order of the parts of their paths, whatever the file system gives.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from oodbench.datasets.reading.image_decoding import ENDINGS, OTHER_IMAGES
from oodbench.errors import DataError

#: Folders and files that systems and tools leave behind.
FOREIGN = {
    "__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}  # fmt: skip
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}
ARRAYS = {
    ".npz", ".npy", ".mat", ".csv", ".parquet", ".pt", ".pth", ".pkl", ".h5", ".hdf5", ".arrow",
    ".tfrecord",
}  # fmt: skip
#: Names that a line shows of one kind.
SHOWN = 3
MAX_DEPTH = 64


@dataclass
class Skipped:
    """Entries that are not taken, by reason."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """One more entry."""
        self.names.setdefault(reason, []).append(name)

    def without(self, names: Iterable[str]) -> Skipped:
        """The same but for some entries."""
        taken = set(names)
        left = {r: [n for n in held if n not in taken] for r, held in self.names.items()}
        return Skipped({reason: held for reason, held in left.items() if held})

    def __str__(self) -> str:
        """One line, "" where nothing was skipped."""
        if not self.names:
            return ""
        parts = []
        for reason, names in sorted(self.names.items()):
            more = ", …" if len(names) > SHOWN else ""
            parts.append(f"{len(names):,} {reason} ({', '.join(sorted(names)[:SHOWN])}{more})")
        return f"skipped: {', '.join(parts)}"


@dataclass(frozen=True)
class ImageTree:
    """`files`: paths of images relative to the root, "/" between parts, in order."""

    files: list[str]
    skipped: Skipped
    #: All folders, whether they hold images or not, relative to the root.
    folders: list[str]


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted by the parts of the paths."""
    return sorted(names, key=lambda name: name.split("/"))


def reason_against(name: str) -> str:
    """Why a file of this name is no image that is read; "" where it may be one."""
    if name.startswith("."):
        return "hidden"
    if name.lower() in FOREIGN:
        return "left by a system"
    ending = PurePosixPath(name.lower()).suffix
    if ending in ENDINGS:
        return ""
    if ending in OTHER_IMAGES:
        return f"images of a kind that is not read, {ending}"
    if ending in ARCHIVES:
        return "archives"
    if ending in ARRAYS:
        return "files of arrays or tables"
    return f"files ending in {ending}" if ending else "files without an ending"


def reason_against_folder(name: str) -> str:
    """Why a folder of this name is no data; "" where it may hold some."""
    if name.startswith("."):
        return "hidden folders"
    return "folders left by a system" if name.lower() in FOREIGN else ""


def walk(root: Path) -> tuple[ImageTree, list[os.stat_result]]:
    """The images below a folder with their stats; DataError where it cannot be listed.

    Raises DataError where a link leads back to a folder above it.
    """
    skipped, found = Skipped(), dict[str, os.stat_result]()
    folders: list[str] = []
    top = root.stat()
    for name, entry in _entries(root, "", ((top.st_dev, top.st_ino),), skipped):
        if entry is None:
            folders.append(name)
        else:
            found[name] = entry
    files = in_order(found)
    return ImageTree(files, skipped, in_order(folders)), [found[name] for name in files]


def _entries(
    folder: Path, prefix: str, above: tuple[tuple[int, int], ...], skipped: Skipped
) -> Iterator[tuple[str, os.stat_result | None]]:
    """Images with their stat, and folders with None."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{folder}: it cannot be listed ({reason}); mend or remove it") from error
    for entry in entries:
        name = f"{prefix}{entry.name}"
        try:
            stat = entry.stat()
        except OSError:
            skipped.add(_dead(entry), name)
            continue
        if modes.S_ISDIR(stat.st_mode):
            reason = reason_against_folder(entry.name)
            if reason:
                skipped.add(reason, f"{name}/")
                continue
            place = (stat.st_dev, stat.st_ino)
            if place in above or len(above) > MAX_DEPTH:
                raise DataError(
                    f"{folder / entry.name}: this link leads back to a folder above it; remove it"
                )
            yield name, None
            yield from _entries(folder / entry.name, f"{name}/", (*above, place), skipped)
            continue
        reason = reason_against(entry.name)
        if not reason and not modes.S_ISREG(stat.st_mode):
            reason = "neither files nor folders"
        if reason:
            skipped.add(reason, name)
            continue
        yield name, stat


def _dead(entry: os.DirEntry[str]) -> str:
    """What an entry is that has no stat."""
    if not entry.is_symlink():
        return "entries that vanished"
    return "hidden" if entry.name.startswith(".") else "broken links"


def tree_of(
    members: Iterable[str], left: Skipped | None = None
) -> tuple[ImageTree, dict[str, str]]:
    """The images among the members of an archive, and the member of each; folders end in "/".

    `left`: what was left out of the members.
    """
    skipped, found, folders = left or Skipped(), dict[str, str](), set[str]()
    for member in members:
        *above, last = [p for p in member.split("/") if p not in ("", ".")] or [""]
        if member.endswith("/"):
            folders.add("/".join([*above, last]))
            continue
        reason = next((f"in {r}" for part in above if (r := reason_against_folder(part))), "")
        reason = reason or reason_against(last)
        name = "/".join([*above, last])
        if reason or name in found:
            skipped.add(reason or "members whose name stands twice", member)
            continue
        found[name] = member
        folders.update("/".join(above[:end]) for end in range(1, len(above) + 1))
    return ImageTree(in_order(found), skipped, in_order(folders)), found

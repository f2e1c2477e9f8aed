"""What a detector opens and loads while it learns or measures, seen through an audit hook.

Python reports every file that it opens ("open"), and `oodbench.datasets.loading.load` every split
that it gives out ("oodbench.load").  A C library that opens a file by itself is not seen.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

IMAGES_OR_TABLES = {
    ".bmp", ".csv", ".gif", ".gz", ".h5", ".hdf5", ".jpeg", ".jpg", ".mat", ".npy", ".npz",
    ".parquet", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
#: Libraries bring files of their own; those of data sets are no part of a library.
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
DATA_IN_LIBRARIES = ("sklearn/datasets", "torchvision/datasets")

_watching: list[Watch] = []


@dataclass
class Watch:
    """`seen` lists what was opened or loaded against the rules; `written` what was written.

    `forbidden` are folders whose files nobody may open, `allowed` the exceptions to every rule:
    files, or folders.
    """

    forbidden: Sequence[Path]
    allowed: Sequence[Path]
    seen: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)

    def load(self, name: str, split: str) -> None:
        """A split of a data set was loaded."""
        self.seen.append(f"loads the {split} split of {name}")

    def open(self, path: str, mode: str | None, flags: int) -> None:
        """A file was opened."""
        absolute = Path(os.path.abspath(path))
        if (flags & (os.O_WRONLY | os.O_RDWR)) or (mode and set(mode) & set("wax+")):
            self.written.append(absolute)
            return
        if any(absolute.is_relative_to(place) for place in self.allowed):
            return
        text = absolute.as_posix()
        in_library = text.startswith(LIBRARIES) and not any(p in text for p in DATA_IN_LIBRARIES)
        is_data = absolute.suffix.lower() in IMAGES_OR_TABLES and not in_library
        if is_data or any(absolute.is_relative_to(place) for place in self.forbidden):
            self.seen.append(f"opens {absolute.name}")


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, or a torch archive that holds one."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    plain = data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return (plain and data.endswith(b".")) or (data[:4] == b"PK\x03\x04" and b"data.pkl" in data)


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """`watch` sees what is opened and loaded meanwhile, in any thread."""
    _install()
    _watching.append(watch)
    try:
        yield watch
    finally:
        _watching.remove(watch)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    if event == "oodbench.load":
        for watch in _watching:
            watch.load(str(arguments[0]), str(arguments[1]))
    elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        mode, flags = arguments[1:3]
        for watch in _watching:
            watch.open(
                os.fsdecode(arguments[0]),
                mode if isinstance(mode, str) else None,
                flags if isinstance(flags, int) else 0,
            )


_installed: list[bool] = []


def _install() -> None:
    """Once per process: an audit hook cannot be taken away again."""
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)

"""What in a folder is a store's own: its marker and the names that it makes, behind no link.

Whatever removes or renames asks here first.  A store is known by the marker that it leaves when
it is made; one of an earlier version by an entry in it.  Its own names are the stages, two
hexadecimal digits, 64 of them (a key, with or without ``.damaged-<n>``), and the files of an
entry; everything else belongs to somebody else, and so does whatever a link leads to.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

MARKER = "oodbench-store.json"
MARKER_TEXT = '{"about":"a store of oodbench; `oodbench store gc` tidies it up","store":1}\n'
RECORD = "record.json"
STAGES = ("run", "score", "measure", "fit", "diagnosis")
#: Beginning of the name of a file that is being written; a kill leaves it behind, `gc` removes it.
TEMPORARY = ".tmp-"
#: Payload files of entries; a folder without a sound record is the store's with no other in it.
PAYLOADS = (
    "weights.safetensors", "state.safetensors", "log.csv", "statistics.parquet",
    "totals.safetensors", "scores.parquet", "training.safetensors",
)  # fmt: skip

_ASIDE = r"(?:\.damaged-\d+)?"
_OWN = re.compile(
    rf"(?:{'|'.join(STAGES)})(?:/(?:[0-9a-f]{{2}}|([0-9a-f]{{2}})/\1[0-9a-f]{{62}}{_ASIDE}))?"
)
_KEY = re.compile("[0-9a-f]{64}")
_HALF_WRITTEN = re.compile(re.escape(TEMPORARY) + r"[A-Za-z0-9_]+")


def mark_store(root: Path) -> None:
    """Leave the marker where there is none; a folder that cannot be written to stays unmarked."""
    marker = root / MARKER
    if os.path.lexists(marker):
        return
    with suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
        with open(marker, "x", encoding="utf-8") as file:
            file.write(MARKER_TEXT)


def is_store(root: Path) -> bool:
    """Whether a folder is a store: its marker, or at least one entry (stores had no marker)."""
    return (root / MARKER).is_file() or any(
        os.path.lexists(root / path / RECORD)
        for stage in STAGES
        for path in own_folders(root, stage)
    )


def own_folders(root: Path, stage: str) -> Iterator[str]:
    """Paths of the entries of a stage and of what was set aside, sorted, behind no link."""
    if not is_real_folder(root / stage):
        return
    for prefix in sorted(os.listdir(root / stage)):
        if is_own_name(f"{stage}/{prefix}") and is_real_folder(root / stage / prefix):
            for name in sorted(os.listdir(root / stage / prefix)):
                path = f"{stage}/{prefix}/{name}"
                if is_own_name(path) and is_real_folder(root / path):
                    yield path


def scratch_folders(root: Path) -> Iterator[str]:
    """Paths of the folders of running or abandoned steps, behind no link."""
    if is_real_folder(root / "work"):
        for name in sorted(os.listdir(root / "work")):
            if _KEY.fullmatch(name) and is_real_folder(root / "work" / name):
                yield f"work/{name}"


def is_own_name(path: str) -> bool:
    """Whether a relative path is one that a store makes: a stage, a prefix or an entry."""
    return _OWN.fullmatch(path) is not None


def is_own_path(root: Path, path: str) -> bool:
    """Whether a path of a store's own names leads through no link (nor is one)."""
    parts = path.split("/")
    above = ("/".join(parts[:end]) for end in range(1, len(parts)))
    return (
        is_own_name(path)
        and all(is_real_folder(root / folder) for folder in above)
        and not (root / path).is_symlink()
    )


def is_half_written(name: str) -> bool:
    """Whether a file's name is that of a write that was cut off."""
    return _HALF_WRITTEN.fullmatch(name) is not None


def is_real_folder(path: Path) -> bool:
    """Whether a path is a folder and no link to one."""
    return _mode(path, stat.S_ISDIR)


def is_real_file(path: Path) -> bool:
    """Whether a path is a plain file and no link to one."""
    return _mode(path, stat.S_ISREG)


def foreign_to_entry(folder: Path, payload: Iterable[str] = PAYLOADS) -> list[str]:
    """Names in an entry's folder that the store has not made, given those of its payload."""
    known = {RECORD, *payload}
    return [
        name
        for name in sorted(os.listdir(folder))
        if not ((name in known or is_half_written(name)) and is_real_file(folder / name))
    ]


def foreign_to_scratch(folder: Path) -> list[str]:
    """Names in a scratch folder that are neither files nor folders: links, pipes, devices.

    The folder is handed to a detector that learns by itself, which may write what it likes.
    """
    found = []
    for above, folders, files in os.walk(folder):
        names = [(name, is_real_folder) for name in folders]
        names += [(name, is_real_file) for name in files]
        found += [
            os.path.relpath(os.path.join(above, name), folder)
            for name, fits in names
            if not fits(Path(above, name))
        ]
    return sorted(found)


def _mode(path: Path, check: Callable[[int], bool]) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return check(mode)

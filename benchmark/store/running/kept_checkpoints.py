"""Checkpoints in a store at a URL: a step that was killed on one machine goes on on another.

The scratch folder of a step stays where it is, on this machine; what is new in it is copied to
``work/<key>/`` of the store beside every heartbeat, and fetched from there before a step begins.
Its files vouch for themselves (`oodbench.store.checkpoint_files`), wherever they come from.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from oodbench.store.ownership import TEMPORARY, is_half_written

if TYPE_CHECKING:
    from oodbench.store.storage import Storage


class KeptCheckpoints:
    """The scratch folder of a step and its copy in the store."""

    def __init__(self, storage: Storage, key: str, folder: Path) -> None:
        self.storage, self.folder, self.path = storage, folder, f"work/{key}"
        self._pushed: dict[str, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Take what the store holds, in place of what stands here: it is at least as far."""
        for name in self.storage.names(self.path):
            data = self.storage.read(f"{self.path}/{name}")
            if data is not None and "/" not in name and not name.startswith("."):
                temporary = self.folder / f"{TEMPORARY}{secrets.token_hex(6)}"
                temporary.write_bytes(data)
                os.replace(temporary, self.folder / name)
                self._pushed[name] = _state(self.folder / name)

    def push(self) -> None:
        """Copy what is new; files in folders below are a detector's own and stay here."""
        if not self.folder.is_dir():
            return
        for file in sorted(self.folder.iterdir()):
            if not file.is_file() or is_half_written(file.name):
                continue
            state = _state(file)
            if self._pushed.get(file.name) != state:
                self.storage.note(f"{self.path}/{file.name}", file.read_bytes())
                self._pushed[file.name] = state
        if not self.folder.is_dir():  # the step has been finished meanwhile
            self.discard()

    def discard(self) -> None:
        """Remove the copy, once the entry is written."""
        for name in self.storage.names(self.path):
            self.storage.remove(f"{self.path}/{name}")


def _state(file: Path) -> tuple[int, int]:
    about = file.stat()
    return about.st_mtime_ns, about.st_size

"""The bench that jobs run on: where the store and the data are, and how to run."""

from __future__ import annotations

from dataclasses import dataclass, field

from oodbench.datasets.loading import DataPlaces
from oodbench.progress import Progress
from oodbench.store.store import Store


class BusyError(Exception):
    """Another process is making what is needed here, and this one was not to wait for it."""


@dataclass(frozen=True)
class Bench:
    """Where things are and how to run; nothing here can change a result on the CPU.

    `patient`: whether to wait for a step that another process is making; else BusyError.
    """

    store: Store
    places: DataPlaces
    progress: Progress = field(default_factory=Progress)
    device: str = "auto"
    compile: bool = False
    batch_size: int | None = None
    checkpoint_seconds: float = 60.0
    patient: bool = True

    def on_wait(self, message: str) -> None:
        """What `Store.obtain` calls before it waits."""
        if not self.patient:
            raise BusyError(message)
        self.progress.say(message)

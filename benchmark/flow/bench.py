"""The bench that jobs run on: where the store and the data are, and how to run."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import DataPlaces
from oodbench.errors import DataError
from oodbench.progress import Progress
from oodbench.store.store import Store


class BusyError(Exception):
    """Another process is making what is needed here, and this one was not to wait for it."""


@dataclass(frozen=True)
class Bench:
    """Where things are and how to run; nothing here can change a result on the CPU.

    `logs`: what watches trainings (`oodbench.train.training_logs`).
    `loaded`: splits that are kept once they are loaded, where many jobs are gone through at once.
    `staged` gives such as this machine does not have.
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
    logs: tuple[str, ...] = ()
    loaded: dict[Hashable, ImageSet] | None = None
    staged: Callable[[Hashable], ImageSet | None] | None = None

    def kept(self, asked: Hashable, load: Callable[[], ImageSet]) -> ImageSet:
        """What `load` gives, once for everything that is `asked` where `loaded` keeps it."""
        if self.loaded is None:
            return load()
        if asked not in self.loaded:
            self.loaded[asked] = self._found(asked, load)
        return self.loaded[asked]

    def _found(self, asked: Hashable, load: Callable[[], ImageSet]) -> ImageSet:
        try:
            return load()
        except DataError:
            elsewhere = self.staged(asked) if self.staged is not None else None
            if elsewhere is None:
                raise
            return elsewhere

    @property
    def log_folder(self) -> Path:
        """Where logs are written unasked: beside a store on this machine."""
        location = self.store.storage.location
        return (Path("results") if "://" in location else Path(location).parent) / "logs"

    def on_wait(self, message: str) -> None:
        """What `Store.obtain` calls before it waits."""
        if not self.patient:
            raise BusyError(message)
        self.progress.say(message)

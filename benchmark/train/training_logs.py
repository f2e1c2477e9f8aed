"""A hook for whoever watches a training: curves, reconstructions, the KL of every layer.

    class MyLog:
        def __init__(self, folder: Path) -> None: ...
        def start(self, name: str, settings: Mapping[str, JSON]) -> None: ...
        def epoch(self, step: int, values: Mapping[str, float]) -> None: ...
        def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None: ...
        def close(self) -> None: ...

    register_log("mine", MyLog)          or an entry point in the group oodbench.logs

`values` is a row of the training's log.csv; `shown` holds uint8 images (N, C, H, W) by name.
Nothing of a log goes into a result, and one that fails ends itself and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from oodbench.declare.registry import Registry
from oodbench.errors import ConfigError, OodbenchError, PluginError

if TYPE_CHECKING:
    import numpy as np

    from oodbench.canonical_json import JSON
    from oodbench.progress import Progress

#: Images shown of an epoch.
SHOWN = 8


class TrainingLog(Protocol):
    """What watches a training; made anew for every fit."""

    def start(self, name: str, settings: Mapping[str, JSON]) -> None:
        """A fit begins, or goes on from a checkpoint."""

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """An epoch is over after `step` steps; nats per image, ``bits_per_dim`` apart."""

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        """Training images and their reconstructions, where the model has such."""

    def close(self) -> None:
        """The fit is over, or is interrupted."""


def _adopt(name: str, value: object) -> Callable[[Path], TrainingLog]:
    if not callable(value):
        raise PluginError(f"log {name!r} is {value!r}; give a class that takes a folder")
    return cast("Callable[[Path], TrainingLog]", value)


LOGS: Registry[Callable[[Path], TrainingLog]] = Registry("log", "oodbench.logs", _adopt)


def register_log(name: str, make: Callable[[Path], TrainingLog]) -> None:
    """Register what ``--log NAME`` makes of a folder."""
    LOGS.add(name, _adopt(name, make))


def check_logs(asked: Sequence[str]) -> None:
    """OodbenchError on a name that is not registered, or whose package is not installed."""
    for text in asked:
        LOGS.get(text.partition("=")[0])


class Logs:
    """The logs that are asked for, ``NAME`` or ``NAME=FOLDER``; by default below `folder`."""

    def __init__(self, asked: Sequence[str], folder: Path, progress: Progress) -> None:
        self.progress = progress
        self._logs: dict[str, TrainingLog] = {}
        for text in asked:
            name, _, where = text.partition("=")
            make = LOGS.get(name)
            place = Path(where).expanduser() if where else folder / name
            self._guarded(name, partial(self._open, name, make, place))

    def __bool__(self) -> bool:
        return bool(self._logs)

    def start(self, name: str, settings: Mapping[str, JSON]) -> None:
        """See `TrainingLog`."""
        self._each(lambda log: log.start(name, settings))

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """See `TrainingLog`."""
        self._each(lambda log: log.epoch(step, values))

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        """See `TrainingLog`."""
        self._each(lambda log: log.images(step, shown))

    def close(self) -> None:
        """See `TrainingLog`."""
        self._each(lambda log: log.close())

    def _each(self, call: Callable[[TrainingLog], None]) -> None:
        for name, log in list(self._logs.items()):
            self._guarded(name, partial(call, log))

    def _open(self, name: str, make: Callable[[Path], TrainingLog], place: Path) -> None:
        self._logs[name] = make(place)

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except OodbenchError:
            raise
        except Exception as error:  # of a library or a plug-in; the training goes on without it
            self._logs.pop(name, None)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.progress.say(f"--log {name} ends here, the training goes on: {reason}")


def missing_package(name: str, package: str) -> ConfigError:
    """A log whose package is not installed."""
    return ConfigError(f"--log {name} needs the package {package}; pip install 'oodbench[{name}]'")

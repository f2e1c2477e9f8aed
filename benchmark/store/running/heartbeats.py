"""Heartbeats: what runs, how far it is and what failed, as small files in the store itself.

``work/status/<key>.json`` is written by whoever makes the entry of that key, every few seconds, and
removed with it; ``work/status/<key>.failed.json`` says why it could not be made, and goes when it
is made after all.  Nothing of them goes into a result, and what cannot be written of them stops
nothing.  Any machine that reaches the store reads them.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from oodbench.errors import OodbenchError, StoreError

if TYPE_CHECKING:
    from oodbench.store.storage import Storage

T = TypeVar("T")
FOLDER = "work/status"
#: Seconds after which a heartbeat is that of a process that is gone.
FRESH = 45.0


@dataclass(frozen=True)
class Beat:
    """A running step: `done` of `total` units, `figures` as shown beside a bar; times are POSIX."""

    key: str
    stage: str
    text: str
    host: str
    process: int
    started: float
    at: float
    label: str = ""
    done: int = 0
    total: int = 0
    first: int = 0
    since: float = 0.0
    figures: Mapping[str, str] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """Whether its process was at work within the last `FRESH` seconds."""
        return time.time() - self.at < FRESH

    @property
    def left(self) -> float | None:
        """Seconds until its units are done, at the speed so far; None before the first of them."""
        made = self.done - self.first
        if made <= 0 or not self.total:
            return None
        return max(0.0, (self.at - self.since) / made * (self.total - self.done))

    @property
    def owner(self) -> tuple[str, int]:
        """Machine and process."""
        return self.host, self.process


@dataclass(frozen=True)
class Failure:
    """A step that could not be made, and why."""

    key: str
    stage: str
    text: str
    why: str
    host: str
    at: float


def host() -> str:
    """The name of this machine."""
    return socket.gethostname()


def beat_path(digest: str) -> str:
    """Where the heartbeat of a step stands in the store."""
    return f"{FOLDER}/{digest}.json"


def failure_path(digest: str) -> str:
    """Where the failure of a step stands in the store."""
    return f"{FOLDER}/{digest}.failed.json"


def why(error: BaseException) -> str:
    """The reason of a failure in one line."""
    said = " ".join(str(error).split()) or "no message"
    return said if isinstance(error, OodbenchError) else f"{type(error).__name__}: {said}"


def note_failure(storage: Storage, stage: str, key: str, text: str, reason: str) -> None:
    """Keep why a step could not be made."""
    failure = Failure(key, stage, text, reason, host(), time.time())
    with suppress(StoreError):
        storage.note(failure_path(key), json.dumps(asdict(failure)).encode())


def forget_failure(storage: Storage, key: str) -> None:
    """Take away what `note_failure` has kept."""
    with suppress(StoreError):
        storage.remove(failure_path(key))


def clear_beat(storage: Storage, key: str) -> None:
    """Take away the heartbeat of a process that is known to be gone."""
    with suppress(StoreError):
        storage.remove(beat_path(key))


def read_beat(storage: Storage, digest: str) -> Beat | None:
    """The heartbeat of a step, None where there is none that can be read."""
    return _read(storage, beat_path(digest), _beat)


def beats_and_failures(storage: Storage) -> tuple[dict[str, Beat], dict[str, Failure]]:
    """All heartbeats and failures of a store, by key."""
    beats, failures = {}, {}
    for name in storage.names(FOLDER):
        digest, _, rest = name.partition(".")
        path = f"{FOLDER}/{name}"
        if rest == "json" and (beat := _read(storage, path, _beat)) is not None:
            beats[digest] = beat
        if rest == "failed.json" and (failure := _read(storage, path, _failure)) is not None:
            failures[digest] = failure
    return beats, failures


def _read(storage: Storage, path: str, make: Callable[[dict[str, object]], T]) -> T | None:
    try:
        data = storage.read(path)
        return None if data is None else make(json.loads(data))
    except (StoreError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _beat(read: dict[str, object]) -> Beat:
    figures = cast("Mapping[str, object]", read.get("figures") or {})
    return Beat(
        str(read["key"]), str(read["stage"]), str(read["text"]), str(read["host"]),
        int(cast(int, read["process"])), float(cast(float, read["started"])),
        float(cast(float, read["at"])), str(read["label"]), int(cast(int, read["done"])),
        int(cast(int, read["total"])), int(cast(int, read["first"])),
        float(cast(float, read["since"])), {str(k): str(v) for k, v in figures.items()},
    )  # fmt: skip


def _failure(read: dict[str, object]) -> Failure:
    return Failure(
        str(read["key"]), str(read["stage"]), str(read["text"]), str(read["why"]),
        str(read["host"]), float(cast(float, read["at"])),
    )  # fmt: skip

"""Progress that is shown as before and told in the store, while a step is made."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

from oodbench.progress import Figures, Progress, Task
from oodbench.store.running.heartbeats import (
    beat_path,
    clear_beat,
    forget_failure,
    host,
    note_failure,
    why,
)
from oodbench.store.storage import LocalStorage, Storage
from oodbench.store.store import DamagedEntryError, Key, Store

#: Seconds between two heartbeats into a folder and to a URL.
EVERY_LOCAL, EVERY_REMOTE = 3.0, 10.0
#: A step that takes less leaves none in a folder; on a URL the first one, at once, claims the step,
#: and the next goes with its first checkpoint.
FIRST_LOCAL, FIRST_REMOTE = 0.5, 2.0


@contextmanager
def watched_step(store: Store, key: Key, text: str, progress: Progress) -> Iterator[Progress]:
    """Progress that others can see in the store while `text`, the entry of a key, is made.

    A store that keeps checkpoints has those of the step's scratch copied on the way.
    """
    kept = store.kept_checkpoints(key)
    push = None if kept is None else kept.push
    store.storage.mark()
    with watched(Watched(store.storage, key.stage, key.digest, text, push), progress) as told:
        if kept is not None:
            kept.fetch()
        yield told


@dataclass(frozen=True)
class Watched:
    """A step that is being made: where its heartbeat goes, and what is done beside every one."""

    storage: Storage
    stage: str
    key: str
    text: str
    beside: Callable[[], None] | None = None


@contextmanager
def watched(step: Watched, progress: Progress) -> Iterator[Progress]:
    """Progress that is shown here and told in the store while a step is made.

    What the step raises is kept as its failure, unless it met damage and is done anew.
    """
    telling = _Telling(step, progress)
    telling.start()
    failed = False
    try:
        yield telling
    except DamagedEntryError:
        raise
    except Exception as error:
        failed = True
        note_failure(step.storage, step.stage, step.key, step.text, why(error))
        raise
    finally:
        telling.end()
        if not failed:
            forget_failure(step.storage, step.key)


class _Telling(Progress):
    """Progress that is shown as before, and written into the store by a thread of its own."""

    def __init__(self, step: Watched, shown: Progress) -> None:
        super().__init__(shown.style)
        self.prefix, self.shown, self.step = shown.prefix, shown, step
        now = time.time()
        self.beat: dict[str, object] = {
            "key": step.key, "stage": step.stage, "text": step.text, "host": host(),
            "process": os.getpid(), "started": now, "at": now, "label": "", "done": 0, "total": 0,
            "first": 0, "since": now, "figures": {},
        }  # fmt: skip
        self.local = isinstance(step.storage, LocalStorage)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="heartbeat")
        self._written = False

    def say(self, line: str) -> None:
        """See `Progress`."""
        self.shown.say(line)

    @contextmanager
    def task(
        self, label: str, total: int, done: int = 0, figures: Sequence[str] = ()
    ) -> Iterator[Task]:
        """See `Progress`."""
        now = time.time()
        self.beat |= {"label": label, "total": total, "done": done, "first": done, "since": now}
        with self.shown.task(label, total, done, figures) as task:
            yield _ToldTask(self.beat, task, EVERY_LOCAL if self.local else EVERY_REMOTE)

    def start(self) -> None:
        """Tell from now on; on a URL at once."""
        if not self.local:
            self._write()
        self._thread.start()

    def end(self) -> None:
        """Tell no more, and take away what was told."""
        self._over.set()
        self._thread.join()
        self._beside()
        if self._written:
            clear_beat(self.step.storage, self.step.key)

    def _work(self) -> None:
        pause = FIRST_LOCAL if self.local else FIRST_REMOTE
        while not self._over.wait(pause):
            self._write()
            self._beside()
            pause = EVERY_LOCAL if self.local else EVERY_REMOTE

    def _beside(self) -> None:
        if self.step.beside is not None:
            with suppress(Exception):  # tried again at the next heartbeat
                self.step.beside()

    def _write(self) -> None:
        said = json.dumps(self.beat | {"at": time.time()}).encode()
        with suppress(Exception):  # what nobody can read stops nobody's work
            self.step.storage.note(beat_path(self.step.key), said)
            self._written = True


class _ToldTask(Task):
    def __init__(self, beat: dict[str, object], shown: Task, every: float) -> None:
        self.beat, self.shown, self.every = beat, shown, every
        self.asked = time.monotonic()

    def advance(self, amount: int, figures: Figures | None = None) -> None:
        """See `Task`; the figures beside it are asked for every few seconds."""
        self.beat["done"] = cast(int, self.beat["done"]) + amount
        now = time.monotonic()
        if figures is not None and now - self.asked >= self.every:
            self.asked = now
            found = figures() if callable(figures) else figures
            self.beat["figures"] = dict(found)
        self.shown.advance(amount, figures)

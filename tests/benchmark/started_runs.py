"""`oodbench run` in processes that a test can watch and kill, and the jobs that they stand for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oodbench.datasets.loading import find_places
from oodbench.flow.bench import Bench
from oodbench.flow.plan import Job
from oodbench.flow.selection import choose
from oodbench.progress import Progress
from oodbench.store.running.heartbeats import beats_and_failures
from oodbench.store.store import Store


def bench_at(folder: Path) -> Bench:
    location = str(folder / "store")
    return Bench(Store(location), find_places((), location), Progress("quiet"))


def jobs_of(detectors: Sequence[str], seeds: int = 1, pairs: Sequence[str] = ()) -> list[Job]:
    chosen = choose(pairs or ["digits-photos"], detectors=detectors, scale="smoke")
    return chosen.jobs(range(seeds))


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`oodbench run …` in a process of its own, one thread, store and cache in the folder."""
    store = () if "--store" in arguments else ("--store", str(folder / "store"))
    return subprocess.Popen(
        [sys.executable, "-m", "oodbench", "run", *arguments, *store],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def until(what: Callable[[], Any], seconds: float = 240.0) -> Any:
    """What `what` gives as soon as it gives anything."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def beat(folder: Path, name: str) -> Any:
    """The heartbeat of the fit of a detector that trains by now, if there is one."""
    found = beats_and_failures(Store(folder / "store").storage)[0].values()
    return next((one for one in found if one.text.startswith(f"fit {name}") and one.total), None)


def printed(folder: Path, *arguments: str) -> str:
    """What a run prints that ends well."""
    running = start(folder, *arguments)
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    return out

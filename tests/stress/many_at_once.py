"""Start several processes at once on one store with overlapping work; each fit is made once.

    python tests/stress/many_at_once.py --processes 8

Half of them run one detector and half two, so that they meet in every step.  One is killed while
it trains: the others take its lock over and go on from its checkpoint.  Exit status 1 where a fit
was made twice, a process failed or waited for ever, or two tables differ.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet  # noqa: F401  (imported here once, not in every fork)
import rich.table  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo

import oodbench.cli
from oodbench.store.maintenance import verify
from oodbench.store.store import Store
from oodbench.train import training

BASE = ("run", "--pair", "digits-photos", "--scale", "smoke", "--checkpoint-seconds", "0")
LISTS = (
    ("vanilla-hvae", "mean-intensity"),
    ("informative-hvae", "vanilla-hvae"),
    ("vanilla-hvae",),
    ("mean-intensity", "informative-hvae"),
)
LIMIT_SECONDS = 300.0


def start(folder: Path, number: int, *, slow: bool = False) -> int:
    """Fork one run; `slow` gives it so long a training step that it can be killed in one."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.chdir(folder)
        for descriptor, name in ((1, f"out-{number}"), (2, f"err-{number}")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        if slow:
            step = training._Loop._one_step

            def slower(self: training._Loop, at: int) -> None:
                time.sleep(0.3)
                step(self, at)

            training._Loop._one_step = slower  # type: ignore[method-assign]
        detectors = [part for name in LISTS[number % 4] for part in ("--detector", name)]
        sys.argv = ["oodbench", *BASE, *detectors]
        oodbench.cli.main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(status)


def wait(pids: list[int], folder: Path) -> list[str]:
    """Wait for all; what went wrong."""
    problems, limit = [], time.monotonic() + LIMIT_SECONDS
    left = dict(enumerate(pids))
    while left:
        for number, pid in list(left.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del left[number]
                if os.waitstatus_to_exitcode(status) != 0:
                    problems.append(f"process {number}: {(folder / f'err-{number}').read_text()}")
        if time.monotonic() > limit:
            for pid in left.values():
                os.kill(pid, signal.SIGKILL)
            return [*problems, f"processes {sorted(left)} did not finish"]
        time.sleep(0.02)
    return problems


def main() -> None:
    """Start them all, kill one, compare."""
    parser = argparse.ArgumentParser(description="Several processes on one store.")
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        victim = start(folder, 0, slow=True)
        while not list(folder.glob("results/store/work/*/checkpoint.safetensors")):
            time.sleep(0.01)
        pids = [start(folder, number) for number in range(1, options.processes + 1)]
        time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        problems = wait([victim, *pids][1:], folder)
        store = Store(folder / "results" / "store")
        problems += [f"{path} is damaged" for path in verify(store).damaged]
        fits = list(store.entries("fit"))
        if len(fits) != 2:
            problems.append(f"{len(fits)} fits instead of 2")
        trained = "".join(path.read_text() for path in folder.glob("err-*")).count("training ")
        if trained != 3:  # two fits, and the one that was killed goes on in another process
            problems.append(f"a training was started {trained} times instead of 3")
        if sorted(entry.record["resumed"] for entry in fits) != [0, 1]:
            problems.append("the killed fit was not gone on with")
        tables: dict[int, set[str]] = {}
        for number in range(1, options.processes + 1):
            table = (folder / f"out-{number}").read_text()
            tables.setdefault(number % 4, set()).add(table)
        problems += [f"list {n}: {len(t)} tables" for n, t in tables.items() if len(t) > 1]
    print("\n".join(problems) or f"{options.processes} processes, 2 fits, 1 lock taken over")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

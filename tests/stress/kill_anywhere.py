"""Kill real runs anywhere, run them again until they finish, and compare with one left alone.

    python tests/stress/kill_anywhere.py --kills 100

Every run is a process of its own, killed by SIGKILL: at a random call of something that matters (a
training step, a block of a measurement, the scoring, the metrics, the middle of a write, either
side of a rename, the clearing of scratch), or after a random time.  The stores must then be the
same bit for bit, apart from times and the machine, and the tables too.  Exit status 1 where not.
"""

from __future__ import annotations

import argparse
import importlib
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from contents import content

import oodbench.cli
from oodbench.flow import score
from oodbench.flow.measuring import blocks
from oodbench.rank import metrics
from oodbench.store import storage
from oodbench.store.garbage import collect, remove
from oodbench.store.maintenance import verify
from oodbench.store.store import Store
from oodbench.train import training

ARGUMENTS = (
    "run", "--pair", "digits-photos", "--scale", "smoke", "--checkpoint-seconds", "0",
    "--batch-size", "50", "--quiet", "--detector", "vanilla-hvae", "--detector", "mean-intensity",
)  # fmt: skip
KINDS = ("step", "block", "score", "metrics", "half", "fsync", "rename", "renamed", "clear")
PER_STORE = 6


class Moments:
    """Counts calls in memory that parent and child share; kills the child at the chosen one."""

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, 8 * (len(KINDS) + 1))
        self.chosen: tuple[str, int] | None = None

    def reset(self, chosen: tuple[str, int] | None) -> None:
        """Start counting anew; `chosen`: a kind and its call, from 1, at which to die."""
        self.shared[:] = bytes(len(self.shared))
        self.chosen = chosen

    def counts(self) -> dict[str, int]:
        """Calls so far, by kind."""
        return dict(zip(KINDS, struct.unpack_from(f"{len(KINDS)}q", self.shared), strict=True))

    def last(self) -> str:
        """The kind met last, "start" before any."""
        number = struct.unpack_from("q", self.shared, 8 * len(KINDS))[0]
        return KINDS[number - 1] if number else "start"

    def met(self, kind: str) -> bool:
        """Count one call; whether it is the one to die at."""
        place = KINDS.index(kind)
        count = struct.unpack_from("q", self.shared, 8 * place)[0] + 1
        struct.pack_into("q", self.shared, 8 * place, count)
        struct.pack_into("q", self.shared, 8 * len(KINDS), place + 1)
        return (kind, count) == self.chosen

    def watch(self, holder: object, name: str, kind: str, *, after: bool = False) -> None:
        """Die at a call of `holder.name`: before it, or after it."""
        original: Callable[..., object] = getattr(holder, name)

        def watched(*arguments: object, **more: object) -> object:
            if not after and self.met(kind):
                die()
            result = original(*arguments, **more)
            if after and self.met(kind):
                die()
            return result

        setattr(holder, name, watched)

    def install(self) -> None:
        """Watch everything that matters; called in the child only."""
        blocks.BLOCK = 100
        blocks.measure.__kwdefaults__["save_seconds"] = 0.0
        self.watch(training._Loop, "_one_step", "step")
        self.watch(blocks, "launch", "block")
        self.watch(score, "column_name", "score")
        self.watch(metrics, "evaluate", "metrics")
        self.watch(os, "fsync", "fsync")
        self.watch(os, "replace", "renamed", after=True)
        self.watch(os, "replace", "rename")
        self.watch(shutil, "rmtree", "clear")
        write = storage.LocalStorage.write

        def half(self_: storage.LocalStorage, path: str, data: bytes) -> None:
            if self.met("half"):
                with storage.atomic_file(self_.root / path) as file:
                    file.write(data[: len(data) // 2])
                    file.flush()
                    die()
            write(self_, path, data)

        storage.LocalStorage.write = half  # type: ignore[method-assign]


def die() -> None:
    """SIGKILL to this very process."""
    os.kill(os.getpid(), signal.SIGKILL)


def start(folder: Path, moments: Moments) -> int:
    """Fork a run in `folder`; its output goes to files there."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.chdir(folder)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.argv = ["oodbench", *ARGUMENTS]
        moments.install()
        oodbench.cli.main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        Path("modules").write_text("\n".join(sys.modules))
        os._exit(status)


def import_what_it_imported(folder: Path) -> None:
    """So that the next fork starts at once; a module that needs its caller is left out."""
    for name in (folder / "modules").read_text().splitlines():
        with suppress(Exception):
            importlib.import_module(name)


def run(folder: Path, moments: Moments, seconds: float | None = None) -> bool:
    """Run to the end or to the kill, which `moments` or the time decides; whether it finished."""
    pid = start(folder, moments)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)  # a zombie at the worst: it has not been waited for
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"a run failed:\n{(folder / 'err').read_text()}")
    return True


def differences(folder: Path, expected: dict[str, object]) -> list[str]:
    """What of a finished run is not as it should be, before and after clearing up."""
    store = Store(folder / "results" / "store")
    problems = [f"{path} is damaged" for path in verify(store).damaged]
    found = content(folder)
    problems += [
        f"{name} differs: {found.get(name)} instead of {expected.get(name)}"
        for name in sorted({*found, *expected})
        if found.get(name) != expected.get(name)
    ]
    waste = collect(store, 0).waste
    problems += [f"{w.path} was set aside" for w in waste if w.reason == "damaged"]
    finished = {Path(path).name for path in expected}
    problems += [
        f"{w.path} is scratch of no finished step"
        for w in waste
        if w.reason == "scratch" and w.digest not in finished
    ]
    remove(store, [w for w in waste if w.reason != "no run needs it"])
    if content(folder) != found:
        problems.append("clearing up changed the store")
    return problems


def main() -> None:
    """Kill `--kills` runs; print where they died and whether anything was lost."""
    parser = argparse.ArgumentParser(description="Kill real runs anywhere and compare the results.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in [name for name in os.environ if name.startswith("OODBENCH")]:
        del os.environ[name]
    chance, moments, died = random.Random(options.seed), Moments(), Counter[str]()
    problems: list[str] = []
    stores = 0
    with tempfile.TemporaryDirectory() as home:
        reference = Path(home, "reference")
        reference.mkdir()
        moments.reset(None)
        run(reference, moments)
        calls, expected = moments.counts(), content(reference)
        import_what_it_imported(reference)
        again = Path(home, "again")
        again.mkdir()
        began = time.monotonic()
        run(again, moments)
        length = time.monotonic() - began
        assert differences(again, expected) == []
        assert all(calls.values()), f"some moment never comes: {calls}"
        while died.total() < options.kills:
            stores += 1
            folder = Path(home, f"store-{stores}")
            folder.mkdir()
            for attempt in range(PER_STORE + 1):
                timed = chance.random() < 0.3
                kind = chance.choice(KINDS)
                last = attempt == PER_STORE or died.total() >= options.kills
                nth = chance.randint(1, max(1, calls[kind] // (1 + attempt)))
                moments.reset(None if timed or last else (kind, nth))
                seconds = chance.uniform(0, length) if timed and not last else None
                if run(folder, moments, seconds):
                    break
                died[moments.last()] += 1
            problems += differences(folder, expected)
            shutil.rmtree(folder)
    places = ", ".join(f"{kind} {count}" for kind, count in sorted(died.items()))
    print(f"an uninterrupted run takes {length:.1f} s")
    print(f"{died.total()} kills in {stores} stores ({places})")
    print("\n".join(problems) or "nothing lost, nothing changed")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

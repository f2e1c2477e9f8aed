"""Kill workers, nodes and drivers of a real Ray cluster at random; compare with a run left alone.

    python tests/cluster/stress.py --kills 50

Two nodes, each started by itself.  At random moments a worker process, the second node or the
driver gets SIGKILL; a node that is gone is started again, and so is the driver.  The store must
then be that of one process bit for bit but for times, the table too, nothing that was finished may
have been made again, and no heartbeat may be left.  Exit status 1 where not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmark"))

from ray_nodes import RayNodes, parent
from same_stores import contents, table, written
from started_runs import start

from oodbench.store.running.heartbeats import beats_and_failures
from oodbench.store.store import Store

ASKED = ("--pair", "digits-photos", "--pair", "china-flower", "--scale", "smoke", "--detector",
         "vanilla-hvae", "--detector", "informative-hvae", "--detector", "mean-intensity",
         "--detector", "glow", "--detector", "pixelcnn", "--detector", "lvae", "--detector",
         "pixel-variance", "--seeds", "2")  # 28 jobs  # fmt: skip


def main() -> int:
    """Kill so often, over as many stores as that takes; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name, RayNodes() as nodes:
        folder = Path(name)
        (folder / "alone").mkdir()
        alone = start(folder / "alone", *ASKED, "--quiet")
        expected, err = alone.communicate()
        assert alone.returncode == 0, err
        killed: Counter[str] = Counter()
        rounds = 0
        while killed.total() < options.kills:
            rounds += 1
            here = folder / f"round-{rounds}"
            here.mkdir()
            out = one_round(here, nodes, chance, killed, options.kills)
            same = contents(here / "store") == contents(folder / "alone" / "store")
            if not same or table(out) != table(expected):
                print(f"round {rounds}: store {'same' if same else 'OTHER'}, see {here}")
                return 1
            if left := beats_and_failures(Store(here / "store").storage):
                assert left == ({}, {}), left
            print(f"round {rounds}: the same; killed so far: {dict(killed)}", flush=True)
    return 0


def one_round(
    folder: Path, nodes: RayNodes, chance: random.Random, killed: Counter[str], most: int
) -> str:
    """One store, killed at until it is finished; what the last driver printed."""
    words = (*ASKED, "--executor", "ray", "--address", nodes.address, "--checkpoint-seconds", "1")
    made: dict[str, int] = {}
    while True:
        running = start(folder, *words, "--quiet")
        until = time.monotonic() + chance.uniform(5, 25)
        while running.poll() is None and (time.monotonic() < until or killed.total() >= most):
            time.sleep(0.1)
        if running.poll() is None:
            kind = chance.choice(("worker", "worker", "node", "driver"))
            if kind == "driver":
                os.kill(running.pid, signal.SIGKILL)
                killed[kind] += 1
            elif kind == "node":
                nodes.kill_second()
                killed[kind] += 1
                nodes.start_second()
            elif worker := busy_worker(folder):
                os.kill(worker, signal.SIGKILL)
                killed[kind] += 1
            if kind != "driver":
                while running.poll() is None and chance.random() > 0.02:
                    time.sleep(0.2)
                if running.poll() is None:
                    os.kill(running.pid, signal.SIGKILL)
                    killed["driver"] += 1
        out, err = running.communicate()
        now = written(folder / "store")
        assert made.items() <= now.items(), "something finished was made again"
        made = now
        if running.returncode == 0:
            return out
        assert running.returncode in (-signal.SIGKILL, 1), err


def busy_worker(folder: Path) -> int:
    """The process of a step that runs, 0 where none tells of itself."""
    beats, _ = beats_and_failures(Store(folder / "store").storage)
    alive = [beat.process for beat in beats.values() if parent(beat.process)]
    return alive[0] if alive else 0


if __name__ == "__main__":
    sys.exit(main())

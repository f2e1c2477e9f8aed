"""What handing out a step costs, and what a second worker gains.

    python tests/cluster/overhead.py --steps 1000 [--address HOST:PORT]
    python tests/cluster/overhead.py --pairs 3

Overhead: steps whose entries are there by the time they are handed out, so that a worker only
resolves the job, makes the key and finds the entry.  Workers: the same plan by one process and by
two, each of one thread, in turns; steps an hour of two over those of one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from oodbench.datasets.loading import find_places
from oodbench.datasets.pairs import make_pair
from oodbench.declare.registry import load_plugin
from oodbench.flow.bench import Bench
from oodbench.flow.executors import planned
from oodbench.flow.executors.board import Board
from oodbench.flow.executors.crews.workers import Workers
from oodbench.flow.executors.dispatch import dispatch
from oodbench.flow.executors.graph import plan
from oodbench.flow.executors.local import run_jobs
from oodbench.flow.plan import Job
from oodbench.flow.selection import choose
from oodbench.progress import Progress
from oodbench.store.store import Store

PLUGIN = """
from oodbench import Detector, register
for number in range({count}):
    @register(f"mean-{{number}}")
    class Mean(Detector):
        weight = number
        def measure(self, images, noise=None):
            return {{"s": images.double().mean((1, 2, 3))}}
        def scores(self, statistics):
            return {{"S": statistics["s"]}}
        def score_names(self):
            return ["S"]
"""


def bench_at(folder: Path) -> Bench:
    """A bench with a store of its own in the folder."""
    location = str(folder / "store")
    return Bench(Store(location), find_places((), str(folder / "cache")), Progress("quiet"))


def overhead(folder: Path, steps: int, address: str) -> None:
    """Print the milliseconds of a step that is there already."""
    (folder / "mean.py").write_text(PLUGIN.format(count=-(-steps // 11)))
    load_plugin(str(folder / "mean.py"))
    names = [f"mean-{number}" for number in range(-(-steps // 11))]
    pairs = [make_pair("digits", f"{other}@resize") for other in ("photos", "china", "flower")]
    jobs = choose(pairs, detectors=names, scale="smoke").jobs(range(1))
    bench = bench_at(folder)
    graph = plan(bench, jobs)
    began = time.monotonic()
    outcome = run_jobs(bench, jobs)
    assert not outcome.failures, outcome.failures[0]
    made = time.monotonic() - began
    workers = Workers("ray", address=address) if address else Workers(jobs=1)
    crew = planned.make_crew(bench, jobs, workers, graph)
    board = Board(bench, graph)
    try:
        first = next(iter(graph.steps.values()))
        while not crew.begin(first):  # until a worker is up
            crew.ended(0.1)
        while not crew.ended(0.5):
            pass
        began = time.monotonic()
        done = dispatch(graph, crew, board, bench.store.storage)
        spent = time.monotonic() - began
    finally:
        crew.close()
    assert len(done.made) == len(graph.steps)
    how = f"Ray at {address}, {crew.slots()} at once" if address else "one process"
    each, local = 1000 * spent / len(graph.steps), 1000 * made / len(graph.steps)
    print(f"{how}: {each:.1f} ms a step over {len(graph.steps):,} steps")
    print(f"the local executor made them in {local:.1f} ms each")


def gain(folder: Path, pairs: int) -> None:
    """Print how much faster two processes are than one."""
    chosen = choose(["digits-photos", "china-flower"], scale="smoke", detectors=(
        "vanilla-hvae", "informative-hvae", "glow", "lvae", "pixelcnn", "informative-lvae"
    ))  # fmt: skip
    jobs: list[Job] = chosen.jobs(range(2), {"training": {"epochs": 12}})
    found = []
    for number in range(pairs):
        seconds = {}
        for count in (1, 2) if number % 2 else (2, 1):
            bench = bench_at(folder / f"{number}-{count}")
            graph = plan(bench, jobs)
            crew = planned.make_crew(bench, jobs, Workers(jobs=count), graph)
            began = time.monotonic()
            try:
                done = dispatch(graph, crew, Board(bench, graph), bench.store.storage)
            finally:
                crew.close()
            assert not done.failures
            seconds[count] = time.monotonic() - began
        found.append(seconds[1] / seconds[2])
        print(f"one {seconds[1]:.0f} s, two {seconds[2]:.0f} s: {found[-1]:.2f} times", flush=True)
    print(f"median of {pairs}: {statistics.median(found):.2f} times, {len(graph.steps)} steps")


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--address", default="")
    parser.add_argument("--pairs", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.pairs:
            gain(Path(name), options.pairs)
        else:
            overhead(Path(name), options.steps, options.address)
    return 0


if __name__ == "__main__":
    sys.exit(main())

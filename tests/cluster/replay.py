"""How a suite would take on 1 to 64 workers: its plan, with recorded costs, in virtual time.

    python tests/cluster/replay.py --suite generative-fashionmnist --seeds 5 --data FOLDER

The graph is the real one and so is the dispatcher; only the workers are not.  Seconds of fits are
those of the published models (`results/published/small`), of the same recipe where there is one.
The lower bound is the larger of the longest chain and all work over the workers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from oodbench.datasets.loading import find_places
from oodbench.declare.recipes import Recipe
from oodbench.flow.bench import Bench
from oodbench.flow.executors.board import Board, duration
from oodbench.flow.executors.costs import Costs
from oodbench.flow.executors.dispatch import Done, Verdict, dispatch
from oodbench.flow.executors.graph import plan
from oodbench.flow.executors.steps import Step
from oodbench.flow.selection import choose
from oodbench.progress import Progress
from oodbench.store.store import Key, Store

ROOT = Path(__file__).parents[2]


class Published(Costs):
    """Seconds of fits as published, by recipe; a guess for others."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.speeds: dict[str, float] = {}
        for file in (ROOT / "results" / "published").rglob("*models.json"):
            for fit in json.loads(file.read_text())["fits"]:
                if fit.get("images_per_second"):
                    self.speeds[fit["recipe"]] = float(fit["images_per_second"])
        self.known = self.unknown = 0

    def fitting(self, key: Key, recipe: Recipe | None, images: int, dims: int) -> float:
        """See `Costs`."""
        speed = self.speeds.get(recipe.label) if recipe is not None else None
        self.known += speed is not None
        self.unknown += speed is None
        return super().fitting(key, recipe, images, dims) if speed is None else images / speed


class Machine:
    """A crew in virtual time."""

    def __init__(self, workers: int) -> None:
        self.tell, self.workers, self.now = print, workers, 0.0
        self.running: list[tuple[float, int, Step]] = []
        self.count = 0

    def slots(self) -> int:
        """How many workers."""
        return self.workers

    def begin(self, step: Step, avoided: Sequence[str] = ()) -> bool:
        """Start a step now, where a worker is free."""
        if len(self.running) == self.workers:
            return False
        self.count += 1
        self.running.append((self.now + step.seconds, self.count, step))
        return True

    def ended(self, seconds: float) -> list[Done]:
        """The step that ends next; the clock goes there."""
        one = min(self.running)
        self.running.remove(one)
        self.now = one[0]
        return [Done(one[2], Verdict.MADE)]

    def stop(self) -> list[Done]:
        """Never asked for."""
        return []

    def close(self) -> None:
        """Nothing to end."""


def main() -> int:
    """Print a line for every number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="embedded")
    parser.add_argument("--scale", default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        location = str(Path(folder) / "store")
        bench = Bench(Store(location), find_places(options.data, location), Progress("quiet"))
        jobs = choose(suite=options.suite, scale=options.scale).jobs(range(options.seeds))
        costs = Published(bench.store)
        graph = plan(bench, jobs, costs)
        total = sum(step.seconds for step in graph.steps.values())
        longest = max(graph.urgency().values())
        fits = sum(step.stage == "fit" for step in graph.steps.values())
        print(f"{options.suite}, {options.seeds} seeds: {len(graph.steps):,} steps, {fits} fits"
              f" ({costs.known} costs recorded, {costs.unknown} guessed),"
              f" {duration(total)} of work, longest chain {duration(longest)};"
              f" {len(graph.failures)} jobs without images")  # fmt: skip
        print("| workers | makespan | lower bound | over it | efficiency |")
        print("|---|---|---|---|---|")
        for workers in (1, 2, 4, 8, 16, 32, 64):
            crew = Machine(workers)
            dispatch(graph, crew, Board(bench, graph), bench.store.storage)
            bound = max(longest, total / workers)
            print(f"| {workers} | {duration(crew.now)} | {duration(bound)} |"
                  f" {100 * (crew.now / bound - 1):.1f} % |"
                  f" {100 * total / workers / crew.now:.0f} % |")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Speed of this version against an earlier one on a CPU, step by step in turns, as ratios.

    git worktree add /tmp/earlier COMMIT
    pip install --no-deps --target /tmp/earlier-installed /tmp/earlier
    python tests/throughput/compare_versions.py --earlier /tmp/earlier-installed [--pairs 40]

Both versions stand ready in processes of their own and take a step each, now the one first and now
the other, so that what else the machine does falls on both.  Times are those of the processor, on
one thread: waiting for it does not count.  A step is one of training as the training loop takes it,
or L with S importance samples of one batch, and of that the part that goes into random draws.  The
ratio of a pair is earlier / now; above 1, this version is faster.  Printed are the median over the
pairs and its standard error, by bootstrap.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: What is trained, at scale `small`: recipe and variant.
TRAINED = {"F3": "vanilla", "C3": "vanilla", "glow-F": "glow", "pixelcnn-F": "pixelcnn"}
#: Whose L is drawn, and for how many images at once.
MEASURED, BATCH = ("F3-hvk", "hvk"), 50
SCALE = "small"
WARM = 2
Step = Callable[[], Mapping[str, float]]


def module(*names: str) -> Any:
    """The first of `names` that this version has: rooms have moved."""
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return importlib.import_module(names[-1])


def built(name: str, variant: str) -> tuple[Any, np.ndarray]:
    """A recipe, and images of its shape."""
    recipes = module("oodbench.declare.recipes", "oodbench.recipes")
    file = recipes.find_recipe(name)
    images = np.random.default_rng(0).integers(0, 256, (512, *file.shape), dtype=np.uint8)
    return recipes.resolve(file, SCALE, variant), images


def training(name: str, scratch: Path) -> Step:
    """A step of training."""
    loops = module("oodbench.train.training", "oodbench.training")
    module("oodbench.train.devices", "oodbench.devices").tune_allocator()
    recipe, images = built(name, TRAINED[name])
    settings = recipe.training.model_copy(update={"max_images": None})
    loop = loops._Loop(lambda: recipe.build(images.shape[1:]), images, settings, 0, scratch,
                       loops.Runtime())  # fmt: skip
    loop.resume()
    loop.model.train()
    numbers = iter(range(10**6))

    def step() -> Mapping[str, float]:
        number, before = next(numbers), time.process_time()
        loop._one_step(number)
        return {f"step of {name}": time.process_time() - before}

    return step


def importance(samples: int) -> Step:
    """L with so many draws, and the draws alone."""
    keyed = module("oodbench.seeding").KeyedNoise
    recipe, images = built(*MEASURED)
    model, batch = recipe.build(images.shape[1:]), torch.from_numpy(images[:BATCH])
    model.initialise(batch)
    model.eval()
    own, spent = keyed._draw, [0.0]

    def draw(*args: Any, **named: Any) -> torch.Tensor:
        before = time.process_time()
        found: torch.Tensor = own(*args, **named)
        spent[0] += time.process_time() - before
        return found

    keyed._draw = draw

    def step() -> Mapping[str, float]:
        spent[0], before = 0.0, time.process_time()
        with torch.inference_mode():
            model.log_prob(batch, noise=keyed(0, np.arange(BATCH)), samples=samples)
        return {f"L with S = {samples}": time.process_time() - before, "its draws": spent[0]}

    return step


def worker(options: argparse.Namespace) -> None:
    """One side: a step for every line of the input, its times as a line of JSON."""
    if options.worker == "earlier":
        sys.path.insert(0, str(options.earlier))
    where = Path(str(importlib.import_module("oodbench").__file__))
    assert (options.earlier in where.parents) == (options.worker == "earlier"), where
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        what = options.what
        step = importance(options.samples) if what == "L" else training(what, Path(scratch))
        for _ in sys.stdin:
            print(json.dumps(step()), flush=True)


class Side:
    """A version that stands ready."""

    def __init__(self, side: str, what: str) -> None:
        command = [sys.executable, *sys.argv, "--worker", side, "--what", what]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self) -> dict[str, float]:
        """The times of one step."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        found: dict[str, float] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        """No more steps."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compared(what: str, pairs: int) -> None:
    """Alternate the two versions and print the ratios."""
    sides = {name: Side(name, what) for name in ("earlier", "now")}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(WARM + pairs):
        for name in ("earlier", "now")[:: 1 if number % 2 else -1]:
            found = sides[name].step()
            if number >= WARM:
                times[name].append(found)
    for side in sides.values():
        side.close()
    for name in times["now"][0]:
        before, now = ([row[name] for row in times[side]] for side in ("earlier", "now"))
        ratios = [a / b for a, b in zip(before, now, strict=True)]
        error = statistics.stdev(
            statistics.median(draw)
            for draw in np.random.default_rng(0).choice(ratios, (1000, pairs)).tolist()
        )
        print(f"{name}: earlier {statistics.median(before):.4g} s, now"
              f" {statistics.median(now):.4g} s; {statistics.median(ratios):.3f} ± {error:.3f}"
              " times the earlier speed", flush=True)  # fmt: skip


def main() -> None:
    """Everything that is asked for, one after another."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--earlier", type=Path, required=True, help="where it is installed")
    parser.add_argument("--pairs", type=int, default=40, help="of training steps")
    parser.add_argument("--samples", type=int, default=1000, help="S of L")
    parser.add_argument("--only", nargs="*", default=[*TRAINED, "L"], choices=[*TRAINED, "L"])
    parser.add_argument("--worker", choices=["earlier", "now"], help=argparse.SUPPRESS)
    parser.add_argument("--what", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    for what in options.only:
        compared(what, max(4, options.pairs // 5) if what == "L" else options.pairs)


if __name__ == "__main__":
    main()

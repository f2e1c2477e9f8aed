"""The DVP-VAE against a plain LVAE of its size and training time, by importance-weighted NLL.

    python tests/experiments/compare_dvp_lvae.py --store runs --data FOLDER
    python tests/experiments/compare_dvp_lvae.py --store smoke --in-dist digits --scale smoke

Both are ordinary fits of a store: what is there is taken up, a training or a measurement that was
cut off goes on.  Measured is a seeded subset of the test images; where pixels are binary both
models see the very same draws of them, so that the difference is paired.  NLL = −log 1/S Σ w in
nats, with its standard error over images.  Of the DVP-VAE log p(u) is the diffusion's estimate
(`oodbench.models.dvp`).  Seconds are those of this machine, comparable where nothing else ran.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.loading import find_places
from oodbench.flow.bench import Bench
from oodbench.flow.perform import Learned, learn
from oodbench.flow.plan import DetectorRequest, Job, column_name
from oodbench.progress import Progress
from oodbench.store.store import Store

MODELS = ("dvp-vae", "vanilla-lvae")


@dataclass(frozen=True)
class Side:
    """A model's line, and the NLL (N,) of the images."""

    name: str
    parameters: int
    seconds: float
    images_per_second: float
    nll: np.ndarray


def measured(bench: Bench, name: str, seed: int, options: argparse.Namespace) -> Side:
    """Train and measure, or find that in the store."""
    overrides: dict[str, JSON] = {
        "measure": {"importance_samples": options.samples, "max_images": options.images}
    }
    job = Job(DetectorRequest(name), options.in_dist, (), options.scale, seed, overrides)
    found: Learned = learn(bench, job)
    entry = bench.store.find(found.fits[0][0])
    assert entry is not None
    record = entry.record
    return Side(
        f"{name} ({record['recipe']}, seed {seed})",
        int(str(record["parameters"])),
        float(str(record["seconds"])),
        float(str(record["images_per_second"])),
        np.asarray(found.scores[column_name("L")]),
    )


def standard_error(values: np.ndarray) -> float:
    """Of the mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True, help="folder of the store")
    parser.add_argument("--data", action="append", default=[], help="folder of image arrays")
    parser.add_argument("--in-dist", default="mnist")
    parser.add_argument("--scale", default="small")
    parser.add_argument("--samples", type=int, default=100, help="importance samples S")
    parser.add_argument("--images", type=int, default=1000, help="test images, a seeded subset")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    places = find_places(options.data, options.store)
    bench = Bench(Store(options.store), places, Progress("auto"), options.device)
    heads = ("model", "parameters", "train s", "images/s", f"NLL, S = {options.samples}", "s.e.")
    print("{:<44}{:>12}{:>10}{:>10}{:>16}{:>8}".format(*heads))
    for seed in range(options.seeds):
        sides = [measured(bench, name, seed, options) for name in MODELS]
        for side in sides:
            print(
                f"{side.name:<44}{side.parameters:>12,}{side.seconds:>10.0f}"
                f"{side.images_per_second:>10.0f}{side.nll.mean():>16.2f}"
                f"{standard_error(side.nll):>8.2f}"
            )
        difference = sides[0].nll - sides[1].nll
        print(
            f"difference of the {len(difference)} images: {difference.mean():+.2f} nats, s.e."
            f" {standard_error(difference):.2f} (negative: the DVP-VAE is better)"
        )


if __name__ == "__main__":
    main()

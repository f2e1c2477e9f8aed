"""VIB's weight of the rate, 0.01 against 1e-3, on validation OOD sets that no pair here has.

    python tests/experiments/choose_vib_rate_weight.py --store runs --data FOLDER

1e-3 is of the first VIB paper, on MNIST; 0.01 is what Fischer 2018 trains on FashionMNIST with the
highest accuracy.  The recipe had 0.01 for a while, chosen after AUROC on MNIST and notMNIST had
been looked at, and it went back to 1e-3 by a rule fixed beforehand: better on Omniglot for each of
the seeds 0, 1 and 2 (it was for two).  Fits that differ by their seed alone are up to 28 points
apart, so three seeds decide nothing between two weights.  The rule here, fixed before any VIB of
the small recipe met these two OOD sets and before any of these seeds was trained (a trial of this
script at scale `smoke`, seeds 90 and 91, had been seen: 20.7 against 9.5):

    the weight is taken whose AUROC is higher in the mean over grey CIFAR-10 and grey SVHN, and over
    the ten seeds 3 to 12.

It went to 0.01: 78.1 against 37.5, ahead by 40.6 ± 1.8, and for every seed.

Beside it stands the standard error of the difference over seeds.  MNIST and CP are printed as well
and decide nothing.  Every fit is an ordinary one of the store: what is there is taken up.
"""

from __future__ import annotations

import argparse
import math

import pandas as pd

import oodbench

WEIGHTS = (0.01, 1e-3)
DECIDING = ("cifar10@grey@resize", "svhn@grey@resize")
SHOWN = "mnist"


def aurocs(options: argparse.Namespace, detector: str, weight: float | None) -> pd.DataFrame:
    """AUROC in per cent; a row per seed, a column per OOD set."""
    rows = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        frame = oodbench.run(
            detectors=detector,
            in_dist=options.in_dist,
            ood=[*DECIDING, SHOWN],
            seeds=[seed],
            scale=options.scale,
            overrides=None if weight is None else {"model": {"rate_weight": weight}},
            store=options.store,
            data=options.data,
            quiet=True,
        )
        found = frame[frame.metric == "auroc"]
        assert len(found) == 3, found
        rows[seed] = dict(zip(found.pair, found.value, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True, help="folder of the store")
    parser.add_argument("--data", action="append", default=[], help="folder of image arrays")
    parser.add_argument("--in-dist", default="fashionmnist")
    parser.add_argument("--scale", default="small")
    parser.add_argument("--first-seed", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--with-cp", action="store_true", help="train and print CP as well")
    options = parser.parse_args()
    rows = {f"VIB, weight {weight:g}": aurocs(options, "vib-mixture", weight) for weight in WEIGHTS}
    if options.with_cp:
        rows["CP"] = aurocs(options, "max-softmax", None)
    for name, frame in rows.items():
        print(f"{name}\n{frame.round(2).to_string()}\nmean {frame.mean().round(2).to_dict()}\n")
    deciding = list(rows[f"VIB, weight {WEIGHTS[0]:g}"].columns[: len(DECIDING)])
    new, old = (frame[deciding].mean(axis=1) for frame in list(rows.values())[:2])
    ahead = new - old
    error = ahead.std(ddof=1) / math.sqrt(len(ahead))
    print(f"{new.mean():.2f} against {old.mean():.2f}: ahead by {ahead.mean():.2f} ± {error:.2f}")
    print(f"the weight is {WEIGHTS[0] if ahead.mean() > 0 else WEIGHTS[1]:g}")


if __name__ == "__main__":
    main()

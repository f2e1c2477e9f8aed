"""VIB's weight of the rate, 0.01 against 1e-3, on an OOD set that had no part in choosing it.

    python tests/experiments/confirm_vib_rate_weight.py --store runs --data FOLDER \
        --ood FOLDER/omniglot-small-28.npz

`vib-mixture-F` had β = 0.01 of Fischer 2018 after AUROC on MNIST and notMNIST had been looked at,
so neither can say whether that was right.  The rule, fixed before any VIB met Omniglot:

1. 0.01 stays if its AUROC on Omniglot is above that of 1e-3 for every one of three seeds;
   otherwise the recipe goes back to 1e-3.
2. VIB is "well above CP" if, with the weight that stays, its AUROC on Omniglot is at least five
   points above that of CP for every one of three seeds.

It went: 87.1, 86.1 and 95.1 against 70.4, 90.2 and 84.9, and with 1e-3 VIB is not well above CP
(80.6, 78.8 and 81.2).

Every fit is an ordinary one of the store: what is there is taken up.  MNIST is printed as well and
decides nothing.
"""

from __future__ import annotations

import argparse

import pandas as pd

import oodbench

WEIGHTS = (0.01, 1e-3)
MARGIN = 5.0


def aurocs(options: argparse.Namespace, detector: str, weight: float | None) -> pd.DataFrame:
    """AUROC in per cent; a row per seed, a column per pair, the one that decides first."""
    rows = {}
    for seed in range(options.seeds):
        frame = oodbench.run(
            detectors=detector,
            in_dist=options.in_dist,
            ood=options.ood,
            seeds=[seed],
            scale=options.scale,
            overrides=None if weight is None else {"model": {"rate_weight": weight}},
            store=options.store,
            data=options.data,
            quiet=True,
        )
        found = frame[frame.metric == "auroc"]
        assert len(found) == len(options.ood), found
        rows[seed] = dict(zip(found.pair, found.value, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True, help="folder of the store")
    parser.add_argument("--data", action="append", default=[], help="folder of image arrays")
    parser.add_argument("--in-dist", default="fashionmnist")
    parser.add_argument("--ood", action="append", required=True, help="the first one decides")
    parser.add_argument("--scale", default="small")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = {f"VIB, weight {weight:g}": aurocs(options, "vib-mixture", weight) for weight in WEIGHTS}
    rows["CP"] = aurocs(options, "max-softmax", None)
    for name, frame in rows.items():
        print(f"{name}\n{frame.round(2).to_string()}\n")
    decides = rows["CP"].columns[0]
    new, old, cp = (frame[decides] for frame in rows.values())
    stays = bool((new > old).all())
    print(f"{decides}: {WEIGHTS[0]:g} {'stays' if stays else 'goes'}: ", end="")
    print(", ".join(f"{a:.1f} against {b:.1f}" for a, b in zip(new, old, strict=True)))
    kept = new if stays else old
    print(f"{'well' if bool((kept - cp >= MARGIN).all()) else 'not well'} above CP: ", end="")
    print(", ".join(f"{a:.1f} against {b:.1f}" for a, b in zip(kept, cp, strict=True)))


if __name__ == "__main__":
    main()

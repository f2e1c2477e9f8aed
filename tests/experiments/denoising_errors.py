"""What the errors of DDOS, DDPM-OOD and LMD rest on, start by start and turn by turn.

    python tests/experiments/denoising_errors.py STORE fashionmnist mnist notmnist

From the measured statistics of the store: the mean squared error of ID and of OOD test images, its
AUROC, and the AUROC of what is left of its logarithm once that of the image's variance and its mean
are taken out by a regression on the ID images.  Means ± standard deviations over seeds.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np

from oodbench.baselines.ddpm_ood import STARTS
from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import find_places, load
from oodbench.detect.detector import DETECTORS
from oodbench.rank.metrics import auroc
from oodbench.store.payload import unpack_table
from oodbench.store.store import Store

COLUMNS = {"ddos": "error", "ddpm-ood": "mse", "lmd": "mse"}
#: A constant image has no logarithm of its variance.
LEAST = 1e-3
Side = tuple[np.ndarray, np.ndarray]


def about(images: np.ndarray) -> np.ndarray:
    """(N, 3): 1, the log of the variance, and the mean of pixels in [−1, 1]."""
    flat = images.reshape(len(images), -1) / 127.5 - 1
    return np.stack([np.ones(len(flat)), np.log(flat.var(1) + LEAST), flat.mean(1)], axis=1)


def sides(store: Store, detector: str, sets: dict[str, ImageSet]) -> dict[int, dict[str, Side]]:
    """By seed and set: errors (N, K), and what `about` says of the images."""
    cls = DETECTORS.get(detector)
    found: dict[int, dict[str, Side]] = defaultdict(dict)
    for entry in store.entries("measure"):
        parts = entry.parts
        current = cls.measure_revision or cls.revision
        if parts["measure"] != cls.measure_name or parts["revision"] != current:
            continue
        for name, images in sets.items():
            if parts["images"] == images.fingerprint:
                table = entry.parse("statistics.parquet", unpack_table)
                errors = table[COLUMNS[detector]]
                rows = table["index"].astype(int)
                found[int(str(parts["seed"]))][name] = (
                    errors.reshape(len(errors), -1), about(images.images[rows]),
                )  # fmt: skip
    return found


def compared(inside: Side, outside: Side, place: int) -> list[float]:
    """Both mean errors, AUROC, AUROC given variance and mean, in percent."""
    (id_errors, id_about), (ood_errors, ood_about) = inside, outside
    a, b = id_errors[:, place], ood_errors[:, place]
    fitted = np.linalg.lstsq(id_about, np.log(a), rcond=None)[0]
    left = np.log(a) - id_about @ fitted, np.log(b) - ood_about @ fitted
    return [100 * float(a.mean()), 100 * float(b.mean()), 100 * auroc(a, b), 100 * auroc(*left)]


def shown(rows: np.ndarray) -> str:
    """Means over seeds (S, 4), with their standard deviation where there are several."""
    means = [f"{value:.1f}" for value in rows.mean(0)]
    if len(rows) > 1:
        means = [f"{m} ± {s:.1f}" for m, s in zip(means, rows.std(0, ddof=1), strict=True)]
    return " | ".join(means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("in_dist")
    parser.add_argument("ood", nargs="+")
    asked = parser.parse_args()
    places, store = find_places((), asked.store), Store(asked.store)
    sets = {name: load(name, "test", places) for name in (asked.in_dist, *asked.ood)}
    print("| detector | OOD set | 100 MSE, ID | 100 MSE, OOD | AUROC | given variance and mean |")
    print("| --- | --- | --- | --- | --- | --- |")
    for detector in COLUMNS:
        by_seed = sides(store, detector, sets)
        whole = [found for found in by_seed.values() if len(found) == len(sets)]
        for ood in asked.ood if whole else ():
            width = whole[0][asked.in_dist][0].shape[1]
            for place in range(width):
                rows = np.array([compared(one[asked.in_dist], one[ood], place) for one in whole])
                what = f"{detector}, start {STARTS[place]} of 20" if width == len(STARTS) else (
                    detector if width == 1 else f"{detector}, turn {place + 1}"
                )  # fmt: skip
                print(f"| {what} | {ood} | {shown(rows)} |")


if __name__ == "__main__":
    main()

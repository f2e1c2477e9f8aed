"""Every learned detector on shapes that no recipe is made for, without naming a recipe.

    python tests/stress/every_detector_any_shape.py [--shape 3x128x128] [--detector NAME]

Folders of 100 images are written, and each detector that stands on a recipe is run at smoke
on the recipe that is derived, one after another on one store (what several share is trained once).
Training is cut to one epoch of 16 images, measuring to 20 images: what is held is that networks
are built, trained, measured and ranked at that shape, not how well.  A line a detector: status,
seconds, scores.  Exit status 1 where one fails or a score is no number.  The tests run fewer at
the larger shapes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import oodbench
from oodbench.detect.detector import DETECTORS

SHAPES = ("3x64x64", "3x28x28", "1x21x33", "3x128x128")
SHORT = {"measure.max_images": 20, "training.epochs": 1, "training.epoch_images": 16,
         "training.max_images": 40, "training.batch_size": 8}  # fmt: skip


def write_folders(where: Path, shape: tuple[int, int, int]) -> None:
    """An ID and an OOD folder of two classes."""
    draw = np.random.default_rng(0)
    for name, low in (("id", 0), ("ood", 80)):
        for label in ("a", "b"):
            (where / name / label).mkdir(parents=True)
            for i in range(50):
                pixels = draw.integers(low, low + 150, (*shape[1:], shape[0])).astype(np.uint8)
                if shape[0] == 3:
                    pixels[0, 0] = (200, 10, 90)  # no grey images
                Image.fromarray(pixels.squeeze()).save(where / name / label / f"{i:02}.png")


def run_one(where: Path, name: str) -> tuple[bool, str]:
    """Whether a detector gave numbers, and what to print of it."""
    started = time.monotonic()
    try:
        frame = oodbench.run(
            in_dist=where / "id", ood=where / "ood", detectors=name, scale="smoke",
            overrides=SHORT, store=where / "store", quiet=True,
        )  # fmt: skip
    except Exception as error:
        return False, f"{time.monotonic() - started:.0f} s {type(error).__name__}: {error}"
    held = frame[frame.metric == "auroc"]
    good = len(held) > 0 and bool(frame.value.notna().all())
    recipe = ", ".join(sorted({str(text) for text in frame.recipe}))
    return good, f"{time.monotonic() - started:.0f} s {recipe} {len(held)} scores"


def main() -> None:
    """Run them all and say what failed."""
    parser = argparse.ArgumentParser(description="Every learned detector on any shape, at smoke.")
    parser.add_argument("--shape", action="append", metavar="CxHxW")
    parser.add_argument("--detector", action="append")
    options = parser.parse_args()
    names = [name for name in DETECTORS.names() if name not in DETECTORS.broken()]
    learned = [name for name in names if DETECTORS.get(name).recipe_variant]
    failed = 0
    for text in options.shape or SHAPES:
        channels, height, width = map(int, text.split("x"))
        with tempfile.TemporaryDirectory() as home:
            write_folders(Path(home), (channels, height, width))
            for name in options.detector or learned:
                good, said = run_one(Path(home), name)
                failed += not good
                print(f"{'ok' if good else 'FAILED'} {text} {name} {said}", flush=True)
    print(f"{failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Measure, score and rank a million test images in bounded memory.

    python tests/stress/million_images.py --images 1000000 --limit-gib 2

Two synthetic test sets of so many 8×8 images, memory-mapped, go through a trivial detector (the
variance of the pixels: hardly a tie, the hard case for the bootstrap), the scores, DeLong's
interval and the bootstrap of every metric, by the ordinary command.  Printed are
the peak memory of that process, that of the same command on 1,000 images, and the size of the
image arrays.  Exit status 1 where the peak exceeds the arrays by more than the limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CODE = """
import resource, sys
from oodbench.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


def write_images(path: Path, count: int, brightest: int) -> None:
    """`count` random test images and a few for training, as an .npz."""
    generator = np.random.default_rng(brightest)
    test = generator.integers(0, brightest, (count, 8, 8), dtype=np.uint8)
    np.savez(path, train=test[:100], test=test)


def peak(folder: Path, count: int) -> tuple[int, float, str]:
    """Peak memory in bytes, seconds, and the table of a run on `count` + `count` images."""
    folder.mkdir()
    write_images(folder / "id.npz", count, 200)
    write_images(folder / "ood.npz", count, 205)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OODBENCH")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CODE, "run", "--in-dist", "id.npz", "--ood", "ood.npz",
         "--detector", "pixel-variance"],
        cwd=folder, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stderr.splitlines()[-1]), time.monotonic() - began, done.stdout


def main() -> None:
    """Print both peaks; exit with 1 where the large one is too high."""
    parser = argparse.ArgumentParser(description="Peak memory of ranking very many images.")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--limit-gib", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        small, _, _ = peak(Path(home, "small"), 1000)
        large, seconds, table = peak(Path(home, "large"), options.images)
    arrays = 2 * options.images * 64
    gib = 2**30
    print(table)
    print(f"{options.images:,} + {options.images:,} images of 8×8 ({arrays / gib:.2f} GiB)")
    print(f"peak {large / gib:.2f} GiB in {seconds:.0f} s; 1,000 images: {small / gib:.2f} GiB")
    above = (large - arrays) / gib
    print(f"{above:.2f} GiB above the images; the limit is {options.limit_gib} GiB")
    sys.exit(1 if above > options.limit_gib else 0)


if __name__ == "__main__":
    main()

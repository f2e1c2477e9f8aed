"""Time and memory of reading a folder of 100,000 small PNGs, beside a plain loop of Pillow.

    python tests/throughput/folder_of_100000_pngs.py [--images 100000] [--rounds 3]

28×28 grey images in ten class folders.  In turns: a loop of ``Image.open`` in one process; the
first loading by oodbench (lists, decodes on all cores, hashes, writes its cache) in a process of
its own; the second, from the cache.  Printed are images a second and the peak memory above that of
loading ten images, and of both the processor time, which other work on the machine changes least.
Exit status 1 where the first loading takes more than three times the processor time of the plain
loop, or more memory than twice the pixels and 256 MiB.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 28
LOAD = """
import resource, sys, time
from pathlib import Path
from oodbench.datasets.loading import DataPlaces, load
started = time.monotonic()
found = load(sys.argv[1], "test", DataPlaces((), Path(sys.argv[2])))
taken = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(len(found), taken, peak, workers)
"""
PLAIN = """
import sys, time
from pathlib import Path
import numpy as np
from PIL import Image
started = time.monotonic()
paths = sorted(Path(sys.argv[1]).rglob("*.png"))
out = np.empty((len(paths), 28, 28), np.uint8)
for place, path in enumerate(paths):
    with Image.open(path) as image:
        out[place] = np.asarray(image)
print(len(paths), time.monotonic() - started)
"""


def write_images(folder: Path, count: int) -> None:
    """`count` images that pack about as well as drawn digits, in ten folders."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for number in range(count):
        path = folder / f"class{number % 10}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        centre = draw.uniform(8, 20, 2)
        distance = np.hypot(y - centre[0], x - centre[1])
        image = np.clip(255 - 20 * np.abs(distance - draw.uniform(3, 7)), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(path)


def processor_seconds() -> float:
    """Of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def answer(code: str, *arguments: Path) -> list[float]:
    """What a process prints, then the processor time that it and its own processes took."""
    before = processor_seconds()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OODBENCH")}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True,
        check=True, env=environment | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return [*(float(word) for word in done.stdout.split()), processor_seconds() - before]


def main() -> None:
    """Print the best of the rounds."""
    parser = argparse.ArgumentParser(description="Reading 100,000 small PNGs, beside Pillow.")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        started = time.monotonic()
        write_images(Path(home, "images"), options.images)
        write_images(Path(home, "few"), 10)
        print(f"{options.images:,} images written in {time.monotonic() - started:.0f} s")
        _, _, least, *_ = answer(LOAD, Path(home, "few"), Path(home, "few-cache"))
        plain, first, second, peaks = [], [], [], []
        used: tuple[list[float], list[float]] = ([], [])
        for number in range(options.rounds):
            _, taken, seconds = answer(PLAIN, Path(home, "images"))
            plain.append(taken)
            used[0].append(seconds)
            cache = Path(home, f"cache{number}")
            for times in (first, second):
                count, taken, peak, workers, seconds = answer(LOAD, Path(home, "images"), cache)
                assert count == options.images
                times.append(taken)
                peaks.append((peak, workers))
                used[1].extend([seconds] if times is first else [])
            shutil.rmtree(cache)
            print(f"round {number + 1}: Pillow {plain[-1]:.1f} s, first {first[-1]:.1f} s,"
                  f" again {second[-1]:.2f} s", flush=True)  # fmt: skip
    for name, times in (("Pillow, one process", plain), ("oodbench, first", first),
                        ("oodbench, from its cache", second)):  # fmt: skip
        print(f"{name}: {min(times):.2f} s, {options.images / min(times):,.0f} images/s")
    print(f"processor time: Pillow {min(used[0]):.1f} s, oodbench {min(used[1]):.1f} s")
    pixels = options.images * SIDE * SIDE
    above = max(peak for peak, _ in peaks) - least
    mib = 2**20
    print(f"peak {above / mib:.0f} MiB above that of ten images (pixels {pixels / mib:.0f} MiB);"
          f" largest worker {max(workers for _, workers in peaks) / mib:.0f} MiB")  # fmt: skip
    slow = min(used[1]) > 3 * min(used[0])
    sys.exit(1 if slow or above > 2 * pixels + 256 * mib else 0)


if __name__ == "__main__":
    main()

"""Two implementations side by side: each in a process of its own, in turn, several rounds.

A script gives `compare` its two sides: functions of the parsed options that return the number of
parameters and named steps.  A round times every step of both sides (the median of some repeats);
the ratio of a round is theirs / ours, and the median over rounds is the result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

Step = Callable[[], object]
Side = Callable[[argparse.Namespace], tuple[int, Mapping[str, Step]]]


def seconds(step: Step, repeats: int) -> float:
    """Median seconds of a call, after one to warm up where there are several."""
    if repeats > 1:
        step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(
    title: str,
    marker: str,
    ours: Side,
    theirs: Side,
    parser: argparse.ArgumentParser | None = None,
    prepare: Callable[[argparse.Namespace], object] | None = None,
) -> None:
    """Alternate the two sides and print the ratios; `marker`: a file of the public code.

    `parser` holds the script's own options, if it has any; `prepare` runs once, before the sides.
    """
    parser = parser or argparse.ArgumentParser()
    parser.description = title
    parser.add_argument("--reference", type=Path, required=True, help="clone of the public code")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.reference / marker).exists():
        parser.error(f"{options.reference} is not a clone of the public code: no {marker}")
    if options.worker:
        torch.set_num_threads(options.threads)
        parameters, steps = (ours if options.worker == "ours" else theirs)(options)
        times = {name: seconds(step, options.repeats) for name, step in steps.items()}
        print(json.dumps({"parameters": parameters, "seconds": times}))
        return
    torch.set_num_threads(options.threads)
    if prepare is not None:
        prepare(options)
    _alternate(options)


def _alternate(options: argparse.Namespace) -> None:
    ratios: dict[str, list[float]] = {}
    for number in range(1, options.rounds + 1):
        sides = {}
        for side in ("ours", "theirs"):
            command = [sys.executable, *sys.argv, "--worker", side]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            sides[side] = json.loads(done.stdout.splitlines()[-1])
        assert sides["ours"]["parameters"] == sides["theirs"]["parameters"], sides
        for what, a in sides["ours"]["seconds"].items():
            b = sides["theirs"]["seconds"][what]
            ratios.setdefault(what, []).append(b / a)
            print(f"round {number}, {what}: ours {a:.4g} s, theirs {b:.4g} s, ratio {b / a:.2f}")
    print(f"{sides['ours']['parameters']:,} parameters, {options.threads} threads")
    for what, found in ratios.items():
        print(f"{what}: {statistics.median(found):.2f} times the speed of the public code")

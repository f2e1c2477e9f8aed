"""The same command under several interpreters and numbers of threads: what comes out the same?

    python tests/stress/other_machines.py --python /other/bin/python --threads 1 --threads 2

Each `--python` needs oodbench installed.  The first one with the first number of threads is what
the others are compared with: the printed tables, then every file of the store.  Exit status 1 where
a table differs; files may differ with the version of torch and the number of threads, and how many
of them do is printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from contents import content

DETECTORS = (
    "vanilla-hvae", "informative-hvae", "lvae", "glow", "pixelcnn", "vae", "likelihood-regret",
    "input-complexity-hvae", "typicality-hvae", "dose-hvae", "waic-glow", "lr-bc",
    "mean-intensity", "pixel-variance",
)  # fmt: skip
VERSIONS = """
import json, platform, numpy, scipy, torch
print(json.dumps([platform.python_version(), torch.__version__, numpy.__version__,
                  scipy.__version__]))
"""


def run(folder: Path, python: str, threads: int, pairs: list[str]) -> str:
    """Run the smoke recipes in `folder`; the versions that made it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OODBENCH")}
    environment |= {"OMP_NUM_THREADS": str(threads), "COLUMNS": "150"}
    arguments = [item for pair in pairs for item in ("--pair", pair)]
    arguments += [item for name in DETECTORS for item in ("--detector", name)]
    code = (
        f"import torch; torch.set_num_threads({threads});"
        "from oodbench.cli import main; main()"
    )  # fmt: skip
    with (folder / "out").open("w") as out:
        subprocess.run(
            [python, "-c", code, "run", "--scale", "smoke", "--quiet", *arguments],
            cwd=folder,
            env=environment,
            stdout=out,
            check=True,
        )
    versions = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True)
    names = ("Python", "torch", "numpy", "scipy")
    found = zip(names, json.loads(versions.stdout), strict=True)
    return ", ".join(f"{name} {version}" for name, version in found) + f", {threads} thread(s)"


def main() -> None:
    """Run everywhere; print what differs."""
    parser = argparse.ArgumentParser(description="The same command under several interpreters.")
    parser.add_argument("--python", action="append", default=[], help="with oodbench installed")
    parser.add_argument("--threads", action="append", type=int, default=[])
    parser.add_argument("--pair", action="append", default=[])
    options = parser.parse_args()
    pythons = [sys.executable, *options.python]
    settings = list(itertools.product(pythons, options.threads or [1]))
    first: dict[str, object] | None = None
    worst = 0
    with tempfile.TemporaryDirectory() as home:
        for index, (python, threads) in enumerate(settings):
            folder = Path(home, str(index))
            folder.mkdir()
            versions = run(folder, python, threads, options.pair or ["digits-photos"])
            found = content(folder)
            if first is None:
                first = found
                print(f"{versions}: {len(found) - 1} entries and arrays", flush=True)
                continue
            common = first.keys() & found.keys() - {"table"}
            same = sum(first[name] == found[name] for name in common)
            equal = first["table"] == found["table"]
            worst |= not equal
            print(
                f"{versions}: table {'the same' if equal else 'DIFFERS'};"
                f" {same} of {len(first) - 1} entries bit for bit,"
                f" {len(first.keys() ^ found.keys())} under other keys",
                flush=True,
            )
            if not equal:
                _print_lines(str(first["table"]), str(found["table"]))
    sys.exit(worst)


def _print_lines(ours: str, theirs: str) -> None:
    for left, right in itertools.zip_longest(ours.splitlines(), theirs.splitlines(), fillvalue=""):
        if left != right:
            print(f"  {left}\n  {right}")


if __name__ == "__main__":
    main()

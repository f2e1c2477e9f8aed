"""Coverage-guided fuzzing (atheris) of everything that reads bytes of others.

    pip install atheris
    python tests/stress/fuzz_loaders.py --seconds 300 [--target yaml]

Each target gets the sound files of `tests/benchmark/test_fuzz.py` to begin with and may answer with
a result or with an error of ours in one line; anything else stops it with its traceback, and the
input is kept in the working directory as `crash-*`.  Exit status 1 where that happened.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "benchmark"))
IMAGES = ("npz", "png", "png-palette", "jpeg", "gif", "tiff", "bmp", "webp", "norb", "tar")
TARGETS = ("yaml", "tensors", "table", *IMAGES)
MEMORY_MB = 4096
SECONDS_PER_INPUT = 20


def fuzz(target: str, corpus: str, seconds: int) -> None:
    """Run one target in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["oodbench", "yaml"]):
        cases = importlib.import_module("test_fuzz")
        from oodbench.errors import OodbenchError
        from oodbench.store.payload import pack_table, pack_tensors, unpack_table, unpack_tensors
    folder = Path(tempfile.mkdtemp())

    def whole(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def through_a_file(data: bytes) -> object:
            (folder / name).write_bytes(data)
            return read(folder / name)

        return through_a_file

    import numpy as np
    import torch

    table = {"index": np.arange(5), "x": np.linspace(0, 1, 5)}
    readers: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
        "yaml": (cases.RECIPE, whole("x.yaml", cases.declarations)),
        "tensors": (pack_tensors({"w": torch.arange(6.0)}), unpack_tensors),
        "table": (pack_table(table), unpack_table),
    }
    for name in IMAGES:
        data, file, read = cases.FILES[name]
        readers[name] = (data, whole(file, read))
    seed, read = readers[target]
    Path(corpus, "seed").write_bytes(seed)

    def one_input(data: bytes) -> None:
        try:
            read(data)
        except OodbenchError as error:
            cases.check_error(error)
        except ValueError as error:  # what the store turns into "damaged"
            if target not in ("tensors", "table"):
                raise
            cases.check_error(error)

    atheris.Setup(
        [
            sys.argv[0], corpus, f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}",
            f"-timeout={SECONDS_PER_INPUT}", "-print_final_stats=1", "-verbosity=0",
            "-max_len=65536",
        ],
        one_input,
    )  # fmt: skip
    atheris.Fuzz()


def main() -> None:
    """Every target in a process of its own."""
    parser = argparse.ArgumentParser(description="Fuzz the loaders.")
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.corpus:
        fuzz(options.target[0], options.corpus, options.seconds)
        return
    failed = False
    for target in options.target or TARGETS:
        with tempfile.TemporaryDirectory() as corpus:
            done = subprocess.run(
                [sys.executable, str(HERE), "--target", target, "--corpus", corpus,
                 "--seconds", str(options.seconds)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            kept = len(list(Path(corpus).iterdir()))
        tried = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        peak = re.search(r"peak_rss_mb: +(\d+)", done.stderr)
        count, memory = (int(m[1]) if m else 0 for m in (tried, peak))
        state = "nothing fell" if done.returncode == 0 else "FELL"
        print(f"{target}: {count:,} inputs, {kept} kept, {memory} MB peak: {state}", flush=True)
        if done.returncode:
            failed = True
            print("\n".join(done.stderr.splitlines()[-40:]), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()

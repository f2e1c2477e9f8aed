"""Decoding many image files on all cores, in order, with little held at once.

Small files cost Python more than the decoder, so threads would not help: further processes
(`decoding_worker`) decode, each a run of files at a time.  Nothing but paths goes in, nothing but
pixels comes out, and the pixels do not depend on the number of processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO, cast

import numpy as np

from oodbench.datasets.reading.image_decoding import Decoded, decode
from oodbench.errors import DataError

#: Files from which on starting processes pays.
MANY = 3_000
#: Files, and bytes of them, that a process is given at once.
RUN_FILES, RUN_BYTES = 256, 1 << 22


def decode_files(
    paths: Sequence[str], expected: Sequence[int], sizes: Sequence[int]
) -> Iterator[Decoded]:
    """Every file in order, each with the number of images it should hold; DataError as `decode`."""
    processes = min(cpus(), len(paths) // (MANY // 2))
    if processes < 2:
        yield from map(decode, map(Path, paths), paths, expected)
        return
    with Workers(processes) as workers:
        yield from workers.decode(paths, expected, sizes)


def cpus() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Processes that decode, until the block of a `with` ends."""

    def __init__(self, count: int) -> None:
        path = os.pathsep.join(p for p in sys.path if p)
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-m", "oodbench.datasets.reading.decoding_worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
            )
            for _ in range(count)
        ]  # fmt: skip
        self.free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self.processes:
            self.free.put(process)
        self.threads = ThreadPoolExecutor(count)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
        self.threads.shutdown(cancel_futures=True)
        for process in self.processes:
            process.communicate()

    def decode(
        self, paths: Sequence[str], expected: Sequence[int], sizes: Sequence[int]
    ) -> Iterator[Decoded]:
        """As `decode_files`."""
        waiting: deque[Future[list[Decoded]]] = deque()
        for start, end in _runs(sizes):
            waiting.append(self.threads.submit(self._run, paths[start:end], expected[start:end]))
            if len(waiting) > 2 * len(self.processes):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()

    def _run(self, paths: Sequence[str], expected: Sequence[int]) -> list[Decoded]:
        process = self.free.get()
        try:
            stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
            stdin.write(json.dumps([[*paths], [*expected]]).encode() + b"\n")
            stdin.flush()
            return _read(stdout)
        except (BrokenPipeError, ValueError, OSError) as error:
            raise DataError(
                f"{paths[0]}: the process that decoded it and the {len(paths) - 1} after it ended;"
                " there may be too little memory for them"
            ) from error
        finally:
            self.free.put(process)


def _runs(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and end of each run of files."""
    start, held = 0, 0
    for place, size in enumerate(sizes):
        held += size
        if place + 1 - start == RUN_FILES or held > RUN_BYTES:
            yield start, place + 1
            start, held = place + 1, 0
    if start < len(sizes):
        yield start, len(sizes)


def _read(stdout: IO[bytes]) -> list[Decoded]:
    """What a process answers: a line of JSON, then the pixels of all images."""
    answer = json.loads(stdout.readline())
    if "error" in answer:
        raise DataError(answer["error"])
    out = []
    for shapes, dtypes, changes in answer["files"]:
        frames = []
        for shape, dtype in zip(shapes, dtypes, strict=True):
            count = int(np.prod(shape)) * np.dtype(dtype).itemsize
            data = stdout.read(count)
            if len(data) != count:
                raise ValueError("the pixels are cut off")
            frames.append(np.frombuffer(data, dtype).reshape(shape))
        out.append(Decoded(frames, tuple(changes)))
    return out


def answer(line: bytes, out: IO[bytes]) -> None:
    """Decode the files that a line of JSON names, and write what `_read` reads."""
    paths, expected = json.loads(line)
    try:
        files = [
            decode(Path(path), path, count) for path, count in zip(paths, expected, strict=True)
        ]
    except DataError as error:
        out.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    described = [
        [[list(f.shape) for f in file.frames], [f.dtype.str for f in file.frames], [*file.changes]]
        for file in files
    ]
    out.write(json.dumps({"files": described}).encode() + b"\n")
    for file in files:
        for frame in file.frames:
            out.write(np.ascontiguousarray(frame).tobytes())

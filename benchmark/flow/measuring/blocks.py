"""Running a detector's `measure` over a split: float64 tables, keyed noise, resumable in blocks.

Images go in blocks of a fixed size, whatever the batch size; finished blocks are kept in the
scratch folder, so that a killed measurement goes on where it stood.  Every draw is keyed by
(seed, image index), so a statistic does not depend on the batch or on the other images.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from oodbench.detect.detector import Detector
from oodbench.flow.measuring.batches import (
    BatchSize,
    Block,
    Launched,
    gradients_as_declared,
    launch,
)
from oodbench.interruption import held, pending, stop
from oodbench.progress import Progress
from oodbench.store.checkpoint_files import read_sealed, set_aside_file, write_sealed
from oodbench.store.payload import pack_tensors, unpack_tensors
from oodbench.train.devices import tensor_float_32

BLOCK = 500
log = logging.getLogger("oodbench.measuring")


@dataclass(frozen=True)
class Measured:
    """`statistics`: (N,) or (N, K) float64 by name; `totals`: sums over all images."""

    statistics: dict[str, np.ndarray]
    totals: dict[str, np.ndarray]


def measure(
    detector: Detector,
    images: np.ndarray,
    indices: np.ndarray,
    *,
    seed: int,
    device: str,
    batch_size: int,
    scratch: Path,
    progress: Progress,
    label: str,
    save_seconds: float = 20.0,
) -> Measured:
    """Statistics of `images[indices]`, (N, C, H, W) uint8; noise keyed by (seed, index).

    Raises TrainingError naming the image whose statistic is not finite, PluginError where a
    statistic has the wrong shape.  A GPU multiplies in full float32 (no TF32).  Where memory runs
    out, batches are halved.  A signal that `oodbench.interruption` holds back stops it after the
    block, with everything saved.
    """
    blocks: dict[int, Block] = _resume(scratch, len(indices))
    starts = range(0, len(indices), BLOCK)
    done = sum(min(BLOCK, len(indices) - start) for start in starts if start in blocks)
    saved_at, unsaved = time.monotonic(), list[int]()
    batches = BatchSize(batch_size, progress.say)
    with (
        gradients_as_declared(detector),
        tensor_float_32(False),
        progress.task(label, len(indices), done) as task,
        held(),
    ):
        for start, block in _stream(
            ((start, indices[start : start + BLOCK]) for start in starts if start not in blocks),
            lambda chosen: launch(detector, images[chosen], chosen, seed, device, batches),
            torch.device(device).type == "cuda",
        ):
            blocks[start] = block
            unsaved.append(start)
            count = min(BLOCK, len(indices) - start)
            task.advance(count)
            done += count
            if pending() or time.monotonic() - saved_at > save_seconds:
                for number in unsaved:
                    path = scratch / f"block-{number:09d}.safetensors"
                    write_sealed(path, pack_tensors(blocks[number]))
                saved_at, unsaved = time.monotonic(), []
            if pending():
                stop(f"measuring: {done} of {len(indices)} images are saved ({label})")
    return _join([blocks[start] for start in starts])


def measure_now(
    detector: Detector, images: np.ndarray, keys: np.ndarray, *, seed: int, device: str,
    batch_size: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Statistics of images (N, C, H, W) uint8 at once; noise keyed by (seed, key of the image).

    Raises as `measure` does.
    """
    starts = range(0, len(images), BLOCK)
    batches = BatchSize(batch_size, log.warning)
    with gradients_as_declared(detector), tensor_float_32(False):
        return _join([
            launch(detector, images[i : i + BLOCK], keys[i : i + BLOCK], seed, device, batches)
            .arrived() for i in starts
        ]).statistics  # fmt: skip


def _stream(
    chosen: Iterable[tuple[int, np.ndarray]],
    begin: Callable[[np.ndarray], Launched],
    ahead: bool,
) -> Iterator[tuple[int, Block]]:
    """Blocks by their first image; `ahead`: the next one is begun before one is waited for."""
    waiting: deque[tuple[int, Launched]] = deque()
    for start, index in chosen:
        waiting.append((start, begin(index)))
        if len(waiting) > ahead:
            first, launched = waiting.popleft()
            yield first, launched.arrived()
    for first, launched in waiting:
        yield first, launched.arrived()


def _join(blocks: list[Block]) -> Measured:
    statistics, totals = {}, {}
    # Sorted, since a block that was read back has its tensors in that order.
    for name in sorted(blocks[0]):
        kind, _, rest = name.partition(".")
        parts = [block[name] for block in blocks]
        if kind == "statistic":
            statistics[rest] = torch.cat(parts).numpy()
        else:
            totals[rest] = torch.stack(parts).sum(0).numpy()
    return Measured(statistics, totals)


def _resume(scratch: Path, count: int) -> dict[int, Block]:
    """Blocks that an earlier process saved, by their first image."""
    blocks = {}
    for start in range(0, count, BLOCK):
        path = scratch / f"block-{start:09d}.safetensors"
        data = read_sealed(path)
        if data is None:
            continue
        try:
            block = unpack_tensors(data)
            rows = {len(v) for name, v in block.items() if name.startswith("statistic.")}
            if rows != {min(BLOCK, count - start)}:
                raise ValueError(f"{rows} rows")
        except (ValueError, TypeError):
            set_aside_file(path, "it is a block of another size")
            continue
        blocks[start] = block
    return blocks

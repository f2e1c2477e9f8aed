"""Running a detector's `measure` over a split: float64 tables, keyed noise, resumable in blocks.

Images go in blocks of a fixed size, whatever the batch size; finished blocks are kept in the
scratch folder, so that a killed measurement goes on where it stood.  Every draw is keyed by
(seed, image index), so a statistic does not depend on the batch or on the other images.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from oodbench.detect.detector import Detector, Statistics, wants_noise
from oodbench.errors import PluginError, TrainingError, plugin_contract
from oodbench.interruption import held, pending, stop
from oodbench.progress import Progress
from oodbench.seeding import KeyedNoise
from oodbench.store.checkpoint_files import read_sealed, set_aside_file, write_sealed
from oodbench.store.payload import pack_tensors, unpack_tensors

BLOCK = 500


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
    statistic has the wrong shape.  A signal that `oodbench.interruption` holds back stops it after
    the block, with everything saved.
    """
    blocks: dict[int, dict[str, torch.Tensor]] = _resume(scratch, len(indices))
    starts = range(0, len(indices), BLOCK)
    done = sum(min(BLOCK, len(indices) - start) for start in starts if start in blocks)
    saved_at, unsaved = time.monotonic(), list[int]()
    with torch.inference_mode(), progress.task(label, len(indices), done) as task, held():
        for start in starts:
            if start in blocks:
                continue
            chosen = indices[start : start + BLOCK]
            blocks[start] = _block(detector, images[chosen], chosen, seed, device, batch_size)
            unsaved.append(start)
            task.advance(len(chosen))
            done += len(chosen)
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
    with torch.inference_mode():
        return _join([
            _block(detector, images[i : i + BLOCK], keys[i : i + BLOCK], seed, device, batch_size)
            for i in starts
        ]).statistics  # fmt: skip


def _block(
    detector: Detector, images: np.ndarray, keys: np.ndarray, seed: int, device: str, size: int
) -> dict[str, torch.Tensor]:
    parts: dict[str, list[torch.Tensor]] = {}
    totals: dict[str, torch.Tensor] = {}
    noisy = wants_noise(type(detector))
    for first in range(0, len(keys), size):
        index = keys[first : first + size]
        batch = torch.from_numpy(np.array(images[first : first + size])).to(device)
        with plugin_contract(detector, "measure"):
            if noisy:
                out = detector.measure(batch, KeyedNoise(seed, index, device))
            else:
                out = detector.measure(batch)  # type: ignore[call-arg]
        for name, value in _checked(detector, out, index).items():
            parts.setdefault(name, []).append(value)
        if isinstance(out, Statistics):
            for name, value in out.totals.items():
                value = value.double().cpu()
                totals[name] = totals[name] + value if name in totals else value
    block = {f"statistic.{name}": torch.cat(values) for name, values in parts.items()}
    return block | {f"total.{name}": value for name, value in totals.items()}


def _checked(
    detector: Detector, out: Mapping[str, torch.Tensor], index: np.ndarray
) -> dict[str, torch.Tensor]:
    if not isinstance(out, Mapping) or not out:
        raise PluginError(f"{detector.name}: measure must return a mapping of named tensors")
    checked = {}
    for name, value in out.items():
        try:
            tensor = torch.as_tensor(value).double().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise PluginError(
                f"{detector.name}: statistic {name!r} is no tensor but {type(value).__name__}"
            ) from error
        if tensor.ndim not in (1, 2) or len(tensor) != len(index):
            raise PluginError(
                f"{detector.name}: statistic {name!r} has shape {tuple(tensor.shape)};"
                f" expected ({len(index)},) or ({len(index)}, K)"
            )
        bad = ~torch.isfinite(tensor.reshape(len(index), -1)).all(dim=1)
        if bad.any():
            image = int(index[int(bad.nonzero()[0])])
            raise TrainingError(
                f"{detector.name}: statistic {name!r} of image {image} is not finite"
                f" ({int(bad.sum())} in this batch); nothing was stored"
            )
        checked[name] = tensor
    return checked


def _join(blocks: list[dict[str, torch.Tensor]]) -> Measured:
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


def _resume(scratch: Path, count: int) -> dict[int, dict[str, torch.Tensor]]:
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

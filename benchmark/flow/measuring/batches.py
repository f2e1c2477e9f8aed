"""A few hundred images through a detector's `measure`: images up, statistics down, no stop between.

On a GPU the host hands over batch after batch and waits for none: statistics are gathered there and
copied back behind the last batch, and what they hold is looked at when they have arrived, while the
GPU is busy with what was handed over next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from oodbench.detect.detector import Detector, Statistics, wants_noise
from oodbench.errors import PluginError, TrainingError, plugin_contract
from oodbench.seeding import KeyedNoise
from oodbench.train.devices import memory_error

Block = dict[str, torch.Tensor]


@dataclass
class BatchSize:
    """How many images go at once; halved, with a word to the reader, where memory runs out."""

    now: int
    say: Callable[[str], None]

    def halve(self, detector: Detector, device: str) -> None:
        """TrainingError where there is nothing left to halve."""
        if self.now == 1:
            raise TrainingError(
                f"{detector.name}: {device} has too little memory to measure a single image; give"
                " it more, or measure on another device with --device"
            )
        self.now //= 2
        self.say(f"{device} ran out of memory: measuring goes on in batches of {self.now}")


@dataclass
class Launched:
    """What a detector was given and what came back, perhaps not computed yet.

    `parts[name]`: of every batch the statistic, float64 on the device; `totals`: their sums.
    """

    detector: Detector
    keys: np.ndarray
    device: torch.device
    sizes: list[int] = field(default_factory=list)
    parts: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    totals: dict[str, torch.Tensor] = field(default_factory=dict)
    copied: torch.cuda.Event | None = None

    def add(self, out: Mapping[str, torch.Tensor], count: int) -> None:
        """A batch of `count` images; PluginError where it is not what `measure` returns."""
        for name, value in _tensors(self.detector, out, count, self.device).items():
            self.parts.setdefault(name, []).append(value)
        if isinstance(out, Statistics):
            for name, value in out.totals.items():
                value = value.detach().to(self.device, torch.float64)
                self.totals[name] = self.totals[name] + value if name in self.totals else value
        self.sizes.append(count)

    def send(self) -> Launched:
        """Start the way back of everything, behind what is being computed."""
        self.parts = {name: [_down(part) for part in parts] for name, parts in self.parts.items()}
        self.totals = {name: _down(value) for name, value in self.totals.items()}
        if self.device.type == "cuda":
            self.copied = torch.cuda.current_stream(self.device).record_event()
        return self

    def arrived(self) -> Block:
        """The block on the host; TrainingError naming the image whose statistic is not finite."""
        if self.copied is not None:
            self.copied.synchronize()
        first = 0
        for number, size in enumerate(self.sizes):
            index = self.keys[first : first + size]
            for name, parts in self.parts.items():
                _check_finite(self.detector, name, parts[number], index)
            first += size
        block = {f"statistic.{name}": torch.cat(parts) for name, parts in self.parts.items()}
        return block | {f"total.{name}": value for name, value in self.totals.items()}


@contextmanager
def gradients_as_declared(detector: Detector) -> Iterator[None]:
    """Autograd on for a detector that declares `needs_gradient`, inference mode for any other."""
    wanted = detector.needs_gradient
    with torch.inference_mode(not wanted), torch.set_grad_enabled(wanted):
        yield


def launch(
    detector: Detector,
    images: np.ndarray,
    keys: np.ndarray,
    seed: int,
    device: str,
    batches: BatchSize,
) -> Launched:
    """Hand uint8 images (n, C, H, W) to the detector in batches, noise keyed by (seed, `keys`)."""
    launched = Launched(detector, keys, torch.device(device))
    first = 0
    while first < len(keys):
        chosen = slice(first, first + batches.now)
        with plugin_contract(detector, "measure"):
            out = _measured(detector, images[chosen], keys[chosen], seed, launched.device)
        if out is None:
            batches.halve(detector, device)
            continue
        launched.add(out, len(keys[chosen]))
        first += batches.now
    return launched.send()


def _measured(
    detector: Detector, images: np.ndarray, keys: np.ndarray, seed: int, device: torch.device
) -> Mapping[str, torch.Tensor] | None:
    """What `measure` returns; None where memory ran out."""
    try:
        batch = torch.from_numpy(np.array(images))
        if device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(device, non_blocking=True)
        if wants_noise(type(detector)):
            return detector.measure(batch, KeyedNoise(seed, keys, device))
        return detector.measure(batch)  # type: ignore[call-arg]
    except (MemoryError, RuntimeError) as error:
        if memory_error(error):
            return None
        if not detector.needs_gradient and _for_want_of_gradients(error):
            raise PluginError(
                f"{detector.name}: measure asks for gradients, which are off while images are"
                " measured; declare `needs_gradient = True` in the class"
            ) from error
        raise


def _for_want_of_gradients(error: BaseException) -> bool:
    """Whether torch refused to build or to follow a graph."""
    said = str(error).lower()
    return "inference tensor" in said or "require grad" in said or "requires_grad" in said


def _tensors(
    detector: Detector, out: Mapping[str, torch.Tensor], count: int, device: torch.device
) -> dict[str, torch.Tensor]:
    if not isinstance(out, Mapping) or not out:
        raise PluginError(f"{detector.name}: measure must return a mapping of named tensors")
    found = {}
    for name, value in out.items():
        try:
            tensor = torch.as_tensor(value).detach().double()
        except (TypeError, ValueError, RuntimeError) as error:
            raise PluginError(
                f"{detector.name}: statistic {name!r} is no tensor but {type(value).__name__}"
            ) from error
        if tensor.ndim not in (1, 2) or len(tensor) != count:
            raise PluginError(
                f"{detector.name}: statistic {name!r} has shape {tuple(tensor.shape)};"
                f" expected ({count},) or ({count}, K)"
            )
        found[name] = tensor
    return found


def _down(value: torch.Tensor) -> torch.Tensor:
    return value.to("cpu", non_blocking=True)


def _check_finite(detector: Detector, name: str, values: torch.Tensor, index: np.ndarray) -> None:
    bad = ~torch.isfinite(values.reshape(len(index), -1)).all(dim=1)
    if bad.any():
        image = int(index[int(bad.nonzero()[0])])
        raise TrainingError(
            f"{detector.name}: statistic {name!r} of image {image} is not finite"
            f" ({int(bad.sum())} in this batch); nothing was stored"
        )

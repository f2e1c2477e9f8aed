"""The one training loop: device, precision, checkpoints, and resume that is exact on the CPU.

The data set is held on the device as uint8 and batched there.  Nothing random is carried from
step to step: the order of images comes from (seed, pass) and torch's generators are seeded from
(seed, step) before every step, so that a resumed run repeats the very draws of an uninterrupted
one.  A checkpoint is safetensors under a checksum: weights, optimiser state and running sums.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from oodbench.declare.settings import Training
from oodbench.errors import ConfigError, TrainingError
from oodbench.interruption import held, pending, stop
from oodbench.progress import Progress
from oodbench.seeding import derive_seed
from oodbench.store.checkpoint_files import read_sealed, set_aside_file, write_sealed
from oodbench.store.payload import pack_tensors, unpack_tensors
from oodbench.store.storage import atomic_file
from oodbench.train.batches import NOTHING, Feed, Supervision
from oodbench.train.compiling import compile_networks
from oodbench.train.devices import channels_last, memory_error, tensor_float_32, tune_allocator
from oodbench.train.early_stopping import Watch
from oodbench.train.optimisation import learning_rate, make_optimiser
from oodbench.train.run_state import TrainingRun
from oodbench.train.running_sums import RunningSums
from oodbench.train.trainable import Classifying, Completable, Preparable, Trainable
from oodbench.train.training_logs import SHOWN, Logs

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Runtime:
    """Where and how to run; nothing here may change the result on the CPU."""

    device: str = "cpu"
    compile: bool = False
    checkpoint_seconds: float = 60.0
    logs: Logs | None = None


def train(
    build: Callable[[], nn.Module],
    images: np.ndarray,
    settings: Training,
    *,
    seed: int,
    scratch: Path,
    runtime: Runtime,
    progress: Progress,
    supervision: Supervision = NOTHING,
    begin: bytes | None = None,
) -> tuple[nn.Module, TrainingRun]:
    """Train the model that `build` makes on uint8 `images` (N, C, H, W); resume from `scratch`.

    `supervision` holds what the model's loss is given beside images.  Without a checkpoint it
    starts from `begin`, what `kept_state` gave of the same training with fewer epochs.  Returns the
    model in evaluation mode and the run's log.  Raises TrainingError on a non-finite loss, and
    where memory runs out; the last checkpoint stays.  A signal that `oodbench.interruption` holds
    back stops the loop after its step, with a checkpoint.
    """
    tune_allocator()
    try:
        loop = _Loop(build, images, settings, seed, scratch, runtime, supervision)
        loop.resume(begin)
        return loop.run(progress), loop.state
    except (MemoryError, RuntimeError) as error:
        if not memory_error(error):
            raise
        shape = "×".join(map(str, images.shape[1:]))
        raise TrainingError(
            f"{runtime.device} has too little memory to train on batches of {settings.batch_size}"
            f" images of {shape}; lower training.batch_size in the recipe"
        ) from error


def kept_state(scratch: Path) -> bytes:
    """All that a training with `Training.snapshots` goes on from, as it has left it in `scratch`.

    How long it took and how often it was resumed is not in it: the same training gives the same
    bytes.  TrainingError where it has left none.
    """
    data = read_sealed(scratch / CHECKPOINT)
    if data is None:
        raise TrainingError(f"{scratch / CHECKPOINT} is gone; the same command trains on")
    tensors = unpack_tensors(data)
    state = replace(_read_state(tensors.pop("meta")), seconds=0.0, resumed=0)
    return pack_tensors(tensors | {"meta": _written_state(state)})


def _written_state(state: TrainingRun) -> Tensor:
    return torch.tensor(list(json.dumps(vars(state)).encode()), dtype=torch.uint8)


def _read_state(meta: Tensor) -> TrainingRun:
    return TrainingRun(**json.loads(bytes(meta.tolist())))


class _Loop:
    def __init__(
        self,
        build: Callable[[], nn.Module],
        images: np.ndarray,
        settings: Training,
        seed: int,
        scratch: Path,
        runtime: Runtime,
        supervision: Supervision = NOTHING,
    ) -> None:
        self.settings, self.seed, self.scratch, self.runtime = settings, seed, scratch, runtime
        self.device = torch.device(runtime.device)
        self.feed = Feed(images, settings, seed, self.device, supervision)
        self.watch: Watch | None = None
        if settings.early_stop is not None:
            self.watch = Watch(settings.early_stop, self.feed.held_out, settings.batch_size, seed)
        per_epoch = settings.epoch_images or len(self.feed.images)
        self.steps_per_epoch = math.ceil(per_epoch / settings.batch_size)
        self.steps = self.steps_per_epoch * settings.epochs
        self.dims = math.prod(self.feed.images.shape[1:])
        self._build = build
        self.state = TrainingRun()
        self.sums = RunningSums({}, self.device)

    # ------------------------------------------------------------------ checkpoints
    def resume(self, begin: bytes | None = None) -> None:
        """Start from the checkpoint where there is a readable one, else from `begin`.

        Without either it starts from initial weights.
        """
        path = self.scratch / CHECKPOINT
        data = read_sealed(path)
        if data is not None:
            self._start(fresh=False)
            try:
                self._take(data)
            except (ValueError, KeyError, TypeError, RuntimeError):
                set_aside_file(path, "it is the checkpoint of another model")
            else:
                self.state.resumed += 1
                return
        self._start(fresh=begin is None)
        if begin is not None:
            self._take(begin)

    def _take(self, data: bytes) -> None:
        saved = unpack_tensors(data)
        state = _read_state(saved.pop("meta"))
        self._restore(saved)
        self.state, self.sums = state, RunningSums(state.sums, self.device)

    def _start(self, *, fresh: bool) -> None:
        """Initial weights and an optimiser; `fresh` runs the data-dependent initialisation."""
        torch.manual_seed(derive_seed(self.seed, "initial weights"))
        self.model = channels_last(self._build().to(self.device))
        if self.feed.labels is not None:
            self.feed.check_labels(cast(Classifying, self.model).classes)
        if fresh:
            if hasattr(self.model, "prepare"):
                try:
                    cast(Preparable, self.model).prepare(
                        self.feed.images, derive_seed(self.seed, "prepare")
                    )
                except ValueError as error:
                    raise ConfigError(str(error)) from error
            torch.manual_seed(derive_seed(self.seed, "initialise"))
            cast(Trainable, self.model).initialise(self.feed.batch(0))
        self.optimiser = make_optimiser(self.model, self.settings)
        self.average = _copy(self.model) if self.settings.ema else None

    def _tensors(self) -> dict[str, Tensor]:
        out = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self.average is not None:
            out |= {f"average.{k}": v for k, v in self.average.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            out |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
        return out

    def save(self) -> None:
        """Write the checkpoint, whole or not at all; none of a training that went astray."""
        self._read_sums()
        tensors = self._tensors() | {"meta": _written_state(self.state)}
        data = pack_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        write_sealed(self.scratch / CHECKPOINT, data)

    def _restore(self, saved: dict[str, Tensor]) -> None:
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
        for name, value in saved.items():
            head, _, rest = name.partition(".")
            groups[head][rest] = value
        self.model.load_state_dict(groups["model"])
        if self.average is not None:
            for name, value in groups["average"].items():
                self.average[name].copy_(value)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimiser"].items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        whole = self.optimiser.state_dict()
        whole["state"] = state
        self.optimiser.load_state_dict(whole)

    # ------------------------------------------------------------------ the loop
    def run(self, progress: Progress) -> nn.Module:
        """Train to the end, checkpointing on the way."""
        if self.runtime.compile:
            compile_networks(self.model)
        self.model.train()
        started = saved_at = time.monotonic()
        before = self.state.seconds
        names = ("epoch", "bits/dim")
        with (
            progress.task("train", self.steps, self.state.step, names) as task,
            torch.random.fork_rng(),
            tensor_float_32(True),
            held(),
        ):
            while self.state.step < self.steps and not self._is_over():
                step = self.state.step
                self._attempt(step)
                self.state.step += 1
                now = time.monotonic()
                self.state.seconds = before + now - started
                if self.state.step % self.steps_per_epoch == 0:
                    self._close_epoch()
                task.advance(1, self._shown)
                if now - saved_at >= self.runtime.checkpoint_seconds:
                    self.save()
                    saved_at = time.monotonic()
                if pending():
                    self.save()
                    stop(f"training: step {self.state.step} of {self.steps} is saved")
        if self.settings.snapshots is not None:
            self.save()
        if self.average is not None:
            self.model.load_state_dict(self.average)
        self.model.eval()
        if isinstance(self.model, Completable) and self.feed.labels is not None:
            with torch.no_grad():
                self.model.complete(self.feed.each_once())
        return self.model

    def _is_over(self) -> bool:
        return self.watch is not None and self.watch.over(self.state)

    def _epoch(self, step: int) -> int:
        return step // self.steps_per_epoch + 1

    def _attempt(self, step: int) -> None:
        """One step; an error that follows from a loss that was not finite is reported as that."""
        try:
            self._one_step(step)
        except (RuntimeError, ValueError) as error:
            if not memory_error(error):
                self._read_sums()
            raise

    def _one_step(self, step: int) -> None:
        torch.manual_seed(derive_seed(self.seed, "step", step))
        rate = learning_rate(step, self.steps, self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        reduced = self.settings.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if reduced else nullcontext():
            images, given = self.feed.step(step)
            logged = cast(Trainable, self.model).loss(images, self._epoch(step), **given)
        torch.autograd.backward(logged["loss"])
        self.optimiser.step()
        self._update_average()
        self.sums.add(step, logged)

    def _update_average(self) -> None:
        if self.average is None or self.settings.ema is None:
            return
        # Early steps use a shorter memory, so that the initial weights do not linger.
        decay = min(self.settings.ema, (1 + self.state.step) / (10 + self.state.step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1.0 - decay)
            else:
                self.average[name].copy_(value)

    def _read_sums(self) -> None:
        """Bring the sums of the epoch to the host; TrainingError where a loss was not finite."""
        read = self.sums.read()
        self.state.sums = read.sums
        if read.broken is not None:
            step, loss = read.broken
            raise TrainingError(
                f"the loss became {loss} in epoch {self._epoch(step)}, step {step + 1} of"
                f" {self.steps}; lower training.lr or set training.clip in the recipe"
            )

    def _shown(self) -> dict[str, str]:
        """The epoch, and bits/dim of a model with an ELBO, else the loss: its mean so far."""
        self._read_sums()
        epoch = {"epoch": f"{self._epoch(self.state.step - 1)}/{self.settings.epochs}"}
        if not self.state.sums:
            row = self.state.rows[-1] if self.state.rows else {}
            found = {"bits/dim": row.get("bits_per_dim"), "loss": row.get("loss")}
        else:
            done = (self.state.step - 1) % self.steps_per_epoch + 1
            means = {name: total / done for name, total in self.state.sums.items()}
            elbo = means.get("elbo")
            bits = None if elbo is None else -elbo / (self.dims * math.log(2))
            found = {"bits/dim": bits, "loss": means["loss"]}
        name = "loss" if found["bits/dim"] is None else "bits/dim"
        return epoch if found[name] is None else epoch | {name: f"{found[name]:.3f}"}

    def _close_epoch(self) -> None:
        self._read_sums()
        means = {name: value / self.steps_per_epoch for name, value in self.state.sums.items()}
        row = {
            "epoch": float(self.state.step // self.steps_per_epoch),
            "step": float(self.state.step),
            "images": float(self.state.step * self.settings.batch_size),
            "lr": learning_rate(self.state.step - 1, self.steps, self.settings),
        }
        if "elbo" in means:
            row["bits_per_dim"] = -means["elbo"] / (self.dims * math.log(2))
        if self.watch is not None:
            row["held_out"] = self.watch.loss(self.model, self.average, self.settings.epochs)
            self.watch.note(row["held_out"], self.state)
        self.state.rows.append(row | means)
        self.state.sums = {}
        self.sums.clear()
        with atomic_file(self.scratch / "log.csv") as file:
            file.write(log_csv(self.state.rows))
        if self.runtime.logs is not None:
            self.runtime.logs.epoch(self.state.step, self.state.rows[-1])
            self.runtime.logs.images(self.state.step, self._pictures())

    def _pictures(self) -> dict[str, np.ndarray]:
        """Training images and their reconstructions, uint8; the images alone of other models."""
        images = self.feed.images[:SHOWN]
        shown = {"images": images}
        reconstruct = getattr(self.model, "reconstruct", None)
        if reconstruct is not None:
            self.model.eval()
            with torch.random.fork_rng(), torch.no_grad():
                shown["reconstructions"] = (255 * reconstruct(images)).round().to(torch.uint8)
            self.model.train()
        return {name: value.cpu().numpy() for name, value in shown.items()}


def log_csv(rows: list[dict[str, float]]) -> bytes:
    """The training log as CSV: one row an epoch, nats per image (bits_per_dim apart)."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.10g}" for k, v in row.items()} for row in rows)
    return out.getvalue().encode()


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}

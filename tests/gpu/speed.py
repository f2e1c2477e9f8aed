"""c. Images a second in training and in measuring, and what of the card that takes.

Ours alone for F3-hvk and C3, in float32, compiled, with CUDA graphs, in bfloat16; beside the public
code of Havtorn et al. 2021 for F3-hvk, where a clone of it is given (`tests/throughput`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from session import QUIET, Session, noise_images, on_host, rate
from torch.utils.flop_counter import FlopCounterMode

from oodbench.canonical_json import JSON
from oodbench.flow.measuring.batches import BatchSize, launch
from oodbench.train.compiling import networks
from oodbench.train.devices import tensor_float_32
from oodbench.train.training import Runtime, _Loop

#: The modes of torch.compile.
COMPILED = {"compiled": "default", "graphs": "reduce-overhead"}
MODELS = (("F3-hvk", "hvk", "hvae"), ("C3", "hvk", "hvae"))
#: Times the public code that training, L>k and L with S = 1000 are to reach on the same card.
GOALS = {"training step": 5.0, "all L>k": 10.0, "L": 10.0}


def speed(session: Session) -> None:
    """Training in every way, measuring with S = 1 and S = 1000, and the ratios."""
    peak = matrix_rates(session)
    for name, variant, detector in MODELS:
        for way in ("eager", "bf16"):
            training(session, name, variant, way, peak)
        measuring(session, name, variant, detector)
    if session.reference is None:
        session.write("the public code", given=False)
    else:
        beside(session)
    # Last, since a compiler may take what is left of the time.
    for name, variant, _ in MODELS:
        for way in COMPILED:
            training(session, name, variant, way, peak)


def matrix_rates(session: Session) -> dict[str, float]:
    """Floating-point operations a second that large products reach, by kind of arithmetic."""
    side, found = 8192 if session.on_gpu else 64, {}
    for kind, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, True),
    ):  # fmt: skip
        a = torch.ones(side, side, dtype=dtype, device=session.device)
        with tensor_float_32(tf32):
            found[kind] = rate(lambda a=a: a @ a, 2 * side**3, session)  # type: ignore[misc]
        session.write(f"products of {side}×{side}, {kind}", per_second=found[kind])
    return found


def training(session: Session, name: str, variant: str, way: str, peak: dict[str, float]) -> None:
    """Images a second of steps as a run takes them."""
    reduced = {"training": {"precision": "bf16"}} if way == "bf16" else None
    recipe, shape = session.recipe(name, variant, reduced), session.shape(name)
    batch = recipe.training.batch_size
    settings = recipe.training.model_copy(update={"max_images": None})
    images = noise_images(4 * batch, shape)
    loop = _Loop(lambda: recipe.build(shape), images, settings, 0,
                 session.folder(f"c-{name}-{way}"), Runtime(session.device))  # fmt: skip
    loop.resume()
    operations = counted(lambda: loop._one_step(0))
    if way in COMPILED:
        compile_for(session, loop.model, COMPILED[way])
    loop.model.train()
    with card(session) as seen, torch.random.fork_rng(), tensor_float_32(True):
        found = rate(lambda: loop._one_step(1), batch, session)
    most = peak["bf16" if way == "bf16" else "tf32"]
    figures: dict[str, JSON] = {
        "images_per_second": found, "of_the_matrix_rate": operations / batch * found / most,
    }  # fmt: skip
    session.write(f"training {name}, {way}", **figures, **seen.figures())


def compile_for(session: Session, model: torch.nn.Module, mode: str) -> None:
    """All networks; on a CPU one, and traced alone: kernels of all would take minutes."""
    found = networks(model)
    for network in found if session.on_gpu else found[-1:]:
        if session.on_gpu:
            network.compile(mode=mode)
        else:
            network.compile(backend="eager")


def counted(step: Callable[[], object]) -> int:
    """Floating-point operations of the products of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def measuring(session: Session, name: str, variant: str, detector: str) -> None:
    """Images a second of all L>k alone, and with S importance samples in L."""
    sizes, shape = session.sizes, session.shape(name)
    for samples in (1, sizes.samples):
        recipe = session.recipe(name, variant, {"measure": {"importance_samples": samples}})
        model = recipe.build(shape)
        model.initialise(torch.from_numpy(noise_images(16, shape)))  # type: ignore[operator]
        own = session.detector(detector, recipe, on_host(model), shape, session.device)
        images = noise_images(sizes.images if samples == 1 else max(4, sizes.images // 5), shape)
        keys, batches = np.arange(len(images)), BatchSize(len(images), QUIET.say)

        def block(own=own, images=images, keys=keys, batches=batches) -> None:  # type: ignore[no-untyped-def]
            launch(own, images, keys, 0, session.device, batches).arrived()

        with card(session) as seen, torch.inference_mode(), tensor_float_32(False):
            found = rate(block, len(images), session, least=1, warm=samples == 1)
        session.write(
            f"measuring {name}, S = {samples}", images_per_second=found, batch=batches.now,
            **seen.figures(),
        )  # fmt: skip


def beside(session: Session) -> None:
    """The same steps by the public code, in turns with ours."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "throughput"))
    import compare_hvae_oodd as public

    batch = 128 if session.on_gpu else 4
    options = argparse.Namespace(
        reference=session.reference, device=session.device, images=batch, evaluation=None
    )
    (_, ours), (_, theirs) = public.ours(options), public.theirs(options)
    for (what, own), other in zip(ours.items(), theirs.values(), strict=True):
        ratios = [rate(own, batch, session, 1) / rate(other, batch, session, 1) for _ in range(3)]
        goal = next(value for start, value in GOALS.items() if what.startswith(start))
        found = float(np.median(ratios))
        met = found >= goal if session.on_gpu else None
        session.write(f"{what}, times the public code", ratio=found, goal=goal, met=met)


@dataclass
class Seen:
    """Utilisation of the card in percent, and its memory."""

    samples: list[float] = field(default_factory=list)
    peak_mb: float | None = None

    def figures(self) -> dict[str, JSON]:
        """Mean utilisation and peak memory; None where there is no card."""
        mean = float(np.mean(self.samples)) if self.samples else None
        return {"utilisation_percent": mean, "peak_mb": self.peak_mb}


@contextmanager
def card(session: Session) -> Iterator[Seen]:
    """Watch the card meanwhile, where there is one."""
    seen, over = Seen(), threading.Event()
    if not session.on_gpu:
        yield seen
        return

    def watch() -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not over.wait(0.5):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                seen.samples.append(float(done.stdout.splitlines()[0]))

    torch.cuda.reset_peak_memory_stats(session.device)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
        seen.peak_mb = torch.cuda.max_memory_allocated(session.device) / 2**20

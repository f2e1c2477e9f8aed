"""b. Steps of training and a measured batch during which the host waits for the GPU not once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from session import QUIET, Session, noise_images, on_host

from oodbench.flow.measuring.batches import BatchSize, launch
from oodbench.train.devices import tensor_float_32
from oodbench.train.training import Runtime, _Loop

#: Recipe, variant and detector of every family whose detectors measure without reading a number.
FAMILIES = (
    ("F3", "informative", "informative-hvae"),
    ("F3-hvk", "hvk", "hvae"),
    ("C3", "vanilla", "vanilla-hvae"),
    ("lvae-F3", "lvae", "lvae"),
    ("glow-F", "glow", "glow"),
    ("pixelcnn-F", "pixelcnn", "pixelcnn"),
    ("dvp-F", "dvp", "dvp-vae"),
)


def waiting(session: Session) -> None:
    """CUDA's own guard raises where the host would wait; there is none on a CPU.

    The first family takes all steps, the others a fifth of them.
    """
    for number, (name, variant, detector) in enumerate(FAMILIES):
        steps = max(2, session.sizes.steps // (5 if number else 1))
        with one_error(session, f"{name}-{variant}, {steps} steps"):
            family(session, name, variant, detector, steps)


@contextmanager
def one_error(session: Session, what: str) -> Iterator[None]:
    """A family that waits is a result, and the next one is tried."""
    try:
        yield
    except RuntimeError as error:
        session.bar(what, False, error=str(error).splitlines()[0])
    else:
        session.bar(what, True if session.on_gpu else None, guard=session.on_gpu)


@contextmanager
def no_waiting(session: Session) -> Iterator[None]:
    """torch raises where the host would wait for the GPU."""
    session.wait()
    if not session.on_gpu:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def family(session: Session, name: str, variant: str, detector: str, steps: int) -> None:
    """Training, then measuring; what is set up at the first step and batch may wait."""
    more = {"importance_samples": min(10, session.sizes.samples)} if detector == "hvae" else {}
    recipe, shape = (
        session.recipe(name, variant, {"measure": more} if more else None),
        session.shape(name),
    )
    images = noise_images(max(session.sizes.images, recipe.training.batch_size), shape)
    settings = recipe.training.model_copy(update={"max_images": None, "early_stop": None})
    loop = _Loop(lambda: recipe.build(shape), images, settings, 0,
                 session.folder(f"b-{name}-{variant}"), Runtime(session.device))  # fmt: skip
    loop.resume()
    loop.model.train()
    with torch.random.fork_rng(), tensor_float_32(True):
        loop._one_step(0)
        with no_waiting(session):
            for step in range(1, steps + 1):
                loop._one_step(step)
    measuring = session.detector(detector, recipe, on_host(loop.model), shape, session.device)
    chosen = images[: session.sizes.images]
    keys, batches = np.arange(len(chosen)), BatchSize(len(chosen), QUIET.say)
    with torch.inference_mode(), tensor_float_32(False):
        launch(measuring, chosen, keys, 0, session.device, batches).arrived()
        with no_waiting(session):
            sent = launch(measuring, chosen, keys, 0, session.device, batches)
        sent.arrived()

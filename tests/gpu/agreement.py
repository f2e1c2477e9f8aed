"""a. A trained model's statistics of the same images, on the CPU and on the device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from session import QUIET, Session, on_host

from oodbench.detect.detector import Detector
from oodbench.flow.measuring.blocks import Measured, measure
from oodbench.rank.metrics import auroc

#: Nats, and of a statistic's size: what float32 on another device may differ by.
ABSOLUTE, RELATIVE = 1e-3, 1e-6
#: Training images an epoch, for each step of the run.
PER_STEP = 128


def agreement(session: Session) -> None:
    """Largest difference of every statistic and score; in float32, and stated for bfloat16."""
    sizes = session.sizes
    recipe = session.recipe("F3", "informative")
    images = session.images("fashionmnist", "train", sizes.steps * PER_STEP)
    model = session.train(recipe, images, 5 if session.on_gpu else 1, "a-train")
    weights, shape = on_host(model), session.shape("F3")
    inside = session.images("fashionmnist", "test", sizes.images)
    outside = session.images("mnist", "test", sizes.images)
    both = np.concatenate([inside, outside])

    def found(device: str, batch: int, context: AbstractContextManager[object]) -> Measured:
        detector = session.detector("informative-hvae", recipe, weights, shape, device)
        with context:
            return measured(detector, both, device, batch, session.folder(f"a-{batch}"))

    here = found("cpu", 100, nullcontext())
    there = found(session.device, 500, nullcontext())
    detector = session.detector("informative-hvae", recipe, weights, shape, "cpu")
    compare(session, detector, here, there, "fp32", limit=True)
    kind = torch.device(session.device).type
    reduced = found(session.device, 501, torch.autocast(kind, torch.bfloat16))
    compare(session, detector, here, reduced, "bf16", limit=False)


def measured(
    detector: Detector, images: np.ndarray, device: str, batch: int, scratch: Path
) -> Measured:
    """As a run measures."""
    return measure(
        detector, images, np.arange(len(images)), seed=0, device=device, batch_size=batch,
        scratch=scratch, progress=QUIET, label="",
    )  # fmt: skip


def compare(
    session: Session, detector: Detector, here: Measured, there: Measured, name: str, limit: bool
) -> None:
    """One result a statistic, one a score; bars where `limit`."""
    for statistic, values in here.statistics.items():
        apart = np.abs(values - there.statistics[statistic])
        allowed = ABSOLUTE + RELATIVE * np.abs(values)
        session.bar(
            f"{name}, statistic {statistic}", bool((apart <= allowed).all()) if limit else None,
            largest=float(apart.max()), of=float(np.abs(values).max()),
        )  # fmt: skip
    half = len(next(iter(here.statistics.values()))) // 2
    other = detector.scores(there.statistics)
    for score, values in detector.scores(here.statistics).items():
        mine, theirs = (auroc(x[:half], x[half:]) for x in (values, other[score]))
        session.write(
            f"{name}, score {score}", largest=float(np.abs(values - other[score]).max()),
            auroc_cpu=mine, auroc_device=theirs,
        )  # fmt: skip

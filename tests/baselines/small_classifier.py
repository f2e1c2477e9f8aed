"""A small classifier with random weights and random images for it."""

from __future__ import annotations

import torch

from oodbench.models.classifiers.config import ClassifierConfig
from oodbench.models.classifiers.image_classifier import ImageClassifier

CONV = {"kind": "conv", "channels": (4, 8), "hidden": 6}


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    """(count, 1, 8, 8) uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)


def random_classifier() -> ImageClassifier:
    """Random weights, Gaussians of random images."""
    torch.manual_seed(0)
    made = ClassifierConfig(network=CONV).build((1, 8, 8)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        made.complete([(pixels(200, 5), torch.arange(200) % 10)])
    return made

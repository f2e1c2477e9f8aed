"""Optimiser and learning rate as a recipe's training settings say."""

from __future__ import annotations

import math

import torch
from torch import nn

from oodbench.settings import Training


def make_optimiser(model: nn.Module, s: Training) -> torch.optim.Optimizer:
    """The optimiser of the model's parameters.

    `weight_decay` adds w times itself to the gradient of every parameter w, `kernel_decay` λ adds
    that of λ Σ w² over the kernels: the parameters of two dimensions or more.
    """
    parameters = _groups([p for p in model.parameters() if p.requires_grad], s)
    if s.optimiser == "adamax":
        return torch.optim.Adamax(parameters, s.lr, s.betas, weight_decay=s.weight_decay)
    if s.optimiser == "sgd":
        momentum = s.momentum or 0.0
        return torch.optim.SGD(
            parameters, s.lr, momentum, weight_decay=s.weight_decay, nesterov=momentum > 0
        )
    if s.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, s.lr, weight_decay=s.weight_decay)
    return torch.optim.Adam(parameters, s.lr, s.betas, weight_decay=s.weight_decay)


def _groups(parameters: list[nn.Parameter], s: Training) -> list[dict[str, object]]:
    """Kernels and the rest where kernels are decayed more, else all in one group."""
    if s.kernel_decay is None:
        return [{"params": parameters}]
    kernels = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": kernels, "weight_decay": s.weight_decay + 2.0 * s.kernel_decay},
        {"params": others},
    ]


def learning_rate(step: int, steps: int, settings: Training) -> float:
    """Rate of `step` (from 0): linear warm-up, then constant or cosine to final_lr × lr."""
    rate = settings.lr
    if settings.schedule == "cosine":
        low = settings.final_lr
        rate *= low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps)))
    if step < settings.lr_warmup_steps:
        rate *= (step + 1) / settings.lr_warmup_steps
    return rate

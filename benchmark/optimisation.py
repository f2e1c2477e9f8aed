"""Optimiser and learning rate as a recipe's training settings say."""

from __future__ import annotations

import math

import torch
from torch import nn

from oodbench.settings import Training


def make_optimiser(model: nn.Module, s: Training) -> torch.optim.Optimizer:
    """The optimiser of the model's parameters."""
    parameters = [p for p in model.parameters() if p.requires_grad]
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


def learning_rate(step: int, steps: int, settings: Training) -> float:
    """Rate of `step` (from 0): linear warm-up, then constant or cosine to final_lr × lr."""
    rate = settings.lr
    if settings.schedule == "cosine":
        low = settings.final_lr
        rate *= low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps)))
    if step < settings.lr_warmup_steps:
        rate *= (step + 1) / settings.lr_warmup_steps
    return rate

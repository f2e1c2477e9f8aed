"""A step of the input along a gradient's sign, as ODIN and the Mahalanobis detector take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def gradient_sign(
    x: torch.Tensor, objective: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """sign(∂ objective / ∂x) of x (B, C, H, W), where the objective (B,) treats images alone."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        free = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(free).sum(), free)
    return gradient.sign()

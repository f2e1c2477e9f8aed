"""Optimiser, penalty, clipping and learning rate as a recipe's training settings say."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import nn

from oodbench.declare.settings import Training

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)
LINEAR_MAPS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)


def make_optimiser(model: nn.Module, s: Training) -> torch.optim.Optimizer:
    """The optimiser of the model's parameters; a step adds the penalty, clips, and updates.

    `kernel_decay` λ adds the gradient of λ Σ w² over the `kernels`, as if the penalty stood in the
    loss: `clip` bounds the norm of the whole gradient, so that λ keeps its weight beside the loss
    whatever the norm is.  `weight_decay` adds w times itself to the gradient of every parameter w,
    after clipping, as torch's optimisers do.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    penalised = [] if s.kernel_decay is None else kernels(model)
    own = set(map(id, penalised))
    # Kernels first: the order in which checkpoints hold the optimiser's state.
    ordered = [*penalised, *(p for p in parameters if id(p) not in own)]
    optimiser = _plain(ordered, s)

    @torch.no_grad()
    def before(*_: object) -> None:
        for kernel in penalised:
            if kernel.grad is not None:
                kernel.grad.add_(kernel, alpha=2.0 * (s.kernel_decay or 0.0))
        if s.clip is not None:
            nn.utils.clip_grad_norm_(parameters, s.clip)

    optimiser.register_step_pre_hook(before)
    return optimiser


def _plain(parameters: list[nn.Parameter], s: Training) -> torch.optim.Optimizer:
    """The update alone; on a GPU one kernel for all weights, where torch has it."""
    fused = True if parameters and parameters[0].device.type == "cuda" else None
    if s.optimiser == "adamax":
        return _light(torch.optim.Adamax)(parameters, s.lr, s.betas, weight_decay=s.weight_decay)
    if s.optimiser == "sgd":
        momentum = s.momentum or 0.0
        return _light(torch.optim.SGD)(
            parameters,
            s.lr,
            momentum,
            weight_decay=s.weight_decay,
            nesterov=momentum > 0,
            fused=fused,
        )
    if s.optimiser == "rmsprop":
        return _light(torch.optim.RMSprop)(parameters, s.lr, weight_decay=s.weight_decay)
    kind = _light(torch.optim.Adam)
    return kind(parameters, s.lr, s.betas, weight_decay=s.weight_decay, fused=fused)


#: Methods that torch guards against being compiled.
GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
_light_kinds: dict[type[torch.optim.Optimizer], type[torch.optim.Optimizer]] = {}


def _light(kind: type[Kind]) -> type[Kind]:
    """The same optimiser without torch's compiler, whose import takes as long as that of torch.

    torch guards some methods against being compiled, and imports the compiler for it.  Nothing here
    compiles an optimiser, so that its methods stand here without their guards.
    """
    if kind not in _light_kinds:
        step: Callable[..., object] = inspect.unwrap(kind.step)
        body = {name: inspect.unwrap(getattr(kind, name)) for name in GUARDED}
        own = {**body, "step": torch.no_grad()(step)}
        _light_kinds[kind] = type(kind.__name__, (kind,), own)
    return cast("type[Kind]", _light_kinds[kind])


def kernels(model: nn.Module) -> list[nn.Parameter]:
    """The trained kernels of a model, in the order of its parameters.

    Those of torch's convolutions and linear layers, and what a module of another kind names in an
    attribute `kernels`, such as ``("v",)``.  Biases, scales, means and the like are none, of
    whatever shape they are.
    """
    found = []
    for module in model.modules():
        names = getattr(module, "kernels", None)
        if names is None:
            names = ("weight",) if isinstance(module, LINEAR_MAPS) else ()
        own = dict(module.named_parameters(recurse=False))
        found += [own[name] for name in names if name in own and own[name].requires_grad]
    chosen = set(map(id, found))
    return [p for p in model.parameters() if id(p) in chosen]


def learning_rate(step: int, steps: int, settings: Training) -> float:
    """Rate of `step` (from 0): linear warm-up, then constant or cosine to final_lr × lr."""
    rate = settings.lr
    if settings.schedule == "cosine":
        low = settings.final_lr
        rate *= low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps)))
    if step < settings.lr_warmup_steps:
        rate *= (step + 1) / settings.lr_warmup_steps
    return rate

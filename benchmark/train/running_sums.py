"""Sums of what a loss logs, kept where the loss is computed and read only when they are asked for.

On a GPU the host runs ahead of the device; reading a number makes it wait for every step before.
So the sums of an epoch, and the first step whose loss was not finite, stay on the device until a
line is printed, an epoch closes or a checkpoint is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor


@dataclass(frozen=True)
class Read:
    """`sums` of the epoch so far; `broken`: step and loss where it was first not finite."""

    sums: dict[str, float]
    broken: tuple[int, float] | None


class RunningSums:
    """Float64 sums by name, from where a checkpoint left them."""

    def __init__(self, sums: Mapping[str, float], device: torch.device) -> None:
        self._names = tuple(sums)
        self._values = torch.tensor(list(sums.values()), dtype=torch.float64, device=device)
        # Step and loss, once it is not finite; −1 before.
        self._broken = torch.tensor([-1.0, 0.0], dtype=torch.float64, device=device)

    def add(self, step: int, logged: Mapping[str, Tensor]) -> None:
        """Add what a step logged, scalars; ``loss`` among them.  Nothing is read."""
        values = torch.stack([value.detach().double() for value in logged.values()])
        self._add(tuple(logged), values)
        loss = logged["loss"].detach().double()
        here = torch.stack([torch.full_like(loss, step), loss])
        first = (self._broken[0] < 0) & ~torch.isfinite(loss)
        self._broken = torch.where(first, here, self._broken)

    def _add(self, names: tuple[str, ...], values: Tensor) -> None:
        if names == self._names:
            self._values = self._values + values
            return
        held = dict(zip(self._names, self._values.unbind(), strict=True))
        for name, value in zip(names, values.unbind(), strict=True):
            held[name] = held[name] + value if name in held else value
        self._names, self._values = tuple(held), torch.stack(list(held.values()))

    def clear(self) -> None:
        """Start a new epoch."""
        self._names, self._values = (), self._values.new_zeros(0)

    def read(self) -> Read:
        """What there is now: one transfer from the device."""
        step, loss, *sums = cast("list[float]", torch.cat([self._broken, self._values]).tolist())
        broken = (int(step), loss) if step >= 0 else None
        return Read(dict(zip(self._names, sums, strict=True)), broken)

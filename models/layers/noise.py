"""Where random draws come from: a protocol, so that a caller can key every draw to an image.

Training draws fresh noise from torch's generator.  Measurement passes an object that derives each
draw from (seed, image index, name), so that a score depends neither on the batch size nor on the
other images present.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    """Named standard draws for the B images of a batch; a name always means the same draw."""

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) independent N(0, 1)."""
        ...

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) independent U[0, 1)."""
        ...

    def scope(self, name: str) -> Noise:
        """The same source with `name` prepended to every name: other, independent draws."""
        ...


def scopes(noise: Noise, names: Sequence[str]) -> list[Noise]:
    """`noise.scope(name)` for every name ("": `noise` itself), to be used in that order.

    A source with a method `scopes` of its own may then draw for several of them at once.
    """
    together: Callable[[Sequence[str]], list[Noise]] | None = getattr(noise, "scopes", None)
    if together is not None:
        return together(names)
    return [noise.scope(name) if name else noise for name in names]


class FreshNoise:
    """Draws from torch's default generator; the names are not used."""

    def __init__(self, batch: int, device: torch.device | str = "cpu") -> None:
        self.batch = batch
        self.device = torch.device(device)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) independent N(0, 1)."""
        return torch.randn(self.batch, *shape, device=self.device)

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) independent U[0, 1)."""
        return torch.rand(self.batch, *shape, device=self.device)

    def scope(self, name: str) -> FreshNoise:
        """Itself: every draw is new."""
        return self


class AtMeans:
    """Draws that put every Gaussian at its mean; uniform draws, which make an image, are `noise`'s.

    With it the mean of q(z_l|·) is a function of the image as observed, in every model.
    """

    def __init__(self, noise: Noise) -> None:
        self.noise = noise

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) zeros."""
        return torch.zeros_like(self.noise.uniform(name, shape))

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) independent U[0, 1)."""
        return self.noise.uniform(name, shape)

    def scope(self, name: str) -> AtMeans:
        """The means of another draw's uniform numbers."""
        return AtMeans(self.noise.scope(name))


class Stacked:
    """Several sources one under the other: the rows of the first, then those of the second, …"""

    def __init__(self, parts: Sequence[Noise]) -> None:
        self.parts = list(parts)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(rows, *shape) independent N(0, 1)."""
        return torch.cat([part.normal(name, shape) for part in self.parts])

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(rows, *shape) independent U[0, 1)."""
        return torch.cat([part.uniform(name, shape) for part in self.parts])

    def scope(self, name: str) -> Stacked:
        """Every source with `name` prepended."""
        return Stacked([part.scope(name) for part in self.parts])

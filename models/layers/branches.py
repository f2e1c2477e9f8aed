"""What one pass of a model with latents gives: the terms of its partial bounds, in nats."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from oodbench.models.layers.gaussian import Gaussian


@dataclass(frozen=True)
class Branches:
    """The branches `ks` of one pass, in nats.

    `nll` (K, B) float64: NLL_k.  `kl[i][l]`: elementwise KL of layer l + 1 in branch ks[i],
    (B, *latent shape), for the layers above k.  `layers`: the number of layers L.
    `posteriors[l]`: q(z_(l+1)|·), mean and scale (B, units), of the layers that were inferred; for
    diagnostics.  `reverse_kl` (K, B) float64: KL>k of a top-down model, where it was asked for.
    `common` (B,) float64: the KL of a latent that every branch takes from its posterior.
    """

    ks: tuple[int, ...]
    nll: Tensor
    kl: list[dict[int, Tensor]]
    layers: int
    posteriors: dict[int, Gaussian] = field(default_factory=dict)
    reverse_kl: Tensor | None = None
    common: Tensor | None = None

    @property
    def means(self) -> dict[int, Tensor]:
        """Means (B, units) of `posteriors`."""
        return {index: q.mean for index, q in self.posteriors.items()}

    def kl_layers(self) -> Tensor:
        """(K, B, L) float64: the KL of every layer of every branch, 0 for the layers l ≤ k."""
        zero = torch.zeros_like(self.nll[0])
        sums: dict[int, Tensor] = {}
        for terms in self.kl:
            for element in terms.values():
                if id(element) not in sums:
                    sums[id(element)] = element.flatten(1).sum(1, dtype=torch.float64)
        rows = [
            [sums[id(terms[i])] if i in terms else zero for i in range(self.layers)]
            for terms in self.kl
        ]
        return torch.stack([torch.stack(row, dim=-1) for row in rows])

    def elbo(self) -> Tensor:
        """(K, B): L>k = −NLL_k − Σ_(l>k) KL_l, less the KL common to all branches.

        With z≤k sampled from p a lower bound on log p(x) in expectation; with z≤k at the modes of p
        a point stands for their expectation, and it is no bound.
        """
        bound = -self.nll - self.kl_layers().sum(-1)
        return bound if self.common is None else bound - self.common

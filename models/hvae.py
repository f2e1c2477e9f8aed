"""Hierarchical VAE with bottom-up inference, and its partial bounds L>k in one batched decode.

p(x, z) = p(x|z1) ∏ p(z_l|z_(l+1)) p(z_L), p(z_L) = N(0, I);  q(z|x) = q(z1|x) ∏ q(z_(l+1)|z_l)
(Havtorn et al. 2021; Li et al. 2022).  The *branch* k draws z>k from q and z≤k from p, and gives
    NLL_k = −log p(x|z1)   and   KL_l of the layers l > k,
from which L>k = −NLL_k − Σ_(l>k) KL_l.  Branches share whatever is the same for them (the first
encoder stage, the generative stages above the branching point); the rest is one decode a layer
with the branches as batch rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from oodbench.models.blocks import Expand, Shape
from oodbench.models.config import ConvStage, HVAEConfig
from oodbench.models.gaussian import Gaussian, kl_analytic, kl_sample, standard
from oodbench.models.likelihoods import build_likelihood
from oodbench.models.noise import FreshNoise, Noise
from oodbench.models.objectives import Branches, objective_loss
from oodbench.models.stage import Stage
from oodbench.models.weightnorm import initialising

Draw = Literal["sample", "mode"]
KLForm = Literal["sample", "analytic"]


@dataclass(frozen=True)
class Encoding:
    """What q gives: `q[l][i]` and `z[l][i]` of layer l + 1 in branch i, each for B images.

    Branches that share a tensor share the very same object.
    """

    q: list[list[Gaussian]]
    z: list[list[Tensor]]


class HVAE(nn.Module):
    """The model for images of `shape` (C, H, W); see `HVAEConfig` for the architecture."""

    def __init__(self, config: HVAEConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.layers = config, shape, len(config.layers)
        stages: list[Stage] = []
        below: Shape = shape
        for index, layer in enumerate(config.layers):
            if isinstance(layer.stage, ConvStage) and len(below) != 3:
                raise ValueError(f"layer {index + 1}: a conv stage cannot stand on an mlp stage")
            stages.append(Stage(below, layer, config, bottom=index == 0))
            below = stages[-1].projected
        aux: list[Shape] = []
        above: Stage | None = None
        for stage in reversed(stages):
            skips = aux if config.generative_skips != "none" else []
            aux = stage.build_generative(above, skips, config)
            above = stage
        self.stages = nn.ModuleList(stages)
        head = stages[0].out_shape
        self.likelihood = build_likelihood(config.likelihood, head, shape, config.weight_norm)
        self.activate_head = self.likelihood.activate and not stages[0].linear

    def stage(self, index: int) -> Stage:
        """Stage of layer index + 1."""
        return cast(Stage, self.stages[index])

    # ------------------------------------------------------------------ inference
    def encode(
        self, x: Tensor, noise: Noise, ks: Sequence[int] = (0,), encoder_lower: Draw = "sample"
    ) -> Encoding:
        """Draw z1..zL from q for the branches `ks`; `x` (B, C, H, W) as the likelihood observes it.

        With ``encoder_lower="mode"`` the layers l ≤ k are passed up as posterior means (HVK code),
        so that z>k differs between branches; with ``"sample"`` all branches share one draw.
        """
        batch, inputs = x.shape[0], x
        row = [0] * len(ks)
        encoding = Encoding([], [])
        for index in range(self.layers):
            stage = self.stage(index)
            stacked = stage.infer(inputs)
            q = [
                Gaussian(*pair)
                for pair in zip(*(torch.split(t, batch) for t in stacked), strict=True)
            ]
            eps = noise.normal(f"z{index + 1}", stage.latent)
            wanted = [
                (r, encoder_lower == "mode" and k > index) for r, k in zip(row, ks, strict=True)
            ]
            slots = list(dict.fromkeys(wanted))
            z = [q[r].mean if mean else q[r].mean + q[r].scale * eps for r, mean in slots]
            encoding.q.append([q[r] for r in row])
            row = [slots.index(w) for w in wanted]
            encoding.z.append([z[r] for r in row])
            if index < self.layers - 1:
                inputs = stage.project_up(_stack(z))
        return encoding

    # ------------------------------------------------------------------ generation
    def decode(
        self,
        encoding: Encoding | None,
        ks: Sequence[int],
        noise: Noise,
        batch: int,
        *,
        lower: Draw = "sample",
        kl: KLForm = "sample",
    ) -> tuple[list[Tensor], list[dict[int, Tensor]]]:
        """Likelihood parameters of every branch, and its elementwise KL terms by layer index.

        Branch k takes z>k from `encoding` and z≤k from p, by sampling or as p's mean (`lower`);
        k = L draws everything from the prior and needs no encoding.  ``kl="analytic"`` is exact
        for the top layer alone and used there: below it, z_(l+1) was drawn given z_l, so that the
        closed form KL(q(z_l|·) ‖ p(z_l|z_(l+1))) at that z_(l+1) is not E_q[log q − log p].
        """
        terms: list[dict[int, Tensor]] = [{} for _ in ks]
        row = [0] * len(ks)
        features, aux = torch.empty(0), list[Tensor]()
        for index in reversed(range(self.layers)):
            stage = self.stage(index)
            if index == self.layers - 1:
                reference = self.likelihood.layer.bias
                p = [standard((batch, *stage.latent), reference)]
            else:
                pairs = zip(*(torch.split(t, batch) for t in stage.prior(features)), strict=True)
                p = [Gaussian(*pair) for pair in pairs]
            slots: dict[tuple[int, int | None], int] = {}
            z: list[Tensor] = []
            slot_kl: list[Tensor | None] = []
            histories: list[int] = []
            new_row = []
            for i, k in enumerate(ks):
                inferred = encoding.z[index][i] if encoding and index >= k else None
                key = (row[i], None if inferred is None else id(inferred))
                if key not in slots:
                    slots[key] = len(z)
                    histories.append(row[i])
                    prior = p[row[i]]
                    if inferred is None:
                        z.append(_draw(prior, lower, noise, f"p{index + 1}/k{k}"))
                        slot_kl.append(None)
                    else:
                        assert encoding is not None
                        z.append(inferred)
                        exact = kl == "analytic" and index == self.layers - 1
                        q = encoding.q[index][i]
                        slot_kl.append(
                            kl_analytic(q, prior) if exact else kl_sample(inferred, q, prior)
                        )
                new_row.append(slots[key])
                term = slot_kl[slots[key]]
                if term is not None:
                    terms[i][index] = term
            features, aux = stage.generate(_stack(z), aux, _expander(histories, len(p), batch))
            row = new_row
        if self.activate_head:
            features = self.stage(0).activation(features)
        parameters = torch.split(self.likelihood(features), batch)
        return [parameters[r] for r in row], terms

    def branches(
        self,
        x: Tensor,
        noise: Noise,
        ks: Sequence[int] = (0,),
        *,
        lower: Draw = "sample",
        encoder_lower: Draw = "sample",
        kl: KLForm = "sample",
        encoding: Encoding | None = None,
    ) -> Branches:
        """NLL_k and the KL terms of the layers above k, for every k in `ks` (0 … L−1).

        An `encoding` of the same `ks` is used where it is given.
        """
        encoding = encoding or self.encode(x, noise, ks, encoder_lower)
        parameters, terms = self.decode(encoding, ks, noise, x.shape[0], lower=lower, kl=kl)
        log_prob = self.likelihood.log_prob(_stack(parameters), x.repeat(len(ks), 1, 1, 1))
        return Branches(tuple(ks), -log_prob.view(len(ks), -1), terms, self.layers)

    # ------------------------------------------------------------------ public use
    def compile_parts(self) -> None:
        """Compile the networks with torch.compile; results may then differ in rounding."""
        for module in [*self.stages, self.likelihood]:
            module.compile()

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Data-dependent initialisation on uint8 images (B, C, H, W), B ≥ 2, before training."""
        with initialising(self):
            noise = FreshNoise(images.shape[0], images.device)
            self.branches(self.likelihood.observe(images, noise), noise)

    def loss(self, images: Tensor, epoch: int) -> dict[str, Tensor]:
        """Training loss of uint8 images (B, C, H, W) in nats per image, and what to log beside it.

        `epoch` counts from 1 and drives warm-up and free bits.
        """
        noise = FreshNoise(images.shape[0], images.device)
        return objective_loss(self, self.likelihood.observe(images, noise), noise, epoch)

    @torch.no_grad()
    def log_prob(self, images: Tensor, noise: Noise | None = None, samples: int = 1) -> Tensor:
        """Importance-weighted bound on log p(x), nats, (B,) float64, of uint8 images (B, C, H, W).

        log 1/S Σ_s w_s with log w = log p(x, z) − log q(z|x); S = 1 is the ELBO's one-sample
        estimate.  Streamed: memory does not grow with S.
        """
        noise = noise or FreshNoise(images.shape[0], images.device)
        x = self.likelihood.observe(images, noise)
        total: Tensor | None = None
        for s in range(samples):
            draw = noise if s == 0 else noise.scope(f"s{s}")
            log_w = self.branches(x, draw).elbo()[0]
            total = log_w if total is None else torch.logaddexp(total, log_w)
        assert total is not None
        return total - torch.log(torch.tensor(float(samples), dtype=torch.float64))

    @torch.no_grad()
    def sample(self, n: int, noise: Noise | None = None) -> Tensor:
        """n images from the prior, (n, C, H, W) uint8."""
        noise = noise or FreshNoise(n, self.likelihood.layer.bias.device)
        parameters, _ = self.decode(None, [self.layers], noise, n)
        return self.likelihood.sample(parameters[0], noise)

    @torch.no_grad()
    def reconstruct(
        self, images: Tensor, k: int = 0, noise: Noise | None = None, lower: Draw = "mode"
    ) -> Tensor:
        """Mean of p(x|z>k) for uint8 images, (B, C, H, W) in [0, 1]; z>k from q, z≤k from p."""
        noise = noise or FreshNoise(images.shape[0], images.device)
        x = self.likelihood.observe(images, noise)
        encoding = self.encode(x, noise, [k], encoder_lower=lower)
        parameters, _ = self.decode(encoding, [k], noise, images.shape[0], lower=lower)
        return self.likelihood.mean(parameters[0])

    @torch.no_grad()
    def layer_means(self, images: Tensor, noise: Noise | None = None) -> list[Tensor]:
        """Means (B, units) of q(z_l|·), l = 1 … L, of uint8 images, given the means of z<l."""
        noise = noise or FreshNoise(images.shape[0], images.device)
        x = self.likelihood.observe(images, noise)
        encoding = self.encode(x, noise, [self.layers], encoder_lower="mode")
        return [layer[0].mean.flatten(1) for layer in encoding.q]


def _draw(p: Gaussian, lower: Draw, noise: Noise, name: str) -> Tensor:
    if lower == "mode":
        return p.mean
    return p.mean + p.scale * noise.normal(name, tuple(p.mean.shape[1:]))


def _stack(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _expander(histories: list[int], rows: int, batch: int) -> Expand | None:
    """Repeat the rows of a stacked tensor so that slot j continues row histories[j]."""
    if histories == list(range(rows)):
        return None

    def expand(stacked: Tensor) -> Tensor:
        parts = torch.split(stacked, batch)
        return torch.cat([parts[r] for r in histories])

    return expand

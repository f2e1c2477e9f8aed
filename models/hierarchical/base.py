"""What the hierarchical VAEs share: partial bounds L>k by one batched pass, and the public use.

p(x, z) = p(x|z1) ∏ p(z_l|z_(l+1)) p(z_L), p(z_L) = N(0, I); a model says how it infers.  The
*branch* k draws z>k from q and z≤k from p, and gives
    NLL_k = −log p(x|z1)   and   KL_l of the layers l > k,
from which L>k = −NLL_k − Σ_(l>k) KL_l (Havtorn et al. 2021; Li et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from oodbench.models.hierarchical.blocks import Shape
from oodbench.models.hierarchical.config import HierarchicalConfig
from oodbench.models.hierarchical.ladder import Draw, Encoding, Inferred, KLForm, Slot
from oodbench.models.hierarchical.objectives import objective_loss
from oodbench.models.hierarchical.stage import GenerativeStage
from oodbench.models.hierarchical.top_down_pass import Descent, stack
from oodbench.models.hierarchical.witness_teacher import Witness
from oodbench.models.layers.branches import Branches
from oodbench.models.layers.gaussian import Gaussian
from oodbench.models.layers.likelihoods import build_likelihood
from oodbench.models.layers.noise import AtMeans, FreshNoise, Noise, scopes
from oodbench.models.layers.weight_norm import initialising, weights_kept


class HierarchicalModel(nn.Module):
    """Base of the models for images of `shape` (C, H, W), on the stages of a subclass."""

    def __init__(
        self,
        config: HierarchicalConfig,
        shape: tuple[int, int, int],
        stages: Sequence[GenerativeStage],
    ) -> None:
        super().__init__()
        self.config, self.shape, self.layers = config, shape, len(stages)
        aux: list[Shape] = []
        above: GenerativeStage | None = None
        for stage in reversed(stages):
            skips = aux if config.generative_skips != "none" else []
            aux = stage.build_generative(above, skips, config)
            above = stage
        self.stages = nn.ModuleList(stages)
        head = stages[0].out_shape
        self.likelihood = build_likelihood(config.likelihood, head, shape, config.weight_norm)
        self.activate_head = self.likelihood.activate and not stages[0].linear
        self.witness: Witness | None = None
        if config.objective.witness is not None:
            units = math.prod(stages[-1].latent)
            self.witness = Witness(config.objective.witness, shape, units)

    def stage(self, index: int) -> GenerativeStage:
        """Stage of layer index + 1."""
        return cast(GenerativeStage, self.stages[index])

    # ------------------------------------------------------------------ what a model provides
    def known(self, x: Tensor) -> tuple[Tensor, ...]:
        """What of the way up depends on no draw, for `encode` to start from more than once."""
        raise NotImplementedError

    def encode(
        self,
        x: Tensor,
        noise: Noise,
        ks: Sequence[int] = (0,),
        encoder_lower: Draw = "sample",
        known: tuple[Tensor, ...] | None = None,
    ) -> Encoding:
        """The way up for the branches `ks`; `x` (B, C, H, W) as the likelihood observes it.

        Latents of the layers l ≤ k that are inferred on the way up are passed on as posterior
        means with ``encoder_lower="mode"`` (HVK code), so that z>k differs between branches; with
        ``"sample"`` all branches share one draw.
        """
        raise NotImplementedError

    def infer(
        self,
        index: int,
        encoding: Encoding,
        slots: Sequence[Slot],
        above: Tensor | None,
        noise: Noise,
    ) -> list[Inferred]:
        """z of layer index + 1 from q, in slots that take it from there; `above` as in `Level`."""
        raise NotImplementedError

    def drawn_before(self, index: int) -> int:
        """How many leading channels of z_l, l = index + 1, are drawn before z>l is.

        For them the closed form KL(q ‖ p(·|z>l)) at that z>l is not E_q[log q − log p].
        """
        raise NotImplementedError

    def layer_posteriors(
        self, encoding: Encoding, inferred: dict[int, Gaussian]
    ) -> dict[int, Gaussian]:
        """q(z_l|·) by layer index, of the shape of the latents; `inferred`: the lowest branch's."""
        return inferred

    # ------------------------------------------------------------------ branches
    def decode(
        self,
        encoding: Encoding | None,
        ks: Sequence[int],
        noise: Noise,
        batch: int,
        *,
        lower: Draw = "sample",
        kl: KLForm = "sample",
    ) -> tuple[list[Tensor], list[dict[int, Tensor]], dict[int, Gaussian]]:
        """Likelihood parameters of every branch, its KL terms by layer index, and q of a branch.

        Branch k takes z>k from q and z≤k from p, by sampling or as p's mean (`lower`); k = L draws
        everything from the prior and needs no encoding.
        """
        terms: list[dict[int, Tensor]] = [{} for _ in ks]
        posteriors: dict[int, Gaussian] = {}
        descent = Descent(self, encoding, ks, noise, batch, lower, kl)
        for index in reversed(range(self.layers)):
            level = descent.draw(index)
            for i, row in enumerate(level.row):
                term = level.kl[row]
                if term is not None:
                    terms[i][index] = term
            if level.inferred[0] is not None:
                posteriors[index] = level.inferred[0].q
            descent.generate(level)
        features = descent.features
        assert features is not None
        if self.activate_head:
            features = self.stage(0).activation(features)
        parameters = torch.split(self.likelihood(features), batch)
        return [parameters[r] for r in descent.row], terms, posteriors

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
        known: tuple[Tensor, ...] | None = None,
    ) -> Branches:
        """NLL_k and the KL terms of the layers above k, for every k in `ks` (0 … L−1).

        An `encoding` of the same `ks`, or what `known` gave for `x`, is used where it is given.
        """
        encoding = encoding or self.encode(x, noise, ks, encoder_lower, known)
        parameters, terms, posteriors = self.decode(
            encoding, ks, noise, x.shape[0], lower=lower, kl=kl
        )
        log_prob = self.likelihood.log_prob(stack(parameters), x.repeat(len(ks), 1, 1, 1))
        nll = -log_prob.view(len(ks), -1)
        found = self.layer_posteriors(encoding, posteriors)
        flat = {i: Gaussian(q.mean.flatten(1), q.scale.flatten(1)) for i, q in found.items()}
        return Branches(tuple(ks), nll, terms, self.layers, flat)

    # ------------------------------------------------------------------ public use
    def compile_parts(self) -> None:
        """Compile the networks with torch.compile; results may then differ in rounding."""
        for module in [*self.stages, self.likelihood]:
            module.compile()

    def prepare(self, images: Tensor, seed: int) -> None:
        """Fit the witness's teacher, where there is one, on all training images (N, C, H, W)."""
        if self.witness is not None:
            self.witness.teacher.fit(images, seed)

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
        target = None if self.witness is None else self.witness.teacher(images)
        return objective_loss(self, self.likelihood.observe(images, noise), noise, epoch, target)

    @torch.no_grad()
    def log_prob(self, images: Tensor, noise: Noise | None = None, samples: int = 1) -> Tensor:
        """Importance-weighted bound on log p(x), nats, (B,) float64, of uint8 images (B, C, H, W).

        log 1/S Σ_s w_s with log w = log p(x, z) − log q(z|x); S = 1 is the ELBO's one-sample
        estimate.  Streamed: memory does not grow with S.
        """
        noise = noise or FreshNoise(images.shape[0], images.device)
        x = self.likelihood.observe(images, noise)
        return self.importance(x, noise, range(samples)) - math.log(samples)

    @torch.no_grad()
    def importance(self, x: Tensor, noise: Noise, numbers: range) -> Tensor:
        """log Σ_s w_s over the samples `numbers`, at least one, (B,) float64.

        `x` as the likelihood observes it.  Number 0 has the very draws of `branches` with the same
        noise.
        """
        known = self.known(x)
        total: Tensor | None = None
        with weights_kept():
            for draw in scopes(noise, [f"s{s}" if s else "" for s in numbers]):
                log_w = self.branches(x, draw, known=known).elbo()[0]
                total = log_w if total is None else torch.logaddexp(total, log_w)
        assert total is not None
        return total

    @torch.no_grad()
    def sample(self, n: int, noise: Noise | None = None) -> Tensor:
        """n images from the prior, (n, C, H, W) uint8."""
        noise = noise or FreshNoise(n, self.likelihood.layer.bias.device)
        parameters, *_ = self.decode(None, [self.layers], noise, n)
        return self.likelihood.sample(parameters[0], noise)

    @torch.no_grad()
    def prior_means(self, n: int, noise: Noise | None = None) -> Tensor:
        """n means of p(x|z1), every z from the prior, (n, C, H, W) in [0, 1]."""
        noise = noise or FreshNoise(n, self.likelihood.layer.bias.device)
        parameters, *_ = self.decode(None, [self.layers], noise, n)
        return self.likelihood.mean(parameters[0])

    @torch.no_grad()
    def reconstruct(
        self, images: Tensor, k: int = 0, noise: Noise | None = None, lower: Draw = "mode"
    ) -> Tensor:
        """Mean of p(x|z>k) for uint8 images, (B, C, H, W) in [0, 1]; z>k from q, z≤k from p."""
        noise = noise or FreshNoise(images.shape[0], images.device)
        x = self.likelihood.observe(images, noise)
        encoding = self.encode(x, noise, [k], encoder_lower=lower)
        parameters, *_ = self.decode(encoding, [k], noise, images.shape[0], lower=lower)
        return self.likelihood.mean(parameters[0])

    @torch.no_grad()
    def layer_means(self, images: Tensor, noise: Noise | None = None) -> list[Tensor]:
        """Means (B, units) of q(z_l|·), l = 1 … L, of uint8 images (B, C, H, W).

        What is inferred on the way up is given the means of the layers below.
        """
        noise = noise or FreshNoise(images.shape[0], images.device)
        x = self.likelihood.observe(images, noise)
        out = self.branches(x, noise, tuple(range(self.layers)), encoder_lower="mode")
        return [out.means[index] for index in range(self.layers)]

    @torch.no_grad()
    def posteriors(self, images: Tensor, noise: Noise | None = None) -> list[Gaussian]:
        """q(z_l|·), l = 1 … L, mean and scale (B, units), of uint8 images (B, C, H, W).

        Every latent that q is conditioned on is at its mean.
        """
        noise = AtMeans(noise or FreshNoise(images.shape[0], images.device))
        out = self.branches(self.likelihood.observe(images, noise), noise)
        return [out.posteriors[index] for index in range(self.layers)]

    @torch.no_grad()
    def all_branches(self, images: Tensor, noise: Noise | None = None) -> Branches:
        """The branches k = 0 … L − 1 of uint8 images (B, C, H, W), layers l ≤ k at their means.

        The L>k that follow from them are no bounds on log p(x), but for k = 0.
        """
        noise = noise or FreshNoise(images.shape[0], images.device)
        x = self.likelihood.observe(images, noise)
        ks = tuple(range(self.layers))
        return self.branches(x, noise, ks, lower="mode", encoder_lower="mode")

"""Hierarchical VAE with bottom-up inference: L, L>k, LLR>k, LLR_ada, LLR_optk and KL<=k.

Havtorn et al., "Hierarchical VAEs Know What They Don't Know", ICML 2021, arXiv 2102.08248; the
adaptive ratio: Li et al., NeurIPS 2022 (Eq. 11 and Appendix M).  One measurement keeps
NLL_k = −log p(x|z>k) for every k and KL_l of every layer, nats per image; every score is a pure
function of them (`oodbench.baselines.scores`), higher = more OOD:
    L         −ELBO, or its importance-weighted form with S samples
    L>k       NLL_k + Σ_(l>k) KL_l, the negative of the partial bound; with z≤k at the modes of p
              (measure.lower, as in the HVK code) what it negates is no bound on log p(x)
    LLR>k     ELBO − bound>k
    LLR_ada   LLR>1 + Σ_(k≥2) (NLL_k / NLL_(k−1)) (LLR>k − LLR>(k−1))
    LLR_optk  LLR>k at the k that maximises NLL_k / NLL_(k−1)
    KL<=k     Σ_(l≤k) KL_l
`LLR_ada_eq11` is Eq. 11 to the letter: its sum starts at k = 1.

KL<=L, the sum of all KL terms, is how many nats of the image the latents hold: what L pays beside
the reconstruction, L = NLL_0 + KL<=L.  With KL_l of the pass k written KL_l(k),
    LLR>k = NLL_k − NLL_0 + Σ_(l>k) (KL_l(k) − KL_l(0)) − KL<=k
so that LLR>k takes away what KL<=k adds: the two rank images by opposite signs of one term, and
agree where an image that needs more latents is rebuilt worse still from the upper ones.  KL<=L
finds images that need more to be described than ID images do.  It must fail, reversed, where OOD
images need less: plainer ones than those of the training set (digits of SVHN under a model of
CIFAR-10), and under a model whose layers have collapsed it says nothing.  It is no cure of the
likelihood paradox, but the part of the likelihood that a reader has to see beside LLR>k.

`vanilla-hvae` trains on the plain ELBO; `hvae` with warm-up and free bits, as HVK did;
`warmup-hvae` with warm-up alone and `oversmooth-hvae` on the plain ELBO with a Gaussian likelihood
of one learned σ (Takida et al. 2022, arXiv 2102.08663), two remedies of Li et al.'s Tables 6 and 7.
Cost per image: one encoder pass and L decoder passes, and S − 1 more of each for S importance
samples in L.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from oodbench.detect.detector import Detector, Statistics, register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.canonical_json import JSON
    from oodbench.models.hierarchical.base import HierarchicalModel
    from oodbench.models.hierarchical.config import HierarchicalConfig
    from oodbench.models.layers.branches import Branches
    from oodbench.seeding import KeyedNoise

ACTIVE = 0.01


class HierarchicalVAE(Detector):
    """What every hierarchical VAE shares: how it is measured and scored."""

    measure_name = "hierarchical-vae"
    revision = 1
    cost = "e + L·g"
    top_down: ClassVar[bool] = False
    score_patterns: ClassVar[Sequence[str]] = (
        "L",
        "L>k",
        "LLR>k",
        "LLR_ada",
        "LLR_ada_eq11",
        "LLR_optk",
        "KL<=k",
    )
    unoriented: ClassVar[Mapping[str, str]] = {
        "LLR*": "L − L>k: far from the training images q(z|x) explains less than p(z), and it falls"
    }

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model."""
        self.model = cast("HierarchicalModel", models[0])

    @property
    def layers(self) -> int:
        """L of the recipe's model."""
        assert self.recipe is not None
        return len(cast("HierarchicalConfig", self.recipe.config).layers)

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Statistics:
        """nll (B, L), kl_k (B, L) for every k, elbo (B,), in nats; means of q for active units.

        With top-down inference also reverse_kl (B, L): KL>k.
        """
        import torch

        assert self.recipe is not None
        settings, model = self.recipe.measure, self.model
        x = model.likelihood.observe(images, noise)
        ks = tuple(range(model.layers))
        out = self.branches(x, noise, ks)
        kl = out.kl_layers()
        elbo = -out.nll[0] - kl[0].sum(-1)
        count = settings.importance_samples
        if count > 1:
            rest = model.importance(x, noise, range(1, count))
            elbo = torch.logaddexp(elbo, rest) - math.log(count)
        statistics = {"elbo": elbo, "nll": out.nll.T}
        statistics |= {f"kl_{k}": kl[k] for k in ks}
        if out.reverse_kl is not None:
            statistics["reverse_kl"] = out.reverse_kl.T
        totals = {}
        for index in ks:
            mean = out.means[index].double()
            totals[f"mean_{index + 1}"] = mean.sum(0)
            totals[f"square_{index + 1}"] = (mean**2).sum(0)
        return Statistics(statistics, totals)

    def branches(self, x: torch.Tensor, noise: KeyedNoise, ks: Sequence[int]) -> Branches:
        """The branches `ks` as the recipe measures them."""
        assert self.recipe is not None
        settings = self.recipe.measure
        return self.model.branches(
            x, noise, ks, lower=settings.lower, encoder_lower=settings.encoder_lower
        )

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every score of `oodbench.baselines.scores`."""
        from oodbench.baselines.scores import hierarchical_scores, stacked

        return hierarchical_scores(
            statistics["elbo"],
            statistics["nll"],
            stacked(statistics),
            statistics["reverse_kl"] if self.top_down else None,
        )

    def score_names(self) -> list[str]:
        """Names for the recipe's number of layers."""
        from oodbench.baselines.scores import score_names

        return score_names(self.layers, top_down=self.top_down)

    def diagnose(
        self,
        statistics: Mapping[str, np.ndarray],
        totals: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
    ) -> dict[str, JSON]:
        """bits/dim and nats of every L>k, NLL_k and LLR>k, KL (nats) and active units per layer.

        A unit is active where the variance of its posterior mean over images exceeds 0.01 (Burda
        et al. 2016; the layers that q is conditioned on are at their means where `encoder_lower`
        says so, on the way up, and sampled on the way down).
        """
        from oodbench.baselines.scores import mean_bounds

        active: list[JSON] = []
        count = len(statistics["nll"])
        for layer in range(1, statistics["nll"].shape[1] + 1):
            mean = totals[f"mean_{layer}"] / count
            variance = totals[f"square_{layer}"] / count - mean**2
            active.append(f"{int((variance > ACTIVE).sum())}/{variance.size}")
        return {**mean_bounds(statistics, shape), "active_units": active}


@register("vanilla-hvae", cite="arXiv 2102.08248; Li et al. 2022, Tables 6, 7, 12",
          title="HVAE, plain ELBO")  # fmt: skip
class VanillaHVAE(HierarchicalVAE):
    """Trained on the ELBO alone: the upper layers collapse."""

    recipe_variant = "vanilla"


@register("hvae", cite="arXiv 2102.08248", title="HVAE, warm-up and free bits")
class WarmedHVAE(HierarchicalVAE):
    """Trained as HVK: KL warm-up, then free bits that fall to zero."""

    recipe_variant = "hvk"


@register("warmup-hvae", cite="Li et al. 2022, Tables 6 and 7", title="HVAE, warm-up")
class WarmupHVAE(HierarchicalVAE):
    """Trained with KL warm-up alone."""

    recipe_variant = "warmup"


@register("oversmooth-hvae", cite="arXiv 2102.08663; Li et al. 2022, Tables 6 and 7",
          title="HVAE, OverSmooth")  # fmt: skip
class OverSmoothHVAE(HierarchicalVAE):
    """Trained on the ELBO with a Gaussian likelihood whose σ is learned."""

    recipe_variant = "oversmooth"

"""The DVP-VAE as a detector: its bound, what its groups of latents add, and the KL of u.

Kuzina and Tomczak, "Hierarchical VAE with a Diffusion-based VampPrior", TMLR 2024, arXiv
2412.01373, whose model is `oodbench.models.dvp`.  The paper reports no OOD detection; reading it as
a detector is ours.  Groups of latents of one resolution are counted from the image upwards, u is
always drawn from r(u|x); nats per image, higher = more OOD:
    L         −ELBO, or its importance-weighted form with S samples
    LLR>k     ELBO − bound>k, where the lowest k groups come from p(z|z above, u)
    LLR>all   the same where every z comes from its prior, so that u alone says what x is
    KL_u      E log r(u|x) − log p(u), by the bound of the diffusion prior on −log p(u)
An amortised VampPrior puts p(z|u) where images like x have their posteriors: LLR asks what x needs
beyond its own low frequencies.
Cost per image: one encoder pass, S decoder passes and G for the partial bounds (G groups are the L
of the formula), and S times T passes of the diffusion's network, which is no part of e or g.
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
    from oodbench.models.dvp.config import DVPConfig
    from oodbench.models.dvp.dvp_vae import DVPVAE
    from oodbench.seeding import KeyedNoise

ACTIVE = 0.01


@register("dvp-vae", cite="arXiv 2412.01373", title="DVP-VAE")
class DVPDetector(Detector):
    """Trained on the plain ELBO."""

    revision = 1
    recipe_variant = "dvp"
    cost = "e + (S + L) g"
    score_patterns: ClassVar[Sequence[str]] = ("L", "LLR>k", "LLR>all", "KL_u")
    unoriented: ClassVar[Mapping[str, str]] = {
        "LLR*": "L − L>k: far from the training images q(z|x) explains less than p(z|u), and it"
        " falls"
    }

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model."""
        self.model = cast("DVPVAE", models[0])

    @property
    def layers(self) -> int:
        """G: the groups of the recipe's model."""
        assert self.recipe is not None
        return cast("DVPConfig", self.recipe.config).layers

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Statistics:
        """elbo (B,), kl_u (B,), nll (B, G + 1), kl (B, G), nats; means of q for active units.

        One u and one z>k serve all branches.  With S = 1 the entropy of r(u|x) is in closed form.
        """
        import torch

        assert self.recipe is not None
        settings, model = self.recipe.measure, self.model
        seen = model.see(images, noise)
        u, eps = model.draw_u(seen.r, noise), model.prior.draws(noise)
        ks = range(model.layers + 1)
        trails = model.trails(seen, u, noise, ks, lower=settings.lower)
        nll = torch.stack([-model.log_likelihood(trail, seen.x) for trail in trails], dim=1)
        kl = torch.stack([trails[0].kl[g].double().sum(1) for g in range(model.layers)], dim=1)
        kl_u = model.surprise(u, eps) + model.pseudo.negative_entropy()
        elbo = -nll[:, 0] - kl.sum(1) - kl_u
        count = settings.importance_samples
        if count > 1:
            first = model.log_weight(trails[0], seen, u, eps)
            rest = model.importance(seen, noise, eps, range(1, count))
            elbo = torch.logaddexp(first, rest) - math.log(count)
        totals = {}
        for group, q in trails[0].q.items():
            mean = q.mean.double()
            totals[f"mean_{group + 1}"] = mean.sum(0)
            totals[f"square_{group + 1}"] = (mean**2).sum(0)
        return Statistics({"elbo": elbo, "kl_u": kl_u, "nll": nll, "kl": kl}, totals)

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """By name, see the module's docstring."""
        bounds = _partial_bounds(statistics)
        elbo, groups = statistics["elbo"], bounds.shape[1] - 1
        out = {"L": -elbo}
        for k in range(1, groups + 1):
            out["LLR>all" if k == groups else f"LLR>{k}"] = elbo - bounds[:, k]
        return out | {"KL_u": statistics["kl_u"]}

    def score_names(self) -> list[str]:
        """The names for the recipe's number of groups."""
        return ["L", *(f"LLR>{k}" for k in range(1, self.layers)), "LLR>all", "KL_u"]

    def diagnose(
        self,
        statistics: Mapping[str, np.ndarray],
        totals: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
    ) -> dict[str, JSON]:
        """bits/dim and nats of every branch, KL (nats) and active units per group, KL of u.

        Branches are k = 0 … G.  A unit is active where the variance of its posterior mean over
        images exceeds 0.01 (Burda et al. 2016); what q is conditioned on is sampled.
        """
        bounds, nll = _partial_bounds(statistics), statistics["nll"]
        bits, count = math.prod(shape) * math.log(2.0), len(nll)
        active: list[JSON] = []
        for group in range(1, self.layers + 1):
            mean = totals[f"mean_{group}"] / count
            variance = totals[f"square_{group}"] / count - mean**2
            active.append(f"{int((variance > ACTIVE).sum())}/{variance.size}")
        llr = [0.0, *(float(v) for v in (statistics["elbo"][:, None] - bounds[:, 1:]).mean(0))]
        return {
            "bits_per_dim": float(-statistics["elbo"].mean() / bits),
            "bits_per_dim_k": [float(v) for v in -bounds.mean(0) / bits],
            "nll_bits_per_dim_k": [float(v) for v in nll.mean(0) / bits],
            "nll_nats_k": [float(v) for v in nll.mean(0)],
            "llr_nats_k": cast("list[JSON]", llr),
            "kl_nats": [float(v) for v in statistics["kl"].mean(0)],
            "kl_u_nats": float(statistics["kl_u"].mean()),
            "active_units": active,
            "images": count,
        }


def _partial_bounds(statistics: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, G + 1): bound>k = −NLL_k − Σ_(g>k) KL_g − KL(u), k = 0 … G."""
    import numpy as np

    kl = statistics["kl"]
    above = np.concatenate([np.cumsum(kl[:, ::-1], axis=1)[:, ::-1], np.zeros((len(kl), 1))], 1)
    return np.asarray(-statistics["nll"] - above - statistics["kl_u"][:, None])

"""What the detectors of models that infer on the way down add to `HierarchicalVAE`: KL>k.

    KL>k = E_(q(z>k|x)) KL(p(z≤k|z>k) ‖ q(z≤k|z>k, x)),  higher = more OOD
(Li et al. 2022, Eq. 7), to which LLR>k comes near where q is near the true posterior.  One sample
of z>k from q and of z≤k from p, with the closed form of the KL at every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from oodbench.baselines.hvae import HierarchicalVAE

if TYPE_CHECKING:
    import torch

    from oodbench.models.hierarchical.top_down_inference import TopDownModel
    from oodbench.models.layers.branches import Branches
    from oodbench.seeding import KeyedNoise


class TopDownVAE(HierarchicalVAE):
    """As `HierarchicalVAE`, with the statistic `reverse_kl` (B, L) and the scores KL>k."""

    measure_name = "top-down-vae"
    revision = 1
    top_down = True
    score_patterns: ClassVar[Sequence[str]] = (*HierarchicalVAE.score_patterns, "KL>k")

    def branches(self, x: torch.Tensor, noise: KeyedNoise, ks: Sequence[int]) -> Branches:
        """The branches `ks` as the recipe measures them, and KL>k."""
        assert self.recipe is not None
        settings, model = self.recipe.measure, cast("TopDownModel", self.model)
        return model.branches(
            x, noise, ks,
            lower=settings.lower, encoder_lower=settings.encoder_lower, reverse_kl=True,
        )  # fmt: skip

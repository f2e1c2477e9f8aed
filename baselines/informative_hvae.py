"""Informative hierarchical VAE: the reconstruction is asked from every level of the hierarchy.

Li, Wang, Xia, Liu, Miao, An, "Out-of-Distribution Detection with An Adaptive Likelihood Ratio on
Informative Hierarchical VAE", NeurIPS 2022.  Training maximises (Eq. 10), per image,
    (1/L) Σ_(k=0…L−1) LL>k − Σ_(l=1…L) KL_l
    LL>k = log p(x|z1), with z>k drawn from q and z≤k from p
(`oodbench.models.hierarchical.objectives`); the scores are those of the other hierarchical VAEs,
of which LLR_ada (Eq. 11) is the paper's.
KL<=L, the sum of all KL terms, is high for images that need more nats in the latents than ID images
do, and reversed for plainer ones; its relation to LLR>k: `oodbench.baselines.hvae`.
Cost per image: as `oodbench.baselines.hvae`; training takes L decodes a step instead of one.
"""

from __future__ import annotations

from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.detect.detector import register


@register("informative-hvae", cite="Li et al., NeurIPS 2022", title="Informative HVAE")
class InformativeHVAE(HierarchicalVAE):
    """The HVAE of the same recipe, trained with the informative loss."""

    recipe_variant = "informative"

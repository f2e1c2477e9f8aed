"""Informative hierarchical VAE: the reconstruction is asked from every level of the hierarchy.

Li, Wang, Xia, Liu, Miao, An, "Out-of-Distribution Detection with An Adaptive Likelihood Ratio on
Informative Hierarchical VAE", NeurIPS 2022.  Loss (Eq. 10): (1/L) Σ_k LL>k − Σ_l KL_l, see
`oodbench.models.objectives`; scores as for the other hierarchical VAEs, LLR_ada (Eq. 11) first.
Cost per image: as `oodbench.baselines.hvae`; training takes L decodes a step instead of one.
"""

from __future__ import annotations

from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.detector import register


@register("informative-hvae", cite="Li et al., NeurIPS 2022", title="Informative HVAE")
class InformativeHVAE(HierarchicalVAE):
    """The HVAE of the same recipe, trained with the informative loss."""

    recipe_variant = "informative"

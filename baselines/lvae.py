"""Ladder VAE, inferred on the way down: the scores of the HVAE, and KL>k.

Sønderby, Raiko, Maaløe, Sønderby, Winther, "Ladder Variational Autoencoders", NeurIPS 2016, arXiv
1602.02282; as a detector: Havtorn et al. 2021 and Li et al. 2022.  `lvae` trains with warm-up and
free bits, as both did; `vanilla-lvae` on the plain ELBO; `informative-lvae` on the informative
loss of Li et al.
KL<=L, the sum of all KL terms, is high for images that need more nats in the latents than ID images
do, and reversed for plainer ones; its relation to LLR>k: `oodbench.baselines.hvae`.
Higher = more OOD.  Cost per image: one pass up, L passes down, and once more L passes down that
leave out the bottom stage.
"""

from __future__ import annotations

from oodbench.baselines.topdown import TopDownVAE
from oodbench.detect.detector import register


@register("lvae", cite="arXiv 1602.02282; arXiv 2102.08248", title="LVAE, warm-up and free bits")
class WarmedLVAE(TopDownVAE):
    """Trained with KL warm-up, then free bits that fall to zero."""

    recipe_variant = "lvae"


@register(
    "informative-lvae",
    cite="Li et al., NeurIPS 2022; arXiv 1602.02282",
    title="Informative LVAE",
)
class InformativeLVAE(TopDownVAE):
    """The LVAE of the same recipe, trained with the informative loss."""

    recipe_variant = "informative-lvae"


@register("vanilla-lvae", cite="arXiv 1602.02282; arXiv 2102.08248", title="LVAE, plain ELBO")
class VanillaLVAE(TopDownVAE):
    """The LVAE of the same recipe, trained on the ELBO alone."""

    recipe_variant = "vanilla-lvae"

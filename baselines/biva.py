"""BIVA, inferred on the way up and down: the scores of the HVAE, and KL>k over its z_td.

Maaløe, Fraccaro, Liévin, Winther, "BIVA: A Very Deep Hierarchy of Latent Variables for Generative
Modeling", NeurIPS 2019, arXiv 1902.02102; as a detector: Havtorn et al. 2021 and Li et al. 2022.
k counts stages: z_bu and z_td of a stage are skipped together.  KL>k leaves z_bu out, whose q is
not given z>k.  `biva` trains with warm-up and free bits, as both did; `informative-biva` on the
informative loss of Li et al.
KL<=L, the sum of all KL terms, is high for images that need more nats in the latents than ID images
do, and reversed for plainer ones; its relation to LLR>k: `oodbench.baselines.hvae`.
Higher = more OOD.  Cost per image: one pass up (L from the second stage on with ``encoder_lower:
mode``), L passes down, and once more L passes down that leave out the bottom stage.
"""

from __future__ import annotations

from oodbench.baselines.topdown import TopDownVAE
from oodbench.detect.detector import register


@register("biva", cite="arXiv 1902.02102; arXiv 2102.08248", title="BIVA, warm-up and free bits")
class WarmedBIVA(TopDownVAE):
    """Trained with KL warm-up, then free bits that fall to zero."""

    recipe_variant = "biva"


@register(
    "informative-biva",
    cite="Li et al., NeurIPS 2022; arXiv 1902.02102",
    title="Informative BIVA",
)
class InformativeBIVA(TopDownVAE):
    """The BIVA of the same recipe, trained with the informative loss."""

    recipe_variant = "informative-biva"

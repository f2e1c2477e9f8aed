"""Glow as a detector: −log p(x) of a normalising flow, higher = more OOD.

Kingma and Dhariwal 2018 (arXiv 1807.03039); in the shapes of Nalisnick et al. 2019 and Kirichenko
et al. 2020 for OOD detection.  Dequantised with one draw per image, keyed by its index.
Cost per image: one forward pass.
"""

from __future__ import annotations

from oodbench.baselines.density import DensityDetector
from oodbench.detect.detector import register


@register("glow", cite="arXiv 1807.03039", title="Glow")
class GlowDetector(DensityDetector):
    """The flow's likelihood."""

    recipe_variant = "glow"
    measure_name = "density"

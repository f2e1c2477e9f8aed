"""PixelCNN++ as a detector: −log p(x) of an autoregressive model, higher = more OOD.

Salimans et al. 2017 (arXiv 1701.05517).  The probability of an 8-bit image is exact: nothing is
dequantised and nothing random is drawn.
Cost per image: one forward pass.
"""

from __future__ import annotations

from oodbench.baselines.density import DensityDetector
from oodbench.detect.detector import register


@register("pixelcnn", cite="arXiv 1701.05517", title="PixelCNN++")
class PixelCNNDetector(DensityDetector):
    """The autoregressive likelihood."""

    recipe_variant = "pixelcnn"
    measure_name = "density"

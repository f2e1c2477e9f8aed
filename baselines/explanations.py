"""What every pixel adds to the scores of the hierarchical VAEs and of PixelCNN++, in bits.

Hierarchical VAEs: −log2 p(x_i | z) of the pixels, which sum to NLL_0 of L, and to NLL_k of L>k; of
LLR>k (k = 1 for LLR_ada and LLR_optk) the difference NLL_k − NLL_0, pixel by pixel.  Beside it KL_l
of every layer, of L>k of those above k.
PixelCNN++: −log2 p(x_i | the pixels before), which sum to L.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, cast

from oodbench.detect.explanations import Explanation

if TYPE_CHECKING:
    import torch

    from oodbench.baselines.hvae import HierarchicalVAE
    from oodbench.baselines.pixelcnn import PixelCNNDetector
    from oodbench.models.autoregressive.pixelcnn import PixelCNN
    from oodbench.seeding import KeyedNoise


def of_hierarchy(
    detector: HierarchicalVAE, images: torch.Tensor, noise: KeyedNoise, score: str
) -> Explanation:
    """Bits per pixel and KL per layer of uint8 images (B, C, H, W)."""
    import torch

    assert detector.recipe is not None
    model, settings = detector.model, detector.recipe.measure
    found = re.fullmatch(r"(LLR|L)>(\d+)", score)
    above = int(found[2]) if found else 1 if score.startswith("LLR") else 0
    ratio = score.startswith("LLR")
    ks = (0, above) if above and ratio else (above,)
    x = model.likelihood.observe(images, noise)
    encoding = model.encode(x, noise, ks, encoder_lower=settings.encoder_lower)
    parameters, terms, _ = model.decode(encoding, ks, noise, len(x), lower=settings.lower)
    bits = [_bits(model.likelihood.log_prob_elements(each, x)) for each in parameters]
    # A layer that is decoded from the prior has no term, and no part in L>k.
    nothing = torch.zeros(len(x), dtype=bits[0].dtype, device=bits[0].device)
    kl = [
        terms[0][layer].flatten(1).sum(1) if layer in terms[0] else nothing
        for layer in range(model.layers)
    ]
    if ratio:
        what = f"bits: NLL_{above} − NLL_0"
        return Explanation(bits[1] - bits[0], what, torch.stack(kl, dim=1))
    what = f"bits: −log2 p(x | z>{above})" if above else "bits: −log2 p(x | z)"
    what += ", no part of this score" if score.startswith("KL") else ""
    return Explanation(bits[0], what, torch.stack(kl, dim=1))


def of_pixelcnn(
    detector: PixelCNNDetector, images: torch.Tensor, noise: KeyedNoise, score: str
) -> Explanation:
    """Bits per pixel of uint8 images (B, C, H, W)."""
    model = cast("PixelCNN", detector.model)
    x = images.float() / 255.0
    elements = model.likelihood.log_prob_elements(model.parameters_of(x), x)
    return Explanation(_bits(elements), "bits: −log2 p(x_i | before)")


def _bits(elements: torch.Tensor) -> torch.Tensor:
    """(B, H, W) bits of log-probabilities of pixels, or of each of their colours, in nats."""
    pixels = elements if elements.dim() == 3 else elements.sum(1)
    return -pixels / math.log(2)

"""HVK: the likelihood ratio LLR>k with models as published, and who chose k.

Havtorn et al., ICML 2021 (arXiv 2102.08248): LLR>k = L − L>k with S importance samples in L and one
in L>k; a bottom-up HVAE on binarised grey images, BIVA on colour images: of 10 layers in the paper,
whose sizes are not public, of 3 here.  The paper reports the k that does best on each pair (LLR>1
and LLR>2).  Here every fixed k is a score of its own; `LLR>k id`
takes the k that training images choose, and `LLR>k best` the one with the best AUROC, which is an
oracle.  Higher = more OOD.
Cost per image: S encoder and decoder passes, and L − 1 decoder passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np

BY_ID, BEST = "LLR>k id", "LLR>k best"


@register("hvk", cite="arXiv 2102.08248", title="HVK")
class HVK(HierarchicalVAE):
    """The published scores; on grey images the published model too."""

    recipe_variant = "hvk-published"
    cost = "S (e + g) + (L − 1) g"
    score_patterns: ClassVar[Sequence[str]] = ("L", "LLR>k", BY_ID, BEST)

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """k* = argmax_k of mean NLL_k / mean NLL_(k−1) on training images.

        The rule of LLR_optk (Li et al. 2022, Appendix M), which compares the two per image, on
        averages: where the reconstruction loses most, the layers above stop describing pixels.
        """
        import numpy as np

        nll = statistics["nll"].mean(axis=0)
        self.chosen = 1 + int(np.argmax(nll[1:] / nll[:-1]))

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """L, every LLR>k, and LLR>k at the k of `calibrate`."""
        found = super().scores(statistics)
        fixed = {name: found[name] for name in ("L", *self._ratios())}
        return fixed | {BY_ID: fixed[f"LLR>{self.chosen}"]}

    def _ratios(self) -> list[str]:
        return [f"LLR>{k}" for k in range(1, self.layers)]

    def score_names(self) -> list[str]:
        """L, every LLR>k, the choice of the training images."""
        return ["L", *self._ratios(), BY_ID]

    def oracles(self) -> dict[str, list[str]]:
        """The best fixed k."""
        return {BEST: self._ratios()}

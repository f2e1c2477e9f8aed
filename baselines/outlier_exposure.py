"""OE and CP(Cal): classifiers whose prediction on outliers is made uniform.

OE: Hendrycks, Mazeika, Dietterich, ICLR 2019 (arXiv 1812.04606), with a declared set of outliers
that shares no image with the OOD set of the pair.  CP(Cal): a baseline of Ren et al. 2019 (arXiv
1906.02845), whose outliers are the training images mutated.  Score = 1 − max_y p(y|x), higher =
more OOD.  Cost per image: one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from oodbench.baselines.max_softmax import MaxSoftmax
from oodbench.detect.detector import register


@register("outlier-exposure", category="prior", cite="arXiv 1812.04606", title="OE")
class OutlierExposure(MaxSoftmax):
    """1 − max_y p(y|x) after exposure to a declared set."""

    recipe_variant = "outlier-exposure"
    unoriented: ClassVar[Mapping[str, str]] = {}


@register("cp-calibrated", category="prior", cite="arXiv 1906.02845", title="CP (Cal)")
class CalibratedSoftmax(MaxSoftmax):
    """1 − max_y p(y|x) after exposure to mutated images."""

    recipe_variant = "cp-calibrated"
    unoriented: ClassVar[Mapping[str, str]] = {}

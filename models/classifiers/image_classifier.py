"""A classifier of the ID classes, with what detectors read from it.

Images are uint8 or values in [0, 1]; inside they are centred and scaled by fixed numbers.  When its
weights are final it takes one more look at the training images and keeps Gaussians of the features
of every stage (`oodbench.models.classifiers.class_gaussians`).  Outliers enter the loss as one
class more (Ren et al. 2019, arXiv 1906.02845), or as images whose prediction should be uniform,
    CE + λ · [logsumexp(f(x~)) − mean(f(x~))]        (Hendrycks et al. 2019, arXiv 1812.04606),
which is KL(uniform ‖ p(y|x~)) but for a constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.classifiers.backbones import make_backbone
from oodbench.models.classifiers.class_gaussians import ClassGaussians, Moments

if TYPE_CHECKING:
    from oodbench.models.classifiers.config import ClassifierConfig

CENTRE, SPREAD = 0.5, 0.25


def scaled(images: Tensor) -> Tensor:
    """uint8 images as values in [0, 1]."""
    return images.float() / 255.0


def standardised(x: Tensor) -> Tensor:
    """What a backbone is fed, of x in [0, 1]."""
    return (x - CENTRE) / SPREAD


class ImageClassifier(nn.Module):
    """Backbone and a linear layer to `classes` logits, one more with an outlier class."""

    def __init__(self, config: ClassifierConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.classes = config, shape, config.classes
        self.backbone = make_backbone(config.network, shape)
        outputs = config.classes + (config.exposure == "class")
        self.head = nn.Linear(self.backbone.sizes[-1], outputs)
        self.gaussians = nn.ModuleList(
            ClassGaussians(config.classes, size) for size in self.backbone.sizes
        )

    # ------------------------------------------------------------------ what detectors read
    def features(self, x: Tensor) -> list[Tensor]:
        """Features (B, D) of every stage of x (B, C, H, W) in [0, 1]."""
        found: list[Tensor] = self.backbone(standardised(x))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits of x (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.head(self.features(x)[-1])
        return logits

    def logits(self, images: Tensor) -> Tensor:
        """Logits of uint8 images (B, C, H, W)."""
        return self.forward(scaled(images))

    def distances(self, x: Tensor) -> Tensor:
        """Mahalanobis distance in every stage, (B, stages) float64, of x in [0, 1]."""
        pairs = zip(self.stage_gaussians(), self.features(x), strict=True)
        return torch.stack([gaussian.distance(h) for gaussian, h in pairs], dim=1)

    def stage_gaussians(self) -> list[ClassGaussians]:
        """The Gaussians of every stage."""
        return [cast(ClassGaussians, module) for module in self.gaussians]

    # ------------------------------------------------------------------ training
    def initialise(self, images: Tensor) -> None:
        """Nothing depends on the data."""

    def loss(
        self, images: Tensor, epoch: int, *, labels: Tensor, outliers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Cross-entropy, with what the exposure adds; uint8 images, mean over the batch."""
        if outliers is None:
            logits = self.logits(images)
            extra = logits.new_zeros(())
        else:
            # One pass, so that batch normalisation sees both.
            both = self.logits(torch.cat([images, outliers]))
            logits, outside = both[: len(images)], both[len(images) :]
            extra = self._exposure(outside) * self.config.exposure_weight
        error = F.cross_entropy(logits, labels)
        accuracy = (logits.argmax(1) == labels).float().mean()
        out = {"loss": error + extra, "cross_entropy": error.detach(), "accuracy": accuracy}
        return out if outliers is None else out | {"exposure": extra.detach()}

    def _exposure(self, logits: Tensor) -> Tensor:
        if self.config.exposure == "class":
            return F.cross_entropy(logits, torch.full_like(logits[:, 0], self.classes).long())
        return (logits.logsumexp(1) - logits.mean(1)).mean()

    def complete(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Estimate the Gaussians on uint8 images (B, C, H, W) with labels (B,)."""
        device = self.head.weight.device
        moments = [Moments(self.classes, size, device) for size in self.backbone.sizes]
        for images, labels in batches:
            for moment, features in zip(moments, self.features(scaled(images)), strict=True):
                moment.add(features, labels)
        for gaussian, moment in zip(self.stage_gaussians(), moments, strict=True):
            gaussian.fit(moment)

"""Copies of an encoder with weights of their own, one per image, run as one.

Refitting the encoder to every image separately (`oodbench.baselines.likelihood_regret`) moves each
copy apart from the others.  What would be a loop over images is a batch of matrix products here.
"""

from __future__ import annotations

from torch import Tensor

from oodbench.models.vae.encoder import Encoder
from oodbench.models.vae.per_image_layers import BatchNorm2d, Conv2d


class StackedEncoders:
    """Copies of an encoder, one per image: every weight is a row of a stacked tensor."""

    def __init__(self, encoder: Encoder, count: int) -> None:
        self.encoder = encoder
        self.names = [name for name, _ in encoder.named_parameters()]
        self.parameters = [
            p.detach().contiguous().expand(count, *p.shape).clone().requires_grad_()
            for p in encoder.parameters()
        ]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, latent) of x (B, C, H, W), image i through copy i.

        A convolution is a product of its weights with the patches, one for every image; batch
        normalisation is in evaluation mode.
        """
        weights = dict(zip(self.names, self.parameters, strict=True))
        h = x
        for index, layer in enumerate(self.encoder.features):
            at = f"features.{index}"
            if isinstance(layer, Conv2d):
                h = layer(h, weights[f"{at}.weight"])
            elif isinstance(layer, BatchNorm2d):
                h = layer(h, weights[f"{at}.weight"], weights[f"{at}.bias"])
            else:
                h = layer(h)
        mean, log_variance = (
            weights[f"{name}.bias"] + head(h, weights[f"{name}.weight"]).flatten(1)
            for name, head in (
                ("mean", self.encoder.mean), ("log_variance", self.encoder.log_variance)
            )
        )  # fmt: skip
        return mean, log_variance

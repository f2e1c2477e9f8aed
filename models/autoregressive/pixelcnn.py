"""PixelCNN++: an autoregressive model of images (Salimans et al. 2017, arXiv 1701.05517).

Two streams of shifted convolutions: one sees the rows above a pixel, the other also the pixels to
its left.  Gated residual blocks at several resolutions, with skips from the way down in size to the
way up, and a discretised logistic mixture at every pixel:
    log p(x) = Σ over pixels of log p(x_i | x_<i),  nats per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.config import Likelihood
from oodbench.models.layers.likelihoods import build_likelihood
from oodbench.models.layers.noise import FreshNoise, Noise
from oodbench.models.layers.weight_norm import WeightNormLayer, initialising

if TYPE_CHECKING:
    from oodbench.models.autoregressive.config import PixelCNNConfig

#: Kernel (rows, columns) of a stream's convolutions: above; above and to the left.
KERNELS = {"above": (2, 3), "left": (2, 2)}


def concat_elu(x: Tensor) -> Tensor:
    """elu of x and of −x, side by side: twice the channels."""
    return F.elu(torch.cat([x, -x], dim=1), inplace=True)


class ShiftedConv2d(WeightNormLayer):
    """Convolution that sees no row below and, with an even width, no column to the right."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        stride: int = 1,
        normalise: bool = True,
    ) -> None:
        super().__init__((outputs, inputs, *kernel), outputs, normalise)
        rows, columns = kernel
        left = columns // 2 if columns % 2 else columns - 1
        self.padding = (left, columns - 1 - left, rows - 1, 0)
        self.stride = stride

    def apply_weight(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, self.padding), self.weight(), self.bias, self.stride)


class ShiftedConvTranspose2d(WeightNormLayer):
    """The up-sampling counterpart: every output depends on inputs above and to the left alone."""

    out_dim = 1

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], normalise: bool = True
    ) -> None:
        super().__init__((inputs, outputs, *kernel), outputs, normalise)
        self.left = kernel[1] // 2 if kernel[1] % 2 else 0

    def apply_weight(self, x: Tensor) -> Tensor:
        y = F.conv_transpose2d(x, self.weight(), self.bias, 2, output_padding=0)
        height, width = 2 * x.shape[2], 2 * x.shape[3]
        missing = max(0, self.left + width - y.shape[3]), max(0, height - y.shape[2])
        y = F.pad(y, (0, missing[0], 0, missing[1]))
        return y[:, :, :height, self.left : self.left + width]


class Gated(nn.Module):
    """x + a·σ(b) with (a, b) from two convolutions; `aux` channels of a skip enter in between."""

    def __init__(self, channels: int, stream: str, aux: int, config: PixelCNNConfig) -> None:
        super().__init__()
        kernel, normalise = KERNELS[stream], config.weight_norm
        self.conv1 = ShiftedConv2d(2 * channels, channels, kernel, normalise=normalise)
        self.skip = (
            ShiftedConv2d(2 * aux, channels, (1, 1), normalise=normalise) if aux else None
        )  # fmt: skip
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = ShiftedConv2d(2 * channels, 2 * channels, kernel, normalise=normalise)
        self.conv2.gain = 0.1

    def forward(self, x: Tensor, aux: Tensor | None = None) -> Tensor:
        y = self.conv1(concat_elu(x))
        if self.skip is not None and aux is not None:
            y = y + self.skip(concat_elu(aux))
        y = self.conv2(self.dropout(concat_elu(y)))
        value, gate = y.chunk(2, dim=1)
        out: Tensor = x + value * torch.sigmoid(gate)
        return out


class PixelCNN(nn.Module):
    """The model for images of `shape` (C, H, W), C = 1 or 3; ValueError where it cannot be."""

    def __init__(self, config: PixelCNNConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        factor = 2 ** (config.resolutions - 1)
        if shape[1] % factor or shape[2] % factor:
            raise ValueError(
                f"{config.resolutions} resolutions need sides divisible by {factor}, not"
                f" {shape[1]}×{shape[2]}; set fewer resolutions"
            )
        width, inputs, normalise = config.filters, shape[0] + 1, config.weight_norm
        self.first_above = ShiftedConv2d(inputs, width, (2, 3), normalise=normalise)
        self.first_row = ShiftedConv2d(inputs, width, (1, 3), normalise=normalise)
        self.first_left = ShiftedConv2d(inputs, width, (2, 1), normalise=normalise)

        def gates(stream: str, count: int, aux: int) -> nn.ModuleList:
            return nn.ModuleList(Gated(width, stream, aux, config) for _ in range(count))

        levels = range(config.resolutions)
        n = config.blocks
        self.down_above = nn.ModuleList(gates("above", n, 0) for _ in levels)
        self.down_left = nn.ModuleList(gates("left", n, width) for _ in levels)
        # On the way up a level has one block more, but for the lowest resolution.
        self.up_above = nn.ModuleList(gates("above", n + (i > 0), width) for i in levels)
        self.up_left = nn.ModuleList(gates("left", n + (i > 0), 2 * width) for i in levels)
        between = range(config.resolutions - 1)
        self.shrink, self.grow = nn.ModuleDict(), nn.ModuleDict()
        for stream, kernel in KERNELS.items():
            self.shrink[stream] = nn.ModuleList(
                ShiftedConv2d(width, width, kernel, 2, normalise) for _ in between
            )
            self.grow[stream] = nn.ModuleList(
                ShiftedConvTranspose2d(width, width, kernel, normalise) for _ in between
            )
        likelihood = Likelihood(kind="logistic-mixture", components=config.components)
        self.likelihood = build_likelihood(
            likelihood, (width, shape[1], shape[2]), shape, normalise
        )  # fmt: skip

    # ------------------------------------------------------------------ the network
    def parameters_of(self, x: Tensor) -> Tensor:
        """Parameters of the mixture at every pixel, from x in [0, 1] (B, C, H, W)."""
        padded = torch.cat([2.0 * x - 1.0, torch.ones_like(x[:, :1])], dim=1)
        above = _down_shift(self.first_above(padded))
        left = _down_shift(self.first_row(padded)) + _right_shift(self.first_left(padded))
        skips = [(above, left)]
        for level in range(self.config.resolutions):
            blocks = zip(_list(self.down_above[level]), _list(self.down_left[level]), strict=True)
            for for_above, for_left in blocks:
                above = for_above(above)
                left = for_left(left, above)
                skips.append((above, left))
            if level < self.config.resolutions - 1:
                above = _list(self.shrink["above"])[level](above)
                left = _list(self.shrink["left"])[level](left)
                skips.append((above, left))
        above, left = skips.pop()
        for level in range(self.config.resolutions):
            blocks = zip(_list(self.up_above[level]), _list(self.up_left[level]), strict=True)
            for for_above, for_left in blocks:
                skip_above, skip_left = skips.pop()
                above = for_above(above, skip_above)
                left = for_left(left, torch.cat([above, skip_left], dim=1))
            if level < self.config.resolutions - 1:
                above = _list(self.grow["above"])[level](above)
                left = _list(self.grow["left"])[level](left)
        assert not skips
        out: Tensor = self.likelihood(F.elu(left))
        return out

    # ------------------------------------------------------------------ public use
    def log_prob(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """log p(x) of uint8 images (B, C, H, W), nats, (B,) float64; nothing random is drawn."""
        x = images.float() / 255.0
        return self.likelihood.log_prob(self.parameters_of(x), x)

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Data-dependent initialisation on uint8 images (B, C, H, W), B ≥ 2."""
        with initialising(self):
            self.log_prob(images)

    def loss(self, images: Tensor, epoch: int) -> dict[str, Tensor]:
        """−log p(x), mean over the batch, nats per image; `epoch` is not used."""
        log_prob = self.log_prob(images).mean()
        return {"loss": -log_prob, "elbo": log_prob.detach()}

    @torch.no_grad()
    def sample(self, n: int, noise: Noise | None = None) -> Tensor:
        """n images (n, C, H, W) uint8, one forward pass a pixel."""
        noise = noise or FreshNoise(n, self.likelihood.layer.bias.device)
        images = torch.zeros(
            n, *self.shape, dtype=torch.uint8, device=self.likelihood.layer.bias.device
        )
        for row in range(self.shape[1]):
            for column in range(self.shape[2]):
                parameters = self.parameters_of(images.float() / 255.0)
                drawn = self.likelihood.sample(parameters, noise.scope(f"{row}/{column}"))
                images[:, :, row, column] = drawn[:, :, row, column]
        return images


def _list(modules: nn.Module) -> Sequence[nn.Module]:
    return cast("Sequence[nn.Module]", modules)


def _down_shift(x: Tensor) -> Tensor:
    """One row down, zeros on top."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def _right_shift(x: Tensor) -> Tensor:
    """One column to the right, zeros at the left."""
    return F.pad(x, (1, 0))[:, :, :, :-1]

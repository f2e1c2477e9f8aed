"""Glow: a normalising flow with invertible 1×1 convolutions (Kingma and Dhariwal 2018, 1807.03039).

One step is ActNorm → invertible 1×1 convolution (PLU form) → affine coupling; a level squeezes 2×2
blocks into channels, takes K steps and, but for the last level, splits off half of the channels as
a latent with a Gaussian whose mean and scale a zero-initialised convolution reads from the other
half.  With x̃ = (x + u)/256 − ½ for an 8-bit image x and u uniform on [0, 1),
    log p(x) = Σ log N(z) + Σ log|det| − D ln 256,
nats per image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.layers.noise import FreshNoise, Noise

if TYPE_CHECKING:
    from oodbench.models.flows.config import GlowConfig

EPSILON = 1e-6


class ActNorm(nn.Module):
    """y = e^s · (x + b) per channel, with b and s set by the first batch to mean 0, variance 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("initialised", torch.tensor(False))
        self.initialising = False

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        self.bias.copy_(-mean.view_as(self.bias))
        self.log_scale.copy_(-0.5 * torch.log(variance + EPSILON).view_as(self.log_scale))
        self.initialised.fill_(True)  # type: ignore[operator]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log|det|, a scalar that is the same for every image."""
        if self.initialising:
            self._initialise(x)
        size = x.shape[2] * x.shape[3]
        return (x + self.bias) * torch.exp(self.log_scale), size * self.log_scale.double().sum()

    def inverse(self, y: Tensor) -> Tensor:
        """x."""
        return y * torch.exp(-self.log_scale) - self.bias


class InvertibleConv(nn.Module):
    """W = P L (U + diag(sign · e^s)): 1×1 convolution whose determinant is the sum of s."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        p, lower, upper = torch.linalg.lu(rotation)
        diagonal = torch.diagonal(upper)
        self.register_buffer("permutation", p)
        self.register_buffer("sign", torch.sign(diagonal))
        self.lower = nn.Parameter(torch.tril(lower, -1))
        self.upper = nn.Parameter(torch.triu(upper, 1))
        self.log_diagonal = nn.Parameter(torch.log(diagonal.abs()))
        self.permutation: Tensor
        self.sign: Tensor

    def _factors(self) -> tuple[Tensor, Tensor]:
        lower = torch.tril(self.lower, -1) + torch.eye(len(self.sign), device=self.sign.device)
        upper = torch.triu(self.upper, 1) + torch.diag(self.sign * torch.exp(self.log_diagonal))
        return lower, upper

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log|det|."""
        lower, upper = self._factors()
        weight = self.permutation @ lower @ upper
        size = x.shape[2] * x.shape[3]
        return F.conv2d(x, weight[:, :, None, None]), size * self.log_diagonal.double().sum()

    def inverse(self, y: Tensor) -> Tensor:
        """x, by two triangular systems."""
        lower, upper = self._factors()
        columns = y.permute(1, 0, 2, 3).flatten(1)
        solved = torch.linalg.solve_triangular(
            lower, self.permutation.T @ columns, upper=False, unitriangular=True
        )
        x: Tensor = torch.linalg.solve_triangular(upper, solved, upper=True)
        return x.view(y.shape[1], y.shape[0], *y.shape[2:]).permute(1, 0, 2, 3)


class ZeroConv(nn.Module):
    """3×3 convolution that starts at zero, its output times e^(3s) with a learned s per channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.log_scale = nn.Parameter(torch.zeros(outputs, 1, 1))
        nn.init.zeros_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) * torch.exp(3.0 * self.log_scale)
        return out


class Coupling(nn.Module):
    """The second half becomes (second + shift(first)) · σ(raw(first) + 2)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.kept = channels // 2
        changed = channels - self.kept
        self.conv1 = nn.Conv2d(self.kept, hidden, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(hidden, hidden, 1, bias=False)
        nn.init.normal_(self.conv1.weight, 0.0, 0.05)
        nn.init.normal_(self.conv2.weight, 0.0, 0.05)
        self.norm1, self.norm2 = ActNorm(hidden), ActNorm(hidden)
        self.out = ZeroConv(hidden, 2 * changed)

    def _shift_and_scale(self, first: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.norm1(self.conv1(first))[0])
        h = F.relu(self.norm2(self.conv2(h))[0])
        shift, raw = self.out(h).chunk(2, dim=1)
        return shift, raw + 2.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log|det| (B,) float64."""
        first, second = x[:, : self.kept], x[:, self.kept :]
        shift, raw = self._shift_and_scale(first)
        y = torch.cat([first, (second + shift) * torch.sigmoid(raw)], dim=1)
        return y, F.logsigmoid(raw).double().flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """x."""
        first, second = y[:, : self.kept], y[:, self.kept :]
        shift, raw = self._shift_and_scale(first)
        return torch.cat([first, second / torch.sigmoid(raw) - shift], dim=1)


class Step(nn.Module):
    """ActNorm, invertible convolution, coupling."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.mix = InvertibleConv(channels)
        self.coupling = Coupling(channels, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log|det| (B,) float64."""
        x, by_norm = self.norm(x)
        x, by_mix = self.mix(x)
        x, by_coupling = self.coupling(x)
        return x, by_norm + by_mix + by_coupling

    def inverse(self, y: Tensor) -> Tensor:
        """x."""
        out: Tensor = self.norm.inverse(self.mix.inverse(self.coupling.inverse(y)))
        return out


class Split(nn.Module):
    """Half of the channels leave as a latent; its Gaussian is read from the half that stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kept = channels // 2
        self.prior = ZeroConv(self.kept, 2 * (channels - self.kept))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What stays, what leaves, and (mean, log σ) of the latter stacked in dimension 1."""
        stays, leaves = x[:, : self.kept], x[:, self.kept :]
        return stays, leaves, self.prior(stays)


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, 4C, H/2, W/2)."""
    return F.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """Inverse of `squeeze`."""
    return F.pixel_shuffle(x, 2)


def gaussian_log_prob(z: Tensor, parameters: Tensor) -> Tensor:
    """log N(z; mean, σ), (B,) float64; `parameters` hold mean and log σ in dimension 1."""
    mean, log_scale = parameters.chunk(2, dim=1)
    element = -0.5 * ((z - mean) * torch.exp(-log_scale)) ** 2 - log_scale
    return element.double().flatten(1).sum(1) - 0.5 * math.log(2.0 * math.pi) * z[0].numel()


class Glow(nn.Module):
    """The flow for images of `shape` (C, H, W).

    Where 2^levels does not divide a side, zeros are appended on the right and below, and the flow
    is one of the larger image: log p(x, zeros) is a lower bound of log p(x), and comes near it as
    the flow learns that the zeros are always there.
    """

    def __init__(self, config: GlowConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        factor = 2**config.levels
        if factor > 2 * min(shape[1:]):
            raise ValueError(
                f"{config.levels} levels halve {shape[1]}×{shape[2]} to nothing; set fewer levels"
            )
        height, width = (-(-side // factor) * factor for side in shape[1:])
        self.inner = (shape[0], height, width)
        levels, splits = [], []
        channels = shape[0]
        for level in range(config.levels):
            channels *= 4
            levels.append(nn.ModuleList(Step(channels, config.hidden) for _ in range(config.steps)))
            if level < config.levels - 1:
                splits.append(Split(channels))
                channels = splits[-1].kept
        self.levels, self.splits = nn.ModuleList(levels), nn.ModuleList(splits)
        self.top_shape = (channels, self.inner[1] // factor, self.inner[2] // factor)
        self.top = nn.Parameter(torch.zeros(2 * channels, 1, 1))

    # ------------------------------------------------------------------ the map
    def transform(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Latents from the first split to the top, their Gaussians' parameters, log|det| (B,).

        Never under autocast: the W of an invertible convolution, formed in reduced precision, would
        be another than the one whose determinant is counted.
        """
        with torch.autocast(x.device.type, enabled=False):
            return self._transform(x)

    def _transform(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        latents, parameters = [], []
        determinant = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for index, steps in enumerate(self.levels):
            x = squeeze(x)
            for step in steps:  # type: ignore[attr-defined]
                x, added = step(x)
                determinant = determinant + added
            if index < len(self.splits):
                x, leaves, read = self.splits[index](x)
                latents.append(leaves)
                parameters.append(read)
        latents.append(x)
        parameters.append(self.top.expand(len(x), -1, *self.top_shape[1:]))
        return latents, parameters, determinant

    def inverse(self, latents: list[Tensor]) -> Tensor:
        """x̃ of the latents that `transform` gave."""
        x = latents[-1]
        for index in reversed(range(len(self.levels))):
            if index < len(self.splits):
                x = torch.cat([x, latents[index]], dim=1)
            x = self._backwards(index, x)
        return x

    def _backwards(self, level: int, x: Tensor) -> Tensor:
        for step in reversed(self.levels[level]):  # type: ignore[call-overload]
            x = step.inverse(x)
        return unsqueeze(x)

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x̃) of real-valued x̃ (B, C, H, W), nats, (B,) float64."""
        latents, parameters, determinant = self.transform(x)
        for z, read in zip(latents, parameters, strict=True):
            determinant = determinant + gaussian_log_prob(z, read)
        return determinant

    # ------------------------------------------------------------------ public use
    def observe(self, images: Tensor, noise: Noise) -> Tensor:
        """x̃ = (x + u)/256 − ½ of uint8 images, zeros appended where the flow needs them."""
        if self.inner != self.shape:
            missing = [big - side for big, side in zip(self.inner, self.shape, strict=True)]
            images = F.pad(images, (0, missing[2], 0, missing[1]))
        u = noise.uniform("dequantise", tuple(images.shape[1:]))
        return (images.float() + u) / 256.0 - 0.5

    def log_prob(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """log p(x) of uint8 images (B, C, H, W), nats, (B,) float64, with one draw of u each."""
        noise = noise or FreshNoise(images.shape[0], images.device)
        dims = math.prod(self.inner)
        return self.log_density(self.observe(images, noise)) - dims * math.log(256.0)

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Data-dependent initialisation of every ActNorm on uint8 images, B ≥ 2."""
        norms = [m for m in self.modules() if isinstance(m, ActNorm)]
        for norm in norms:
            norm.initialising = True
        try:
            self.log_prob(images)
        finally:
            for norm in norms:
                norm.initialising = False

    def loss(self, images: Tensor, epoch: int) -> dict[str, Tensor]:
        """−log p(x), mean over the batch, nats per image; `epoch` is not used."""
        log_prob = self.log_prob(images).mean()
        return {"loss": -log_prob, "elbo": log_prob.detach()}

    @torch.no_grad()
    def sample(self, n: int, noise: Noise | None = None, temperature: float = 1.0) -> Tensor:
        """n images (n, C, H, W) uint8; `temperature` scales σ of every latent."""
        noise = noise or FreshNoise(n, self.top.device)

        def draw(name: str, parameters: Tensor) -> Tensor:
            mean, log_scale = parameters.chunk(2, dim=1)
            eps = noise.normal(name, tuple(mean.shape[1:]))
            return mean + temperature * torch.exp(log_scale) * eps

        x = draw("top", self.top.expand(n, -1, *self.top_shape[1:]))
        for index in reversed(range(len(self.levels))):
            if index < len(self.splits):
                split = self.splits[index]
                x = torch.cat([x, draw(f"split{index}", split.prior(x))], dim=1)  # type: ignore[operator]
            x = self._backwards(index, x)
        values = torch.floor((x + 0.5) * 256.0)
        images = torch.nan_to_num(values).clamp(0, 255).to(torch.uint8)
        shown: Tensor = images[..., : self.shape[1], : self.shape[2]]
        return shown

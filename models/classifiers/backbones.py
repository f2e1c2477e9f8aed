"""Networks from images to features, for classifiers.

A backbone maps (B, C, H, W) to a list of feature tensors, one per stage, each (B, D) after
averaging over the map; the last is what a linear classifier reads.  ResNet and DenseNet are those
of torchvision, their first layers exchanged for a 3×3 convolution without pooling, as the papers
have them on 32×32 images (He et al. 2016, section 4.2; Huang et al. 2017, section 3).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from oodbench.models.classifiers.config import ConvNetwork, DenseNetwork, Network, ResNetwork


class Backbone(nn.Module):
    """`sizes`: D of every stage."""

    sizes: list[int]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features (B, D) of every stage of x (B, C, H, W)."""
        raise NotImplementedError


def make_backbone(config: Network, shape: tuple[int, int, int]) -> Backbone:
    """The network for images of `shape` (C, H, W); ValueError where it halves them away."""
    if config.kind == "conv":
        return ConvBackbone(config, shape)
    return ResNetBackbone(config, shape) if config.kind == "resnet" else (
        DenseNetBackbone(config, shape)
    )  # fmt: skip


class ConvBackbone(Backbone):
    """Stages: every convolution, then the dense layer."""

    def __init__(self, config: ConvNetwork, shape: tuple[int, int, int]) -> None:
        super().__init__()
        height, width = (side >> len(config.channels) for side in shape[1:])
        if min(height, width) < 1:
            raise ValueError(
                f"{len(config.channels)} poolings halve {shape[1]}×{shape[2]} to nothing"
            )
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2))
            for inputs, outputs in pairwise((shape[0], *config.channels))
        )
        self.dense = nn.Linear(config.channels[-1] * height * width, config.hidden)
        self.sizes = [*config.channels, config.hidden]

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x.mean((2, 3)))
        return [*found, torch.relu(self.dense(x.flatten(1)))]


class ResNetBackbone(Backbone):
    """Stages: the stem and the four groups of blocks."""

    def __init__(self, config: ResNetwork, shape: tuple[int, int, int]) -> None:
        super().__init__()
        with torch.device("cpu"):  # torch 2.6 cannot import it on the device "meta"
            from torchvision.models.resnet import BasicBlock, ResNet

        network = ResNet(BasicBlock, list(config.blocks), num_classes=1)
        stem = nn.Conv2d(shape[0], 64, 3, config.stem_stride, 1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.stages = nn.ModuleList(
            [
                nn.Sequential(stem, network.bn1, network.relu),
                network.layer1,
                network.layer2,
                network.layer3,
                network.layer4,
            ]
        )
        self.sizes = [64, 64, 128, 256, 512]

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x.mean((2, 3)))
        return found


class DenseNetBackbone(Backbone):
    """Stages: the dense blocks, the last one after its normalisation."""

    def __init__(self, config: DenseNetwork, shape: tuple[int, int, int]) -> None:
        super().__init__()
        with torch.device("cpu"):  # torch 2.6 cannot import it on the device "meta"
            from torchvision.models import DenseNet

        halvings = len(config.blocks) - 1 + (config.stem_stride == 2)
        if min(shape[1:]) >> halvings < 1:
            raise ValueError(f"{halvings} halvings reduce {shape[1]}×{shape[2]} to nothing")
        first = 2 * config.growth
        whole = DenseNet(config.growth, config.blocks, first, bn_size=4, num_classes=1)
        features = whole.features
        self.stem = nn.Conv2d(shape[0], first, 3, config.stem_stride, 1, bias=False)
        nn.init.kaiming_normal_(self.stem.weight)
        count = len(config.blocks)
        self.blocks = nn.ModuleList(
            getattr(features, f"denseblock{number}") for number in range(1, count + 1)
        )
        self.transitions = nn.ModuleList(
            getattr(features, f"transition{number}") for number in range(1, count)
        )
        self.norm = features.norm5
        self.sizes, channels = [], first
        for number, layers in enumerate(config.blocks, start=1):
            channels += layers * config.growth
            self.sizes.append(channels)
            channels = channels // 2 if number < count else channels

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.stem(x), []
        for block, transition in zip(self.blocks, self.transitions, strict=False):
            x = block(x)
            found.append(x.mean((2, 3)))
            x = transition(x)
        last = torch.relu(self.norm(self.blocks[-1](x)))
        return [*found, last.mean((2, 3))]

"""Any `torch.nn.Module` with ``log_prob(images[, noise])`` as a detector, without a recipe.

For a model that is trained elsewhere, or in a few lines of one's own.  A model that oodbench is to
train from a recipe, resumably and at several scales, is registered instead: see
`oodbench.baselines.generic`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.density import DensityDetector
from oodbench.errors import PluginError

if TYPE_CHECKING:
    import torch

    from oodbench.datasets.imageset import ImageSet
    from oodbench.detect.detector import FitContext
    from oodbench.seeding import KeyedNoise

SHAPE = "oodbench.shape"


class PlainDensity:
    """A `Density` of a model whose `log_prob` takes images, and `noise` and `samples` if it likes.

    `samples` are the importance samples of a bound.  PluginError where there is no such method.
    """

    def __init__(self, model: torch.nn.Module, samples: int = 1) -> None:
        function = getattr(model, "log_prob", None)
        if not callable(function):
            raise PluginError(f"{type(model).__name__} has no method log_prob(images[, noise])")
        self.function: Callable[..., torch.Tensor] = function
        accepted = inspect.signature(function).parameters
        self.noisy = "noise" in accepted
        self.more = {"samples": samples} if "samples" in accepted else {}

    def log_prob(self, images: torch.Tensor, noise: KeyedNoise) -> torch.Tensor:
        """(B,) float64, nats, of uint8 images (B, C, H, W)."""
        more = {**self.more, **({"noise": noise} if self.noisy else {})}
        return self.function(images, **more).double()


class ModuleDensity(DensityDetector):
    """−log p(x) of a module that the subclass makes.

    `module` builds it, with trained weights or without; `train` may train it.  Its `log_prob` gets
    uint8 images (B, C, H, W) and returns nats per image, log-probabilities of the 8-bit image.
    """

    def module(self, shape: tuple[int, int, int]) -> torch.nn.Module:
        """The module for images of `shape` (C, H, W)."""
        raise NotImplementedError

    def train(self, module: torch.nn.Module, images: torch.Tensor, context: FitContext) -> None:
        """Train it in place on uint8 images (N, C, H, W); the default leaves it as it is."""

    def fit(self, train: ImageSet, context: FitContext) -> None:
        """Build under the seed, and train."""
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            self.network, self.shape = self.module(train.shape).to(context.device), train.shape
            self.train(self.network, torch.from_numpy(train.images.copy()), context)

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """log_prob (B,), nats."""
        self.model = PlainDensity(self.network.to(images.device).eval())
        return super().measure(images, noise)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The module's, and the shape of the images."""
        import torch

        return {**self.network.state_dict(), SHAPE: torch.tensor(self.shape)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Build the module for the stored shape, and give it its tensors."""
        channels, height, width = state[SHAPE].tolist()
        self.shape = (channels, height, width)
        self.network = self.module(self.shape)
        self.network.load_state_dict({k: v for k, v in state.items() if k != SHAPE})

"""One sound detector, and others that each have one fault; a plug-in for tests of the check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from oodbench import Detector, FitContext, ImageSet, register


@register("sound", cite="test")
class Sound(Detector):
    """Squared distance from the mean of the training images."""

    def fit(self, train: ImageSet, context: FitContext) -> None:
        self.mean = torch.from_numpy(train.images.mean(0))

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"distance": ((images.double() - self.mean) ** 2).flatten(1).sum(1)}

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        return statistics["distance"]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mean}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self.mean = state["mean"]


@register("flipped", cite="test")
class Flipped(Sound):
    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        return -statistics["distance"]


@register("flipped-and-declared", cite="test")
class FlippedAndDeclared(Flipped):
    """The declaration for statistics that learn nothing does not excuse a flipped sign."""

    one_sided = "less varied"


@register("batch-dependent", cite="test")
class BatchDependent(Sound):
    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        x = images.double()
        return super().measure(x - 0.05 * x.mean(0))


@register("unseeded", cite="test")
class Unseeded(Sound):
    def fit(self, train: ImageSet, context: FitContext) -> None:
        super().fit(train, context)
        self.mean += torch.randn(self.mean.shape)


@register("undeclared-noise", cite="test")
class UndeclaredNoise(Sound):
    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return super().measure(images + torch.randn(images.shape))


@register("nan-on-constant", cite="test")
class NaNOnConstant(Sound):
    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        flat = images.double().flatten(1)
        z = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)
        distance = super().measure(images)["distance"]
        return {"distance": distance + 0 * z.sum(1)}


@register("peeks-by-loading", cite="test")
class PeeksByLoading(Sound):
    def fit(self, train: ImageSet, context: FitContext) -> None:
        from oodbench.datasets.loading import find_places, load

        super().fit(train, context)
        load("photos", "test", find_places((), str(context.checkpoint / "store")))


@register("peeks-at-files", cite="test")
class PeeksAtFiles(Sound):
    def fit(self, train: ImageSet, context: FitContext) -> None:
        super().fit(train, context)
        for path in Path(train.name).parent.glob("*.npz"):
            np.load(path, allow_pickle=False)["images"]


@register("wrong-shape", cite="test")
class WrongShape(Sound):
    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"distance": (images.double() - self.mean).flatten(2)}


@register("half-precision", cite="test")
class HalfPrecision(Sound):
    """Overflows at 65,504, which only white images reach here."""

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        energy = ((images.half() / 7.5) ** 2).flatten(1).sum(1, dtype=torch.float16)
        return {"distance": super().measure(images)["distance"] + 1e-9 * energy.double()}


@register("forgets", cite="test")
class Forgets(Sound):
    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Nothing to restore."""


@register("order-dependent", cite="test")
class OrderDependent(Sound):
    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.argsort(np.argsort(statistics["distance"])).astype(np.float64)


@register("raises", cite="test")
class Raises(Sound):
    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        raise KeyError("no such layer")


@register("keeps-an-array", cite="test")
class KeepsAnArray(Sound):
    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mean.numpy()}  # type: ignore[dict-item]


@register("pickles", cite="test")
class Pickles(Sound):
    def fit(self, train: ImageSet, context: FitContext) -> None:
        super().fit(train, context)
        torch.save({"mean": self.mean}, context.checkpoint / "mean.pt")


@register("needless-noise", cite="test")
class NeedlessNoise(Detector):
    one_sided = "more varied"

    def measure(self, images: torch.Tensor, noise: object) -> dict[str, torch.Tensor]:
        return {"value": images.double().flatten(1).var(1)}

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        return statistics["value"]


@register("other-cost", cite="test")
class OtherCost(Sound):
    """Runs its network twice and says once."""

    cost = "f"

    def __init__(self) -> None:
        self.network = torch.nn.Linear(1, 1).double()

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        flat = images.double().flatten(1).mean(1, keepdim=True)
        twice = self.network(flat) + self.network(flat)
        return {"distance": super().measure(images)["distance"] + 0 * twice[:, 0]}


@register("grey-only", cite="test")
class GreyOnly(Sound):
    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return super().measure(images.reshape(-1, 1, 8, 8))


@register("labelled", category="labels", cite="test")
class Labelled(Detector):
    """Distance to the nearest class, learned in `calibrate` from statistics and labels; sound."""

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"pixels": images.double().flatten(1)}

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        labels = statistics["label"]
        known = np.unique(labels)
        self.means = np.stack([statistics["pixels"][labels == k].mean(0) for k in known])

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        away = statistics["pixels"][:, None] - self.means
        nearest: np.ndarray = (away**2).sum(2).min(1)
        return nearest


@register("takes-by-position", cite="test")
class TakesByPosition(Sound):
    """Unpacks its state in the order in which it was given; sound, since the order is kept."""

    def fit(self, train: ImageSet, context: FitContext) -> None:
        super().fit(train, context)
        self.spread = torch.from_numpy(train.images.std(0)) + 1.0

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        z = (images.double() - self.mean) / self.spread
        return {"distance": (z**2).flatten(1).sum(1)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"the_spread": self.spread, "mean": self.mean, "also": self.mean}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self.spread, self.mean, _ = state.values()

"""The scores that any model gets for nothing, once it is registered.

    @generic_detectors(title="Tiny flow", cite="arXiv …")
    @register_model
    class TinyConfig(Frozen):
        name: ClassVar[str] = "tiny"
        ...

registers, on the variant "tiny" of whatever recipe the user gives or the plug-in brings,

    tiny, typicality-tiny, input-complexity-tiny, waic-tiny        a model with log_prob
    tiny, typicality-tiny, input-complexity-tiny                   a hierarchical one

`log_prob(images[, noise][, samples])` is (B,) nats of uint8 images (B, C, H, W).  A hierarchical
model has `statistics(images, noise)` instead: `elbo` (B,), `nll` (B, L) with NLL_k, and for every k
`kl_k` (B, L) with KL_l of the branch k, 0 for l ≤ k, nats; its configuration names its L `layers`.
Its first detector has the scores of `oodbench.baselines.scores`: L, L>k, LLR>k, LLR_ada, LLR_optk,
KL<=k.
One variant serves all: fits are shared, and the members of WAIC are fits of other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from oodbench.baselines.density import Density, DensityDetector
from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.baselines.input_complexity import (
    InputComplexity,
    InputComplexityHVAE,
    code_lengths,
)
from oodbench.baselines.modules import PlainDensity
from oodbench.baselines.scores import mean_bounds
from oodbench.baselines.typicality import _Typicality as Typicality
from oodbench.baselines.waic import WAIC
from oodbench.detect.detector import Detector, Statistics, register
from oodbench.errors import PluginError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.canonical_json import JSON
    from oodbench.seeding import KeyedNoise

C = TypeVar("C", bound=type)
MEMBERS = 5


class PlainDetector(DensityDetector):
    """−log p(x) of a registered model."""

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model."""
        self.model = self.density(models[0])

    def density(self, model: torch.nn.Module) -> Density:
        """Its log-density, with the importance samples of the recipe."""
        assert self.recipe is not None
        return PlainDensity(model, self.recipe.measure.importance_samples)


class PlainTypicality(Typicality, PlainDetector):
    """Typicality of a registered model."""


class PlainComplexity(PlainDetector, InputComplexity):
    """Input complexity with a registered model."""


class PlainWAIC(WAIC):
    """WAIC over members of a registered model."""

    density = PlainDetector.density


class HierarchicalDetector(HierarchicalVAE):
    """A hierarchical model that gives its own statistics; see the module's docstring."""

    @property
    def layers(self) -> int:
        """L, from the configuration's `layers`: a number or one item per layer."""
        assert self.recipe is not None
        found = self.recipe.config.layers  # type: ignore[attr-defined]
        return found if isinstance(found, int) else len(found)

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Statistics:
        """elbo (B,), nll (B, L), kl_k (B, L): what the model's `statistics` returns."""
        found = self.model.statistics(images, noise)  # type: ignore[operator]
        wanted = {"elbo": (len(images),)} | dict.fromkeys(
            ["nll", *(f"kl_{k}" for k in range(self.layers))], (len(images), self.layers)
        )
        for name, shape in wanted.items():
            if name not in found or tuple(found[name].shape) != shape:
                raise PluginError(
                    f"{type(self.model).__name__}.statistics must give {name!r} of shape {shape}"
                )
        if any(bool(found[f"kl_{k}"][:, :k].any()) for k in range(self.layers)):
            raise PluginError(
                f"{type(self.model).__name__}.statistics: kl_k must be 0 for the k lowest layers,"
                " which the branch k draws from the prior"
            )
        return Statistics({name: found[name] for name in wanted})

    def diagnose(
        self,
        statistics: Mapping[str, np.ndarray],
        totals: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
    ) -> dict[str, JSON]:
        """As of every hierarchical VAE, without active units."""
        return mean_bounds(statistics, shape)


class HierarchicalTypicality(Typicality, HierarchicalDetector):
    """Typicality of the bound of a hierarchical model."""

    log_likelihood = "elbo"


class HierarchicalComplexity(HierarchicalDetector):
    """Input complexity with the bound of a hierarchical model."""

    revision = InputComplexityHVAE.revision
    score_patterns = ("S",)
    cost = InputComplexityHVAE.cost
    environment = InputComplexityHVAE.environment
    scores = InputComplexityHVAE.scores
    score_names = InputComplexityHVAE.score_names

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Statistics:
        """The model's statistics, and the bits of every code."""
        return Statistics({**super().measure(images, noise), **code_lengths(images)})


def generic_detectors(
    *, title: str, cite: str = "", variant: str = "", hierarchical: bool = False,
    members: int = MEMBERS,
) -> Callable[[C], C]:  # fmt: skip
    """Decorator of a registered model's configuration class: register its generic detectors.

    They stand on the recipe variant `variant`, by default the model's name.  `members`: models in
    WAIC.  PluginError where a name is taken.
    """

    def decorate(config: C) -> C:
        name = str(config.name)  # type: ignore[attr-defined]
        kinds: list[tuple[str, type[Detector], str, str, str]] = [
            (name, PlainDetector, "unsupervised", title, cite),
            (f"typicality-{name}", PlainTypicality, "unsupervised", f"Typicality ({title})",
             "arXiv 1906.02994"),
            (f"input-complexity-{name}", PlainComplexity, "prior", f"IC ({title})",
             "arXiv 1909.11480"),
            (f"waic-{name}", PlainWAIC, "ensemble", f"WAIC ({members} {title})",
             "arXiv 1810.01392"),
        ]  # fmt: skip
        if hierarchical:
            own = (HierarchicalDetector, HierarchicalTypicality, HierarchicalComplexity)
            kinds = [(n, c, *rest) for (n, _, *rest), c in zip(kinds, own, strict=False)]  # type: ignore[misc]
        for known, base, category, shown, source in kinds:
            shared = base in (PlainTypicality, HierarchicalTypicality)
            body: dict[str, object] = {
                "__module__": config.__module__,
                "__qualname__": f"{config.__qualname__}.{known}",
                "__doc__": base.__doc__,
                "recipe_variant": variant or name,
                "measure_name": name if shared else known,
            }
            if issubclass(base, WAIC):
                body |= {"members": members, "cost": f"{members} f"}
            cls = cast("type[Detector]", type(known, (base,), body))
            register(known, category=category, cite=source, title=shown)(cls)
        return config

    return decorate

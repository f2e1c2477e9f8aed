"""Why an image scores as it does: a map per image, and the KL of every layer, where there are such.

A detector of one's own has a method ``explain(images, noise, score)`` that returns an
`Explanation`; for built-in ones a function stands in the entry-point group
``oodbench.explanations``, under the name of the measurement or of the detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

from oodbench.declare.registry import Registry
from oodbench.errors import ConfigError, PluginError

if TYPE_CHECKING:
    import torch

    from oodbench.detect.detector import Detector
    from oodbench.seeding import KeyedNoise


@dataclass(frozen=True)
class Explanation:
    """`map` (B, H, W): what every pixel adds to the score, `what` says in which unit.

    `kl` (B, L): nats of every layer, from the image upwards; None of a model without layers.
    """

    map: torch.Tensor
    what: str
    kl: torch.Tensor | None = None


Explain: TypeAlias = "Callable[[torch.Tensor, KeyedNoise, str], Explanation]"


def _adopt(name: str, value: object) -> Callable[..., Explanation]:
    if not callable(value):
        raise PluginError(f"explanation {name!r} is {value!r}; give a function")
    return cast("Callable[..., Explanation]", value)


EXPLANATIONS: Registry[Callable[..., Explanation]] = Registry(
    "explanation", "oodbench.explanations", _adopt
)


def explanation_of(detector: Detector) -> Explain:
    """What explains a detector's scores; ConfigError where nothing does."""
    own = getattr(detector, "explain", None)
    if own is not None:
        return cast("Explain", own)
    known = EXPLANATIONS.names()
    for name in (detector.name, detector.measure_name):
        if name in known:
            return cast("Explain", partial(EXPLANATIONS.get(name), detector))
    raise ConfigError(
        f"--explain: {detector.name} has no map of an image; those that have: {', '.join(known)}"
    )

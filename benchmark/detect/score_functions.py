"""The least detector: a pure function on the statistics of another detector.

    @score_function("kl-sum", on="informative-hvae", cite="doi or arXiv id")
    def kl_sum(statistics):                 # named arrays (N,) or (N, K) of N images
        return statistics["kl_0"].sum(1)    # (N,), higher = more OOD

It stands on the fits and the measurements of that detector, under their very keys: where those are
stored, nothing is trained or measured.  Its own are its name, its `revision` and its scores.  With
a second parameter it also gets the statistics of a seeded subset of the ID training images.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeVar

from oodbench.detect.detector import DETECTORS, Detector, register
from oodbench.errors import PluginError

if TYPE_CHECKING:
    import numpy as np

F = TypeVar("F", bound="Callable[..., np.ndarray]")


class ScoreFunction(Detector):
    """What the class made of a function adds to that of the detector it reads."""

    function: ClassVar[Callable[..., np.ndarray]]
    calibrate = Detector.calibrate

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The one score, unnamed."""
        return {"": type(self).function(statistics)}

    def score_names(self) -> list[str]:
        """The one score."""
        return [""]

    def oracles(self) -> dict[str, list[str]]:
        """There is nothing to choose from."""
        return {}


class ReferencedScoreFunction(ScoreFunction):
    """A function that is also given statistics of ID training images."""

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Keep them."""
        self.reference = statistics

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The one score, unnamed."""
        return {"": type(self).function(statistics, self.reference)}


def score_function(
    name: str, *, on: str, cite: str = "", title: str = "", revision: int = 1, unoriented: str = ""
) -> Callable[[F], F]:
    """Register the decorated function as the detector `name`; the function stays what it is.

    `on` is a registered detector; category, cost and diagnostics are its own.  Bump `revision` when
    the scores change.  `unoriented` says why noise does not settle the sign of this score, for
    `oodbench check`; what the detector says of its own scores does not hold for it.

    Raises UnknownNameError where `on` is not registered, PluginError where the function does not
    take one parameter (statistics) or two (statistics, reference).
    """

    def decorate(function: F) -> F:
        named = DETECTORS.get(DETECTORS.canonical(on))
        base = named.reads or named
        kind = ReferencedScoreFunction if _parameters(name, function) == 2 else ScoreFunction
        body: dict[str, object] = {
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__doc__": function.__doc__,
            "function": staticmethod(function),
            "reads": base,
            "revision": revision,
            "measure_name": base.measure_name,
            "score_patterns": (),
            "groups": {},
            "unoriented": {"*": unoriented} if unoriented else {},
        }
        cls = type(function.__name__, (kind, base), body)
        register(name, category=base.category, cite=cite, title=title)(cls)
        return function

    return decorate


def _parameters(name: str, function: Callable[..., object]) -> int:
    found = inspect.signature(function).parameters.values()
    required = [p for p in found if p.default is p.empty]
    if len(required) not in (1, 2) or any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in required):
        raise PluginError(
            f"score function {name!r}: it takes (statistics) or (statistics, reference), not"
            f" {inspect.signature(function)}"
        )
    return len(required)

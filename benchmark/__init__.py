"""oodbench: unsupervised out-of-distribution detection with deep generative models, benchmarked.

    from oodbench import Detector, register        # write a detector
    from oodbench import load_pair, run, leaderboard, compare

The names are loaded when they are first used; `import oodbench` alone is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oodbench.api import LoadedPair, compare, leaderboard, load_pair, run
    from oodbench.datasets.imageset import ImageSet
    from oodbench.detector import Detector, FitContext, Statistics, register
    from oodbench.errors import OodbenchError
    from oodbench.recipes import register_model
    from oodbench.scorefunctions import score_function
    from oodbench.scoring import TrainedDetector, load_detector

__all__ = [
    "Detector",
    "FitContext",
    "ImageSet",
    "LoadedPair",
    "OodbenchError",
    "Statistics",
    "TrainedDetector",
    "compare",
    "leaderboard",
    "load_detector",
    "load_pair",
    "register",
    "register_model",
    "run",
    "score_function",
]

_HOMES = {
    "Detector": "oodbench.detector",
    "FitContext": "oodbench.detector",
    "ImageSet": "oodbench.datasets.imageset",
    "LoadedPair": "oodbench.api",
    "OodbenchError": "oodbench.errors",
    "Statistics": "oodbench.detector",
    "compare": "oodbench.api",
    "TrainedDetector": "oodbench.scoring",
    "leaderboard": "oodbench.api",
    "load_detector": "oodbench.scoring",
    "load_pair": "oodbench.api",
    "register": "oodbench.detector",
    "register_model": "oodbench.recipes",
    "run": "oodbench.api",
    "score_function": "oodbench.scorefunctions",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'oodbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

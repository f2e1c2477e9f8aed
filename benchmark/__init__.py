"""oodbench: unsupervised out-of-distribution detection with deep generative models, benchmarked.

    from oodbench import Detector, register        # write a detector
    from oodbench import load_pair, run, leaderboard, compare

The names are loaded when they are first used; `import oodbench` alone is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from oodbench.renamed import follow_renames

if TYPE_CHECKING:
    from oodbench.api import LoadedPair, compare, leaderboard, load_pair, run
    from oodbench.datasets.imageset import ImageSet
    from oodbench.declare.recipes import register_model
    from oodbench.deploy.scoring import TrainedDetector, load_detector
    from oodbench.detect.detector import Detector, FitContext, Statistics, register
    from oodbench.detect.score_functions import score_function
    from oodbench.errors import OodbenchError
    from oodbench.products import diagnose, export, figure, publish, report, scores, sweep

__all__ = [
    "Detector",
    "FitContext",
    "ImageSet",
    "LoadedPair",
    "OodbenchError",
    "Statistics",
    "TrainedDetector",
    "compare",
    "diagnose",
    "export",
    "figure",
    "leaderboard",
    "load_detector",
    "load_pair",
    "publish",
    "register",
    "register_model",
    "report",
    "run",
    "score_function",
    "scores",
    "sweep",
]

_HOMES = {
    "Detector": "oodbench.detect.detector",
    "FitContext": "oodbench.detect.detector",
    "ImageSet": "oodbench.datasets.imageset",
    "LoadedPair": "oodbench.api",
    "OodbenchError": "oodbench.errors",
    "Statistics": "oodbench.detect.detector",
    "compare": "oodbench.api",
    "TrainedDetector": "oodbench.deploy.scoring",
    "diagnose": "oodbench.products",
    "export": "oodbench.products",
    "figure": "oodbench.products",
    "leaderboard": "oodbench.api",
    "load_detector": "oodbench.deploy.scoring",
    "load_pair": "oodbench.api",
    "publish": "oodbench.products",
    "register": "oodbench.detect.detector",
    "register_model": "oodbench.declare.recipes",
    "report": "oodbench.products",
    "run": "oodbench.api",
    "score_function": "oodbench.detect.score_functions",
    "scores": "oodbench.products",
    "sweep": "oodbench.products",
}

follow_renames()


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'oodbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

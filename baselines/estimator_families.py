"""Detectors by name and parameters: ``sklearn.IsolationForest,n_estimators=200``, ``pyod.KNN``.

Every outlier or density estimator of scikit-learn, and every class of PyOD, by its class name.
Parameters are those of the class, and two of ours: `pca` (components kept) and `max_images` (the
most training images that it is fitted on, a seeded subset; 0: all).  Where the time to fit or to
score grows faster than the number of images, a cap is set unless `max_images` says otherwise.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from oodbench.baselines.estimators import Estimator, OutlierEstimator, PyODEstimator
from oodbench.declare.family_names import ParametrisedName, Value
from oodbench.detect.detector import Detector
from oodbench.errors import ConfigError, PluginError, UnknownNameError

OURS = ("max_images", "pca")
CAP = 10_000


@dataclass(frozen=True)
class Known:
    """Where a class stands, its parameters, cap and citation."""

    module: str
    parameters: Sequence[str] = ()
    cap: int | None = CAP
    cite: str = ""


_JMLR = "scikit-learn, JMLR 12:2825"
SKLEARN = {
    "BayesianGaussianMixture": Known("sklearn.mixture", cite=_JMLR),
    "EllipticEnvelope": Known("sklearn.covariance", cite="doi 10.1080/00401706.1999.10485670"),
    "FactorAnalysis": Known("sklearn.decomposition", cite=_JMLR),
    "GaussianMixture": Known("sklearn.mixture", cite=_JMLR),
    "IsolationForest": Known("sklearn.ensemble", cap=None, cite="doi 10.1109/ICDM.2008.17"),
    "KernelDensity": Known("sklearn.neighbors", cite=_JMLR),
    "LocalOutlierFactor": Known("sklearn.neighbors", cite="doi 10.1145/342009.335388"),
    "OneClassSVM": Known("sklearn.svm", cap=5_000, cite="doi 10.1162/089976601750264965"),
    "PCA": Known("sklearn.decomposition", cap=None, cite=_JMLR),
    "SGDOneClassSVM": Known("sklearn.linear_model", cap=None, cite=_JMLR),
}
#: Of PyOD's classes, those whose cost is linear in the number of images.
PYOD_UNCAPPED = {"HBOS", "IForest", "INNE", "LODA", "PCA"}


def sklearn_detector(name: ParametrisedName) -> type[Detector]:
    """The detector of a class of scikit-learn.

    UnknownNameError on a class or parameter that does not exist, ConfigError on a bad value.
    """
    if name.member not in SKLEARN:
        raise UnknownNameError("estimator of scikit-learn", name.member, SKLEARN)
    known = SKLEARN[name.member]
    cls = getattr(importlib.import_module(known.module), name.member)
    fixed = {"novelty": True} if name.member == "LocalOutlierFactor" else {}
    parameters = [p for p in inspect.signature(cls).parameters if p not in fixed]
    return _detector(name, Known(known.module, parameters, known.cap, known.cite), fixed,
                     OutlierEstimator)  # fmt: skip


def pyod_detector(name: ParametrisedName) -> type[Detector]:
    """The detector of a class of PyOD, which is imported only when it is fitted.

    PluginError where PyOD is not installed, UnknownNameError on a class or parameter that does not
    exist, ConfigError on a bad value.
    """
    classes = pyod_classes()
    if name.member not in classes:
        raise UnknownNameError("estimator of PyOD", name.member, classes)
    return _detector(name, classes[name.member], {}, PyODEstimator)


def _detector(
    name: ParametrisedName, known: Known, fixed: Mapping[str, Value], base: type[OutlierEstimator]
) -> type[Detector]:
    given = dict(name.parameters)
    own = {key: given.pop(key) for key in OURS if key in given}
    seeded = "random_state" in known.parameters
    valid = [p for p in known.parameters if p != "random_state"]
    for key in given:
        if key == "random_state":
            raise ConfigError(f"{name}: random_state is the seed of the run; see --seeds")
        if key not in valid:
            raise UnknownNameError(
                f"parameter of {name.family}.{name.member}", key, [*valid, *OURS]
            )
    for key, value in own.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < (key == "pca"):
            raise ConfigError(f"{name}: {key} must be a whole number, not {value!r}")
    cap, pca = own.get("max_images", known.cap), own.get("pca")

    def make(self: OutlierEstimator, seed: int) -> Estimator:
        cls = getattr(importlib.import_module(known.module), name.member)
        estimator: Estimator = cls(**given, **fixed, **({"random_state": seed} if seeded else {}))
        return estimator

    shown = ",".join(str(name).split(",")[1:])
    body = {
        "__module__": __name__,
        "__doc__": f"{known.module}.{name.member}.",
        "name": str(name),
        "measure_name": str(name),
        "title": f"{name.member}({shown})" if shown else name.member,
        "cite": known.cite,
        "fit_images": cap or None,
        "pca": pca,
        "make": make,
    }
    return type(name.member, (base,), body)


@cache
def pyod_classes() -> dict[str, Known]:
    """PyOD's classes by name, read from its source: importing it takes seconds."""
    spec = importlib.util.find_spec("pyod")
    if spec is None or not spec.submodule_search_locations:
        raise PluginError("pyod is not installed; pip install 'oodbench[pyod]'")
    found = {}
    for path in sorted(Path(spec.submodule_search_locations[0], "models").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith(("_", "Base")):
                continue
            methods = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}
            deep = any("BaseDeepLearningDetector" in ast.unparse(base) for base in node.bases)
            if "__init__" in methods and (deep or {"fit", "decision_function"} <= methods.keys()):
                arguments = methods["__init__"].args
                names = [a.arg for a in (*arguments.args[1:], *arguments.kwonlyargs)]
                cap = None if node.name in PYOD_UNCAPPED else CAP
                found[node.name] = Known(
                    f"pyod.models.{path.stem}", names, cap, "PyOD, arXiv 1901.01588"
                )
    return found

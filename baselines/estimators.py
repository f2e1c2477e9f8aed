"""Outlier estimators with scikit-learn's interface as detectors: pixels in, one score out.

Features are pixels / 255, flattened, float32; `pca` keeps that many principal components of the
training features.  Scores are oriented by the libraries' conventions: scikit-learn's
`score_samples` is higher for what is more normal and enters negated, PyOD's `decision_function` is
higher for what is more outlying.

A fitted estimator is no set of tensors, and a file that could hold any Python object could hold any
code.  So none is stored: the fit is repeated from the images and the seed whenever a stored one is
taken up, and the scores of some training images, which are stored, say whether it is the same.
Library versions are part of the keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from oodbench.detect.detector import Detector, FitContext
from oodbench.errors import ConfigError, OodbenchError, PluginError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.canonical_json import JSON
    from oodbench.datasets.imageset import ImageSet

#: Training images whose scores identify a fit.
PROBE = 16
#: Relative difference that another order of summation may make.
TOLERANCE = 1e-5
#: Training images whose rank is found where linear algebra failed; components that are advised.
RANKED, ADVISED = 2_000, 20
ALL_EQUAL = "all training images are equal, and nothing can be learned from them"


class Estimator(Protocol):
    """What is asked of an estimator."""

    def fit(self, features: np.ndarray) -> object:
        """Learn from (N, D)."""


class Density(Estimator, Protocol):
    """scikit-learn's: higher = more normal."""

    def score_samples(self, features: np.ndarray) -> np.ndarray:
        """(N,)."""


class Outlyingness(Estimator, Protocol):
    """PyOD's: higher = more outlying."""

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """(N,)."""


class OutlierEstimator(Detector):
    """An estimator with `score_samples`, higher = more normal, as scikit-learn's have.

    A subclass provides `make`.  Raises ConfigError on what the estimator refuses, PluginError where
    its scores depend on the other images of a batch or on more than images and seed.
    """

    cost = "0"
    refits = True
    pca: ClassVar[int | None] = None
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn",)

    def make(self, seed: int) -> Estimator:
        """The estimator to fit, seeded where it draws anything."""
        raise NotImplementedError

    def outlyingness(self, features: np.ndarray) -> np.ndarray:
        """(N,) scores of features (N, D), higher = more outlying."""
        return -cast(Density, self.estimator).score_samples(features)

    def environment(self) -> Mapping[str, JSON]:
        """Versions of the libraries."""
        return {name: version(name) for name in self.libraries}

    def fit(self, train: ImageSet, context: FitContext) -> None:
        """Reduce, fit, and score the probe."""
        import numpy as np

        features = pixels(train.images)
        self.reduction = None
        try:
            if self.pca is not None:
                from sklearn.decomposition import PCA

                self.reduction = PCA(self.pca, svd_solver="randomized", random_state=0)
                features = self.reduction.fit_transform(features)
            self.estimator = self.make(context.seed)
            with global_seed(context.seed):
                self.estimator.fit(features)
            together = self._scores(features[:PROBE])
            alone = [self._scores(row[None]) for row in features[:PROBE]]
            if not np.isfinite(together).all():
                raise np.linalg.LinAlgError("its scores of training images are not finite")
        except OodbenchError:
            raise
        except np.linalg.LinAlgError as error:
            raise ConfigError(f"{self.name}: {_singular(features, self.name, error)}") from error
        except (ValueError, TypeError, ImportError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if len(features) and (features == features[0]).all():
                reason = f"{reason} ({ALL_EQUAL})"
            raise ConfigError(f"{self.name}: {reason}") from error
        if not np.allclose(together, np.concatenate(alone), rtol=TOLERANCE):
            raise PluginError(
                f"{self.name}: its score of an image depends on the others of the batch, so that no"
                " result could be repeated; take another estimator"
            )
        self.probe = together

    def _scores(self, features: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.asarray(self.outlyingness(features), dtype=np.float64).reshape(-1)

    def measure(  # type: ignore[override]
        self, images: torch.Tensor, noise: None = None
    ) -> dict[str, torch.Tensor]:
        """outlyingness (B,)."""
        import torch

        features = pixels(images.cpu().numpy())
        if self.reduction is not None:
            features = self.reduction.transform(features)
        return {"outlyingness": torch.from_numpy(self._scores(features))}

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """The statistic itself."""
        return statistics["outlyingness"]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Scores of the first training images."""
        import torch

        return {"probe": torch.from_numpy(self.probe)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Compare them with those of the fit that was repeated."""
        import numpy as np

        if not np.allclose(state["probe"].numpy(), self.probe, rtol=TOLERANCE):
            raise PluginError(
                f"{self.name}: fitted again, it gives other scores than the stored fit; it depends"
                " on more than the images, the seed and the versions of its libraries"
            )


class PyODEstimator(OutlierEstimator):
    """An estimator with PyOD's `decision_function`, higher = more outlying."""

    libraries = ("pyod", "scikit-learn")

    def outlyingness(self, features: np.ndarray) -> np.ndarray:
        """(N,) scores of features (N, D), higher = more outlying."""
        return cast(Outlyingness, self.estimator).decision_function(features)


def pixels(images: np.ndarray) -> np.ndarray:
    """(N, C·H·W) float32 in 0 … 1 of uint8 images (N, C, H, W)."""
    import numpy as np

    flat: np.ndarray = images.reshape(len(images), -1).astype(np.float32)
    flat /= 255.0
    return flat


def _singular(features: np.ndarray, name: str, error: Exception) -> str:
    """Why linear algebra failed on features (N, D) without variance in some direction; the mend."""
    import numpy as np

    some = features[:RANKED].astype(np.float64)
    if (some == some[0]).all():
        return ALL_EQUAL
    rank = int(np.linalg.matrix_rank(some - some.mean(axis=0)))
    base = name.split(",pca=")[0]
    return (
        f"{str(error).strip().splitlines()[0].rstrip('.')}; the training features vary in {rank} of"
        f" {features.shape[1]} directions: keep fewer principal components, as in"
        f" '{base},pca={min(ADVISED, rank)}'"
    )


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators of numpy and torch, which some estimators draw from, meanwhile."""
    import numpy as np
    import torch

    before = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002

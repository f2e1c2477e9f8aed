"""Scoring new images with an exported detector: score, p-value, in or out.

    detector = oodbench.load_detector("export/")
    detector.score(["photo.png", "folder/", "more.npz"], convert=["grey", "resize"])

p = (1 + #{ID test scores ≥ s}) / (n + 1): valid for an image drawn like the ID test images (a
conformal p-value: Bates, Candès, Lei, Romano, Sesia, Annals of Statistics 2023).  "in" where s does
not exceed the threshold of the export.

Detectors that draw key every draw by an image.  An ID test image is known by its pixels and gets
the draws that it had in the benchmark; any other image gets draws keyed by the hash of its own
pixels, so that its score depends on no other image.  `noise="position"` keys by the place in the
list instead, as a benchmark run does with the images of a split.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.duplicates import SIZE, image_hashes
from oodbench.datasets.naming import step_name
from oodbench.datasets.single_images import Loose
from oodbench.deploy.bounded_building import building_within
from oodbench.deploy.exporting import read_export, threshold_at
from oodbench.deploy.given_images import Preparation
from oodbench.detect.detector import DETECTORS, Detector, wants_noise
from oodbench.detect.source_fingerprints import SCHEME, detector_source
from oodbench.errors import ConfigError, DataError, PluginError, StoreError, plugin_contract
from oodbench.flow.plan import column_name
from oodbench.seeding import NOISE_REVISION
from oodbench.train.torch_state import own_torch_state

if TYPE_CHECKING:
    import pandas

    from oodbench.declare.recipes import Recipe
    from oodbench.deploy.given_images import Given

NOISE = ("image", "position")
#: Keys of images that are not ID test images start here, above any index.
NEW = 1 << 62
COLUMNS = ("image", "score", "p_value", "decision")
log = logging.getLogger("oodbench.deploy.scoring")


@dataclass(frozen=True)
class TrainedDetector:
    """An exported detector, ready to score; made by `load_detector`.

    `shape` (C, H, W) of the images; `id_scores` (n,) sorted; an image with a score up to
    `threshold` is "in".  `in_dist` is the name of the ID set, with the steps it went through.
    """

    detector: Detector
    score_name: str
    shape: tuple[int, int, int]
    seed: int
    id_scores: np.ndarray
    id_images: Mapping[bytes, int]
    threshold: float
    manifest: Mapping[str, JSON]
    device: str
    #: Models are moved and refitted while they measure: one thread at a time.
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def in_dist(self) -> str:
        """The ID set as it was named."""
        return str(cast("Mapping[str, JSON]", self.manifest["in_dist"])["name"])

    @property
    def steps(self) -> tuple[str, ...]:
        """What the ID set went through, without the range of its values."""
        held = cast("Mapping[str, list[str]]", self.manifest["in_dist"])["steps"]
        return tuple(step for step in held if step_name(step) != "range")

    @property
    def preparation(self) -> Preparation:
        """How given images become those of the detector."""
        return Preparation(self.shape, self.steps, self.values, self.id_images.__contains__)

    @property
    def values(self) -> tuple[float, float] | None:
        """The numbers that were black and white in the ID set, None where it was 8-bit."""
        held = cast("list[float] | None", self.manifest.get("values"))
        return None if held is None else (held[0], held[1])

    def score(
        self,
        images: Given,
        *,
        convert: Sequence[str] = (),
        prepared: bool = False,
        noise: str = "image",
        skip_unreadable: bool = False,
        batch_size: int | None = None,
    ) -> pandas.DataFrame:
        """A row per image: image (name or position), score, p_value, decision ("in" or "out").

        `images`: paths, an array or a list of images (`oodbench.deploy.given_images`); `convert`:
        of grey, rgb, resize, crop, nearest, invert, and range(low:high), the values of black and
        white.  The steps that the ID set went through follow, unless the images are `prepared`.
        Raises DataError where an image does not fit, or cannot be read: with `skip_unreadable` its
        decision is "unreadable" and its score NaN.
        """
        if noise not in NOISE:
            raise ConfigError(f"noise must be 'image' or 'position', not {noise!r}")
        found = self.preparation.read(
            images, convert, prepared=prepared, by_position=noise == "position"
        )
        if found.unreadable and not skip_unreadable:
            listed = "; ".join(f"{name}: {reason}" for name, reason in found.unreadable.items())
            raise DataError(
                f"{len(found.unreadable):,} of {len(found.unreadable) + len(found.names):,} images"
                f" cannot be read, give --skip-unreadable to score the others: {listed}"
            )
        return self._frame(found, self.scores_of(found.images, noise, batch_size))

    def scores_of(
        self, images: np.ndarray, noise: str = "image", batch_size: int | None = None
    ) -> np.ndarray:
        """(N,) scores of images (N, C, H, W) uint8 of the detector's shape.

        Several threads may ask at once: they wait for each other.
        """
        from oodbench.flow.measuring.blocks import measure_now

        if not len(images):
            return np.zeros(0)
        keys = np.arange(len(images)) if noise == "position" else self.keys_of(images)
        with self.lock, own_torch_state():
            statistics = measure_now(
                self.detector, images, keys, seed=self.seed, device=self.device,
                batch_size=batch_size or (100 if self.device == "cpu" else 500),
            )  # fmt: skip
            with plugin_contract(self.detector, "scores"):
                scored = self.detector.scores(statistics)
        values = {column_name(name): score for name, score in scored.items()}
        return np.asarray(values[self.score_name], dtype=np.float64)

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """(N,): (1 + #{ID test scores ≥ s}) / (n + 1)."""
        count = len(self.id_scores)
        above = count - np.searchsorted(self.id_scores, scores, side="left")
        return np.asarray((1 + above) / (count + 1))

    def keys_of(self, images: np.ndarray) -> np.ndarray:
        """What every image's draws are keyed by: its index in the ID test split, or its hash."""
        hashes = image_hashes(images)
        each = [hashes[i : i + SIZE] for i in range(0, len(hashes), SIZE)]
        return np.array([
            self.id_images.get(h, NEW + int.from_bytes(h[:8], "big") % NEW) for h in each
        ], dtype=np.int64)  # fmt: skip

    def _frame(self, found: Loose, scores: np.ndarray) -> pandas.DataFrame:
        import pandas as pd

        decisions = np.where(scores <= self.threshold, "in", "out").tolist()
        lost = list(found.unreadable)
        columns = (
            [*found.names, *lost],
            [*scores.tolist(), *[np.nan] * len(lost)],
            [*self.p_values(scores).tolist(), *[np.nan] * len(lost)],
            [*decisions, *["unreadable"] * len(lost)],
        )
        # Names as they are: one that is no UTF-8 fits no string type of pandas.
        names = pd.Series(columns[0], dtype=object)
        return pd.DataFrame(dict(zip(COLUMNS, (names, *columns[1:]), strict=True)))


def load_detector(
    folder: str | Path, *, plugins: str | Path | Sequence[str | Path] = (), device: str = "auto"
) -> TrainedDetector:
    """The detector that `oodbench export` wrote to `folder`; runs no code from it.

    `plugins`: files or modules that register a detector which is not built in.  Raises StoreError
    where a file is not as it was written, PluginError where the detector is not registered here,
    ConfigError where it or its model has another revision now.
    """
    from oodbench.declare.registry import load_plugin
    from oodbench.store.payload import unpack_table
    from oodbench.train.devices import pick_device

    for plugin in [plugins] if isinstance(plugins, str | Path) else plugins:
        load_plugin(str(plugin))
    where = Path(folder)
    manifest, files = read_export(where)
    try:
        with own_torch_state():
            detector = _attached(manifest, files, where, device)
        id_scores = unpack_table(files["id_scores.parquet"])["score"]
        known = _known_images(manifest, files["id_images.bin"])
        threshold = _threshold(cast("Mapping[str, float]", manifest["threshold"]), id_scores, where)
        shape = cast("tuple[int, int, int]", tuple(cast("list[int]", manifest["shape"])))
        return TrainedDetector(
            detector, str(manifest["score"]), shape, int(cast(int, manifest["seed"])), id_scores,
            known, threshold, manifest, pick_device(device),
        )  # fmt: skip
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise StoreError(f"{where} is not a whole export ({error}); export it again") from error


def _threshold(held: Mapping[str, float], id_scores: np.ndarray, where: Path) -> float:
    """The threshold; ConfigError on one that does not hold its false alarm, as they once were."""
    now = threshold_at(id_scores, held["accept_percent"])
    if held["value"] != now:
        raise ConfigError(
            f"{where}: its threshold {held['value']:g} lets through more false alarms than"
            f" {100 - held['accept_percent']:g} %, which {now:g} holds; export it again"
        )
    return now


def _known_images(manifest: Mapping[str, JSON], hashes: bytes) -> dict[bytes, int]:
    """Index in the ID test split of every ID test image, the first of equal ones."""
    starts = range(len(hashes) - SIZE, -1, -SIZE)
    return {hashes[start : start + SIZE]: start // SIZE for start in starts}


def _attached(
    manifest: Mapping[str, JSON], files: Mapping[str, bytes], where: Path, device: str
) -> Detector:
    """The detector with its weights and its reference."""
    from oodbench.flow.attach import prepare, trained
    from oodbench.store.payload import unpack_table, unpack_tensors

    detector = _registered(manifest, where)
    recipes = [_recipe(r, where) for r in cast("list[Mapping[str, JSON]]", manifest["recipes"])]
    weights = [unpack_tensors(files[n]) for n in sorted(files, key=_number) if _number(n) >= 0]
    if recipes:
        members = int(cast(int, manifest["members"]))
        detector.recipe, detector.companion_recipes = recipes[0], recipes[members:]
        detector.members = members
        shape = cast("tuple[int, int, int]", tuple(cast("list[int]", manifest["shape"])))
        states = weights[: len(recipes)]
        with building_within(states, str(where)):
            models = [
                trained(recipe, shape, state, device)
                for recipe, state in zip(recipes, states, strict=True)
            ]
        detector.attach(models)
    for state in weights[len(recipes) :]:
        with plugin_contract(detector, "load_state_dict"):
            detector.load_state_dict(state)
    prepare(detector, {
        name: unpack_table(files[f"{name}.parquet"])
        for name in ("reference", "inside", "outside")
        if f"{name}.parquet" in files
    })  # fmt: skip
    return detector


def _number(name: str) -> int:
    """n of ``fit-<n>.safetensors``, -1 for other files."""
    stem = name.removeprefix("fit-").removesuffix(".safetensors")
    return int(stem) if stem.isdigit() else -1


def _registered(manifest: Mapping[str, JSON], where: Path) -> Detector:
    """A new detector of the registered class, without its scores of groups."""
    held = cast("Mapping[str, JSON]", manifest["detector"])
    name, revision = str(held["name"]), held["revision"]
    if name not in DETECTORS.names():
        raise PluginError(
            f"{where} holds the detector {name!r} of the plug-in {held['module']}, which is not"
            " loaded; name its file or module with --plugin"
        )
    cls = DETECTORS.get(name)
    if cls.revision != revision:
        raise ConfigError(
            f"{where}: {name!r} was exported with revision {revision} and has {cls.revision} here;"
            " export it again"
        )
    _check_source(manifest, cls, where)
    if wants_noise(cls) and manifest.get("noise") != NOISE_REVISION:
        raise ConfigError(
            f"{where}: {name!r} was exported with other random draws than are made here (revision"
            f" {manifest.get('noise', 1)}, not {NOISE_REVISION}); export it again"
        )
    single = type(cls.__name__, (cls,), {"groups": {}, "__module__": cls.__module__})
    detector = cast(Detector, single())
    now, then = dict(detector.environment()), manifest["environment"]
    if now != then:
        log.warning("%s: the environment was %s and is %s; scores may differ", where, then, now)
    return detector


def _check_source(manifest: Mapping[str, JSON], cls: type[Detector], where: Path) -> None:
    """ConfigError where a plug-in's code is another than the one that made the export.

    The code of oodbench itself is told apart by its revisions.
    """
    source = cast("Mapping[str, Mapping[str, JSON]]", manifest.get("source") or {})
    held = source.get("detector", {})
    then, now = held.get("sha256"), detector_source(cls)
    comparable = held.get("scheme") == SCHEME and None not in (then, now)
    if comparable and then != now and not cls.__module__.startswith("oodbench."):
        raise ConfigError(
            f"{where}: the code of {cls.name!r} is not the one that was exported, and the threshold"
            " is of the other's scores; set a new `revision` if its numbers change, and export it"
            " again"
        )


def _recipe(held: Mapping[str, JSON], where: Path) -> Recipe:
    """A resolved recipe as the manifest holds it; ConfigError where its model changed since."""
    from oodbench.declare.recipes import MODELS, ModelConfig, Recipe
    from oodbench.declare.settings import Measuring, Training

    cls = MODELS.get(str(held["model"]))
    if cls.revision != held["revision"]:
        raise ConfigError(
            f"{where}: the model {cls.name!r} was exported with revision {held['revision']} and has"
            f" {cls.revision} here; export it again"
        )
    return Recipe(
        name=str(held["name"]),
        scale=str(held["scale"]),
        variant=str(held["variant"]),
        config=cast(ModelConfig, cls.model_validate(held["config"])),  # type: ignore[attr-defined]
        training=Training.model_validate(held["training"]),
        measure=Measuring.model_validate(held["measure"]),
    )

"""From what a user asks for to jobs: one detector on one ID set with one seed, against OOD sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.datasets.pairs import Pair
from oodbench.detect.detector import DETECTORS, Detector, is_deterministic
from oodbench.errors import ConfigError, OodbenchError, UnknownNameError

if TYPE_CHECKING:
    from oodbench.declare.recipes import Recipe

DEFAULT_DETECTORS = (
    "vanilla-hvae",
    "informative-hvae",
    "mean-intensity",
    "pixel-variance",
    "png-length",
)


@dataclass(frozen=True)
class DetectorRequest:
    """``name[@recipe][#mark][:score]`` taken apart; `scores` empty means all.

    A mark tells stored runs apart that bear one name, and has no meaning for runs to be made.
    """

    name: str
    recipe: str = ""
    scores: tuple[str, ...] = ()
    mark: str = ""

    @property
    def label(self) -> str:
        """``name[@recipe][#mark]``."""
        return f"{self.name}{self.recipe and '@' + self.recipe}{self.mark and '#' + self.mark}"

    @property
    def detector(self) -> type[Detector]:
        """The registered class; UnknownNameError with the nearest names."""
        return DETECTORS.get(self.name)


def split_detector(text: str) -> DetectorRequest:
    """``vanilla-hvae@F5``, ``vanilla-hvae#3ee8``, ``informative-hvae:llr-ada``; looks nothing up.

    The mark may stand apart, as tables print it: ``vanilla-hvae #3ee8``.
    """
    head, _, score = text.partition(":")
    head, _, mark = head.partition("#")
    name, _, recipe = head.strip().partition("@")
    scores = (score,) if score else ()
    return DetectorRequest(DETECTORS.canonical(name), recipe, scores, mark.strip())


def parse_detector(text: str) -> DetectorRequest:
    """As `split_detector`; UnknownNameError or ConfigError where it cannot run."""
    request = split_detector(text)
    name, recipe = request.name, request.recipe
    if request.mark:
        raise ConfigError(f"{text!r} names stored runs; what is to be run is NAME[@RECIPE][:SCORE]")
    if recipe and not request.detector.recipe_variant:
        raise ConfigError(f"detector {name!r} has no recipes; write {name!r} alone")
    return request


def merge_requests(requests: Sequence[DetectorRequest]) -> list[DetectorRequest]:
    """One request per detector and recipe, its scores joined; a request without scores wins."""
    merged: dict[tuple[str, str, str], DetectorRequest] = {}
    for request in requests:
        key = (request.name, request.recipe, request.mark)
        known = merged.get(key)
        if known is None:
            merged[key] = request
        elif known.scores and request.scores:
            merged[key] = replace(request, scores=(*known.scores, *request.scores))
        else:
            merged[key] = replace(request, scores=())
    return list(merged.values())


def simplified(score: str) -> str:
    """A score's name as one may type it: ``llr>1``, ``LLR1``, ``llr-ada`` and ``LLR_ada`` agree."""
    return re.sub(r"[^a-z0-9]", "", score.lower())


def select_scores(request: DetectorRequest, names: Sequence[str]) -> list[str]:
    """The scores asked for, in the order of a table; UnknownNameError lists the nearest.

    Case and punctuation may differ where that leaves one score: ``KL>1`` is not ``KL<=1``.
    """
    if not request.scores:
        return list(names)
    wanted = set()
    for score in request.scores:
        found = [name for name in names if name.lower() == score.lower()]
        found = found or [name for name in names if simplified(name) == simplified(score)]
        if len(found) != 1:
            raise UnknownNameError(f"score of {request.name}", score, names)
        wanted.add(found[0])
    return [name for name in names if name in wanted]


@dataclass(frozen=True)
class Job:
    """Everything one worker needs: plain data, so that it can be sent anywhere.

    `note` tells jobs apart in progress lines that differ in their overrides alone.  Jobs of a lower
    `rank` are started first.
    """

    request: DetectorRequest
    in_dist: str
    pairs: tuple[Pair, ...]
    scale: str
    seed: int
    overrides: Mapping[str, JSON] = field(default_factory=dict)
    note: str = ""
    rank: int = 0

    @property
    def label(self) -> str:
        """What progress lines call it."""
        note = f" {self.note}" if self.note else ""
        return f"{self.request.label}{note} on {self.in_dist}, seed {self.seed}"


def plan_jobs(
    requests: Sequence[DetectorRequest],
    pairs: Sequence[Pair],
    *,
    scale: str,
    seeds: Sequence[int],
    overrides: Mapping[str, JSON] | None = None,
) -> list[Job]:
    """One job per detector, ID set, seed and snapshot of the training.

    A detector without randomness runs with one seed.  Snapshots are those of the overrides, or of
    a recipe that is asked for by name.
    """
    by_id: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_id.setdefault(pair.in_dist, []).append(pair)
    jobs = []
    for in_dist, group in by_id.items():
        for request in merge_requests(requests):
            chosen = seeds[:1] if is_deterministic(request.detector) else seeds
            changes = _by_snapshot(request, scale, overrides or {})
            jobs += [
                Job(request, in_dist, tuple(group), scale, seed, changed, note)
                for seed in chosen
                for changed, note in changes
            ]
    return jobs


def _by_snapshot(
    request: DetectorRequest, scale: str, overrides: Mapping[str, JSON]
) -> list[tuple[dict[str, JSON], str]]:
    """Overrides of a job for every snapshot of a training, each with those before it.

    Beside them what progress lines say of the job.
    """
    epochs = _snapshots(request, scale, overrides)
    if not epochs:
        return [(dict(overrides), "")]
    training = cast("Mapping[str, JSON]", overrides.get("training", {}))
    return [
        (
            {**overrides, "training": {**training, "epochs": last, "snapshots": epochs[:number]}},
            f"up to epoch {last}",
        )
        for number, last in enumerate(epochs, start=1)
    ]


def _snapshots(request: DetectorRequest, scale: str, overrides: Mapping[str, JSON]) -> list[JSON]:
    """The epochs after which what was learned is kept; what is wrong the recipe will say."""
    from oodbench.declare.recipes import epochs_named, find_recipe, resolve

    variant, training = request.detector.recipe_variant, overrides.get("training")
    if not variant:
        return []
    if isinstance(training, Mapping) and "snapshots" in training:
        epochs_named(overrides)
        asked = training["snapshots"]
        listed = list(asked) if isinstance(asked, list | tuple) else []
        numbers = [n for n in listed if type(n) is int and n > 0]
        return listed if sorted(set(numbers)) == listed else []
    if request.recipe:
        with suppress(OodbenchError):
            found = resolve(find_recipe(request.recipe), scale, variant, overrides)
            return list(found.training.snapshots or ())
    return []


def make_detector(job: Job, shape: tuple[int, int, int]) -> tuple[Detector, Recipe | None]:
    """The detector with its resolved recipe, where it stands on one.

    Raises UnknownNameError on a recipe or a score that does not exist, and what
    `oodbench.detect.entitlement.check_recipe` raises, before anything is trained.
    """
    from oodbench.declare.recipes import find_recipe, resolve
    from oodbench.detect.entitlement import check_recipe
    from oodbench.flow.default_recipe import default_recipe

    cls = job.request.detector
    detector = cls()
    if not cls.recipe_variant:
        return detector, None
    name = job.request.recipe
    variant = cls.recipe_variant
    file = find_recipe(name) if name else default_recipe(
        job.in_dist, shape, variant, job.scale, cls.name
    )  # fmt: skip
    detector.recipe = resolve(file, job.scale, variant, job.overrides)
    detector.companion_recipes = [
        resolve(file, job.scale, companion, job.overrides) for companion in cls.companions
    ]
    for recipe in (detector.recipe, *detector.companion_recipes):
        check_recipe(detector, recipe)
    detector.members = detector.recipe.measure.members or detector.members
    columns = [column_name(score) for score in detector.score_names()]
    select_scores(job.request, [*columns, *detector.oracles()])
    return detector, detector.recipe


def column_name(score: str) -> str:
    """A Parquet column for a score; the unnamed score of a simple detector is called "score"."""
    return score or "score"

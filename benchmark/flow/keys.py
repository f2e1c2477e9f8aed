"""The keys of what a job makes: one for every fit, measurement, score and run.

Whatever can change a number is in its key.  Nothing here loads, trains or writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodbench.canonical_json import JSON, digest
from oodbench.detect.attributes import own_attributes
from oodbench.detect.entitlement import WITH_LABELS, labels_for
from oodbench.seeding import NOISE_REVISION, SUBSET_REVISION
from oodbench.store.store import Key

if TYPE_CHECKING:
    from oodbench.datasets.imageset import ImageSet
    from oodbench.declare.recipes import Recipe
    from oodbench.detect.detector import Detector
    from oodbench.flow.resolved_job import Fit, ResolvedJob

METRICS_REVISION = 4
EQUAL_SIZE_SEED = 0


def fit_keys(job: ResolvedJob) -> list[Key]:
    """The key of every fit."""
    return [fit_key(job, fit) for fit in job.fits]


def fit_key(job: ResolvedJob, fit: Fit) -> Key:
    """Model or detector, recipe, training images, seed; made once for each of the job's fits."""
    for known, train, key in job.keyed_fits:
        if known is fit and train is job.train:
            return key
    key = _fit_key(job, fit)
    job.keyed_fits.append((fit, job.train, key))
    return key


def _fit_key(job: ResolvedJob, fit: Fit) -> Key:
    parts: dict[str, JSON]
    if fit.recipe is not None:
        parts = fit_parts(job, fit.recipe)
    else:
        parts = {"detector": job.source.name, "revision": job.source.revision}
        if job.recipe is not None:
            models: list[JSON] = [
                fit_key(job, each).digest for each in job.fits if each.recipe is not None
            ]
            parts |= {"models": models, "settings": job.recipe.measure.model_dump(mode="json")}
        parts |= own(job.source)
        if job.fit_subset:
            parts["images"] = job.fit_subset
        if job.detector.environment():
            parts["environment"] = dict(job.detector.environment())
        if job.detector.category in WITH_LABELS:
            from oodbench.datasets.imageset import label_fingerprint

            parts["labels"] = label_fingerprint(job.train.labels)
    parts |= {"train": job.train.fingerprint, "seed": fit.seed}
    return Key("fit", parts)


def fit_parts(job: ResolvedJob, recipe: Recipe) -> dict[str, JSON]:
    """What the key of a fit holds of a recipe, with the labels and outliers it is given."""
    parts = recipe.fit_parts()
    labels, outliers = labels_for(recipe, job.train), job.outliers(recipe)
    if labels is not None:
        from oodbench.datasets.imageset import label_fingerprint

        parts["labels"] = label_fingerprint(labels)
    if outliers is not None:
        parts["outliers"] = outliers.fingerprint
    return parts


def measure_key(job: ResolvedJob, images: ImageSet, subset: int = 0) -> Key:
    """What is measured, how, with which fit; `subset` > 0: a seeded subset of that size."""
    parts: dict[str, JSON] = {
        "measure": job.source.measure_name,
        "revision": job.source.measure_revision or job.source.revision,
        "images": images.fingerprint,
        "subset": subset,
        "fits": [key.digest for key in fit_keys(job)] if job.has_fit else [],
    }
    if subset:
        parts["subset_revision"] = SUBSET_REVISION
    if job.recipe is not None:
        settings = job.recipe.measure.model_dump(mode="json")
        # It decides on scores, not on what is measured.
        parts["settings"] = {k: v for k, v in settings.items() if k != "validation"}
    parts |= own(job.source)
    environment = job.detector.environment()
    if environment:
        parts["environment"] = dict(environment)
    if job.noisy:
        parts |= {"seed": job.seed, "noise": NOISE_REVISION}
    return Key("measure", parts)


def score_key(job: ResolvedJob, images: ImageSet) -> Key:
    """The detector's score functions on one measurement."""
    parts: dict[str, JSON] = {
        "detector": job.detector.name,
        "revision": job.detector.revision,
        "measure": measure_key(job, images, job.subset(images)).digest,
    }
    parts |= own(type(job.detector))
    if job.detector.calibrates():
        parts["reference"] = measure_key(job, job.train, job.train_subset).digest
    if job.validation is not None:
        parts["validation"] = [
            measure_key(job, job.train, job.train_subset).digest,
            measure_key(job, job.validation, job.validation_subset).digest,
        ]
    return Key("score", parts)


def run_key(job: ResolvedJob, ood: ImageSet) -> Key:
    """Scores of both sides and how they are compared."""
    return Key(
        "run",
        {
            "detector": job.detector.name,
            "id_scores": score_key(job, job.test).digest,
            "ood_scores": score_key(job, ood).digest,
            "metrics": {"revision": METRICS_REVISION, "equal_size_seed": EQUAL_SIZE_SEED},
            **_dependent(job, ood),
        },
    )


def _dependent(job: ResolvedJob, ood: ImageSet) -> dict[str, JSON]:
    """The part of a key that holds the groups of dependent images; none where none are declared."""
    from oodbench.datasets.imageset import label_fingerprint
    from oodbench.rank.dependent_images import REVISION

    if job.test.groups is None and ood.groups is None:
        return {}
    prints: list[JSON] = [label_fingerprint(job.test.groups), label_fingerprint(ood.groups)]
    return {"groups": prints, "over_groups": REVISION}


def configuration(job: ResolvedJob, ood: ImageSet) -> str:
    """Digest of everything but the seed: runs that share it are repetitions of each other."""
    parts: dict[str, JSON] = {
        "detector": job.detector.name,
        "revision": job.detector.revision,
        "metrics": METRICS_REVISION,
        "images": [job.test.fingerprint, ood.fingerprint],
    }
    parts |= own(type(job.detector)) | _dependent(job, ood)
    if job.compares and job.train_subset > job.count(job.test):
        # Earlier runs compared with no more training images than there are ID test images.
        parts["reference"] = job.train_subset
    if job.detector.reads is not None:
        parts["reads"] = [job.source.name, job.source.revision]
    if job.has_fit:
        parts["train"] = job.train.fingerprint
    if job.noisy:
        parts["noise"] = NOISE_REVISION
    if job.validation is not None:
        parts["validation"] = job.validation.fingerprint
    if job.recipe is not None:
        parts["fit"] = fit_parts(job, job.recipe)
        parts["measure"] = job.recipe.measure.model_dump(mode="json")
    if job.detector.companion_recipes:
        parts["companions"] = [fit_parts(job, recipe) for recipe in job.detector.companion_recipes]
    return digest(parts)


def own(cls: type[Detector]) -> dict[str, JSON]:
    """The part of a key that holds the attributes of a plug-in's classes; none of a built-in's."""
    found = own_attributes(cls)
    return {"attributes": found} if found else {}

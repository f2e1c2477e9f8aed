"""Rank: the scores of both sides of a pair compared, and everything a table says of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.datasets.pairs import Pair
from oodbench.detect.detector import Detector
from oodbench.detect.source_fingerprints import source_record
from oodbench.flow.keys import EQUAL_SIZE_SEED, configuration, run_key
from oodbench.flow.measure import labels, measure, statistics, totals
from oodbench.flow.resolved_job import ResolvedJob, subset_indices
from oodbench.flow.run_records import chosen, cost, duplicates, fit_notes, notes, reference_notes
from oodbench.flow.score import scores
from oodbench.seeding import NOISE_REVISION
from oodbench.store.store import Entry

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet

#: Entries of the ID side and of the OOD side.
Sides = tuple[Entry, Entry]


def rank(job: ResolvedJob, pair: Pair, ood: ImageSet, scored: Sides, measured: Sides) -> Entry:
    """The run entry of a pair: metrics with intervals, diagnostics, notes and cost."""
    from oodbench.rank.metrics import equal_size

    id_scored, ood_scored = scored
    counts = job.count(job.test), job.count(ood)
    id_index, ood_index = equal_size(*counts, EQUAL_SIZE_SEED)
    groups = _groups(job, job.test, id_index), _groups(job, ood, ood_index)
    found = results(
        job.detector, scores(id_scored), scores(ood_scored), id_index, ood_index, groups
    )
    record: dict[str, JSON] = {
        "pair": pair.name,
        "in_dist": pair.in_dist,
        "ood": pair.ood,
        "detector": job.detector.name,
        "title": job.detector.title,
        "category": job.detector.category,
        "cite": job.detector.cite,
        "seed": job.seed,
        "noise": NOISE_REVISION if job.noisy else 0,
        "configuration": configuration(job, ood),
        "source": source_record(job.detector, job.recipe),
        "recipe": job.recipe.name if job.recipe else "",
        "scale": job.recipe.scale if job.recipe else "",
        "variant": job.recipe.variant if job.recipe else "",
        "overrides": list(job.recipe.overrides) if job.recipe else [],
        "layers": int(getattr(job.detector, "layers", 0)),
        "n": len(id_index),
        "available": {"id": counts[0], "ood": counts[1]},
        "reference": job.train_subset if job.compares else 0,
        "notes": [
            *fit_notes(job),
            *reference_notes(job),
            *(note for images in (job.test, ood) for note in notes(job, images)),
            *chosen(job.detector, id_scored.record),
        ],
        "duplicates": [*duplicates(job, ood)],
        "scores": found,
        "score_order": list(found),
        "diagnostics": _diagnostics(job, ood, measured),
        "cost": cost(job),
    }
    return job.store.write(run_key(job, ood), _group_file(groups), record)


def _groups(job: ResolvedJob, images: ImageSet, index: np.ndarray) -> np.ndarray | None:
    """(n,) the groups of the compared images of a side, None where none are declared."""
    if images.groups is None:
        return None
    size = job.subset(images)
    measured = images.groups[subset_indices(len(images), size)] if size else images.groups
    compared: np.ndarray = measured[index]
    return compared


def _group_file(groups: tuple[np.ndarray | None, np.ndarray | None]) -> dict[str, bytes]:
    """``groups.parquet`` with the columns ``id`` and ``ood``, for whoever compares runs."""
    from oodbench.store.payload import pack_table

    columns = {name: g for name, g in zip(("id", "ood"), groups, strict=True) if g is not None}
    return {"groups.parquet": pack_table(columns)} if columns else {}


def results(
    detector: Detector,
    id_scores: Mapping[str, np.ndarray],
    ood_scores: Mapping[str, np.ndarray],
    id_index: np.ndarray,
    ood_index: np.ndarray,
    groups: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> dict[str, JSON]:
    """Metrics of every score; one of groups counts groups of its `members`; oracle choices last.

    `groups` (n,) of the compared images of each side are those that depend on each other.
    """
    from oodbench.rank.dependent_images import over_groups
    from oodbench.rank.metrics import evaluate, group_members

    found, stored = {}, {}
    for name, values in id_scores.items():
        members = detector.groups.get(name)
        sides = values[id_index], ood_scores[name][ood_index]
        if members is not None:
            firsts = [s[group_members(len(s), members)[:, 0]] for s in (values, ood_scores[name])]
            count = min(map(len, firsts))
            sides = firsts[0][:count], firsts[1][:count]
        found[name] = evaluate(*sides)
        if members is None and any(group is not None for group in groups):
            found[name] = over_groups(found[name], *sides, groups)
        stored[name] = found[name].to_json() | ({} if members is None else {"members": members})
    for oracle, names in detector.oracles().items():
        best = max(names, key=lambda name: found[name].auroc.value)
        stored[oracle] = stored[best] | {"oracle": best}
    return cast("dict[str, JSON]", stored)


def _diagnostics(job: ResolvedJob, ood: ImageSet, measured: Sides) -> dict[str, JSON]:
    """What the detector says of its layers on both sides, and on training images if it asks."""
    if type(job.detector).diagnose is Detector.diagnose:
        return {}
    found = {
        "id_test": _diagnose(job, job.test, measured[0]),
        "ood_test": _diagnose(job, ood, measured[1]),
    }
    if job.detector.diagnose_training:
        training = measure(job, job.train, job.train_subset)
        found["id_train"] = _diagnose(job, job.train, training)
    return found


def _diagnose(job: ResolvedJob, images: ImageSet, measured: Entry) -> JSON:
    known = statistics(measured) | labels(job, images, measured)
    return job.detector.diagnose(known, totals(measured), job.test.shape)

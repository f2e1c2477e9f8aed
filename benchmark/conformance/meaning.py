"""Checks of what the numbers mean: the sign of a score, the declared cost, the revision."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import cast

import numpy as np
from torch import nn

from oodbench.conformance.outcome import check
from oodbench.conformance.passes import compare, counted_passes, parse_cost
from oodbench.conformance.subject import Subject
from oodbench.conformance.toy import one_sided
from oodbench.conformance.verdicts import NotApplicable, NotConforming, Reminder
from oodbench.detect.source_fingerprints import changed_sources
from oodbench.flow.perform import perform
from oodbench.rank.metrics import evaluate


@check(
    "orientation",
    asserts="in a whole run on smooth waves (ID) against noise of high contrast (OOD), the 95 %"
    " interval of every score's AUROC lies above 50 (of groups: AUROC above 90)",
    guards="a score with its sign the wrong way round",
    mend="return the score so that higher is more OOD; a statistic of one image that learns nothing"
    " may say with `one_sided` what it calls OOD, a score whose sign noise does not settle may say"
    " why in `unoriented`",
)
def orientation(subject: Subject) -> str:
    """The sign of every score; a one-sided statistic is held to what it claims instead."""
    subject.scores(subject.statistics)
    outcome = perform(subject.bench(), subject.job())
    if outcome.failures:
        raise outcome.failures[0]
    if subject.cls.one_sided:
        return _one_sided(subject)
    scores = cast("Mapping[str, Mapping[str, Mapping[str, float]]]",
                  outcome.entries[0].record["scores"])  # fmt: skip
    oracles, groups = subject.detector.oracles(), subject.cls.groups
    settled, reasons = {}, {}
    for name, metrics in scores.items():
        plain = "" if name == "score" and "" in subject.detector.score_names() else name
        patterns = subject.cls.unoriented
        reason = next((why for p, why in patterns.items() if fnmatchcase(plain, p)), None)
        if reason is not None:
            reasons[name] = reason
        elif name not in oracles:
            settled[name] = metrics["auroc"]
    if not settled:
        said = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
        raise NotApplicable(f"NOT CHECKED, by its own word: {said}")
    for name, auroc in settled.items():
        # A few groups have no narrow interval.
        if not (auroc["low"] > 0.5 or (name in groups and auroc["value"] > 0.9)):
            value, low, high = (100 * auroc[key] for key in ("value", "low", "high"))
            raise NotConforming(
                f"score {name!r} calls noise {'more' if high < 50 else 'no less'} normal than the"
                f" training images' kind: AUROC {value:.1f} [{low:.1f}, {high:.1f}]"
            )
    lowest = 100 * min(auroc["value"] for auroc in settled.values())
    least = " or more" if len(settled) > 1 and lowest < 99.95 else ""
    said = f"AUROC {lowest:.1f}{least} for {', '.join(settled)}"
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, why in reasons.items() if why == reason]
        said += f"; NOT CHECKED: {', '.join(names)} ({reason})"
    return said


def _one_sided(subject: Subject) -> str:
    claim, cls = subject.cls.one_sided, subject.cls
    if cls.learns() or cls.recipe_variant or cls.calibrates():
        raise NotConforming(
            f"one_sided is {claim!r}, but the detector learns what is normal",
            "remove `one_sided`: it is for statistics of one image that learn nothing",
        )
    sides = []
    for images in one_sided(claim, subject.shape):
        statistics = subject.measure(subject.fitted_job, images).statistics
        sides.append(subject.scores(statistics))
    for name in sides[0]:
        less, more = (np.asarray(side[name], dtype=np.float64) for side in sides)
        auroc = evaluate(less, more, resamples=20).auroc
        if not auroc.low > 0.5:
            raise NotConforming(
                f"score {name!r} is declared higher for {claim} images, but its AUROC on such is"
                f" {100 * auroc.value:.1f}"
            )
    return f"ONE-SIDED: {claim} counts as more OOD, whatever the training images are"


@check(
    "cost",
    asserts="the passes in `cost` are those that forward hooks count while images are measured",
    guards="a table of costs that flatters",
    mend="write what is counted into `cost`: e encoder, g decoder, f whole network, b backward, S"
    " importance samples, L layers, M members, steps",
)
def cost(subject: Subject) -> str:
    """Declared and counted passes per image."""
    job, cls = subject.fitted_job, subject.cls
    if not cls.cost:
        raise NotApplicable("no cost is declared")
    values = {"L": float(getattr(job.detector, "layers", 0)), "M": float(job.detector.members)}
    if job.recipe is not None:
        refit = job.recipe.measure.refit
        values["S"] = job.recipe.measure.importance_samples
        values |= {"steps": refit.steps} if refit is not None else {}
    declared = parse_cost(cls.cost, values)
    models = subject.models or _modules(job.detector)

    def measure_one_by_one() -> int:
        images = subject.sample[:2]
        subject.measure(job, images, batch_size=1)
        return len(images)

    counted = counted_passes(models, measure_one_by_one)
    if not counted and not models and declared:
        raise NotApplicable("not countable: the detector holds no torch module")
    return compare(declared, counted)


def _modules(detector: object) -> list[nn.Module]:
    """Networks among a detector's attributes, or in lists, tuples and dicts there."""
    found: list[nn.Module] = []
    waiting: list[object] = list(vars(detector).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, nn.Module):
            found.append(value)
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return found


@check(
    "revision",
    asserts="the source is that of the runs in the store given, or has a new revision",
    guards="numbers of two versions of the code in one table",
    mend="if results change, raise `revision` and run again; if they do not, leave it",
)
def revision(subject: Subject) -> str:
    """A reminder, since a change of the source need not change a number."""
    if subject.recorded is None:
        raise NotApplicable("no store is given (--store)")
    runs = [
        entry
        for entry in subject.recorded.entries("run")
        if entry.record.get("detector") == subject.cls.name
    ]
    if not runs:
        raise NotApplicable("the store holds no run of it")
    changed = changed_sources(runs)
    if changed:
        raise Reminder(changed[0])
    return f"{len(runs)} stored run{'s' if len(runs) > 1 else ''} of this source or revision"

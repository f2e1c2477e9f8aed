"""Checks of the contract itself: what a detector declares, and what its methods return."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from oodbench.conformance.outcome import check
from oodbench.conformance.subject import Subject, seeded
from oodbench.conformance.toy import contrast_noise, extremes, waves
from oodbench.conformance.verdicts import NotApplicable, NotConforming
from oodbench.detect.detector import CATEGORIES, ONE_SIDED, FitContext, wants_noise
from oodbench.detect.entitlement import WITH_LABELS
from oodbench.errors import ConfigError, DataError, OodbenchError
from oodbench.flow.measuring.batches import gradients_as_declared
from oodbench.seeding import KeyedNoise


@check(
    "declarations",
    asserts="category, revision, score names, groups and oracles are sound and agree",
    guards="columns that a table cannot print, oracles that pass for scores",
    mend="correct the class attribute or the method that the line names",
)
def declarations(subject: Subject) -> str:
    """What the class says of itself."""
    cls, detector = subject.cls, subject.resolved().detector
    if cls.category not in CATEGORIES:
        raise NotConforming(f"category {cls.category!r} is none of {', '.join(CATEGORIES)}")
    if not isinstance(cls.revision, int) or cls.revision < 1:
        raise NotConforming(f"revision {cls.revision!r} is not a whole number from 1 on")
    if cls.one_sided and cls.one_sided not in ONE_SIDED:
        raise NotConforming(f"one_sided {cls.one_sided!r} is none of {', '.join(ONE_SIDED)}")
    names = detector.score_names()
    if not names or len(set(names)) != len(names):
        raise NotConforming(f"score_names returns {names!r}: none, or one twice")
    for name in detector.groups:
        if name not in names:
            raise NotConforming(f"groups has {name!r}, which score_names has not")
    for oracle, chosen in detector.oracles().items():
        if oracle in names or not set(chosen) <= set(names):
            raise NotConforming(f"the oracle {oracle!r} is a score, or chooses from what is none")
    for pattern, reason in cls.unoriented.items():
        if not reason.strip():
            raise NotConforming(f"unoriented[{pattern!r}] gives no reason")
    return f"{len(names)} score{'s' if len(names) > 1 else ''}, revision {cls.revision}"


@check(
    "returned types",
    asserts="statistics are (B,) or (B, K) tensors of one dtype of 32 bits or more, the same for"
    " every batch; scores are (N,) floats under the names of score_names",
    guards="shapes that fit by chance, half precision that ties scores, columns that come and go",
    mend="return one number (or K) per image from measure, and one float per image from score",
)
def returned_types(subject: Subject) -> str:
    """Shapes and dtypes of statistics and scores."""
    job = subject.fitted_job
    batches = [subject.sample[:5], subject.sample[:1]]
    with subject.needed_for("a measurement"):
        found = [_described(_raw(subject, batch), len(batch)) for batch in batches]
        if found[0] != found[1]:
            raise NotConforming(f"a batch of 5 gives {found[0]}, a batch of 1 {found[1]}")
    statistics = subject.statistics
    names, count = job.detector.score_names(), len(subject.sample)
    scored = subject.scores(statistics)
    if set(scored) != set(names):
        raise NotConforming(f"scores returns {sorted(scored)}, score_names {sorted(names)}")
    for name, values in scored.items():
        array = np.asarray(values)
        if array.shape != (count,):
            raise NotConforming(
                f"score {name!r} of {count} images has shape {array.shape}, not ({count},)"
            )
        if array.dtype.kind not in "fiu" or array.dtype.itemsize < 4:
            raise NotConforming(f"score {name!r} has the dtype {array.dtype}; give float64")
    return ", ".join(f"{name} {shown}" for name, shown in found[0].items())


def _raw(subject: Subject, batch: np.ndarray) -> Mapping[str, torch.Tensor]:
    """What `measure` itself returns."""
    detector = subject.detector
    images = torch.from_numpy(batch.copy())
    with gradients_as_declared(detector):
        if wants_noise(type(detector)):
            return detector.measure(images, KeyedNoise(0, np.arange(len(batch))))
        return detector.measure(images)  # type: ignore[call-arg]


def _described(out: Mapping[str, torch.Tensor], count: int) -> dict[str, str]:
    if not isinstance(out, Mapping) or not out:
        raise NotConforming(f"measure returns {type(out).__name__}, not named tensors")
    described = {}
    for name, value in out.items():
        if not isinstance(value, torch.Tensor):
            raise NotConforming(f"statistic {name!r} is {type(value).__name__}, not a tensor")
        if value.ndim not in (1, 2) or len(value) != count:
            raise NotConforming(
                f"statistic {name!r} of {count} images has shape {tuple(value.shape)}, not"
                f" ({count},) or ({count}, K)"
            )
        half = value.is_floating_point() and value.element_size() < 4
        if half or value.is_complex():
            raise NotConforming(
                f"statistic {name!r} is {str(value.dtype).removeprefix('torch.')}",
                "compute in float32 or float64: half precision overflows at 65,504 and ties scores",
            )
        width = f" × {value.shape[1]}" if value.ndim == 2 else ""
        described[name] = str(value.dtype).removeprefix("torch.") + width
    return described


@check(
    "finite",
    asserts="statistics and scores are finite on black, white, constant, two-valued and noisy"
    " images",
    guards="log 0, division by a variance of 0, overflow: a run stops at the first such image",
    mend="clamp what is divided by or goes into a logarithm, and compute in float64",
)
def finite(subject: Subject) -> str:
    """Images on which arithmetic breaks first."""
    images = extremes(subject.shape)
    job, sample = subject.fitted_job, subject.statistics
    subject.scores(sample)  # calibrated
    for name, image in images.items():
        try:
            with np.errstate(all="ignore"):
                found = subject.measure(job, image[None]).statistics
                # Beside the sample, for scores of groups.
                both = {key: np.concatenate([sample[key], found[key]]) for key in found}
                scored = subject.scores(both)
        except OodbenchError as error:
            raise NotConforming(f"on {name}: {error}") from error
        for score, values in scored.items():
            if not np.isfinite(values).all():
                raise NotConforming(f"score {score!r} of {name} is {float(values[-1])}")
    return ", ".join(images)


@check(
    "other shapes",
    asserts="colour images that are not square are learned and measured as grey ones are, or"
    " refused with a DataError or ConfigError",
    guards="a channel or a side that is taken for granted, found after hours on another pair",
    mend="take (C, H, W) from the images; raise oodbench.errors.DataError where a shape is no good",
)
def other_shapes(subject: Subject) -> str:
    """3×6×10 images."""
    if subject.cls.recipe_variant:
        raise NotApplicable("the recipe states the shape")
    shape = (3, 6, 10)
    subject.scores(subject.statistics)
    detector, job = subject.cls(), subject.resolved()
    images, labels = waves(40, shape)
    train = type(job.test)(
        "waves", "train", images, "", labels if detector.category in WITH_LABELS else None
    )
    scratch = subject.folder / "other-shapes"
    scratch.mkdir(parents=True, exist_ok=True)
    job.detector = detector
    try:
        with seeded(0):
            if subject.cls.learns():
                detector.fit(train, FitContext("cpu", 0, lambda line: None, Path(scratch)))
            if subject.cls.calibrates():
                given = {} if train.labels is None else {"label": train.labels}
                detector.calibrate(subject.measure(job, images).statistics | given)
            measured = subject.measure(job, contrast_noise(8, shape))
        scored = detector.scores(measured.statistics)
    except (DataError, ConfigError) as error:
        raise NotApplicable(f"it refuses them: {error}") from error
    for name, values in scored.items():
        if np.shape(values) != (8,) or not np.isfinite(values).all():
            raise NotConforming(f"score {name!r} of 8 images of 3×6×10 is not 8 finite numbers")
    return "3×6×10"

"""Checks of what is learned: that it is saved whole, as tensors, and from training images alone."""

from __future__ import annotations

import torch

from oodbench.conformance.invariance import fresh
from oodbench.conformance.outcome import check
from oodbench.conformance.subject import Subject, first_line, largest_difference, seeded
from oodbench.conformance.verdicts import NotApplicable, NotConforming, Reminder
from oodbench.conformance.watch import Watch
from oodbench.detect.entitlement import WITH_LABELS
from oodbench.errors import OodbenchError
from oodbench.flow.attach import learned_state
from oodbench.store.payload import pack_tensors, unpack_tensors

#: What is said of a detector that takes its state by position.
BY_POSITION = "the state in another order, by the same names"


@check(
    "saved state",
    asserts="a new instance that loads the state through safetensors gives the same statistics"
    " and scores, bit for bit",
    guards="state that is forgotten: the run that trains works, the next one does not",
    mend="return every learned tensor from state_dict and restore it, by its name, in"
    " load_state_dict",
)
def saved_state(subject: Subject) -> str:
    """The store's copy of the fit in a new instance."""
    job = subject.fitted_job
    if not job.has_fit and not subject.cls.calibrates():
        raise NotApplicable("nothing is learned")
    expected = subject.statistics
    scored = subject.scores(expected)
    try:
        other = fresh(subject)
        with seeded(1):
            found = subject.measure(other, subject.sample).statistics
            subject.calibrate(other)
            again = other.detector.scores({k: v.copy() for k, v in found.items()})
    except Exception as error:
        raise NotConforming(f"a new instance that loads the state: {first_line(error)}") from error
    for kind, a, b in (("statistic", expected, found), ("score", scored, again)):
        worst = largest_difference(a, b, lambda values: 0.0)
        if worst is not None:
            name, row, one, restored = worst
            raise NotConforming(
                f"{kind} {name!r} of image {row} is {one:.9g} after fit and {restored:.9g} after"
                " loading"
            )
    if subject.cls.learns() and not subject.cls.refits:
        _try_another_order(subject)
    return "a new instance gives equal statistics and scores"


def _try_another_order(subject: Subject) -> None:
    """Reminder where the state is taken by position: other tools keep names, not their order."""
    state, job = learned_state(subject.detector), fresh(subject)
    try:
        job.detector.load_state_dict({name: state[name] for name in reversed(list(state))})
        with seeded(1):
            found = subject.measure(job, subject.sample).statistics
    except Exception as error:
        raise Reminder(f"{BY_POSITION}: {first_line(error)}") from error
    if largest_difference(subject.statistics, found, lambda values: 0.0) is not None:
        raise Reminder(f"{BY_POSITION}: it gives other statistics")


@check(
    "tensors only",
    asserts="state_dict holds dense tensors that safetensors keeps as they are, and nothing that"
    " fit writes is a pickle",
    guards="files that run code when they are read",
    mend="return tensors alone; write checkpoints with safetensors, never torch.save or pickle",
)
def tensors_only(subject: Subject) -> str:
    """The state, and the files that fit wrote."""
    if not subject.cls.learns():
        raise NotApplicable("the detector keeps no state of its own")
    detector = subject.fitting
    if detector is None:
        detector = subject.detector
    try:
        state = learned_state(detector)
        back = unpack_tensors(pack_tensors(state))
    except OodbenchError as error:
        raise NotConforming(str(error)) from error
    for name, value in state.items():
        if not torch.equal(back[name], value.detach().cpu()):
            raise NotConforming(f"state {name!r} is another after safetensors (NaN, or a view)")
    if subject.pickles:
        raise NotConforming(f"fit wrote the pickle {subject.pickles[0].name}")
    return f"{len(state)} tensor{'s' if len(state) != 1 else ''}"


@check(
    "sees training images only",
    asserts="no file of images or tables is opened and no data set is loaded while the detector"
    " learns, calibrates and measures",
    guards="a detector that has seen the OOD set, the test split or labels",
    mend="use the images that fit is given and nothing else; labels are handed out to detectors of"
    " the categories labels and prior",
)
def sight(subject: Subject) -> str:
    """What the audit hook saw."""
    subject.fitted_job  # noqa: B018
    _blame("fit", subject.fit_watch)
    statistics = subject.statistics
    _blame("measure", subject.measure_watch)
    subject.scores(statistics)
    _blame("calibrate", subject.measure_watch)
    labelled = subject.cls.category in WITH_LABELS
    return "opened nothing" + ("; labels are handed out, as declared" if labelled else "")


def _blame(method: str, watch: Watch) -> None:
    if watch.seen:
        raise NotConforming(f"{method} {watch.seen[0]}")

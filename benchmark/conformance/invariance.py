"""Checks that a result depends on nothing it should not: chance, batches, other images."""

from __future__ import annotations

import numpy as np

from oodbench.conformance.outcome import check
from oodbench.conformance.subject import SHORTEST, Subject, largest_difference, seeded
from oodbench.conformance.verdicts import NotApplicable, NotConforming
from oodbench.detect.detector import wants_noise
from oodbench.errors import listed
from oodbench.flow.fit import fitted, make_fit
from oodbench.flow.keys import fit_key
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.store.payload import unpack_tensors

SEED_MEND = (
    "draw from a generator of your own: torch.Generator().manual_seed(context.seed) in fit, the"
    " noise that measure is given (def measure(self, images, noise)) in measure"
)


@check(
    "fit repeats",
    asserts="two fits with one seed give the same state, bit for bit on the CPU, whatever the"
    " global generators hold",
    guards="a result that nobody can reproduce; the store would keep whichever came first",
    mend=SEED_MEND,
)
def fit_repeats(subject: Subject) -> str:
    """The detector's own fit, or the first fit of its recipe, cut short."""
    if not subject.resolved().has_fit:
        raise NotApplicable("nothing is learned")
    subject.fitted_job  # noqa: B018
    states = [_state(subject, global_seed) for global_seed in (2, 3)]
    if states[0] == states[1]:
        return "two fits are equal, bit for bit"
    differ = [name for name in states[0] if states[0][name] != states[1].get(name)]
    raise NotConforming(f"two fits with seed 0 differ in {listed(map(repr, differ), 4)}")


def _state(subject: Subject, global_seed: int) -> dict[str, bytes]:
    """Bytes of every tensor of a fit, and of the statistics where the detector learns by itself."""
    job = subject.resolved(store=subject.new_store(), training=SHORTEST)
    # What the detector learns on its models comes last and needs them.
    fit = job.fits[-1 if subject.cls.learns() else 0]
    with seeded(global_seed):
        if job.recipe is not None and fit.recipe is None:
            fitted(job)
        entry = job.store.find(fit_key(job, fit)) or make_fit(job, fit_key(job, fit), fit)
    (name,) = (name for name in entry.files if name.endswith(".safetensors"))
    tensors = entry.parse(name, unpack_tensors)
    state = {key: value.contiguous().numpy().tobytes() for key, value in tensors.items()}
    if fit.recipe is None:
        subject.statistics  # noqa: B018
        with seeded(1):
            measured = subject.measure(job, subject.sample).statistics
        state |= {f"statistic {key}": values.tobytes() for key, values in measured.items()}
    return state


@check(
    "measure repeats",
    asserts="two measurements of one fit are equal, bit for bit on the CPU",
    guards="draws from global generators, and state that measuring changes",
    mend=SEED_MEND + "; leave self as it is in measure",
)
def measure_repeats(subject: Subject) -> str:
    """The same images twice."""
    first, job = subject.statistics, subject.fitted_job
    with seeded(4):
        again = subject.measure(job, subject.sample).statistics
    worst = largest_difference(first, again, lambda values: 0.0)
    if worst is not None:
        name, row, one, other = worst
        raise NotConforming(f"statistic {name!r} of image {row} is {one:.9g}, then {other:.9g}")
    return f"{len(subject.sample)} images twice"


@check(
    "seeds",
    asserts="a seed matters where noise is asked for or something is learned, and nowhere else",
    guards="runs with several seeds that are one run, and intervals over nothing",
    mend="take the noise parameter out of measure where nothing is drawn",
)
def seeds(subject: Subject) -> str:
    """Seeds 0 and 1 on one fit, and on two."""
    first, job = subject.statistics, subject.fitted_job
    noisy = wants_noise(subject.cls)
    with seeded(1):
        other = subject.measure(job, subject.sample, seed=1).statistics
    drawn = largest_difference(first, other, lambda values: 0.0) is not None
    if drawn and not noisy:
        raise NotConforming("statistics change with the seed, but no noise is asked for", SEED_MEND)
    if noisy and not drawn and not job.has_fit:
        raise NotConforming(
            "measure asks for noise, but seeds 0 and 1 give equal statistics and nothing is"
            " learned: every seed of a run would repeat the first"
        )
    said = "measuring draws" if drawn else "measuring draws nothing"
    if not subject.cls.learns() or subject.cls.recipe_variant:
        return said
    second = subject.resolved(seed=1, store=subject.new_store())
    with seeded(1):
        fitted(second)
        learned = subject.measure(second, subject.sample).statistics
    same = largest_difference(first, learned, lambda values: 0.0) is None
    return f"{said}; seeds 0 and 1 learn {'the same' if same else 'differently'}"


def close(values: np.ndarray) -> np.ndarray:
    """What rounding may change of statistics (N,) or (N, K).

    A hundredth of a column's standard deviation over the images, and 1e-6 of its largest value:
    kernels for other batch sizes round otherwise, and ten steps along a path carry that to 6e-3.
    """
    return np.asarray(1e-2 * values.std(axis=0) + 1e-6 * np.abs(values).max(axis=0))


@check(
    "batches",
    asserts="statistics of an image are the same alone, in a batch of 5, in one of all images and"
    " in another order (to 1e-2 standard deviations or 1e-6 of the largest value)",
    guards="batch normalisation in training mode, means over the batch, noise by position",
    mend="treat every image by itself; use model.eval(), and the keyed noise for draws",
)
def batches(subject: Subject) -> str:
    """Batch size and composition."""
    expected, job, images = subject.statistics, subject.fitted_job, subject.sample
    order = np.random.default_rng(0).permutation(len(images))
    forward = np.arange(len(images))
    for how, indices, size in (
        ("alone", forward, 1),
        ("in a batch of 5", forward, 5),
        ("in another order", order, len(images)),
    ):
        with seeded(1):
            found = subject.measure(job, images, indices, batch_size=size).statistics
        back = {name: values[np.argsort(indices)] for name, values in found.items()}
        worst = largest_difference(expected, back, close)
        if worst is not None:
            name, row, one, other = worst
            raise NotConforming(
                f"statistic {name!r} of image {row} is {one:.6g} in a batch of {len(images)} and"
                f" {other:.6g} {how}"
            )
    return f"sizes 1, 5 and {len(images)}, two orders"


@check(
    "score order",
    asserts="permuted images give permuted scores, and a score does not change when other images"
    " are left out (scores of declared groups excepted)",
    guards="ranks, standardisation or running sums over the test images: a score that has seen"
    " the OOD set",
    mend="compute a score from its own image's statistics; take what it is compared with from"
    " training images, in calibrate",
)
def score_order(subject: Subject) -> str:
    """Scores of all images, of permuted ones and of a part."""
    statistics = subject.statistics
    everything, count = subject.scores(statistics), len(subject.sample)
    order = np.random.default_rng(1).permutation(count)
    alone = [name for name in everything if name not in subject.detector.groups]
    if not alone:
        raise NotApplicable("every score is one of groups")
    chosen = {"permuted": order, "with images left out": np.arange(3, count)}
    if not subject.detector.groups:
        chosen["by itself"] = np.array([3])
    for how, rows in chosen.items():
        part = subject.scores({name: values[rows] for name, values in statistics.items()})
        for name in alone:
            values, got = np.asarray(everything[name])[rows], np.asarray(part[name])
            if got.shape != values.shape or not np.allclose(values, got, rtol=1e-6, atol=1e-9):
                at = int(np.abs(values - got).argmax()) if got.shape == values.shape else 0
                raise NotConforming(
                    f"score {name!r} of image {int(rows[at])} is {values[at]:.6g} among all images"
                    f" and {got[at] if len(got) else float('nan'):.6g} {how}"
                )
    return ", ".join(chosen)


def fresh(subject: Subject) -> ResolvedJob:
    """A new instance that takes what the store holds of the fit."""
    store = subject.fitted_job.bench.store
    job = subject.resolved(store=store)
    fitted(job)
    return job

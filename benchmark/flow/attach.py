"""What was learned, and what scores compare with, handed to the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from oodbench.detect.detector import Detector, FitContext
from oodbench.detect.entitlement import handed
from oodbench.errors import PluginError, plugin_contract
from oodbench.flow.keys import fit_key
from oodbench.seeding import derive_seed
from oodbench.store.store import Entry

if TYPE_CHECKING:
    import torch

    from oodbench.declare.recipes import Recipe
    from oodbench.flow.resolved_job import Fit, ResolvedJob


def learn(job: ResolvedJob, context: FitContext) -> None:
    """The detector's own `fit`, on the images that it is given, in the float32 of measuring."""
    from oodbench.train.devices import tensor_float_32

    images = handed(job.detector, job.train)
    if job.fit_subset:
        generator = np.random.default_rng(derive_seed("fit", context.seed, len(images)))
        images = images.subset(np.sort(generator.permutation(len(images))[: job.fit_subset]))
    with plugin_contract(job.detector, "fit"), tensor_float_32(False):
        job.detector.fit(images, context)


def take_state(job: ResolvedJob, fit: Fit, entry: Entry, *, taught: bool) -> None:
    """Hand the detector the state of its own `fit`.

    `taught`: whether this very detector has just learned it; one whose state is no tensors learns
    it again otherwise.
    """
    from oodbench.store.payload import unpack_tensors
    from oodbench.train.devices import pick_device

    detector = job.detector
    state = entry.parse("state.safetensors", unpack_tensors)
    if detector.refits and not taught:
        scratch = job.store.scratch(fit_key(job, fit))
        job.train.verify()
        device = pick_device(job.bench.device)
        learn(job, FitContext(device, fit.seed, job.bench.progress.say, scratch))
        job.store.discard_scratch(fit_key(job, fit))
    with plugin_contract(detector, "load_state_dict"):
        detector.load_state_dict(state)


def attach(job: ResolvedJob, entries: Sequence[Entry]) -> None:
    """Hand the detector its models, `entries` in the order of `job.fits`."""
    from oodbench.store.payload import unpack_tensors

    models = []
    for entry, fit in zip(entries, job.fits, strict=False):
        assert fit.recipe is not None
        weights = entry.parse("weights.safetensors", unpack_tensors)
        try:
            models.append(trained(fit.recipe, job.test.shape, weights, job.bench.device))
        except RuntimeError as error:
            raise entry.damaged("its weights are of another model") from error
    with plugin_contract(job.detector, "attach"):
        job.detector.attach(models)


def prepare(detector: Detector, compared: Mapping[str, Mapping[str, np.ndarray]]) -> str | None:
    """Hand over what the scores compare with (`oodbench.flow.score.compared`).

    Returns what the detector chose on its validation set, None where it has none.
    """
    if "reference" in compared:
        with plugin_contract(detector, "calibrate"):
            detector.calibrate(compared["reference"])
    if "outside" not in compared:
        return None
    with plugin_contract(detector, "choose"):
        return detector.choose(compared["inside"], compared["outside"])


def trained(
    recipe: Recipe, shape: tuple[int, int, int], weights: Mapping[str, torch.Tensor], device: str
) -> torch.nn.Module:
    """A recipe's model with its weights, ready to measure; RuntimeError where they do not fit."""
    from oodbench.train.devices import channels_last, pick_device

    model = recipe.build(shape)
    model.load_state_dict(weights)
    return channels_last(model.to(pick_device(device))).eval()


def learned_state(detector: Detector) -> Mapping[str, torch.Tensor]:
    """What `state_dict` gives; PluginError where it is not a mapping of names to dense tensors."""
    import torch

    with plugin_contract(detector, "state_dict"):
        state = detector.state_dict()
    if not isinstance(state, Mapping):
        raise PluginError(
            f"{detector.name}: state_dict must return a mapping, not {type(state).__name__}"
        )
    for name, value in state.items():
        dense = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if not dense or not isinstance(name, str):
            raise PluginError(
                f"{detector.name}: state_dict[{name!r}] is {type(value).__name__}, not a dense"
                " tensor under a name; use torch.as_tensor, and keep anything else in the class"
            )
    return state

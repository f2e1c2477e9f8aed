"""Learning what a job needs, and handing what was learned to its detector."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.detect.detector import Detector, FitContext
from oodbench.detect.entitlement import handed
from oodbench.detect.source_fingerprints import source_record
from oodbench.errors import PluginError, plugin_contract
from oodbench.seeding import derive_seed
from oodbench.store.store import Entry, Key

if TYPE_CHECKING:
    import torch

    from oodbench.declare.recipes import Recipe
    from oodbench.flow.keys import Fit, JobKeys


def make_fit(keys: JobKeys, key: Key, fit: Fit) -> Entry:
    """Train a recipe's model, or let the detector learn; the entry of what came out."""
    from oodbench.store.payload import pack_tensors
    from oodbench.store.provenance import machine_record
    from oodbench.train.devices import pick_device
    from oodbench.train.training import Runtime, log_csv, train

    bench, store = keys.bench, keys.bench.store
    device = pick_device(bench.device)
    keys.train.verify()
    scratch, progress = store.scratch(key), bench.progress
    progress.say(f"training {fit.label} ({len(keys.train):,} images, {device})")
    started = time.monotonic()
    recipe = fit.recipe
    if recipe is None:
        learn(keys, FitContext(device, fit.seed, progress.say, scratch))
        files = {"state.safetensors": pack_tensors(learned_state(keys.detector))}
        record: dict[str, JSON] = {"seconds": time.monotonic() - started}
    else:
        runtime = Runtime(device, bench.compile, bench.checkpoint_seconds)
        with plugin_contract(recipe.config, "training", kind="model"):
            model, run = train(
                lambda: recipe.build(keys.test.shape),
                keys.train.images,
                recipe.training,
                seed=fit.seed,
                supervision=keys.supervision(recipe),
                scratch=scratch,
                runtime=runtime,
                progress=progress,
            )
        files = {
            "weights.safetensors": pack_tensors(model.state_dict()),
            "log.csv": log_csv(run.rows),
        }
        record = {
            "seconds": run.seconds,
            "resumed": run.resumed,
            "images_per_second": run.step * recipe.training.batch_size / run.seconds,
            "parameters": sum(p.numel() for p in model.parameters()),
            "recipe": recipe.label,
            "variant": recipe.variant,
        }
    record |= {
        "name": fit.label,
        "in_dist": keys.train.name,
        "train_images": (keys.fit_subset if recipe is None else 0) or len(keys.train),
        "peak_memory_mb": peak_memory_mb(device),
        "machine": machine_record(device),
        "source": source_record(keys.detector, keys.recipe),
    }
    entry = store.write(key, files, record)
    store.discard_scratch(key)
    return entry


def learn(keys: JobKeys, context: FitContext) -> None:
    """The detector's own `fit`, on the images that it is given."""
    images = handed(keys.detector, keys.train)
    if keys.fit_subset:
        generator = np.random.default_rng(derive_seed("fit", context.seed, len(images)))
        images = images.subset(np.sort(generator.permutation(len(images))[: keys.fit_subset]))
    with plugin_contract(keys.detector, "fit"):
        keys.detector.fit(images, context)


def attach(keys: JobKeys) -> None:
    """Hand the detector what its fits learned; a fit that the store lacks is made."""
    if not keys.has_fit:
        return
    from oodbench.store.payload import unpack_tensors
    from oodbench.train.devices import pick_device

    bench, say, detector = keys.bench, keys.bench.progress.say, keys.detector
    made: list[Fit] = []

    def make(key: Key, fit: Fit) -> Entry:
        made.append(fit)
        return make_fit(keys, key, fit)

    entries = [
        bench.store.obtain(keys.fit_key(fit), partial(make, fit=fit), bench.on_wait)
        for fit in keys.fits
    ]
    if keys.recipe is None:
        state = entries[0].parse("state.safetensors", unpack_tensors)
        if detector.refits and not made:
            (fit,) = keys.fits
            scratch = keys.bench.store.scratch(keys.fit_key(fit))
            keys.train.verify()
            learn(keys, FitContext(pick_device(keys.bench.device), fit.seed, say, scratch))
            keys.bench.store.discard_scratch(keys.fit_key(fit))
        with plugin_contract(detector, "load_state_dict"):
            detector.load_state_dict(state)
        return
    models = []
    for entry, fit in zip(entries, keys.fits, strict=True):
        assert fit.recipe is not None
        weights = entry.parse("weights.safetensors", unpack_tensors)
        try:
            models.append(trained(fit.recipe, keys.test.shape, weights, keys.bench.device))
        except RuntimeError as error:
            raise entry.damaged("its weights are of another model") from error
    detector.attach(models)


def prepare(detector: Detector, compared: Mapping[str, Mapping[str, np.ndarray]]) -> str | None:
    """Hand over what the scores compare with (`runner.Learned.compared`).

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


def peak_memory_mb(device: str) -> float:
    """Peak memory so far: of the GPU where one is used, else of this process."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

"""Learning what a job needs, and handing what was learned to its detector."""

from __future__ import annotations

import resource
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from oodbench.canonical import JSON
from oodbench.detector import FitContext
from oodbench.entitlement import handed
from oodbench.errors import plugin_contract
from oodbench.sourcecode import source_record
from oodbench.store import Entry, Key

if TYPE_CHECKING:
    from oodbench.jobkeys import Fit, JobKeys


def make_fit(keys: JobKeys, key: Key, fit: Fit) -> Entry:
    """Train a recipe's model, or let the detector learn; the entry of what came out."""
    from oodbench.payload import pack_tensors
    from oodbench.provenance import machine_record
    from oodbench.training import Runtime, log_csv, pick_device, train

    bench, store = keys.bench, keys.bench.store
    device = pick_device(bench.device)
    keys.train.verify()
    scratch, progress = store.scratch(key), bench.progress
    progress.say(f"training {fit.label} ({len(keys.train):,} images, {device})")
    started = time.monotonic()
    recipe = fit.recipe
    if recipe is None:
        context = FitContext(device, keys.job.seed, progress.say, scratch)
        with plugin_contract(keys.detector, "fit"):
            keys.detector.fit(handed(keys.detector, keys.train), context)
        files = {"state.safetensors": pack_tensors(keys.detector.state_dict())}
        record: dict[str, JSON] = {"seconds": time.monotonic() - started}
    else:
        runtime = Runtime(device, bench.compile, bench.checkpoint_seconds)
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
        "train_images": len(keys.train),
        "peak_memory_mb": peak_memory_mb(device),
        "machine": machine_record(device),
        "source": source_record(keys.detector, keys.recipe),
    }
    entry = store.write(key, files, record)
    store.discard_scratch(key)
    return entry


def attach(keys: JobKeys) -> None:
    """Hand the detector what its fits learned; a fit that the store lacks is made."""
    if not keys.has_fit:
        return
    from oodbench.payload import unpack_tensors
    from oodbench.training import channels_last, pick_device

    say, detector = keys.bench.progress.say, keys.detector
    entries = [
        keys.bench.store.obtain(keys.fit_key(fit), partial(make_fit, keys, fit=fit), say)
        for fit in keys.fits
    ]
    if keys.recipe is None:
        state = entries[0].parse("state.safetensors", unpack_tensors)
        with plugin_contract(detector, "load_state_dict"):
            detector.load_state_dict(state)
        return
    models = []
    for entry, fit in zip(entries, keys.fits, strict=True):
        assert fit.recipe is not None
        model = fit.recipe.build(keys.test.shape)
        weights = entry.parse("weights.safetensors", unpack_tensors)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise entry.damaged("its weights are of another model") from error
        models.append(channels_last(model.to(pick_device(keys.bench.device))).eval())
    detector.attach(models)


def peak_memory_mb(device: str) -> float:
    """Peak memory so far: of the GPU where one is used, else of this process."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

"""Fit: what a job learns, each a model trained or a detector taught; one entry a fit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from oodbench.canonical_json import JSON
from oodbench.detect.detector import Detector, FitContext
from oodbench.detect.source_fingerprints import source_record
from oodbench.errors import plugin_contract
from oodbench.flow.attach import attach, learn, learned_state, take_state
from oodbench.flow.keys import fit_key
from oodbench.store.store import Entry, Key

if TYPE_CHECKING:
    from oodbench.flow.resolved_job import Fit, ResolvedJob


def fitted(job: ResolvedJob) -> Detector:
    """The job's detector with what its fits learned; a fit that the store lacks is made."""
    made: list[Fit] = []

    def obtain(fit: Fit) -> Entry:
        def make(key: Key) -> Entry:
            made.append(fit)
            return make_fit(job, key, fit)

        return job.store.obtain(fit_key(job, fit), make, job.bench.on_wait)

    if not job.has_fit:
        return job.detector
    models = [fit for fit in job.fits if fit.recipe is not None]
    if models:
        attach(job, [obtain(fit) for fit in models])
    for fit in job.fits[len(models) :]:
        entry = obtain(fit)
        take_state(job, fit, entry, taught=fit in made)
    return job.detector


def make_fit(job: ResolvedJob, key: Key, fit: Fit) -> Entry:
    """Train a recipe's model, or let the detector learn; the entry of what came out."""
    from oodbench.store.payload import pack_tensors
    from oodbench.store.provenance import machine_record, peak_memory_mb
    from oodbench.train.devices import arithmetic, pick_device
    from oodbench.train.training import Runtime, log_csv, train

    bench, store = job.bench, job.store
    device = pick_device(bench.device)
    job.train.verify()
    scratch, progress = store.scratch(key), bench.progress
    progress.say(f"training {fit.label} ({len(job.train):,} images, {device})")
    started = time.monotonic()
    recipe = fit.recipe
    if recipe is None:
        learn(job, FitContext(device, fit.seed, progress.say, scratch))
        files = {"state.safetensors": pack_tensors(learned_state(job.detector))}
        record: dict[str, JSON] = {
            "seconds": time.monotonic() - started,
            "arithmetic": arithmetic(device),
        }
    else:
        runtime = Runtime(device, bench.compile, bench.checkpoint_seconds)
        with plugin_contract(recipe.config, "training", kind="model"):
            model, run = train(
                lambda: recipe.build(job.test.shape),
                job.train.images,
                recipe.training,
                seed=fit.seed,
                supervision=job.supervision(recipe),
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
            "arithmetic": arithmetic(
                device, recipe.training.precision, tf32=True, compiled=bench.compile
            ),
        }
    record |= {
        "name": fit.label,
        "in_dist": job.train.name,
        "train_images": (job.fit_subset if recipe is None else 0) or len(job.train),
        "peak_memory_mb": peak_memory_mb(device),
        "machine": machine_record(device),
        "source": source_record(job.detector, job.recipe),
    }
    entry = store.write(key, files, record)
    store.discard_scratch(key)
    return entry

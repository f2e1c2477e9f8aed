"""Fit: what a job learns, each a model trained or a detector taught; one entry a fit."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.declare.overrides import leaves
from oodbench.detect.detector import Detector, FitContext
from oodbench.detect.source_fingerprints import source_record
from oodbench.errors import plugin_contract
from oodbench.flow.attach import attach, learn, learned_state, take_state
from oodbench.flow.keys import fit_key
from oodbench.flow.missing_steps import training_images, trial
from oodbench.flow.watching.telling import watched_step
from oodbench.store.store import Entry, Key

if TYPE_CHECKING:
    from oodbench.declare.recipes import Recipe
    from oodbench.flow.resolved_job import Fit, ResolvedJob
    from oodbench.progress import Progress

#: The file of a fit that holds what its training goes on from to the next snapshot.
TRAINING = "training.safetensors"


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
    """Train a recipe's model, or let the detector learn; the entry of what came out.

    The snapshots before it of its training are made first, where they are missing.
    """
    if (before := fit.before) is not None:
        job.store.obtain(
            fit_key(job, before), lambda key: make_fit(job, key, before), job.bench.on_wait
        )
    with watched_step(job.store, key, f"fit {fit.label}", job.bench.progress) as progress:
        return _make(job, key, fit, progress)


def _begun(job: ResolvedJob, fit: Fit) -> Entry | None:
    """The last snapshot before a fit that holds what its training goes on from."""
    before = fit.before
    while before is not None:
        entry = job.store.find(fit_key(job, before))
        if entry is not None and TRAINING in entry.files:
            return entry
        before = before.before
    return None


def _make(job: ResolvedJob, key: Key, fit: Fit, progress: Progress) -> Entry:
    from oodbench.store.payload import pack_tensors
    from oodbench.store.provenance import machine_record, peak_memory_mb
    from oodbench.train.devices import arithmetic, pick_device
    from oodbench.train.training import Runtime, kept_state, log_csv, train
    from oodbench.train.training_logs import Logs

    bench, store = job.bench, job.store
    device = pick_device(bench.device)
    job.train.verify()
    scratch = store.scratch(key)
    progress.say(f"training {fit.label} ({len(job.train):,} images, {device})")
    if fit.recipe is not None and fit.recipe.derived and progress.style != "quiet":
        progress.say(_budget(job, fit.recipe))
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
        logs = Logs(bench.logs, bench.log_folder, progress)
        logs.start(f"{fit.label} {recipe.label} {key.digest[:12]}", _settings(recipe))
        begun = _begun(job, fit)
        runtime = Runtime(device, bench.compile, bench.checkpoint_seconds, logs or None)
        with closing(logs), plugin_contract(recipe.config, "training", kind="model"):
            model, run = train(
                lambda: recipe.build(job.test.shape),
                job.train.images,
                recipe.training,
                seed=fit.seed,
                supervision=job.supervision(recipe),
                scratch=scratch,
                runtime=runtime,
                progress=progress,
                begin=begun.read(TRAINING) if begun is not None else None,
            )
        files = {
            "weights.safetensors": pack_tensors(model.state_dict()),
            "log.csv": log_csv(run.rows),
        }
        if recipe.training.snapshots is not None:
            files[TRAINING] = kept_state(scratch)
        seconds = run.seconds
        if begun is not None:
            seconds += float(cast(float, begun.record["seconds"]))
        record = {
            "seconds": seconds,
            "resumed": run.resumed,
            "images_per_second": run.step * recipe.training.batch_size / seconds,
            "parameters": sum(p.numel() for p in model.parameters()),
            "recipe": recipe.label,
            "variant": recipe.variant,
            "arithmetic": arithmetic(
                device, recipe.training.precision, tf32=True, compiled=bench.compile
            ),
        }
        record |= {"went_on_from": begun.digest} if begun is not None else {}
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


def _budget(job: ResolvedJob, recipe: Recipe) -> str:
    """What a derived recipe is, and what its training takes, said before it starts."""
    images = training_images(recipe, job.train)
    found = trial(job, recipe)
    told = ""
    if found is not None:
        minutes = images * found.seconds / 60
        told = f", about {minutes:.0f} min and {found.bytes / 2**20:,.0f} MB by one step of it"
    return f"{recipe.label}: {recipe.note} {images:,} images to train on{told}"


def _settings(recipe: Recipe) -> dict[str, JSON]:
    """Everything that a fit is made with, by its path."""
    return leaves({
        "model": recipe.config.model_dump(mode="json"),
        "training": recipe.training.model_dump(mode="json"),
    })  # fmt: skip

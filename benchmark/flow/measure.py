"""Measure: the statistics of every image of a split, by the detector with what it learned."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.detect.detector import Detector
from oodbench.detect.entitlement import WITH_LABELS
from oodbench.detect.source_fingerprints import source_record
from oodbench.flow.keys import measure_key
from oodbench.flow.resolved_job import ResolvedJob, subset_indices
from oodbench.flow.watching.telling import watched_step
from oodbench.store.store import DamagedEntryError, Entry, Key

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet
    from oodbench.progress import Progress

CPU_BATCH, GPU_BATCH = 100, 500


def measure(
    job: ResolvedJob, images: ImageSet, subset: int = 0, detector: Detector | None = None
) -> Entry:
    """The entry of the statistics of `images`, or of a seeded subset of that size; made if missing.

    `detector`: the job's, with what it learned; None where the store should hold every measurement.
    Raises DamagedEntryError where it does not after all, so that the job begins anew.
    """

    def make(key: Key) -> Entry:
        if detector is None:
            raise DamagedEntryError(f"{key.path} is gone")
        text = f"measure {images.name} {images.split} with {job.label}"
        with watched_step(job.store, key, text, job.bench.progress) as progress:
            return _make(job, key, images, subset, detector, progress)

    return job.store.obtain(measure_key(job, images, subset), make, job.bench.on_wait)


def is_measured(job: ResolvedJob, images: ImageSet, subset: int = 0) -> bool:
    """Whether the store holds these statistics."""
    return job.store.holds(measure_key(job, images, subset))


def _make(
    job: ResolvedJob, key: Key, images: ImageSet, subset: int, detector: Detector,
    progress: Progress,
) -> Entry:  # fmt: skip
    import numpy as np
    import torch

    from oodbench.flow.measuring import blocks
    from oodbench.store.payload import pack_table, pack_tensors
    from oodbench.store.provenance import machine_record, peak_memory_mb
    from oodbench.train.devices import arithmetic, pick_device, tune_allocator

    tune_allocator()
    images.verify()
    device = pick_device(job.bench.device)
    indices = subset_indices(len(images), subset) if subset else np.arange(len(images))
    started = time.monotonic()
    measured = blocks.measure(
        detector,
        images.images,
        indices,
        seed=job.seed,
        device=device,
        batch_size=job.bench.batch_size or (CPU_BATCH if device == "cpu" else GPU_BATCH),
        scratch=job.store.scratch(key),
        progress=progress,
        label=f"measure {images.name} {images.split}",
    )
    seconds = time.monotonic() - started
    table = {"index": indices.astype(np.int64)} | measured.statistics
    totals = {name: torch.from_numpy(value) for name, value in measured.totals.items()}
    files = {"statistics.parquet": pack_table(table)}
    if totals:
        files["totals.safetensors"] = pack_tensors(totals)
    record: dict[str, JSON] = {
        "name": f"{job.label}: {images.name} {images.split}",
        "images": len(indices),
        "seconds": seconds,
        "ms_per_image": 1000 * seconds / max(1, len(indices)),
        "peak_memory_mb": peak_memory_mb(device),
        "machine": machine_record(device),
        "arithmetic": arithmetic(device),
        "source": source_record(job.detector, job.recipe),
    }
    entry = job.store.write(key, files, record)
    job.store.discard_scratch(key)
    return entry


def statistics(measured: Entry) -> dict[str, np.ndarray]:
    """Statistics by name, (n,) or (n, K) float64."""
    from oodbench.store.payload import unpack_table

    table = measured.parse("statistics.parquet", partial(unpack_table, rows=_images(measured)))
    table.pop("index")
    return table


def _images(measured: Entry) -> int | None:
    """How many images an entry says that it measured."""
    return cast("int | None", measured.record.get("images"))


def totals(measured: Entry) -> dict[str, np.ndarray]:
    """Sums over all measured images by name; none where the detector gives none."""
    from oodbench.store.payload import unpack_tensors

    if "totals.safetensors" not in cast("Mapping[str, JSON]", measured.record["files"]):
        return {}
    stored = measured.parse("totals.safetensors", unpack_tensors)
    return {name: value.numpy() for name, value in stored.items()}


def labels(job: ResolvedJob, images: ImageSet, measured: Entry) -> dict[str, np.ndarray]:
    """Labels of the measured ID images under ``label``, where the detector may have them."""
    own = images is job.test or images is job.train
    if not own or images.labels is None or job.detector.category not in WITH_LABELS:
        return {}
    from oodbench.store.payload import unpack_table

    read = partial(unpack_table, columns=["index"], rows=_images(measured))
    index = measured.parse("statistics.parquet", read)["index"]
    return {"label": job.numbered(images.labels[index.astype(int)], job.recipe)}

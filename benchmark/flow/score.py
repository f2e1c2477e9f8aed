"""Score: from the statistics of a split to numbers per image, higher = more OOD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.canonical_json import JSON
from oodbench.detect.detector import Detector
from oodbench.detect.source_fingerprints import source_record
from oodbench.errors import PluginError, plugin_contract
from oodbench.flow.attach import prepare
from oodbench.flow.keys import score_key
from oodbench.flow.measure import labels, measure, statistics
from oodbench.flow.plan import column_name
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.store.store import Entry, Key

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet

#: Statistics by name, of images that scores compare with, by what these are.
Compared = Mapping[str, Mapping[str, "np.ndarray"]]


def compared(job: ResolvedJob, detector: Detector | None = None) -> Compared:
    """Statistics that the scores compare with, measured where they are missing.

    ``reference`` for `calibrate`, ``inside`` and ``outside`` for `choose`; `detector` as in
    `measure`.
    """
    found: dict[str, Mapping[str, np.ndarray]] = {}
    if job.compares:
        training = measure(job, job.train, job.train_subset, detector)
        inside = statistics(training)
    if job.detector.calibrates():
        found["reference"] = inside | labels(job, job.train, training)
    if job.validation is not None:
        outside = measure(job, job.validation, job.validation_subset, detector)
        found |= {"inside": inside, "outside": statistics(outside)}
    return found


def score(job: ResolvedJob, images: ImageSet, measured: Entry, beside: Compared) -> Entry:
    """The entry of the scores of `images` from what was `measured` of them; made if missing.

    Raises PluginError where a score is not one number an image.
    """

    def make(key: Key) -> Entry:
        import numpy as np

        from oodbench.store.payload import pack_table

        record: dict[str, JSON] = {
            "name": f"{job.label}: {images.name}",
            "source": source_record(job.detector, job.recipe),
        }
        chosen = prepare(job.detector, beside)
        if chosen is not None and (validation := job.validation) is not None:
            record["choice"] = chosen
            record["validation"] = f"{validation.name} {validation.split}"
        with plugin_contract(job.detector, "scores"):
            scored = job.detector.scores(statistics(measured))
        columns, count = {}, job.count(images)
        for name, values in scored.items():
            scores = np.asarray(values, dtype=np.float64)
            if scores.shape != (count,):
                raise PluginError(
                    f"{job.detector.name}: score {name!r} has shape {scores.shape}; expected"
                    f" ({count},)"
                )
            columns[column_name(name)] = scores
        return job.store.write(key, {"scores.parquet": pack_table(columns)}, record)

    return job.store.obtain(score_key(job, images), make, job.bench.on_wait)


def scores(scored: Entry) -> dict[str, np.ndarray]:
    """Scores by name, (n,) float64."""
    from oodbench.store.payload import unpack_table

    return scored.parse("scores.parquet", unpack_table)

"""Detectors that have learned the embedded digits at scale smoke, in the store that tests share."""

from __future__ import annotations

from pathlib import Path

from oodbench.datasets.loading import find_places
from oodbench.datasets.pairs import get_pair
from oodbench.detect.detector import Detector
from oodbench.flow.bench import Bench
from oodbench.flow.fit import fitted
from oodbench.flow.plan import DetectorRequest, Job
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.progress import Progress
from oodbench.store.store import Store


def learned(name: str, trained: Path) -> Detector:
    """The detector with its models, as a run on digits-photos has them; `trained` is the store."""
    bench = Bench(Store(trained), find_places((), str(trained)), Progress("quiet"), "cpu")
    job = Job(DetectorRequest(name), "digits", (get_pair("digits-photos"),), "smoke", 0)
    return fitted(ResolvedJob(bench, job))

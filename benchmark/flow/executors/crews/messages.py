"""Jobs, steps and the bench as JSON, so that they can be sent to any process on any machine.

A message holds plain data alone: names, paths and settings, and the text of plug-in files.  Whoever
receives it looks the names up anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodbench.datasets.loading import DataPlaces, find_places
from oodbench.datasets.pairs import Pair
from oodbench.flow.bench import Bench
from oodbench.flow.executors.crews.staging import fetch
from oodbench.flow.executors.steps import Step
from oodbench.flow.plan import DetectorRequest, Job
from oodbench.store.places import is_url
from oodbench.store.store import Store

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON
    from oodbench.datasets.imageset import ImageSet
    from oodbench.progress import Progress


def job_message(job: Job) -> dict[str, Any]:
    """A job as plain data."""
    return asdict(job) | {"overrides": dict(job.overrides)}


def read_job(message: Mapping[str, Any]) -> Job:
    """Inverse of `job_message`, after it went through JSON."""
    asked = message["request"]
    request = DetectorRequest(
        asked["name"], asked["recipe"], tuple(asked["scores"]), asked.get("mark", "")
    )
    pairs = tuple(
        Pair(p["name"], p["in_dist"], p["ood"], tuple(p["tables"]), p["embedded"], p["reading"])
        for p in message["pairs"]
    )
    return Job(
        request, message["in_dist"], pairs, message["scale"], message["seed"],
        message["overrides"], message["note"], message["rank"],
    )  # fmt: skip


def step_message(step: Step) -> str:
    """What a worker has to know of a step."""
    return json.dumps({
        "key": step.key, "stage": step.stage, "text": step.text, "job": job_message(step.job),
        "part": step.part, "also": list(step.also), "gpu": step.gpu,
    })  # fmt: skip


def read_step(text: str) -> Step:
    """Inverse of `step_message`."""
    read = json.loads(text)
    return Step(
        read["key"], read["stage"], read["text"], read_job(read["job"]), read["part"], (),
        tuple(read["also"]), gpu=read["gpu"],
    )  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """All that a worker is told before its first step.

    `signature`: versions and prints of source that must be the same there.  `plugins` and `project`
    are what `oodbench.flow.executors.crews.travelling` packs.  `witness`: a file of the store, by
    which a node shows that it sees the same one.  `paths`: folders of images, which a machine that
    has them not takes from the store.
    """

    store: str
    trust_imported: bool
    keep_checkpoints: bool
    data: tuple[str, ...]
    cache: str
    device: str
    compile: bool
    batch_size: int | None
    checkpoint_seconds: float
    logs: tuple[str, ...]
    folder: str
    threads: int
    plugins: tuple[Mapping[str, JSON], ...] = ()
    project: Mapping[str, JSON] | None = None
    signature: Mapping[str, JSON] = field(default_factory=dict)
    witness: str = ""
    paths: tuple[str, ...] = ()

    def message(self) -> str:
        """As text; mappings keep what they hold."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Setup:
        """Inverse of `message`."""
        read = json.loads(text)
        for name in ("data", "logs", "plugins", "paths"):
            read[name] = tuple(read[name])
        return cls(**read)


def setup_of(bench: Bench, threads: int, **more: Any) -> Setup:
    """What a worker is told of a bench; paths are made absolute."""
    asked = bench.store.given
    return Setup(
        store=asked if is_url(asked) else str(Path(bench.store.storage.location).absolute()),
        trust_imported=bench.store.trust_imported,
        keep_checkpoints=bench.store.keep_checkpoints,
        data=tuple(str(folder.absolute()) for folder in bench.places.folders),
        cache=str(bench.places.cache.absolute()),
        device=bench.device,
        compile=bench.compile,
        batch_size=bench.batch_size,
        checkpoint_seconds=bench.checkpoint_seconds,
        logs=bench.logs,
        folder=os.getcwd(),
        threads=threads,
        **more,
    )


def bench_of(setup: Setup, progress: Progress) -> Bench:
    """The bench of a worker; it does not wait for what others make.

    Where this machine has no such cache folder nor the one above it, the user's is taken.
    """
    cache = Path(setup.cache)
    if not cache.is_dir() and not cache.parent.is_dir():
        from platformdirs import user_cache_path

        cache = user_cache_path("oodbench") / "data"
    own = find_places((), setup.store).folders  # what OODBENCH_DATA names here
    folders = (*(Path(folder) for folder in setup.data), *own, cache / "downloads")
    store = Store(
        setup.store,
        trust_imported=setup.trust_imported,
        keep_checkpoints=setup.keep_checkpoints,
    )
    return Bench(
        store=store,
        places=DataPlaces(tuple(dict.fromkeys(folders)), cache),
        progress=progress,
        device=setup.device,
        compile=setup.compile,
        batch_size=setup.batch_size,
        checkpoint_seconds=setup.checkpoint_seconds,
        patient=False,
        logs=setup.logs,
        loaded={},
        staged=partial(_staged, store, cache) if setup.paths else None,
    )


def _staged(store: Store, cache: Path, asked: Hashable) -> ImageSet | None:
    return fetch(store.storage, asked, cache / "staged")

"""A Ray cluster of two nodes, each started by itself, and a store on an S3 server.

What is killed is killed for real; the store and the table are those of one process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flaky_s3 import s3_server
from ray_nodes import RayNodes, on_second, parent
from same_stores import contents, table, written
from started_runs import beat, bench_at, jobs_of, printed, start, until

from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import make_pair
from oodbench.errors import DataError
from oodbench.flow.bench import Bench
from oodbench.flow.executors.crews.messages import setup_of
from oodbench.flow.executors.crews.on_ray import Needs, RayCrew, _Node, _Running
from oodbench.flow.executors.crews.ray_tasks import greet_on_node
from oodbench.flow.executors.crews.staging import fetch, stage
from oodbench.flow.executors.crews.travelling import MismatchError, check_signature, signature
from oodbench.flow.executors.dispatch import Verdict
from oodbench.flow.executors.graph import plan
from oodbench.flow.executors.steps import do_step
from oodbench.flow.plan import Job, parse_detector
from oodbench.progress import Progress
from oodbench.store.store import Store

NAMES = ("vanilla-hvae", "mean-intensity", "glow")
#: With a fit of Glow that is long enough to be killed in.
ASKED = ("--pair", "digits-photos", "--scale", "smoke", "--set", "training.epochs=8",
         *(word for name in NAMES for word in ("--detector", name)))  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The runs made by the local executor, and what it printed."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, printed(folder, *ASKED, "--quiet")


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes of one CPU each."""
    pytest.importorskip("ray")
    with RayNodes() as nodes:
        yield nodes.address


@pytest.mark.slow
def test_a_cluster_makes_what_one_process_makes_whatever_is_killed(
    tmp_path: Path, alone: tuple[Path, str], cluster: str
) -> None:
    """SIGKILL of a worker in a fit, of the driver, of a node; and to the end."""
    words = (*ASKED, "--executor", "ray", "--address", cluster, "--checkpoint-seconds", "0.2")
    running = start(tmp_path, *words)
    first = until(lambda: (b := beat(tmp_path, "glow")) and b.done > 30 and b)
    os.kill(first.process, signal.SIGKILL)
    second = until(lambda: (b := beat(tmp_path, "glow")) and b.process != first.process and b)
    assert second.first > 0  # from the checkpoint
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    made = written(tmp_path / "store")
    running = start(tmp_path, *words)
    third = until(lambda: (b := beat(tmp_path, "glow")) and b.process != second.process and b)
    assert third.first > 0
    if on_second(third.process):
        os.kill(parent(third.process), signal.SIGKILL)  # the whole node
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert made.items() <= written(tmp_path / "store").items()  # nothing finished was made again
    assert contents(tmp_path / "store") == contents(alone[0] / "store")
    assert table(out) == table(alone[1])


@pytest.mark.slow
def test_a_store_on_a_server_that_is_busy_and_hangs_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder in common; killed in a fit, and gone on with elsewhere from the checkpoint."""
    with s3_server() as (address, flaky):
        for name, value in (
            ("AWS_ENDPOINT_URL", address), ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_DEFAULT_REGION", "us-east-1"),
            ("XDG_CACHE_HOME", str(tmp_path / "here")),
        ):  # fmt: skip
            monkeypatch.setenv(name, value)
        flaky.busy, flaky.drop = 13, 17
        fit = ("--pair", "digits-photos", "--scale", "smoke", "--detector", "glow")
        words = (*fit, "--jobs", "2", "--checkpoint-seconds", "0", "--checkpoints", "store")
        location = "s3://bucket/store"
        running = start(tmp_path, *words, "--store", location)
        storage = Store(location).storage
        until(lambda: [n for n in storage.names("work/status") if "failed" not in n])
        kept = until(lambda: [
            beat_name.partition(".")[0] for beat_name in storage.names("work/status")
            if storage.names(f"work/{beat_name.partition('.')[0]}")
        ])  # fmt: skip
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
        time.sleep(1.0)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))  # another machine
        running = start(tmp_path, *words, "--store", location, "--quiet")
        out, err = running.communicate(timeout=400)
        assert running.returncode == 0, err
        assert flaky.refused > 10
        store = Store(location)
        fits = {e.digest: e.record for e in store.entries("fit")}
        assert any(int(str(fits[key]["resumed"])) > 0 for key in kept if key in fits)
        flaky.busy = flaky.drop = 0
        other = tmp_path / "other"
        other.mkdir()
        again = start(other, *fit, "--quiet")
        alone, err = again.communicate(timeout=300)
        assert again.returncode == 0, err
        assert contents(location) == contents(other / "store")
        assert table(out) == table(alone)


def test_a_step_of_a_node_that_is_counted_out_is_lost_though_its_connection_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cable that is cut closes nothing; Ray's own answer would come minutes later."""
    steps = list(plan(bench_at(tmp_path), jobs_of(["mean-intensity"])).steps.values())[:2]
    whole, free = Needs(1.0, 0.0, 0.0), Needs(0.0, 0.0, 0.0)
    crew = RayCrew.__new__(RayCrew)
    crew.nodes = {
        name: _Node(f"machine-{name}", whole, free, fit=alive, alive=alive)
        for name, alive in (("a", True), ("b", False))
    }
    crew.running = {
        name: _Running(step, name, whole) for name, step in zip("ab", steps, strict=True)
    }
    crew.ray = SimpleNamespace(wait=lambda futures, **_: ([], futures))
    monkeypatch.setattr(crew, "_look", lambda: None)
    (done,) = crew.ended(0.0)
    assert (done.step, done.verdict, done.where) == (steps[1], Verdict.LOST, "b")
    assert done.why == "its node is lost (on machine-b)"
    assert list(crew.running) == ["a"]
    assert crew.nodes["b"].free == whole
    assert crew.ended(0.0) == []


# ------------------------------------------------------------------ what is compared and sent
def test_another_version_or_source_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = signature(["vanilla-hvae"])
    check_signature(planned, "the machine a")
    changed: list[dict[str, Any]] = [
        planned | {"python": "2.7"},
        planned | {"packages": {**planned["packages"], "torch": "0.1"}},  # type: ignore[dict-item]
        planned | {"oodbench": "0" * 64},
        planned | {"detectors": {"vanilla-hvae": "f" * 64}},
    ]
    for other, said in zip(changed, ("Python", "torch", "source of oodbench", "vanilla-hvae"),
                           strict=True):  # fmt: skip
        with pytest.raises(MismatchError, match=f"^the machine a is left out: .*{said}") as raised:
            check_signature(other, "the machine a")
        assert "\n" not in str(raised.value)
    bench = bench_at(tmp_path)
    setup = setup_of(bench, 1, signature=planned, witness="work/status/nobody")
    monkeypatch.chdir(tmp_path)
    greeting = json.loads(greet_on_node(setup.message()))
    assert "does not see the store" in greeting["refused"]


def test_a_machine_without_images_takes_them_from_the_store(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("mnist-train", 40), ("mnist-test", 20), ("fashionmnist-test", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        np.savez(data / f"{name}.npz", images=images, labels=np.arange(count) % 10)
    store = Store(tmp_path / "store")
    pair = make_pair("mnist", "fashionmnist")
    jobs = [Job(parse_detector("sklearn.IsolationForest"), "mnist", (pair,), "smoke", 0)]
    rich = Bench(store, DataPlaces((data,), tmp_path / "cache"), Progress("quiet"))
    graph = plan(rich, jobs)
    assert len(graph.loaded) == 3
    assert stage(store.storage, graph.loaded) > 0
    assert stage(store.storage, graph.loaded) == 0  # once
    there = tmp_path / "there"
    poor = Bench(
        store, DataPlaces((), tmp_path / "none"), Progress("quiet"), loaded={},
        staged=lambda asked: fetch(store.storage, asked, there),
    )  # fmt: skip
    for key in graph.in_order():
        do_step(poor, graph.steps[key])
    assert not plan(rich, jobs).steps  # the very keys that were planned
    (array, *_) = there.glob("*.npy")
    array.write_bytes(b"otherwise")
    for file in (tmp_path / "store" / "work" / "data").glob("*.npy"):
        file.write_bytes(b"otherwise")
    for file in there.glob("*.npy"):
        file.unlink()
    for asked in graph.loaded:
        with pytest.raises(DataError, match="damaged"):
            fetch(store.storage, asked, there)


def test_ray_is_never_imported_without_being_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom oodbench.cli import oodbench\n"
        "words = 'run --pair china-flower --detector mean-intensity --quiet --jobs 2'.split()\n"
        "done = CliRunner().invoke(oodbench, words)\n"
        "print(done.exit_code, 'ray' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split()[:2] == ["0", "False"], done.stderr


def test_without_ray_or_without_a_cluster_it_is_one_line(tmp_path: Path) -> None:
    absent = "import sys; sys.modules['ray'] = None\nsys.argv = ['oodbench', *{!r}]\n" \
             "from oodbench.cli import main\nmain()"  # fmt: skip
    words = ["run", "--pair", "china-flower", "--detector", "mean-intensity", "--executor", "ray"]
    for code, more, said in (
        (absent, [], "pip install 'oodbench[ray]'"),
        (absent.replace("sys.modules['ray'] = None", "0"), ["--address", "127.0.0.1:9"],
         "no Ray cluster at 127.0.0.1:9"),
    ):  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code.format([*words, *more])], cwd=tmp_path,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 2, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("oodbench: error: ")
        assert said in last
    assert jobs_of(["mean-intensity"])

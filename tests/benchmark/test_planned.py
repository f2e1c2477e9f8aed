"""The plan as a graph, and processes that make it: the stores and tables are those of one process.

Real processes, killed for real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from in_process import invoke
from same_stores import contents, table, written
from started_runs import beat, bench_at, jobs_of, printed, start, until

from oodbench.flow.executors import dispatch, planned
from oodbench.flow.executors.board import Board
from oodbench.flow.executors.crews.messages import job_message, read_job, read_step, step_message
from oodbench.flow.executors.crews.workers import Workers
from oodbench.flow.executors.dispatch import Done, Verdict
from oodbench.flow.executors.graph import Graph, plan
from oodbench.flow.executors.steps import Step
from oodbench.flow.missing_steps import missing_of_all
from oodbench.store.store import Store

#: Models, one shared by two detectors; learned without one, anew in every process; what compares
#: with training images; a fit of seconds, to be killed in.
DETECTORS = ("vanilla-hvae", "hvk", "sklearn.IsolationForest", "kl-typicality", "glow")
PAIR = ("--pair", "digits-photos", "--scale", "smoke")
ASKED = (*PAIR, *(word for name in DETECTORS for word in ("--detector", name)))
#: What is killed at: one fit that is long enough to be killed in, and a run without a model.
KILLED = (*PAIR, "--set", "training.epochs=14", "--detector", "glow",
          "--detector", "sklearn.IsolationForest")  # fmt: skip


@pytest.fixture(autouse=True)
def _no_plugins_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are handed the plug-ins of this process, which other tests have loaded too."""
    monkeypatch.setattr("oodbench.declare.registry._loaded", [])


# ------------------------------------------------------------------ the graph
def test_the_graph_has_what_is_missing_each_once(tmp_path: Path) -> None:
    bench, jobs = bench_at(tmp_path), jobs_of(DETECTORS, seeds=2)
    graph = plan(bench, jobs)
    made = [key for step in graph.steps.values() for key in (step.key, *step.also)]
    assert len(made) == len(set(made))
    missing, failures = missing_of_all(bench, jobs)
    assert not failures
    assert not graph.failures
    scores = {key for key, step in graph.steps.items() if step.stage == "score"}
    assert {step.key for step in missing} == set(made) - scores
    order = graph.in_order()
    for step in graph.steps.values():
        assert all(order.index(need) < order.index(step.key) for need in step.needs)
    stages = {step.stage: step for step in graph.steps.values()}
    assert {graph.steps[n].stage for n in stages["run"].needs} >= {"measure", "score"}
    # One model for the detectors that stand on it.
    assert sum(s.stage == "fit" and "hvae" in s.text for s in graph.steps.values()) == 2


def test_planning_takes_seconds_and_no_torch(tmp_path: Path) -> None:
    """5 seeds × 15 pairs × 20 detectors."""
    code = """
import sys, time
from oodbench.datasets.loading import find_places
from oodbench.datasets.pairs import make_pair
from oodbench.flow.bench import Bench
from oodbench.flow.executors.graph import plan
from oodbench.flow.selection import choose
from oodbench.progress import Progress
from oodbench.store.store import Store
names = '''vanilla-hvae informative-hvae lvae informative-lvae biva informative-biva glow waic hvk
    dose-hvae kl-typicality likelihood-regret likelihood-regret-z input-complexity-glow
    input-complexity-hvae latent-mahalanobis mean-intensity pixel-variance png-length
    lr-pixelcnn'''.split()
from oodbench.detect.detector import DETECTORS
names = [n for n in names if n in DETECTORS.names()]
names += [n for n in DETECTORS.names() if n not in names and n.startswith(('typ', 'pixelcnn'))]
sides = ['photos', 'digits', 'china']
pairs = [make_pair(a, b + '@resize') for a in ['digits', 'photos', 'photos@grey', 'china', 'flower']
         for b in sides]
jobs = choose(pairs, detectors=names[:20], scale='smoke').jobs(range(5))
bench = Bench(Store('store'), find_places((), 'store'), Progress('quiet'))
plan(bench, jobs[::5])  # the arrays of the sets are made once
began = time.process_time()
graph = plan(bench, jobs)
print(time.process_time() - began, len(names[:20]) * len(pairs) * 5, len(graph.steps),
      'torch' in sys.modules, len(graph.failures))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seconds, asked, steps, torch, failures = done.stdout.split()
    assert (asked, torch, failures) == ("1500", "False", "0")
    assert int(steps) > 4_000
    assert float(seconds) < 5


def test_jobs_and_steps_are_read_as_they_were_written(tmp_path: Path) -> None:
    for job in jobs_of(["vanilla-hvae@D2:L>1", "mean-intensity"], seeds=2):
        assert read_job(json.loads(json.dumps(job_message(job)))) == job
    for step in plan(bench_at(tmp_path), jobs_of(DETECTORS)).steps.values():
        read = read_step(step_message(step))
        assert (read.key, read.part, read.job, read.also) == (
            step.key, step.part, step.job, step.also
        )  # fmt: skip


class Machine:
    """A crew in virtual time: what is begun ends after its seconds, in the order of the ends."""

    def __init__(self, workers: int, verdicts: Callable[[Step, int], Verdict]) -> None:
        self.tell = print
        self.workers, self.verdicts = workers, verdicts
        self.now, self.running, self.began = 0.0, [], []  # type: ignore[var-annotated]

    def slots(self) -> int:
        return self.workers

    def begin(self, step: Step, avoided: Sequence[str] = ()) -> bool:
        if len(self.running) == self.workers:
            return False
        self.running.append((self.now + step.seconds, len(self.began), step))
        self.began.append(step.key)
        return True

    def ended(self, seconds: float) -> list[Done]:
        if not self.running:
            return []
        one = min(self.running)
        self.running.remove(one)
        self.now, _, step = one
        return [Done(step, self.verdicts(step, self.began.count(step.key)), "because")]

    def stop(self) -> list[Done]:
        return []

    def close(self) -> None:
        pass


def handed_out(
    folder: Path, graph: Graph, workers: int,
    verdicts: Callable[[Step, int], Verdict] = lambda step, count: Verdict.MADE,
) -> tuple[Machine, dispatch.Dispatched]:  # fmt: skip
    bench, crew = bench_at(folder), Machine(workers, verdicts)
    return crew, dispatch.dispatch(graph, crew, Board(bench, graph), bench.store.storage)


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_every_step_is_begun_once_behind_what_it_needs(tmp_path: Path, workers: int) -> None:
    graph = plan(bench_at(tmp_path), jobs_of(DETECTORS, seeds=2))
    crew, done = handed_out(tmp_path, graph, workers)
    assert sorted(crew.began) == sorted(graph.steps)
    assert done.made == set(graph.steps)
    total = sum(step.seconds for step in graph.steps.values())
    longest = max(graph.urgency().values())
    # Graham's bound of list scheduling.
    assert max(total / workers, longest) <= crew.now + 1e-9
    assert crew.now <= total / workers + longest * (1 - 1 / workers) + 1e-9


def test_what_is_lost_is_tried_again_and_what_fails_takes_what_waits_along(tmp_path: Path) -> None:
    graph = plan(bench_at(tmp_path), jobs_of(["vanilla-hvae", "mean-intensity"]))
    (fit,) = (step for step in graph.steps.values() if step.stage == "fit")
    lost = lambda step, count: Verdict.LOST if count < 3 else Verdict.MADE  # noqa: E731
    crew, done = handed_out(tmp_path, graph, 2, lost)
    assert done.made == set(graph.steps)
    assert all(crew.began.count(key) == 3 for key in graph.steps)
    for verdict, tries in ((Verdict.FAILED, 1), (Verdict.LOST, dispatch.ATTEMPTS)):
        never = lambda step, _, v=verdict: v if step is fit else Verdict.MADE  # noqa: E731
        crew, done = handed_out(tmp_path, graph, 2, never)
        waiting = {s.key for s in graph.steps.values() if "vanilla-hvae" in s.text} - {fit.key}
        assert crew.began.count(fit.key) == tries
        assert done.made == set(graph.steps) - waiting - {fit.key}
        (failure,) = done.failures
        assert failure.waiting == len(waiting)
        assert "because" in str(failure)


# ------------------------------------------------------------------ processes
@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The runs made by the local executor, one after another, and what it printed."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, printed(folder, *ASKED, "--quiet")


def test_two_processes_make_what_one_makes(tmp_path: Path, alone: tuple[Path, str]) -> None:
    running = start(tmp_path, *ASKED, "--jobs", "2")
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert contents(tmp_path / "store") == contents(alone[0] / "store")
    assert table(out) == table(alone[1])
    fits = [e.record for e in Store(tmp_path / "store").entries("fit")]
    assert [fit["machine"]["threads"] for fit in fits] == [1] * len(fits)  # type: ignore[index]
    # Everything is there: the same command makes nothing, nor asks for a process.
    before = written(tmp_path / "store")
    again, out_again, err = invoke(tmp_path, "run", *ASKED, "--jobs", "2", "--store", "store")
    assert (again, out_again) == (0, out)
    assert "steps to make" not in err
    assert written(tmp_path / "store") == before
    status, told, _ = invoke(tmp_path, "status", *ASKED, "--store", "store")
    assert (status, told.splitlines()[-1]) == (0, "all is made")


def test_killed_workers_and_drivers_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL of a worker in a fit, then of the driver; SIGTERM of the driver; and to the end."""
    alone = tmp_path / "alone"
    alone.mkdir()
    expected = printed(alone, *KILLED, "--quiet")
    words = (*KILLED, "--checkpoint-seconds", "0.2")
    running = start(tmp_path, *words, "--jobs", "2")
    first = until(lambda: (b := beat(tmp_path, "glow")) and b.done > 30 and b)
    os.kill(first.process, signal.SIGKILL)
    second = until(lambda: (b := beat(tmp_path, "glow")) and b.process != first.process and b)
    assert second.first > 0  # from the checkpoint
    os.kill(second.process, signal.SIGSTOP)  # that its fit does not end before the driver does
    status, told, _ = invoke(tmp_path, "status", *KILLED, "--store", "store")
    assert status == 0
    assert "running: fit glow" in told
    os.kill(running.pid, signal.SIGKILL)
    os.kill(second.process, signal.SIGCONT)
    running.communicate()
    until(lambda: not _alive(second.process), 60)  # it saved and ended by itself
    made = written(tmp_path / "store")
    running = start(tmp_path, *words, "--jobs", "2")
    third = until(lambda: (b := beat(tmp_path, "glow")) and b.process != second.process and b)
    assert third.first >= second.done
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 143, err
    assert "the same command goes on" in err
    running = start(tmp_path, *words, "--jobs", "2", "--quiet")
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert made.items() <= written(tmp_path / "store").items()  # nothing finished was made again
    found = contents(tmp_path / "store")
    assert len([path for path in found if path.startswith("run/")]) == 2
    assert found == contents(alone / "store")
    assert table(out) == table(expected)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


PLUGIN = '''
import os, signal
from pathlib import Path
from oodbench import Detector, register
@register("falls")
class Falls(Detector):
    """Its process is killed while it measures, every time, or once."""
    def measure(self, images, noise=None):
        once = Path(os.environ["FALLS_ONCE"])
        if not once.exists():
            if once.name != "never":
                once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"s": images.double().mean((1, 2, 3))}
    def scores(self, statistics):
        return {"S": statistics["s"]}
    def score_names(self):
        return ["S"]
@register("breaks")
class Breaks(Falls):
    def measure(self, images, noise=None):
        raise ValueError("no such luck")
'''


def test_failures_are_listed_and_the_rest_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    names = ("--pair", "digits-photos", "--plugin", "mine.py", "--store", "store", "--detector",
             "mean-intensity", "--detector", "falls", "--detector", "breaks")  # fmt: skip
    monkeypatch.setattr(dispatch, "ATTEMPTS", 2)
    monkeypatch.setenv("FALLS_ONCE", str(tmp_path / "never"))
    status, out, err = invoke(tmp_path, "run", *names, "--jobs", "2", "--quiet")
    assert status == 1, err
    assert "Mean intensity" in out
    failed = [line for line in err.splitlines() if line.startswith("oodbench: failed: ")]
    assert len(failed) == 4
    assert sum("SIGKILL, 2 times" in line for line in failed) == 2
    assert sum("breaks" in line and "no such luck" in line for line in failed) == 2
    asked = [word for word in names if word != "--jobs"]
    told = invoke(tmp_path, "status", *asked)[1]
    assert told.count("failed: measure") == 4
    assert told.splitlines()[-1] == "all that can be made is made"
    # Once, and it is tried again.
    monkeypatch.setenv("FALLS_ONCE", str(tmp_path / "once"))
    status, out, err = invoke(tmp_path, "run", *names[:-2], "--jobs", "2")
    assert status == 0, err
    assert "it is tried again" in err
    told = invoke(tmp_path, "status", *asked)[1]
    assert "falls" not in told


def test_what_cannot_be_sent_is_said(tmp_path: Path) -> None:
    for words, said in (
        (("--executor", "ray", "--jobs", "2"), "--jobs is for this machine"),
        (("--address", "auto"), "go with --executor ray"),
        (("--jobs", "2", "--memory-per-fit", "much"), "is no size"),
        (("--cpus-per-fit", "2"), "--cpus-per-fit goes with"),
    ):
        status, _, err = invoke(tmp_path, "run", "--pair", "digits-photos", *words)
        assert (status, err.count("\n")) == (2, 1)
        assert said in err


def test_a_damaged_entry_is_made_again_within_the_run(tmp_path: Path) -> None:
    bench, jobs = bench_at(tmp_path), jobs_of(["mean-intensity", "pixel-variance"])
    workers = Workers(jobs=2)
    first = planned.run_planned(bench, jobs, workers)
    assert len(first.entries) == 2
    before = contents(tmp_path / "store")
    for path in (tmp_path / "store" / "measure").glob("*/*/statistics.parquet"):
        path.write_bytes(path.read_bytes()[:-9] + b"otherwise")
    for path in (tmp_path / "store" / "score").glob("*/*/record.json"):
        path.unlink()
    again = planned.run_planned(bench_at(tmp_path), jobs, workers)
    assert not again.failures
    assert contents(tmp_path / "store") == before


def test_ray_that_is_not_installed_is_said_before_anything_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodbench.flow.executors.crews.workers.find_spec", lambda name: None)
    status, out, err = invoke(tmp_path, "run", *ASKED, "--executor", "ray")
    assert (status, out) == (2, "")
    assert err == (
        "oodbench: error: --executor ray needs the package ray; pip install 'oodbench[ray]'\n"
    )
    assert not [*tmp_path.iterdir()]

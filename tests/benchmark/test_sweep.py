"""`oodbench sweep allocation`: real small sweeps, killed and resumed; choices, marks, bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke

from oodbench.cli import oodbench as command_line
from oodbench.datasets.loading import find_places
from oodbench.datasets.pairs import make_pair
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.errors import ConfigError
from oodbench.figures.sweeps import sweep_figure
from oodbench.flow.bench import Bench, BusyError
from oodbench.flow.executors.local import in_turn, run_jobs
from oodbench.flow.keys import run_key, score_key
from oodbench.flow.perform import HeldOut
from oodbench.flow.plan import DetectorRequest, Job
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.leaderboards.rows import Group
from oodbench.models.hierarchical.allocation import allocate
from oodbench.progress import Progress
from oodbench.seeding import training_split
from oodbench.store.store import Key, Store
from oodbench.sweeps.allocation import RATIOS, parse_ratios, plan_allocation
from oodbench.sweeps.points import Point, Sweep
from oodbench.sweeps.results import Setting, Swept, run_sweeps
from oodbench.tables.layout.markup import plain
from oodbench.tables.sweeps import Difference, differences, sweep_document, sweep_text, tidy_sweep

# r = 0.98 and r = 1 both give [5, 5, 4]: three configurations.
ARGUMENTS = (
    "sweep", "allocation", "--model", "informative-hvae", "--in-dist", "digits", "--ood",
    "uniform", "--budget", "14", "--layers", "3", "--ratios", "0.25,0.98,1", "--seeds", "2",
    "--scale", "smoke", "--device", "cpu",
)  # fmt: skip
DIMS = {0.25: "[10, 3, 1]", 0.5: "[8, 4, 2]", 0.98: "[5, 5, 4]", 1.0: "[5, 5, 4]"}
SCORES = ["L", "LLR>1", "LLR>2", "LLR_ada", "KL<=3"]


@dataclass(frozen=True)
class Finished:
    """A folder with a sweep that was killed once and finished, and what the second run said."""

    folder: Path
    early: dict[str, int]
    said: str

    @property
    def store(self) -> Store:
        """Its store."""
        return Store(self.folder / "results" / "store")


def fits(store: Path) -> dict[str, int]:
    """Time of writing of every finished fit."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (store / "fit").rglob("record.json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("sweep")
    process = subprocess.Popen(
        [sys.executable, "-c", "from oodbench.cli import main; main()", *ARGUMENTS],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    store, limit = folder / "results" / "store", time.monotonic() + 240
    while len(fits(store)) < 2:
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    early = fits(store)
    status, _, said = invoke(folder, *ARGUMENTS, "--figure", "a.svg")
    assert status == 0, said
    return Finished(folder, early, said)


@pytest.fixture(scope="module")
def found(finished: Finished) -> list[Swept]:
    """The finished sweep, read from its store."""
    pairs = [make_pair("digits", "uniform")]
    plan = plan_allocation(
        "informative-hvae", pairs, (1, 8, 8), ratios=parse_ratios("0.25,0.98,1"), budget=14,
        layers=3, recipe="", scale="smoke", seeds=[0, 1], overrides={},
    )  # fmt: skip
    store = finished.store
    places = find_places((), str(store.storage.location))
    return run_sweeps(Bench(store, places, Progress("quiet"), device="cpu"), [plan])


def table(finished: Finished, *more: str) -> str:
    status, out, err = invoke(finished.folder, *ARGUMENTS, "--figure", "b.svg", *more)
    assert status == 0, err
    return out


# ---------------------------------------------------------------------- the sweep
def test_a_killed_sweep_goes_on_and_fits_nothing_twice(finished: Finished) -> None:
    after = fits(finished.folder / "results" / "store")
    assert len(finished.early) < 6
    assert len(after) == 6  # three configurations, two seeds: ratios of equal dims share a fit
    assert {digest: after[digest] for digest in finished.early} == finished.early
    assert finished.said.count("training informative-hvae@D3-dense") == 6 - len(finished.early)
    assert (finished.folder / "a.svg").read_bytes().startswith(b"<?xml")


def test_an_ordinary_run_of_the_same_configuration_shares_its_fit(finished: Finished) -> None:
    status, out, _ = invoke(
        finished.folder, "run", "--in-dist", "digits", "--ood", "uniform", "--detector",
        "informative-hvae@D3-dense", "--scale", "smoke", "--seeds", "2", "--dry-run",
    )  # fmt: skip
    assert (status, out) == (0, "nothing is missing\n")


def test_the_values_are_those_of_the_leaderboard(finished: Finished) -> None:
    rows = list(csv.DictReader(io.StringIO(table(finished, "--format", "csv"))))
    text = invoke(finished.folder, "leaderboard", "--format", "csv")[1]
    board = {
        (row["runs"], row["score"]): row
        for row in csv.DictReader(io.StringIO(text))
        if row["metric"] == "auroc"
    }
    values = [row for row in rows if not row["choice"]]
    assert [(float(r["point"]), r["score"]) for r in values] == [
        (ratio, score) for score in SCORES for ratio in DIMS
    ]
    for row in rows:
        same = board[row["runs"], row["score"]]
        assert (row["value"], row["sd"], row["seeds"]) == (
            same["value"], same["sd"], same["seeds"]
        )  # fmt: skip
        assert row["dims"] == DIMS[float(row["point"])]
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
    shown = table(finished)
    assert all(f"{float(r['value']):.1f}±{float(r['sd']):.1f}" in shown for r in rows)


def test_kl_active_units_and_the_criterion(finished: Finished, found: list[Swept]) -> None:
    (one,) = found
    for setting in one.settings:
        runs = setting.groups["uniform"].entries
        kls = [run.record["diagnostics"]["id_test"]["kl_nats"] for run in runs]  # type: ignore[index, call-overload]
        np.testing.assert_allclose([s.mean for s in setting.kl()], np.mean(kls, axis=0))
        assert str([units for _, units in setting.active()]) == setting.point.label
        expected = [(h.scores["L>2"]).mean() / (64 * np.log(2)) for h in setting.held_out]
        assert setting.criterion.mean == pytest.approx(np.mean(expected), rel=1e-12)
        assert {(h.split, len(h.scores["L"])) for h in setting.held_out} == {("held-out", 200)}
    shown = table(finished)
    assert "200 ID training images left out of every fit" in shown
    assert f"{one.chosen.criterion.mean:.3f}" in shown


def test_held_out_images_are_those_that_no_fit_sees(finished: Finished) -> None:
    places = find_places((), str(finished.store.storage.location))
    job = Job(DetectorRequest("vanilla-hvae", "D3-dense"), "digits", (), "smoke", 0)
    keys = ResolvedJob(Bench(finished.store, places), job)
    used, left = training_split(len(keys.train), 512)
    assert sorted([*used, *left]) == list(range(len(keys.train)))
    assert np.array_equal(keys.held_out.images, keys.train.images[left])
    all_seen = Job(DetectorRequest("vanilla-hvae", "D2"), "digits", (), "small", 0)
    assert ResolvedJob(Bench(finished.store, places), all_seen).held_out.split == "test"


# ---------------------------------------------------------------------- choices
def constructed(bounds: dict[float, tuple[float, ...]]) -> Swept:
    """A sweep of two layers with given held-out −L>1 in nats, one number per seed."""
    settings = tuple(
        Setting(
            Point(value, f"{value}", {}), {"x": Group({"layers": 2})},
            [HeldOut({"L": np.full(3, 10.0), "LLR>1": np.full(3, nats - 10.0)}, "held-out", 4)
             for nats in seeds],
        )
        for value, seeds in bounds.items()
    )  # fmt: skip
    points = tuple(setting.point for setting in settings)
    pairs = (make_pair("digits", "uniform"),)
    return Swept(
        Sweep(DetectorRequest("x"), pairs, points, 0.5, "smoke", (0, 1), "r", "Latents"), settings
    )


def test_id_data_choose_the_highest_mean_bound_and_the_smaller_of_equals() -> None:
    one = constructed({0.25: (30.0, 50.0), 0.5: (38.0, 40.0), 1.0: (45.0, 35.0)})
    assert one.chosen.point.value == 0.5  # 39 against 40 and 40
    assert one.chosen.criterion.mean == pytest.approx(39 / (4 * np.log(2)))
    assert one.chosen.criterion.sd == pytest.approx(np.sqrt(2) / (4 * np.log(2)))
    assert one.default.point.value == 0.5
    tied = constructed({1.25: (40.0, 40.0), 1.0: (32.0, 48.0), 0.25: (41.0, 41.0)})
    assert tied.chosen.point.value == 1.0
    assert constructed({0.5: (7.0,), 1.0: (6.0,)}).chosen.point.value == 1.0


def test_the_oracle_is_the_highest_auroc_and_the_smaller_of_equals(found: list[Swept]) -> None:
    (one,) = found
    for score in SCORES:
        values = [s.auroc("uniform", score).cell.value for s in one.settings]
        first = int(np.argmax(values))
        assert one.oracle("uniform", score) is one.settings[first]
    assert one.oracle("uniform", "L").point.value != 1.0  # 0.98 has the same fits


def test_only_the_chosen_value_is_tested_and_against_the_default(
    found: list[Swept], finished: Finished
) -> None:
    (one,) = found
    # Whatever ID data chose: the same sweep with another value as the default.
    other = next(s for s in one.settings if s.point.label != one.chosen.point.label)
    moved = Swept(
        Sweep(**{**vars(one.sweep), "default": other.point.value}), one.settings
    )  # fmt: skip
    tested = differences([moved], finished.store)
    assert set(tested) == {(one.label, "uniform", score) for score in SCORES}
    for (_, ood, score), difference in tested.items():
        assert isinstance(difference, Difference)
        means = [s.auroc(ood, score).cell.value for s in (one.chosen, other)]
        assert difference.value == pytest.approx(means[0] - means[1], abs=1e-9)
        assert difference.low <= difference.value <= difference.high
    same = Swept(
        Sweep(**{**vars(one.sweep), "default": one.chosen.point.value}), one.settings
    )  # fmt: skip
    assert set(differences([same], finished.store).values()) == {None}


def test_oracle_choices_are_marked_in_every_format_and_never_set_above(
    found: list[Swept], finished: Finished
) -> None:
    store, tested = finished.store, differences(found, finished.store)
    for format_ in ("table", "latex", "markdown", "html"):
        text = sweep_text(found, store, "allocation", "T", format_)
        text = text.replace("\\[", "[").replace("\\]", "]")  # as Markdown escapes them
        # Per score the choice and the best of the table of all values; the head, which Markdown
        # repeats for both of its columns and LaTeX for the pages that follow; the legend.
        heads = 2 if format_ in ("markdown", "latex") else 1
        assert text.count("[oracle]") == heads + 2 * len(SCORES) + 1
        assert "chosen with the OOD results known" in text
    document = sweep_document(found, tested, "allocation", "T")
    cells = [c for p in document.panels for line in p.grid.body for c in line if c is not None]
    marked = [cell for cell in cells if "[oracle]" in plain(cell.text)]
    assert len(marked) == 2 * len(SCORES)
    assert not any(cell.bold or cell.underlined for cell in marked)
    as_table = sweep_text(found, store, "allocation", "T", "csv", "table")
    assert as_table.count("[oracle]") == 2 + 2 * len(SCORES)  # in the head of both columns
    rows = tidy_sweep(found, tested)
    assert rows == json.loads(sweep_text(found, store, "allocation", "T", "json"))
    oracle = [row for row in rows if row["choice"] == "oracle"]
    assert [row["category"] for row in oracle] == ["oracle"] * len(SCORES)
    assert {row["category"] for row in rows if row["choice"] != "oracle"} == {"unsupervised"}
    assert {row["p_holm"] for row in oracle} == {None}


def test_the_figure(found: list[Swept]) -> None:
    figure = sweep_figure(found)
    area, kl, active = figure.axes
    (one,) = found
    stars = [line for line in area.lines if line.get_marker() == "*"]
    assert [line.get_xdata()[0] for line in stars] == [  # type: ignore[index]
        one.oracle("uniform", score).point.value for score in SCORES
    ]
    for ax in figure.axes:
        upright = {line.get_linestyle(): line.get_xdata()[0] for line in ax.lines  # type: ignore[index]
                   if len(set(line.get_xdata())) == 1 and line.get_marker() == "None"}  # type: ignore[arg-type]  # fmt: skip
        assert (upright["--"], upright[":"]) == (one.chosen.point.value, 0.5)
        assert ax.get_xlabel() == "r"
    assert (area.get_title(), kl.get_ylabel(), active.get_ylabel()) == (
        "Informative HVAE(3)\ndigits (ID), uniform (OOD)", "KL, nats per image", "Active units",
    )  # fmt: skip
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named[: len(SCORES)] == SCORES
    assert named[len(SCORES) :] == ["oracle: r of the best AUROC", "r by ID data", "default r",
                         "95 % over images (DeLong)", "± sd over 2 seeds"]  # fmt: skip


# ---------------------------------------------------------------------- planning
def test_dry_run_says_what_it_would_do(tmp_path: Path) -> None:
    status, out, _ = invoke(tmp_path, *ARGUMENTS, "--dry-run")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == ("informative-hvae@D3-dense at 4 values of r, 3 configurations, 2 seeds:")
    assert lines[1:5] == [f"  r = {ratio:g}: {dims}" for ratio, dims in DIMS.items()]
    assert "fit: 6 (3,072 images)" in lines
    assert "measure digits held-out: 6 (1,200 images)" in lines
    assert "training: 3,072 images" in lines[-1]
    assert not (tmp_path / "results" / "store" / "fit").exists()
    assert not list(tmp_path.glob("*.pdf"))


def test_the_default_grid_is_the_one_in_the_help() -> None:
    command = command_line.commands["sweep"].commands["allocation"]  # type: ignore[attr-defined]
    (option,) = [p for p in command.params if p.name == "ratios"]
    assert option.help.endswith(f"[{','.join(f'{r:g}' for r in RATIOS)}]")
    assert parse_ratios("1, 0.25,1.0") == (0.25, 0.5, 1.0)


@pytest.mark.parametrize(
    ("model", "recipe"),
    [("vanilla-hvae", "F3-dense"), ("informative-hvae", "F3-dense"), ("lvae", "lvae-F3-dense")],
)
def test_recipes_of_one_kind_of_latent_are_found_and_resized(model: str, recipe: str) -> None:
    pairs = [make_pair("fashionmnist", "mnist")]
    plan = plan_allocation(
        model, pairs, (1, 28, 28), ratios=RATIOS, budget=None, layers=None, recipe="",
        scale="small", seeds=[0], overrides={"training": {"precision": "bf16"}},
    )  # fmt: skip
    assert plan.request == DetectorRequest(model, recipe)
    assert [point.label for point in plan.points] == [str(allocate(28, r, 3)) for r in RATIOS]
    job = plan.jobs()[0]
    resolved = resolve(find_recipe(recipe), "small", job.request.detector.recipe_variant,
                       job.overrides)  # fmt: skip
    assert resolved.training.precision == "bf16"
    assert [layer.latent.dim for layer in resolved.config.layers] == [21, 5, 2]  # type: ignore[attr-defined]


def test_a_recipe_of_mixed_latents_is_swept_and_said_to_be_mixed() -> None:
    plan = plan_allocation(
        "vanilla-hvae@F3", [make_pair("fashionmnist", "mnist")], (1, 28, 28), ratios=(0.5, 1.0),
        budget=None, layers=3, recipe="", scale="small", seeds=[0], overrides={},
    )  # fmt: skip
    assert "28 dimensions in 3 latents of several kinds (channels, units, units" in plan.notes[0]


OPTIONS = ("--in-dist", "digits", "--ood", "photos", "--scale", "smoke")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratios", "0.5,0"], "--ratios: 0 is no ratio of sizes"),
        (["--ratios", "-1"], "--ratios: -1 is no ratio of sizes"),
        (["--ratios", "nan"], "--ratios: nan is no ratio of sizes"),
        (["--ratios", "0.5,half"], "--ratios: 'half' is no number"),
        (["--ratios", ""], "--ratios: '' is no number"),
        (["--budget", "2"], "a budget of 2 is less than one unit for each of 3 layers"),
        (["--budget", "0"], "--budget"),
        (["--layers", "5"], "no recipe for images of 1×8×8 (digits) has 5 layers"),
        (["--recipe", "D2", "--layers", "3"], "recipe D2 has 2 layers at scale smoke, not 3"),
        (["--model", "informative-hvea"], "unknown detector 'informative-hvea'; nearest: informa"),
        (["--model", "glow"], "detector 'glow' has no hierarchy of latents to allocate; one of"),
        (["--model", "png-length"], "detector 'png-length' has no hierarchy of latents"),
        (["--model", "rst-vae"], "detector 'rst-vae' has no hierarchy of latents"),
        (["--model", "vanilla-hvae:L"], "--model vanilla-hvae takes no score"),
        (["--model", "vanilla-hvae@D4"], "unknown recipe 'D4'; nearest: D"),
        (["--scale", "tiny"], "unknown scale 'tiny'"),
        (["--figure", "a.jpg"], "as .pdf, .svg or .png, not as 'a.jpg'"),
        (["--ood", "phtos"], "unknown data set 'phtos'; nearest: photos"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    status, out, error = invoke(tmp_path, "sweep", "allocation", *OPTIONS, *arguments)
    assert (status, out) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "results" / "store" / "fit").exists()


def test_bad_kinds_and_missing_options_are_one_line(tmp_path: Path) -> None:
    assert "nearest: allocation" in invoke(tmp_path, "sweep", "alocation")[2]
    assert "--ood" in invoke(tmp_path, "sweep", "allocation", "--in-dist", "x")[2]
    flat = tmp_path / "flat.yaml"
    flat.write_text(
        "name: flat\nshape: [1, 8, 8]\nmodel: hvae\n"
        "scales: {smoke: {variants: {vanilla: {}}, training: {epochs: 1}, model: {likelihood:"
        " {kind: logistic}, layers: [{stage: {kind: mlp}, latent: d4}]}}}\n"
    )
    with pytest.raises(ConfigError, match="recipe flat has one layer"):
        plan_allocation(
            "vanilla-hvae", [make_pair("digits", "photos")], (1, 8, 8), ratios=(0.5,), budget=4,
            layers=None, recipe=str(flat), scale="smoke", seeds=[0], overrides={},
        )  # fmt: skip


# ---------------------------------------------------------------------- several processes
def test_what_others_are_making_is_left_for_last(tmp_path: Path) -> None:
    bench, calls = Bench(Store(tmp_path), find_places((), str(tmp_path))), list[str]()

    def task(name: str, busy: int) -> Callable[[Bench], str]:
        def run(given: Bench) -> str:
            calls.append(name + ("" if given.patient else "?"))
            if not given.patient and sum(call == f"{name}?" for call in calls) <= busy:
                raise BusyError(name)
            return name

        return run

    assert in_turn(bench, [task("a", 1), task("b", 0), task("c", 9)]) == ["a", "b", "c"]
    assert calls == ["a?", "b?", "c?", "a?", "c?", "c?", "c"]


def test_a_lower_rank_is_run_first_and_entries_keep_their_order(tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path), find_places((), str(tmp_path)), Progress("quiet"), device="cpu")
    pair = make_pair("digits", "uniform")
    jobs = [
        Job(DetectorRequest(name), "digits", (pair,), "smoke", 0, rank=rank)
        for name, rank in (("mean-intensity", 2), ("pixel-variance", 1), ("png-length", 2))
    ]
    entries = run_jobs(bench, jobs).entries
    assert [e.record["detector"] for e in entries] == [job.request.name for job in jobs]
    written = sorted(entries, key=lambda entry: (tmp_path / entry.path).stat().st_mtime_ns)
    assert [e.record["detector"] for e in written] == [
        "pixel-variance", "mean-intensity", "png-length",
    ]  # fmt: skip


def test_a_locked_job_waits_for_last_and_is_then_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, lines = Store(tmp_path), list[str]()
    progress = Progress("quiet")
    monkeypatch.setattr(progress, "say", lines.append)
    bench = Bench(store, find_places((), str(tmp_path)), progress, device="cpu")
    pair = make_pair("digits", "uniform")
    first, second = (
        Job(DetectorRequest(name), "digits", (pair,), "smoke", 0)
        for name in ("mean-intensity", "pixel-variance")
    )
    keys = [ResolvedJob(bench, job) for job in (first, second)]
    runs: list[Key] = [run_key(k, k.ood(pair)) for k in keys]
    order = list[bool]()

    def release_after_the_other(locked: threading.Event) -> None:
        with Store(tmp_path).lock(score_key(keys[0], keys[0].test)):
            locked.set()
            until = time.monotonic() + 60
            while store.find(runs[1]) is None and time.monotonic() < until:
                time.sleep(0.02)
            order.append(store.find(runs[0]) is None)

    locked = threading.Event()
    thread = threading.Thread(target=release_after_the_other, args=[locked])
    thread.start()
    assert locked.wait(60)
    outcome = run_jobs(bench, [first, second])
    thread.join()
    assert order == [True]  # the second was done while the first was locked
    assert [entry.digest for entry in outcome.entries] == [key.digest for key in runs]
    assert not outcome.failures

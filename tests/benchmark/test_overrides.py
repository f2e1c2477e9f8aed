"""Settings changed by hand: checked, keyed, shown, and never an answer to a paper's layout."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from in_process import invoke

import oodbench
from oodbench.declare.overrides import nested, parse_grid, parse_settings
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.errors import ConfigError
from oodbench.flow.suites import Part, Suite
from oodbench.leaderboards.rows import group_runs
from oodbench.store.store import Store
from oodbench.tables.request import suite_groups
from oodbench.tables.sources.results import Results

RUN = ("run", "--pair", "digits-photos", "--scale", "smoke", "--detector", "vanilla-hvae",
       "--quiet", "--set", "training.epoch_images=64", "--set", "training.epochs=1")  # fmt: skip


def test_a_setting_is_a_path_and_a_value() -> None:
    texts = ["training.lr=1e-3", "training.epochs=30", "model.layers.0.latent=c8",
             "training.betas=[0.5, 9e-1]", "training.ema=null", "model.objective={kind: elbo}",
             "training.augment.flip=true"]  # fmt: skip
    assert parse_settings(texts) == {
        "training": {"lr": 1e-3, "epochs": 30, "betas": [0.5, 0.9], "ema": None,
                     "augment": {"flip": True}},
        "model": {"layers": {"0": {"latent": "c8"}}, "objective": {"kind": "elbo"}},
    }  # fmt: skip
    assert parse_settings([]) == {}
    assert nested({"training.epochs": 3, "training": {"lr": 1.0}}) == {
        "training": {"epochs": 3, "lr": 1.0}
    }
    assert parse_grid(["training.lr=1e-3,2e-3,1e-3", "training.betas=[0.5,0.9],[0.9,0.9]"]) == {
        "training.lr": [1e-3, 2e-3], "training.betas": [[0.5, 0.9], [0.9, 0.9]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["training.epochs"], "write KEY=VALUE"), (["=3"], "write KEY=VALUE"),
        (["training.epochs=1", "training.epochs=2"], "set twice"),
        (["training.epochs=[1"], "is no value"), (["training.lr=*a"], "no value|aliases"),
        (["training=1", "training.epochs=2"], "as a whole and in parts"),
        (["training.lr=2020-01-01"], "neither number nor text"),
        (["training.lr=!!python/object:os.system x"], "is no value"),
    ],
)  # fmt: skip
def test_what_is_no_setting_is_one_line(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_settings(texts)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.epoch=1", "unknown key 'epoch'; nearest: epochs"),
        ("trainin.epochs=1", "unknown key 'trainin'; nearest: training"),
        ("training.epochs=0", "must be at least 1"),
        ("training.epochs=many", "must be a whole number"),
        ("model.layers.9.latent=c8", "there is no entry 9; the list has 2"),
        ("model.layers.0.latnt=c8", "unknown key 'layers.0.latnt'"),
    ],
)
def test_a_wrong_setting_names_the_mend(tmp_path: Path, setting: str, said: str) -> None:
    status, out, err = invoke(tmp_path, *RUN[:8], "--set", setting)
    assert (status, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_an_override_that_says_what_the_recipe_says_is_none() -> None:
    own = resolve(find_recipe("D2"), "smoke", "vanilla")
    same = parse_settings([f"training.epochs={own.training.epochs}"])
    assert resolve(find_recipe("D2"), "smoke", "vanilla", same) == own
    other = resolve(find_recipe("D2"), "smoke", "vanilla", {"training": {"epochs": 9}})
    assert other.overrides == ("training.epochs=9",)
    assert other.fit_parts() != own.fit_parts()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of the recipe and one with settings of its own."""
    folder = tmp_path_factory.mktemp("set")
    assert invoke(folder, *RUN[:8], "--quiet")[0] == 0
    status, out, _ = invoke(folder, *RUN)
    assert status == 0
    assert "HVAE, plain ELBO(2) training.epoch_images=64 training.epochs=1" in out
    assert "D2: training.epochs=1, not the recipe's own" in " ".join(out.split())
    return folder


def test_both_rows_are_shown_and_told_apart(ran: Path) -> None:
    _, out, _ = invoke(ran, "leaderboard", "--format", "csv")
    names = {
        value
        for row in csv.DictReader(io.StringIO(out))
        for value in row.values()
        if value.startswith("HVAE")
    }
    assert {name.partition(" #")[0] for name in names} == {
        "HVAE, plain ELBO(2)", "HVAE, plain ELBO(2) training.epoch_images=64 training.epochs=1",
    }  # fmt: skip
    assert len(names) == 2
    _, general, _ = invoke(ran, "leaderboard", "--layout", "general", "--no-significance")
    assert "training.epochs=1" in general


def test_python_takes_the_same_and_finds_the_run(ran: Path) -> None:
    dotted = {"training.epoch_images": 64, "training.epochs": 1}
    done = oodbench.run("digits-photos", "vanilla-hvae", scale="smoke", overrides=dotted,
                        store=ran / "results/store", quiet=True)  # fmt: skip
    assert set(done.detector) == {"HVAE, plain ELBO(2) training.epoch_images=64 training.epochs=1"}
    assert len(list(Store(ran / "results/store").entries("run"))) == 2


def test_no_layout_and_no_suite_is_answered_by_other_settings(ran: Path) -> None:
    runs = list(Store(ran / "results/store").entries("run"))
    assert sorted(bool(run.record["overrides"]) for run in runs) == [False, True]
    suite = Suite("mine", "Mine", (Part(("digits-photos",), ("vanilla-hvae",)),), "smoke")
    groups = group_runs(runs)
    assert [g.first["overrides"] for g in suite_groups(groups, suite)] == [[]]
    changed = [g for g in groups if g.first["overrides"]]
    assert suite_groups(changed, suite) == []
    query = {"pair": "digits-photos", "detector": "vanilla-hvae", "metric": "auroc", "score": "L"}
    both, alone = Results(groups, "smoke"), Results(changed, "smoke")
    assert (both.find(query) is None, list(both.choices)) == (False, [])
    assert alone.find(query) is None
    assert list(alone.choices) == [
        "vanilla-hvae ran on digits with settings of its own, which answer for no cell."
    ]


def test_an_export_takes_settings(ran: Path) -> None:
    arguments = ("export", "vanilla-hvae:L", "--pair", "digits-photos", "--scale", "smoke",
                 "--quiet", *RUN[8:])  # fmt: skip
    assert invoke(ran, *arguments, "--out", "exported")[0] == 0
    fits = list(Store(ran / "results/store").entries("fit"))
    assert len(fits) == 2  # the fit of the run is used


def test_settings_that_nothing_takes_are_said(tmp_path: Path) -> None:
    run = ("run", "--pair", "china-flower", "--dry-run", "--set", "training.epochs=1")
    status, _, err = invoke(tmp_path, *run, "--detector", "mean-intensity")
    assert (status, "has none" in err) == (2, True)
    status, _, err = invoke(tmp_path, *run, "--detector", "mean-intensity", "--detector",
                            "vanilla-hvae", "--scale", "smoke")  # fmt: skip
    assert (status, "mean-intensity stands on none" in err) == (0, True)

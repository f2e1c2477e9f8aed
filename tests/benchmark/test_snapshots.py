"""One training at several budgets: each is the fit of a run that ends there, and trained once."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
from in_process import invoke
from same_stores import contents, table, written
from started_runs import bench_at, start, until

import oodbench
from oodbench.declare.derived_recipes import adapted_training
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.declare.settings import Training
from oodbench.errors import ConfigError
from oodbench.figures.style import to_bytes
from oodbench.flow.executors.graph import plan
from oodbench.flow.plan import Job
from oodbench.flow.selection import choose
from oodbench.models.hierarchical.config import FreeBits
from oodbench.models.hierarchical.objectives import free_nats, warmup_weight
from oodbench.store.store import Entry, Store
from oodbench.sweeps.settling import last_change
from oodbench.train.training import _Loop

PAIR = "digits-photos"
ASKED = ("run", "--pair", PAIR, "--detector", "vanilla-hvae", "--scale", "smoke", "--quiet",
         "--store", "store")  # fmt: skip
#: A penalty on the last weights alone would be seen: what is kept is an average.
AVERAGED = ("--set", "training.ema=0.9", "--set", "training.lr_warmup_steps=5")
#: Steps of an epoch of D2 at scale smoke: 256 images in batches of 32.
STEPS = 8


def snapshots(*epochs: int) -> tuple[str, str]:
    return "--set", f"training.snapshots={list(epochs)}"


def run(folder: Path, *arguments: str) -> str:
    status, out, err = invoke(folder, *ASKED, *arguments)
    assert status == 0, err
    return out


def fits(folder: Path, seed: int = 0) -> dict[int, Entry]:
    """By epochs."""
    found = {}
    for entry in Store(folder / "store").entries("fit"):
        if entry.parts["seed"] == seed:
            training = cast("Mapping[str, int]", entry.parts["training"])
            found[training["epochs"]] = entry
    return dict(sorted(found.items()))


def aurocs(folder: Path) -> dict[str, object]:
    return {run.digest: run.record["scores"] for run in Store(folder / "store").entries("run")}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every step that is trained in this process, in order."""
    made: list[int] = []
    one = _Loop._one_step

    def counted(self: _Loop, step: int) -> None:
        made.append(step)
        one(self, step)

    monkeypatch.setattr(_Loop, "_one_step", counted)
    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training with two seeds, at 1, 2 and 4 epochs."""
    folder = tmp_path_factory.mktemp("snapshots")
    run(folder, *AVERAGED, *snapshots(1, 2, 4), "--seeds", "2")
    return folder


def copied(finished: Path, folder: Path) -> Path:
    shutil.copytree(finished / "store", folder / "store")
    return folder


# ---------------------------------------------------------------------- what a snapshot is
def test_a_snapshot_is_bit_for_bit_the_run_that_ends_there(finished: Path, tmp_path: Path) -> None:
    for epochs in (1, 2, 4):
        run(tmp_path, *AVERAGED, "--set", f"training.epochs={epochs}", "--seeds", "2")
    for seed in (0, 1):
        here, plain = fits(finished, seed), fits(tmp_path, seed)
        assert list(here) == list(plain) == [1, 2, 4]
        for epochs, fit in here.items():
            assert fit.digest == plain[epochs].digest
            for name in ("weights.safetensors", "log.csv"):
                assert fit.read(name) == plain[epochs].read(name)
            assert "training.safetensors" not in plain[epochs].files
            assert "training.safetensors" in fit.files
    assert aurocs(finished) == aurocs(tmp_path)
    assert len({fit.read("weights.safetensors") for fit in fits(finished).values()}) == 3


def test_snapshots_are_no_part_of_a_key() -> None:
    def parts(**training: object) -> tuple[object, tuple[str, ...]]:
        found = resolve(find_recipe("D2"), "smoke", "vanilla", {"training": training})  # type: ignore[dict-item]
        return found.fit_parts(), found.overrides

    assert parts(snapshots=[1, 2, 5]) == parts(epochs=5)
    assert parts(snapshots=[1, 2]) == parts() == (parts()[0], ())  # D2 has 2 epochs
    assert "snapshots" not in Training(epochs=1).model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"epochs=4 and training\.snapshots=.* are both set"):
        parts(epochs=4, snapshots=[1, 2])


def test_a_recipe_may_name_them_and_one_number_of_epochs_takes_their_place(tmp_path: Path) -> None:
    text = Path(find_recipe("D2").origin).read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("epochs: 2,", "epochs: 2, snapshots: [1, 3],"))
    own = resolve(find_recipe(str(file)), "smoke", "vanilla")
    assert (own.training.epochs, own.before and own.before.training.epochs) == (3, 1)
    one = resolve(find_recipe(str(file)), "smoke", "vanilla", {"training": {"epochs": 2}})
    assert (one.training.epochs, one.training.snapshots) == (2, None)
    chosen = choose([PAIR], detectors=["vanilla-hvae", "png-length"], scale="smoke",
                    recipe=str(file))  # fmt: skip
    kept = [job.overrides for job in chosen.jobs([0])]
    assert kept == [
        {"training": {"epochs": 1, "snapshots": [1]}},
        {"training": {"epochs": 3, "snapshots": [1, 3]}},
        {},
    ]


def test_a_derived_recipe_has_as_many_pixels_at_every_snapshot() -> None:
    base = Training(epochs=1, snapshots=(2, 4, 40)).model_dump(mode="json")
    found = adapted_training(base, (1, 8, 8), (1, 16, 16), "small")
    assert Training.model_validate(found).snapshots == (1, 10)  # a quarter of 2 and of 4 is 1


# ---------------------------------------------------------------------- trained once
def test_nothing_is_trained_twice(tmp_path: Path, steps: list[int]) -> None:
    run(tmp_path, *snapshots(1, 2, 4))
    assert steps == list(range(4 * STEPS))
    before, end = written(tmp_path / "store"), "nothing is missing\n"
    for fewer in (snapshots(1, 2), snapshots(2), ("--set", "training.epochs=4"), ()):
        assert run(tmp_path, *fewer, "--dry-run") == end  # D2 itself has 2 epochs
        run(tmp_path, *fewer)
    assert written(tmp_path / "store") == before
    told = run(tmp_path, *snapshots(1, 2, 4, 5), "--dry-run")
    assert "training: 256 images" in told
    run(tmp_path, *snapshots(1, 2, 4, 5))  # goes on from the last
    run(tmp_path, *snapshots(1, 3, 5))  # and one between from the one before it
    assert steps[4 * STEPS :] == [*range(4 * STEPS, 5 * STEPS), *range(STEPS, 3 * STEPS)]
    found = fits(tmp_path)
    assert found[5].record["went_on_from"] == found[4].digest
    assert found[3].record["went_on_from"] == found[1].digest
    assert "went_on_from" not in found[1].record
    assert {fit.record["resumed"] for fit in found.values()} == {0}


def test_what_is_missing_on_the_way_is_made_on_the_way(
    finished: Path, tmp_path: Path, steps: list[int]
) -> None:
    """Where a snapshot is gone, or was trained without keeping what goes on, an earlier one is."""
    folder = copied(finished, tmp_path)
    want = {epochs: fit.read("weights.safetensors") for epochs, fit in fits(folder).items()}
    for epochs in (2, 4):
        shutil.rmtree(folder / "store" / fits(folder)[epochs].path)
    run(folder, *AVERAGED, "--set", "training.epochs=2")
    assert steps == list(range(2 * STEPS))
    run(folder, *AVERAGED, *snapshots(1, 2, 4))
    assert steps[2 * STEPS :] == list(range(STEPS, 4 * STEPS))
    assert {e: fit.read("weights.safetensors") for e, fit in fits(folder).items()} == want


@pytest.mark.slow
def test_a_kill_keeps_the_snapshots_of_before_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """SIGKILL between the second and the third; what it ends with is as if it had not been."""
    asked = ("--pair", PAIR, "--detector", "vanilla-hvae", "--scale", "smoke")
    process = start(tmp_path, *asked, *snapshots(1, 2, 16), "--checkpoint-seconds", "0")
    work = tmp_path / "store" / "work"
    until(lambda: len(fits(tmp_path)) == 2 and any(work.rglob("checkpoint.safetensors")))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {epochs: fit.record["created"] for epochs, fit in fits(tmp_path).items()}
    assert list(kept) == [1, 2]
    run(tmp_path, *snapshots(1, 2, 16))
    found = fits(tmp_path)
    assert {epochs: found[epochs].record["created"] for epochs in kept} == kept
    assert found[16].record["resumed"] == 1
    alone = tmp_path / "alone"
    alone.mkdir()
    run(alone, "--set", "training.epochs=16")
    plain = fits(alone)[16]
    for name in ("weights.safetensors", "log.csv"):
        assert found[16].read(name) == plain.read(name)


# ---------------------------------------------------------------------- the graph of a plan
def jobs(*epochs: int, seeds: int) -> list[Job]:
    chosen = choose([PAIR], detectors=["vanilla-hvae"], scale="smoke")
    return chosen.jobs(range(seeds), {"training": {"snapshots": list(epochs)}})


def test_in_a_plan_a_snapshot_waits_for_those_before_it(tmp_path: Path) -> None:
    graph = plan(bench_at(tmp_path), jobs(1, 2, 4, seeds=2))
    made = [step for step in graph.steps.values() if step.stage == "fit"]
    assert [step.images for step in made] == [256, 256, 512] * 2
    for seed in (made[:3], made[3:]):
        keys = [step.key for step in seed]
        assert [set(step.needs) for step in seed] == [set(), {keys[0]}, {keys[0], keys[1]}]


@pytest.mark.slow
def test_two_processes_make_what_one_makes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodbench.declare.registry._loaded", [])  # workers are handed plug-ins
    words = (*AVERAGED, *snapshots(1, 2, 4), "--seeds", "2")
    out = run(tmp_path, *words, "--jobs", "2")
    assert contents(tmp_path / "store") == contents(finished / "store")
    assert table(out) == table(run(finished, *words))


# ---------------------------------------------------------------------- the figure
@pytest.fixture(scope="module")
def drawn(finished: Path) -> tuple[str, list[dict[str, str]]]:
    """What the command says, and the values that it writes."""
    status, out, err = invoke(
        finished, "figure", "settling", "--pair", PAIR, "--detector", "vanilla-hvae", "--store",
        "store", "--out", "settling.png", "--values", "settling.csv",
    )  # fmt: skip
    assert status == 0, err
    with open(finished / "settling.csv", newline="") as file:
        return out, list(csv.DictReader(file))


def test_its_aurocs_are_those_of_the_leaderboard(
    finished: Path, drawn: tuple[str, list[dict[str, str]]]
) -> None:
    status, out, err = invoke(finished, "leaderboard", "--store", "store", "--format", "csv")
    assert status == 0, err
    board = {}
    for row in csv.DictReader(out.splitlines()):
        epochs = re.search(r"training\.epochs=(\d+)", row["detector"])
        if row["metric"] == "auroc":
            board[int(epochs[1]) if epochs else 2, row["score"]] = row
    mine = {(int(r["epochs"]), r["score"]): r for r in drawn[1] if r["metric"] == "auroc"}
    assert len(mine) == 3 * 5
    for where, row in mine.items():
        for column in ("value", "sd", "seeds", "n_per_side", "runs", "category"):
            assert row[column] == board[where][column], (where, column)


def test_its_layers_are_those_of_the_records(
    finished: Path, drawn: tuple[str, list[dict[str, str]]]
) -> None:
    seeds: dict[str, list[Entry]] = {}
    for entry in Store(finished / "store").entries("run"):
        seeds.setdefault(str(entry.record["configuration"]), []).append(entry)
    assert len(seeds) == 3
    for runs in seeds.values():
        told = cast("list[str]", runs[0].record["overrides"])
        epochs = next((t[16:] for t in told if t.startswith("training.epochs=")), "2")
        rows = {(r["metric"], r["score"]): r for r in drawn[1] if r["epochs"] == epochs}
        log = csv.DictReader(fits(finished)[int(epochs)].read("log.csv").decode().splitlines())
        assert {row["images"] for row in rows.values()} == {list(log)[-1]["images"]}
        assert {row["passes"] for row in rows.values()} == {f"{int(epochs) / 2:g}"}  # of 512 images
        for metric, field, names in (("bits_per_dim", "bits_per_dim_k", ("L", "L>1")),
                                     ("kl_nats", "kl_nats", ("KL_1", "KL_2"))):  # fmt: skip
            for index, name in enumerate(names):
                values = [_id_test(run)[field][index] for run in runs]
                assert float(rows[metric, name]["value"]) == pytest.approx(sum(values) / 2)


def _id_test(run: Entry) -> Mapping[str, list[float]]:
    return cast("Mapping[str, Mapping[str, list[float]]]", run.record["diagnostics"])["id_test"]


def test_it_says_where_it_comes_from(
    finished: Path, drawn: tuple[str, list[dict[str, str]]]
) -> None:
    assert (finished / "settling.png").read_bytes().startswith(b"\x89PNG")
    assert "seeds 0, 1, after 1, 2, 4 epochs" in drawn[0]
    assert {row["loss"] for row in drawn[1]} == {"final"}
    figure = oodbench.figure("settling", pairs=PAIR, detectors="vanilla-hvae", seed=1,
                             store=finished / "store", values=finished / "one.csv")  # fmt: skip
    assert len(to_bytes(figure, "svg")) > 10_000
    with open(finished / "one.csv", newline="") as file:
        assert {row["seed"] for row in csv.DictReader(file)} == {"1"}


def test_it_takes_only_what_was_trained_at_several_budgets(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    words = ("figure", "settling", "--pair", PAIR, "--detector", "vanilla-hvae", "--store", "store")
    status, _, err = invoke(folder, *words, "--seed", "7")
    assert status == 2
    assert "no training of vanilla-hvae on digits-photos is there at several budgets" in err
    run(folder, "--set", "training.epochs=3")  # without the average: another training
    status, out, _ = invoke(folder, *words)
    assert status == 0
    assert "after 1, 2, 4 epochs" in out
    run(folder, "--set", "training.epochs=1")
    status, out, _ = invoke(folder, *words)
    assert "after 1, 3 epochs" in out
    assert "another training has several budgets; the newest is drawn" in out
    marks = [run.record["configuration"] for run in Store(folder / "store").entries("run")
             if "training.ema=0.9" in cast("list[str]", run.record["overrides"])]  # fmt: skip
    named = f"vanilla-hvae#{str(marks[0])[:6]}"
    status, out, _ = invoke(folder, *words[:5], named, *words[6:])
    assert "after 1, 2, 4 epochs" in out
    status, _, err = invoke(folder, "figure", "roc", "--values", "x.csv", "--store", "store")
    assert (status, "figure roc gives no values; settling does" in err) == (2, True)


@pytest.mark.parametrize(("warm", "constant", "falling"), [(0, 0, 0), (3, 1, 1), (2, 3, 4)])
def test_the_loss_is_the_final_one_from_the_last_change_on(
    warm: int, constant: int, falling: int
) -> None:
    free = FreeBits(nats=2, constant_epochs=constant, falling_epochs=falling)
    config = {"objective": {"warmup_epochs": warm, "free_bits": free.model_dump(mode="json")},
              "layers": [{"blocks": 3}]}  # fmt: skip
    last = last_change(config)
    final = [
        warmup_weight(epoch, warm) == 1 and free_nats(epoch, free) == 0 for epoch in range(1, 20)
    ]
    assert all(final[max(0, last - 1) :])
    assert not any(final[: max(0, last - 1)])

"""Every name that is printed can be typed; runs are listed by date and removed by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import invoke

from oodbench.datasets.imageset import ImageSet
from oodbench.store.maintenance import verify
from oodbench.store.ownership import STAGES
from oodbench.store.store import Store

MakeRun = Callable[..., str]
OTHER = "ab" * 32


@pytest.fixture
def place(
    tmp_path: Path, embedded_sets: tuple[ImageSet, ImageSet], make_run: MakeRun
) -> tuple[Path, dict[str, str]]:
    """Three runs of ``glow`` that differ in settings and scale, and two of another detector.

    The first two stand on the same scores.
    """
    store, sets = Store(tmp_path / "mine"), embedded_sets
    trivial = {"recipe": "", "scale": ""}
    keys = {
        "first": make_run(store, sets, "glow", {"L": 0.5}),
        "second": make_run(store, sets, "glow", {"L": 0.5}, pair=PAIR[1], configuration=OTHER),
        "smoke": make_run(store, sets, "glow", {"L": 0.7}, scale="smoke", seed=4,
                          configuration="cd" * 32),
        "other": make_run(store, sets, "mean-intensity", {"score": 0.2}, **trivial),
        "fourth": make_run(store, sets, "mean-intensity", {"score": 0.2}, seed=4, **trivial),
    }  # fmt: skip
    return tmp_path, keys


PAIR = ("--pair", "digits-photos", "--store", "mine")


def test_the_names_of_an_error_can_be_typed(place: tuple[Path, dict[str, str]]) -> None:
    folder, keys = place
    status, _, err = invoke(folder, "compare", "glow", "mean-intensity", *PAIR)
    assert status == 2
    (listed,) = re.findall(r"name one of (.+), or the key of a run", err)
    names = listed.split(", ")
    assert len(names) == 3
    compared = {}
    for name in [*names, *(keys[which][:12] for which in ("first", "second", "smoke"))]:
        status, out, _ = invoke(
            folder, "compare", name, "mean-intensity", *PAIR, "--format", "json"
        )  # fmt: skip
        assert status == 0, name
        found = json.loads(out)
        compared[name] = found["a"]
        # What is printed of the two sides can be typed again.
        again = invoke(folder, "compare", found["a"], found["b"], *PAIR, "--format", "json")
        assert (again[0], json.loads(again[1])) == (0, found)
    assert [compared[name] for name in names] == [f"{name}:L" for name in names]
    assert [compared[keys[which][:12]] for which in ("second", "smoke")] == [
        "glow@F3-small#abab:L", "glow@F3-smoke:L"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [("leaderboard", "--format", "json"), ("leaderboard", "--layout", "general", "--format", "csv"),
     ("report", "--pictures", "0"), ("figure", "roc", "--out", "x.svg"), ("store", "list")],
    ids=lambda command: " ".join(command[:2]),
)  # fmt: skip
def test_marks_recipes_and_keys_choose_in_every_view(
    place: tuple[Path, dict[str, str]], command: tuple[str, ...]
) -> None:
    folder, keys = place
    for name in ("glow#abab", "glow #ab", "glow@F3-small#abab", keys["second"][:8]):
        if command[0] == "store" and len(name) == 8:
            continue
        status, out, err = invoke(folder, *command, "--detector", name, *PAIR)
        assert status == 0, (name, err)
        if "json" in command:
            assert [row["runs"] for row in json.loads(out)] == [[keys["second"]]]
        if command[0] == "store":
            assert [line.split()[2] for line in out.splitlines()[1:]] == [keys["second"][:12]]
    status, _, err = invoke(folder, *command, "--detector", "glow#ffff", *PAIR)
    assert status == 2
    assert "glow" in err
    assert err.count("\n") == 1


def test_run_does_not_take_the_name_of_a_stored_run(place: tuple[Path, dict[str, str]]) -> None:
    status, _, err = invoke(place[0], "run", "--detector", "glow#abab", "--scale", "smoke")
    assert (status, "names stored runs" in err) == (2, True)


def test_runs_are_listed_by_date_with_what_tells_them_apart(
    place: tuple[Path, dict[str, str]],
) -> None:
    folder, keys = place
    status, out, _ = invoke(folder, "store", "list", "--store", "mine")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["MADE", "KEY", "RUN", "PAIR", "SEED", "NOTE"]
    assert {line[2] for line in lines[1:]} == {key[:12] for key in keys.values()}
    assert [line[:2] for line in lines[1:]] == sorted(line[:2] for line in lines[1:])
    names = {line[2]: line[3] for line in lines[1:]}
    assert names[keys["second"][:12]] == "glow@F3-small#abab"
    assert names[keys["smoke"][:12]] == "glow@F3-smoke"
    assert names[keys["other"][:12]] == "mean-intensity"


def test_remove_is_dry_until_it_is_told_and_takes_what_only_the_run_needs(
    place: tuple[Path, dict[str, str]],
) -> None:
    folder, keys = place
    store = Store(folder / "mine")

    def counts() -> dict[str, int]:
        return {stage: len(list(store.entries(stage))) for stage in STAGES}

    before = counts()
    status, out, _ = invoke(folder, "store", "remove", "glow#abab", *PAIR)
    assert (status, counts()) == (0, before)
    assert out.splitlines()[-1].endswith("would be removed; --yes removes them")
    assert len(out.splitlines()) - 1 == 1
    assert invoke(folder, "store", "remove", "glow#abab", *PAIR, "--yes")[0] == 0
    assert counts() == before | {"run": before["run"] - 1}  # the first stands on its scores
    assert store.get("run", keys["second"]) is None
    assert invoke(folder, "store", "remove", keys["first"][:10], "--store", "mine", "--yes")[0] == 0
    assert counts() == {
        "run": before["run"] - 2, "score": before["score"] - 2, "measure": before["measure"] - 2,
        "fit": before["fit"] - 1, "diagnosis": 0,
    }  # fmt: skip
    assert verify(store).notes == []
    status, _, err = invoke(folder, "store", "remove", "glow#abab", "--store", "mine")
    assert (status, err.count("\n")) == (2, 1)
    assert "glow@F3-smoke" in err


def test_remove_touches_nothing_that_is_not_the_stores(
    place: tuple[Path, dict[str, str]],
) -> None:
    folder, keys = place
    (run,) = (e for e in Store(folder / "mine").entries("run") if e.digest == keys["other"])
    (folder / "mine" / run.path / "notes.txt").write_text("mine")
    status, _, err = invoke(folder, "store", "remove", keys["other"], "--store", "mine", "--yes")
    assert (status, "nothing was removed" in err) == (2, True)
    assert Store(folder / "mine").get("run", keys["other"]) is not None
    (folder / "elsewhere").mkdir()
    status, _, err = invoke(folder, "store", "remove", keys["other"], "--store", "elsewhere")
    assert status == 2


@pytest.mark.parametrize("how", [
    (), ("--layout", "general"), ("--format", "csv"), ("--format", "latex"),
    ("--format", "markdown"), ("--format", "html"), ("--format", "json"),
])  # fmt: skip
def test_detectors_of_one_title_are_told_apart_in_every_form(
    how: tuple[str, ...], tmp_path: Path, embedded_sets: tuple[ImageSet, ImageSet],
    make_run: MakeRun,
) -> None:  # fmt: skip
    store, plain = Store(tmp_path / "mine"), {"recipe": "", "scale": ""}
    for number, name in enumerate(("first-of-two", "second-of-two")):
        make_run(store, embedded_sets, name, {"score": 0.2 + number}, title="Mean of pixels",
                 **plain)  # fmt: skip
    make_run(store, embedded_sets, "alone", {"score": 0.1}, title="Alone", **plain)
    status, out, err = invoke(tmp_path, "leaderboard", "--store", "mine", *how)
    assert status == 0, err
    for name in ("first-of-two", "second-of-two"):
        assert f"Mean of pixels ({name})" in out
    assert not re.search(r"Mean of pixels(?! \()", out)
    assert "Alone (" not in out

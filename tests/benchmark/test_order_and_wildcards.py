"""Best first within a pair, and names with wildcards wherever names are taken."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from in_process import invoke

import oodbench
from oodbench.declare.wildcards import expanded
from oodbench.errors import UnknownNameError
from oodbench.flow.selection import choose

TRIVIAL = ("mean-intensity", "pixel-variance", "png-length")
PAIRS = ("china-flower", "digits-photos", "flower-china")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("order")
    asked = [part for pair in PAIRS for part in ("--pair", pair)]
    status, _, err = invoke(folder, "run", *asked, "--detector", "mean-*", "--detector", "png-*",
                            "--detector", "pixel-variance", "--quiet")  # fmt: skip
    assert status == 0, err
    return folder


def test_wildcards_stand_for_names_in_their_order() -> None:
    known = ["hvae", "vanilla-hvae", "vanilla-lvae", "png"]
    assert expanded("x", ["vanilla-*"], known) == ["vanilla-hvae", "vanilla-lvae"]
    assert expanded("x", ["png", "*hvae@F5:L"], known) == ["png", "hvae@F5:L", "vanilla-hvae@F5:L"]
    assert expanded("x", ["p?g", "*"], known) == ["png", "hvae", "vanilla-hvae", "vanilla-lvae"]
    assert expanded("x", ["bottle[good]"], known) == ["bottle[good]"]
    with pytest.raises(UnknownNameError, match=r"unknown x .vanila-\*.; nearest: .*no name match"):
        expanded("x", ["vanila-*"], known)


def test_run_takes_wildcards_for_pairs_sets_and_detectors() -> None:
    chosen = choose(["fashionmnist-*"], detectors=["informative-*:L"])
    assert {pair.in_dist for pair in chosen.pairs} == {"fashionmnist"}
    assert len(chosen.pairs) > 3
    assert {"informative-hvae", "informative-lvae", "informative-biva"} <= {*chosen.asked}
    assert {request.scores for request in chosen.asked.values()} == {("L",)}
    sets = choose(in_dist="cifar10", oods=["cifar1*"], detectors=["png-length"])
    assert {pair.ood for pair in sets.pairs} == {"cifar10", "cifar100"}


@pytest.mark.parametrize("arguments", [
    ("leaderboard", "--pair", "*-flower"), ("leaderboard", "--detector", "png-?ength"),
    ("report", "--pair", "*", "--detector", "p*", "--out", "page"),
    ("store", "export", "some.tar", "--pair", "china-*"),
    ("figure", "roc", "--pair", "*-flower", "--detector", "p*", "--out", "roc.svg"),
])  # fmt: skip
def test_stored_runs_are_found_by_wildcards(home: Path, arguments: tuple[str, ...]) -> None:
    status, _, err = invoke(home, *arguments)
    assert status == 0, err
    where = next(i for i, part in enumerate(arguments) if part in ("--pair", "--detector")) + 1
    wrong = [*arguments[:where], "nothing-*", *arguments[where + 1 :]]
    status, _, err = invoke(home, *wrong)
    assert status == 2
    assert "no name matches" in err


@pytest.mark.parametrize("metric", ["auroc", "auprc", "fpr80", "fpr95"])
@pytest.mark.parametrize("layout", [(), ("--layout", "general")])
def test_the_best_stands_first_within_a_pair(
    home: Path, metric: str, layout: tuple[str, ...]
) -> None:
    asked = () if metric == "auroc" else ("--sort", metric)
    _, text, _ = invoke(home, "leaderboard", "--format", "csv", *asked, *layout)
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["metric"] == metric]
    for pair in PAIRS:
        values = [float(row["value"]) for row in rows if row["pair"] == pair]
        assert len(values) >= 3
        assert values == sorted(values, reverse=metric in ("auroc", "auprc")), pair
    _, printed, _ = invoke(home, "leaderboard", "--format", "json", *asked, *layout)
    assert [row["detector"] for row in json.loads(printed)] == [row["detector"] for row in rows]


def test_the_printed_table_is_in_that_order_and_names_every_row(home: Path) -> None:
    _, text, _ = invoke(home, "leaderboard", "--pair", "digits-photos")
    cells = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    values = [float(cell[3].split()[0]) for cell in cells]
    assert values == sorted(values, reverse=True)
    assert all(cell[1].strip() for cell in cells)


def test_by_name_as_before_and_a_wrong_order_is_one_line(home: Path) -> None:
    _, text, _ = invoke(home, "leaderboard", "--sort", "name", "--pair", "digits-photos",
                        "--format", "csv")  # fmt: skip
    names = [row["detector"] for row in csv.DictReader(io.StringIO(text))]
    assert list(dict.fromkeys(names)) == ["Mean intensity", "Pixel variance", "PNG length"]
    status, _, err = invoke(home, "leaderboard", "--sort", "aurok")
    assert (status, "nearest: auroc" in err) == (2, True)


def test_python_takes_both(home: Path) -> None:
    board = oodbench.leaderboard(home / "results/store", pairs="*-flower", detectors="p*",
                                 sort="fpr95")  # fmt: skip
    assert set(board.pair) == {"china-flower"}
    values = board[board.metric == "fpr95"].value.tolist()
    assert values == sorted(values)

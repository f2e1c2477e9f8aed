"""`oodbench leaderboard` and `oodbench compare` on the command line."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import oodbench
from oodbench.cli import main
from oodbench.declare.recipes import find_recipe
from oodbench.store.store import Store


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit status, standard output and error of `oodbench …` in this process."""
    monkeypatch.setattr(sys, "argv", ["oodbench", *arguments])
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    out = capsys.readouterr()
    return status, out.out, out.err


@pytest.mark.parametrize("format_", ["table", "csv", "latex", "markdown", "html", "json"])
def test_a_suite_prints_in_its_layout_and_to_a_file(
    format_: str, made_up_store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store = made_up_store.storage.location
    arguments = ("leaderboard", "--store", store, "--format", format_, "--layout", "table14")
    status, text, _ = run(monkeypatch, capsys, *arguments)
    assert status == 0
    file = tmp_path / "table"
    assert run(monkeypatch, capsys, *arguments, "--out", str(file)) == (0, "", "")
    assert file.read_text(encoding="utf-8") == text
    _, by_suite, _ = run(monkeypatch, capsys, "leaderboard", "--store", store, "--format", format_,
                         "--suite", "table14")  # fmt: skip
    assert by_suite == text  # every detector of this table is registered


def test_the_shapes_of_csv(
    made_up_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = made_up_store.storage.location
    common = ("leaderboard", "--store", store, "--format", "csv", "--layout", "table8")
    _, tidy, _ = run(monkeypatch, capsys, *common)
    _, shaped, _ = run(monkeypatch, capsys, *common, "--shape", "table")
    rows = list(csv.DictReader(io.StringIO(tidy)))
    lines = list(csv.reader(io.StringIO(shaped)))
    assert lines[0] == ["Method", "AUROC↑", "AUPRC↑", "FPR80↓"]
    assert [line[0] for line in lines[1:]] == [
        "- non-VAE methods", "Glow [25]", "Flow+Group [55]", "PixcelCNN++ [1]", "Ours",
    ]  # fmt: skip
    glow = next(r for r in rows if (r["detector"], r["metric"]) == ("glow", "auroc"))
    assert lines[2][1] == f"{float(glow['value']):.1f}"


def test_a_users_own_suite(
    made_up_store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "mine.yaml").write_text(
        "title: Mine\npairs: [cifar10-svhn, cifar10-celeba]\ndetectors: [hvae@C3, vanilla-hvae]\n"
    )
    status, text, _ = run(
        monkeypatch, capsys, "leaderboard", "--store", made_up_store.storage.location, "--suite",
        str(tmp_path / "mine.yaml"), "--format", "markdown", "--no-significance",
    )  # fmt: skip
    assert status == 0
    assert "**Mine**" in text
    assert "HVAE(3)" in text
    assert "VANILLA-HVAE(3)" in text
    assert "INFORMATIVE" not in text
    assert "not independent" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["leaderboard", "--layout", "tabel2"], "unknown layout 'tabel2'; nearest: table2"),
        (["leaderboard", "--suite", "table99"], "unknown suite 'table99'; nearest: table9"),
        (["leaderboard", "--compare", "papers"], "--compare.*papers.*paper"),
        (["leaderboard", "--columns", "costs"], "unknown columns 'costs'; nearest: cost"),
        (["leaderboard", "--layout", "table2", "--columns", "cost"], "--columns belongs to"),
        (["leaderboard", "--scale", "tiny"], "unknown scale 'tiny'; one of paper, small, smoke"),
        (["leaderboard", "--format", "latx"], "--format.*latx.*latex"),
        (["leaderboard", "--layout", "table2", "--out", "no/such/folder/x"],
         f"no/such/folder/x: {os.strerror(errno.ENOENT)}"),
        (["compare", "hvae:L", "glow:L", "--pair", "cifar10-shvn"],
         "no run of pair 'cifar10-shvn'.*stored: cifar10-svhn"),
        (["compare", "hvae:L", "glow:L"], "--pair"),
        (["compare", "hvae:L", "glow:L", "--pair", "cifar10-svhn"], "score aaaaaaaaaaaa is not in"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments: list[str], message: str, made_up_store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OODBENCH_STORE", made_up_store.storage.location)
    status, out, err = run(monkeypatch, capsys, *arguments)
    assert (status, out) == (2, "")
    assert re.search(message, err)
    assert err.startswith("oodbench: error: ")
    assert len(err.splitlines()) == 1


def test_tables_import_no_torch(made_up_store: Store) -> None:
    code = (
        "import sys; from oodbench.cli import oodbench; oodbench.main(["
        f"'leaderboard', '--store', {made_up_store.storage.location!r}, '--layout', 'table1'],"
        " standalone_mode=False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_table_suite_runs_each_pair_with_its_own_recipes() -> None:
    from oodbench.flow.selection import choose

    chosen = choose(suite="table15", both=True)
    planned = {
        (pair.name, f"{request.name}@{request.recipe}")
        for pairs, requests in chosen.parts for pair in pairs for request in requests
    }  # fmt: skip
    assert chosen.scale == "small"
    assert planned == {
        (pair, f"{detector}@{recipe}")
        for pair, recipe in (("fashionmnist-mnist", "F3"), ("mnist-fashionmnist", "F3"),
                             ("cifar10-svhn", "C3"), ("svhn-cifar10", "C3"))
        for detector in ("hvae", "informative-hvae")
    }  # fmt: skip
    one = choose(["digits-photos"], detectors=["png-length"], scale="smoke")
    ((pairs, requests),) = one.parts
    assert ([p.name for p in pairs], [r.name for r in requests]) == (
        ["digits-photos"], ["png-length"],
    )  # fmt: skip


@pytest.mark.parametrize("format_", ["table", "csv", "latex", "markdown", "html", "json"])
def test_the_note_of_a_recipe_stands_under_its_tables(
    format_: str, noted_store: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A choice made with OOD images is told wherever the row is."""
    status, text, _ = run(monkeypatch, capsys, "leaderboard", "--store", noted_store,
                          "--format", format_)  # fmt: skip
    assert status == 0
    assert "noted: its rate was chosen by eye" in " ".join(text.split())


@pytest.fixture(scope="module")
def noted_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run by a recipe with a note, beside one of a detector without a recipe."""
    folder = tmp_path_factory.mktemp("noted")
    body = yaml.safe_load(Path(find_recipe("vib-mixture-D").origin).read_text(encoding="utf-8"))
    body["scales"]["smoke"]["training"] |= {"epochs": 1, "epoch_images": 64}
    body |= {"name": "noted", "note": "its rate was\n  chosen by eye"}
    recipe = folder / "noted.yaml"
    recipe.write_text(yaml.safe_dump(body), encoding="utf-8")
    oodbench.run(
        pairs="digits-photos", detectors=["vib-mixture", "mean-intensity"], scale="smoke",
        recipe=str(recipe), store=str(folder / "store"), quiet=True,
    )  # fmt: skip
    return str(folder / "store")

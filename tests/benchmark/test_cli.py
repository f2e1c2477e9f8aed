"""The command line as a user meets it: real processes, real files, one line for bad input."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke

from oodbench.cli import main

Command = Callable[..., "subprocess.CompletedProcess[str]"]
ARGUMENTS = (
    "run", "--pair", "digits-photos", "--scale", "smoke", "--seeds", "2",
    "--detector", "informative-hvae", "--detector", "mean-intensity",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a finished run, and what was printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = process(folder, *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def process(folder: Path, *arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{prelude}\nfrom oodbench.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
           arguments: Sequence[str]) -> tuple[int, str, str]:  # fmt: skip
    """`main` in this process: exit status, standard output and error."""
    monkeypatch.setattr(sys, "argv", ["oodbench", *arguments])
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    out = capsys.readouterr()
    return status, out.out, out.err


# ---------------------------------------------------------------------- what a run prints
def test_the_table(finished: tuple[Path, str]) -> None:
    _, table = finished
    for text in ("digits-photos", "Informative HVAE(2)", "LLR_ada", "LLR>1", "Mean intensity",
                 "AUROC ↑", "FPR95 ↓", "500 ID + 500 OOD", "over 2 training", "bits/dim",
                 ):  # fmt: skip
        assert text in table
    assert "sanity check" in table  # what the reader is looking at
    row = next(line for line in table.splitlines() if "Mean intensity" in line)
    assert re.search(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", row)  # one seed: it has no randomness


def test_the_second_run_prints_the_same_and_never_imports_torch(
    finished: tuple[Path, str],
) -> None:
    folder, table = finished
    check = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))"
    )
    again = process(folder, *ARGUMENTS, prelude=check)
    assert again.stdout == table
    assert again.stderr.strip() == "False"


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "list detectors", "list pairs", "list recipes"]
)
def test_help_and_lists_import_nothing_heavy(command: str, tmp_path: Path) -> None:
    """They are what a shell's completion and a newcomer wait for."""
    heavy = {"numpy", "torch", "pandas", "pydantic", "scipy", "rich", "PIL", "fsspec"}
    check = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print(sorted({heavy} & set(sys.modules)), file=sys.stderr))"
    )
    done = process(tmp_path, *command.split(), prelude=check)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"


def test_dry_run_says_what_is_missing(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    done = process(folder, *ARGUMENTS, "--dry-run")
    assert done.stdout == "nothing is missing\n"
    more = process(folder, *ARGUMENTS, "--detector", "vanilla-hvae", "--dry-run")
    assert "fit vanilla-hvae on digits, seed 0" in more.stdout
    assert "informative" not in more.stdout
    # Typicality stands on the fit and the measurement of `vanilla-hvae`: each is counted once.
    both = process(folder, *ARGUMENTS, "--detector", "vanilla-hvae", "--detector",
                   "typicality-hvae", "--seeds", "1", "--dry-run").stdout  # fmt: skip
    assert both.count("fit ") == 1
    assert both.count("measure digits with") == 1
    # Of training images a diagnosis looks at some, and typicality compares with all.
    assert both.count("measure digits train with") == 2
    assert "rank typicality-hvae" in both
    again = process(folder, *ARGUMENTS, "--first-seed", "7", "--dry-run").stdout
    assert re.search(
        r"fit informative-hvae on digits, seed 7 \([\d,]+ images, about \d+ min\)", again
    )


def test_leaderboard_formats_agree(finished: tuple[Path, str]) -> None:
    folder, table = finished
    rows = json.loads(process(folder, "leaderboard", "--format", "json").stdout)
    lines = list(csv.DictReader(io.StringIO(
        process(folder, "leaderboard", "--format", "csv").stdout)))  # fmt: skip
    assert len(lines) == 4 * len(rows)
    for row in rows:
        for metric, cell in row["metrics"].items():
            line = next(
                x for x in lines
                if (x["detector"], x["score"], x["metric"])
                == (row["detector"], row["score"], metric)
            )  # fmt: skip
            assert float(line["value"]) == pytest.approx(cell["value"], abs=1e-4)
    ada = next(row for row in rows if row["score"] == "LLR_ada")
    cell = ada["metrics"]["auroc"]
    assert ada["seeds"] == [0, 1]
    assert f"{cell['value']:.1f} ± {cell['sd']:.1f}" in table
    one = process(folder, "leaderboard", "--detector", "informative-hvae:llr-ada",
                  "--format", "json")  # fmt: skip
    assert [row["score"] for row in json.loads(one.stdout)] == ["LLR_ada"]
    assert "Informative HVAE(2)" in process(folder, "leaderboard").stdout


def test_show_and_why(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    rows = json.loads(process(folder, "leaderboard", "--format", "json").stdout)
    runs = next(row for row in rows if row["score"] == "LLR_ada")["runs"]
    shown = json.loads(process(folder, "show", runs[0][:10]).stdout)
    assert shown["pair"] == "digits-photos"
    assert shown["diagnostics"]["id_test"]["images"] == 500
    assert shown["cost"]["parameters"] > 0
    why = process(folder, "why", runs[0][:8], runs[1][:8]).stdout
    # Everything that differs comes from the seed: of the fit, and of the measurement's draws.
    paths = [line.split()[0] for line in why.splitlines()[1:]]
    assert paths
    assert all(path.endswith("seed") for path in paths)
    assert process(folder, "why", runs[0][:8], runs[0][:8]).stdout == "the keys are equal\n"


def test_python_api_gives_the_same_numbers(finished: tuple[Path, str], capsys: object) -> None:
    import oodbench

    folder, _ = finished
    store = str(folder / "results" / "store")
    frame = oodbench.run("digits-photos", ["informative-hvae:llr-ada"], seeds=2, scale="smoke",
                         store=store, quiet=True)  # fmt: skip
    board = oodbench.leaderboard(store)
    ada = board[(board.score == "LLR_ada") & (board.metric == "auroc")]
    assert frame[frame.metric == "auroc"]["value"].tolist() == ada["value"].tolist()
    pair = oodbench.load_pair("digits-photos", store=store)
    assert (pair.train.shape, len(pair.id_test), len(pair.ood_test)) == ((1, 8, 8), 500, 500)


# ---------------------------------------------------------------------- own data, own detectors
PLUGIN = """
import torch
from oodbench import Detector, register

@register("distance-to-mean", cite="test", title="Distance to the mean")
class DistanceToMean(Detector):
    def fit(self, train, context):
        self.mean = torch.from_numpy(train.images.mean(0))

    def measure(self, images):
        return {"distance": ((images.double() - self.mean) ** 2).flatten(1).sum(1)}

    def score(self, statistics):
        return statistics["distance"]

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]
"""


def test_a_plugin_and_own_images(tmp_path: Path) -> None:
    from PIL import Image

    generator = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", images=generator.integers(0, 60, (60, 8, 8), dtype=np.uint8))
    (tmp_path / "other").mkdir()
    for index in range(20):
        noise = generator.integers(150, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "other" / f"{index}.jpg")
    (tmp_path / "plugin.py").write_text(PLUGIN)
    arguments = ("run", "--in-dist", "mine.npz", "--ood", "other@grey@resize", "--plugin",
                 "plugin.py", "--detector", "distance-to-mean")  # fmt: skip
    done = process(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "Distance to the mean" in line)
    assert "100.0" in row
    assert "12 ID + 12 OOD" in done.stdout
    assert process(tmp_path, *arguments).stdout == done.stdout
    listed = process(tmp_path, "list", "detectors", "--plugin", "plugin.py").stdout
    assert "distance-to-mean" in listed


def test_a_bare_list_of_everything(tmp_path: Path) -> None:
    for kind, expected in [("pairs", "cifar10-svhn"), ("datasets", "smallnorb"),
                           ("detectors", "informative-hvae"), ("suites", "embedded"),
                           ("recipes", "F3-hvk")]:  # fmt: skip
        done = process(tmp_path, "list", kind)
        assert done.returncode == 0
        assert expected in done.stdout
    assert "missing" in process(tmp_path, "data", "status").stdout
    assert not list(tmp_path.iterdir())  # nothing is left behind by looking


def test_the_module_is_the_command_and_has_its_help_without_docstrings(tmp_path: Path) -> None:
    """``python -OO`` strips every docstring."""
    said = [
        subprocess.run([sys.executable, *options, "-m", "oodbench", *command], cwd=tmp_path,
                       capture_output=True, text=True, timeout=60)
        for options in ([], ["-OO"])
        for command in (["--help"], ["store", "gc", "--help"])
    ]  # fmt: skip
    assert [done.returncode for done in said] == [0] * 4
    assert [done.stdout for done in said[:2]] == [done.stdout for done in said[2:]]
    assert said[0].stdout.startswith("Usage: oodbench [OPTIONS]")
    assert "Train what is missing, measure, score" in said[2].stdout


def test_data_status_counts_the_images_that_are_there(tmp_path: Path) -> None:
    images = np.zeros((30, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "svhn-test-1.npz", images=images)
    np.savez(tmp_path / "svhn-test-2.npz", images=images[:12])
    np.savez(tmp_path / "svhn-train.npz", pictures=images)
    listed = process(tmp_path, "data", "status", "--data", ".").stdout
    (test,) = re.findall(r"^svhn +test +arrays +(.*?)  ", listed, re.MULTILINE)
    assert test == "42 of 26,032"
    (train,) = re.findall(r"^svhn +train +damaged +(.*)", listed, re.MULTILINE)
    assert "no array 'images'" in train


# ---------------------------------------------------------------------- bad input
def make_bad_input(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8), dtype=np.uint8)
    np.savez(folder / "grey.npz", images=images)
    np.savez(folder / "colour.npz", images=np.repeat(images[..., None], 3, axis=3))
    poisoned = images.astype(np.float32)
    poisoned[7, 3, 3] = np.nan
    np.savez(folder / "nan.npz", images=poisoned)
    (folder / "torn.npz").write_bytes(b"PK\x03\x04torn")
    (folder / "empty").mkdir()
    (folder / "plugin.py").write_text("import nothing_of_that_name\n")
    (folder / "recipe.yaml").write_text(
        "name: mine\nshape: [1, 8, 8]\nmodel: hvae\nscales:\n  small:\n    model:\n"
        "      likelihood: {kind: logistic}\n"
        "      layers: [{stage: {kind: mlp}, latent: d4}]\n"
        "    training: {epochs: 1, batchsize: 4}\n    variants: {vanilla: {}}\n"
    )


def test_a_recipe_that_does_not_exist_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    words = "run --pair digits-photos --detector mean-intensity --detector vanilla-hvae --recipe F9"
    status, out, err = invoke(tmp_path, *words.split())
    assert status == 2
    assert "unknown recipe 'F9'; nearest: F" in err
    assert not out
    assert not (tmp_path / "results").exists()


OWN = ("run", "--detector", "mean-intensity", "--in-dist", "grey.npz", "--ood")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "unknown command 'runn'; nearest: run"),
        (["run", "--piar", "x"], "--piar.*--pair"),
        (["run", "--pair", "cifar10-shvn"], "unknown pair 'cifar10-shvn'; nearest: cifar10-svhn"),
        (["run", "--detector", "informativ-hvae"], "nearest: informative-hvae"),
        (["run", "--detector", "vanilla-hvae@F33"], "unknown recipe 'F33'; nearest: F3"),
        (["run", "--detector", "vanilla-hvae:LRR", "--pair", "digits-photos", "--scale", "smoke"],
         "unknown score of vanilla-hvae 'LRR'; nearest: L"),
        (["run", "--scale", "tiny"], "unknown scale 'tiny'; one of paper, small, smoke"),
        (["run", "--in-dist", "digits"], "--in-dist and --ood go together"),
        (["run", "--suite", "table99"], "unknown suite 'table99'; nearest: table9"),
        (["run", "--data", "nowhere"], "nowhere: there is no such folder"),
        (["run", "--seeds", "0"], "--seeds.*0"),
        (["run", "--plugin", "plugin.py"], "plugin.py.*ModuleNotFoundError.*nothing_of_that_name"),
        (["run", "--plugin", "absent.py"], "there is no such file"),
        (["run", "--pair", "fashionmnist-mnist"],
         r"fashionmnist test: fashionmnist-test.npz or .* not found.*data fetch fashionmnist"),
        ([*OWN, "colour.npz"], r"colour.npz has images of 3×8×8.*grey.npz of 1×8×8.*@grey"),
        ([*OWN, "china"], r"china has images of 1×16×16.*china@resize"),
        ([*OWN, "nan.npz"], "nan.npz: image 7 holds nan"),
        ([*OWN, "torn.npz"], "torn.npz: it cannot be read"),
        ([*OWN, "empty"], "empty: no images in it"),
        ([*OWN, "absent.npz"], "absent.npz: there is no such file"),
        (["run", "--pair", "digits-photos", "--detector", "vanilla-hvae", "--recipe",
          "recipe.yaml"], "recipe mine.*unknown key 'batchsize'; nearest: batch_size"),
        (["show", "abcdef12"], "no entry starts with 'abcdef12'"),
        (["leaderboard", "--pair", "x"], "no run of pair 'x'"),
        (["data", "fetch", "mnits"], "unknown data set 'mnits'; nearest: mnist"),
        (["run", "--pair", "digits-photos", "--detector", "png-length", "--device", "cuda:9"],
         "device 'cuda:9'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    make_bad_input(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OODBENCH_DATA", raising=False)
    status, out, err = inside(monkeypatch, capsys, arguments)
    assert status == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("oodbench: error: ")]
    assert len(lines) == 1
    assert lines[0] == err.splitlines()[-1]
    assert re.search(message, lines[0])
    assert "Traceback" not in err


def test_bad_input_loses_nothing(finished: tuple[Path, str]) -> None:
    folder, table = finished
    before = sorted(str(p) for p in (folder / "results").rglob("record.json"))
    assert process(folder, "run", "--pair", "digits-photo").returncode == 2
    assert sorted(str(p) for p in (folder / "results").rglob("record.json")) == before
    assert process(folder, *ARGUMENTS).stdout == table


def test_one_failing_pair_does_not_stop_the_others(tmp_path: Path, command: Command) -> None:
    done = command("run", "--pair", "fashionmnist-mnist", "--pair", "digits-photos",
                   "--detector", "mean-intensity")  # fmt: skip
    assert done.returncode == 2
    assert "fashionmnist-test.npz" in done.stderr
    assert "Mean intensity" in done.stdout
    stored = [json.loads(p.read_text()) for p in
              (tmp_path / "results" / "store" / "run").rglob("record.json")]  # fmt: skip
    assert [entry["record"]["pair"] for entry in stored] == ["digits-photos"]


def test_a_dry_run_tells_of_every_job_also_where_one_lacks_its_images(tmp_path: Path) -> None:
    pairs = ("--pair", "mnist-fashionmnist", "--pair", "china-flower")
    done = process(
        tmp_path, "run", *pairs, "--detector", "png-length", "--dry-run",
        prelude="import os; os.environ.pop('OODBENCH_DATA', None)",
    )  # fmt: skip
    assert done.returncode == 2
    assert "measure flower with png-length on china, seed 0" in done.stdout
    assert "steps are missing" in done.stdout
    assert "mnist" in done.stderr
    assert "Traceback" not in done.stderr

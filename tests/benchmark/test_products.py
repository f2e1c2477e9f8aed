"""What Python makes of results is what the commands make, from the same arguments."""

from __future__ import annotations

import csv
import inspect
import io
from pathlib import Path

import click
import numpy as np
import pytest
from in_process import invoke

import oodbench
from oodbench.cli import oodbench as command_line

PAIR = "digits-photos"
#: Options by what Python calls them; None where it has nothing to choose.
OTHERWISE = {
    "pair": ("pair", "pairs"), "detector": ("detector", "detectors"), "plugin": ("plugins",),
    "model": ("models",), "image": ("images",), "suite": ("suites",),
    "precision": ("overrides",), "set": ("overrides",), "first_seed": ("seeds",),
    "no_significance": ("significance",), "format": None, "shape": None, "dry_run": None,
    "compile": None, "checkpoint_seconds": None, "wide": None, "log": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `results/store` holds an HVAE and a detector without a model."""
    folder = tmp_path_factory.mktemp("products")
    words = ("--detector", "vanilla-hvae", "--detector", "png-length", "--scale", "smoke")
    assert invoke(folder, "run", "--pair", PAIR, *words, "--quiet")[0] == 0
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.mark.parametrize("name", ["export", "sweep", "diagnose", "figure", "report", "publish"])
def test_python_takes_what_the_command_takes(name: str) -> None:
    command = command_line.commands[name]
    kinds = [*command.commands.values()] if isinstance(command, click.Group) else [command]
    accepted = inspect.signature(getattr(oodbench, name)).parameters
    for option in (option for kind in kinds for option in kind.params):
        if not isinstance(option, click.Option):
            continue
        word = option.opts[0].removeprefix("--").replace("-", "_")
        known = OTHERWISE.get(word, (word,))
        # The table comes back as a frame; a notebook stops its own cell.
        if (name, word) in {("sweep", "out"), ("sweep", "stop_after")}:
            continue
        assert known is None or set(known) & set(accepted), f"{name} --{word}"


def test_an_export_is_scored_with(place: Path) -> None:
    folder = oodbench.export(
        "png-length", pair=PAIR, out="exports/png", accept=90, quiet=True
    )  # fmt: skip
    assert folder == Path("exports/png")
    detector = oodbench.load_detector(folder)
    images = oodbench.load_pair(PAIR).id_test.images
    decisions = detector.score(images)["decision"]
    assert 0.88 < np.mean(decisions == "in") <= 0.95
    with pytest.raises(oodbench.OodbenchError, match="one of --pair and --in-dist"):
        oodbench.export("png-length", out="elsewhere")


def test_a_sweep_gives_the_rows_of_the_csv(place: Path) -> None:
    words = "sweep allocation --model vanilla-hvae --in-dist digits --ood photos --ratios 1"
    more = ["--seeds", "1", "--scale", "smoke", "--format", "csv", "--figure", "by-hand.svg"]
    status, out, _ = invoke(place, *words.split(), *more)
    assert status == 0
    frame = oodbench.sweep(
        in_dist="digits", ood="photos", models="vanilla-hvae", ratios=[1.0], seeds=1,
        scale="smoke", figure="by-python.svg", quiet=True,
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(frame.columns) == list(rows[0])
    assert [f"{value:.3f}" for value in frame["value"]] == [
        f"{float(row['value']):.3f}" for row in rows
    ]
    assert Path("by-python.svg").read_bytes() == Path("by-hand.svg").read_bytes()


def test_a_diagnosis_gives_the_rows_of_the_csv(place: Path) -> None:
    status, out, _ = invoke(
        place, "diagnose", "vanilla-hvae@D2", "--pair", PAIR, "--images", "120", "--format", "csv"
    )
    assert status == 0
    frame = oodbench.diagnose("vanilla-hvae@D2", pair=PAIR, images=120, quiet=True)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(frame.columns) == list(rows[0])
    assert [str(value) for value in frame["kl_nats"]] == [row["kl_nats"] for row in rows]


def test_a_figure_is_that_of_the_command(place: Path) -> None:
    drawn = oodbench.figure("forest", pairs=PAIR, out="python.svg")
    assert drawn.axes
    assert invoke(place, "figure", "forest", "--pair", PAIR, "--out", "command.svg")[0] == 0
    assert Path("python.svg").read_bytes() == Path("command.svg").read_bytes()


def test_a_report_makes_its_folder(place: Path) -> None:
    path = oodbench.report("deep/within", detectors="png-length", pictures=0)
    assert path == Path("deep/within/index.html")
    words = ("--detector", "png-length", "--pictures", "0", "--out", "page.html")
    assert invoke(place, "report", *words)[0] == 0
    assert path.read_bytes() == Path("page.html").read_bytes()
    with pytest.raises(oodbench.OodbenchError, match="no finished run"):
        oodbench.report("nothing", store="empty")


def test_a_suite_is_published(place: Path) -> None:
    Path("two.yaml").write_text(f"name: two\npairs: [{PAIR}]\ndetectors: [png-length]\n")
    written = oodbench.publish("python", "two.yaml")
    assert {path.parent for path in written} == {Path("python")}
    assert invoke(place, "publish", "command", "--suite", "two.yaml")[0] == 0
    for path in written:
        assert path.read_bytes() == (Path("command") / path.name).read_bytes()


def test_a_diagnosis_takes_a_plug_in(place: Path) -> None:
    Path("shallow.py").write_text(
        "from oodbench import register\n"
        "from oodbench.baselines.hvae import HierarchicalVAE\n"
        "@register('mine-hvae', cite='none', title='Mine')\n"
        "class Mine(HierarchicalVAE):\n"
        "    recipe_variant = 'vanilla'\n"
    )
    words = ("--pair", PAIR, "--plugin", "shallow.py")
    run = ("run", "--detector", "mine-hvae", "--scale", "smoke", "--quiet")
    assert invoke(place, *run, *words)[0] == 0
    status, out, err = invoke(place, "diagnose", "mine-hvae", *words, "--images", "120")
    assert status == 0, err
    assert "of 2 carr" in out


def test_the_scores_of_images_are_those_of_the_metrics(place: Path) -> None:
    from oodbench.rank.metrics import evaluate

    frame = oodbench.scores("png-length", pair=PAIR)
    assert list(frame.columns) == ["side", "set", "index", "compared", "score"]
    used = frame[frame.compared]
    sides = [used[used.side == side]["score"].to_numpy() for side in ("id", "ood")]
    assert len(sides[0]) == len(sides[1])
    board = oodbench.leaderboard(pairs=PAIR, detectors="png-length")
    (value,) = board[board.metric == "auroc"]["value"]
    assert 100 * evaluate(*sides, resamples=20).auroc.value == pytest.approx(value, abs=1e-9)
    pair = oodbench.load_pair(PAIR)
    for side, images in (("id", pair.id_test), ("ood", pair.ood_test)):
        own = frame[frame.side == side]
        assert own["index"].is_unique
        assert own["index"].between(0, len(images) - 1).all()
    (key,) = board[board.metric == "auroc"]["runs"]
    assert oodbench.scores(key).equals(frame)
    more = oodbench.scores("vanilla-hvae@D2-smoke", pair=PAIR, statistics=True)
    elbo, kl = more["elbo"], more[[name for name in more if str(name).startswith("kl_0[")]]
    np.testing.assert_allclose(more["L"], -elbo)
    assert kl.shape[1] == 2
    assert np.isfinite(kl.to_numpy()).all()


@pytest.mark.parametrize(
    ("run", "pair", "message"),
    [
        ("png-length", None, "'png-length' is no key of a run; to name a detector, give its pair"),
        ("0000", None, "0000"),
        ("knn", PAIR, "knn"),
        ("png-lenght", PAIR, "unknown detector 'png-lenght'; nearest: png-length"),
    ],
)
def test_scores_of_what_did_not_run_are_refused(run: str, pair: str | None, message: str) -> None:
    with pytest.raises(oodbench.OodbenchError, match=message):
        oodbench.scores(run, pair=pair)

"""Figures: drawn from plain arrays, and from a small store of real fits."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.integrate import trapezoid
from scipy.stats import spearmanr
from sklearn.metrics import roc_curve as sklearn_roc_curve

import oodbench
from oodbench.cli import main
from oodbench.datasets.loading import find_places
from oodbench.errors import ConfigError, DataError, OodbenchError, StoreError, UnknownNameError
from oodbench.figures.build import BUILDERS, Drawn, build
from oodbench.figures.chosen_runs import MissingRunError, Selection
from oodbench.figures.embedding import Embedded, embed, tsne_figure
from oodbench.figures.fitted import Fitted
from oodbench.figures.forest import Estimate, forest_figure
from oodbench.figures.layers import (
    ByK,
    LayerKL,
    TrainingLog,
    auroc_by_k_figure,
    kl_figure,
    training_figure,
)
from oodbench.figures.names import KINDS, find_kind
from oodbench.figures.pictures import Grid, grid_figure
from oodbench.figures.scores import (
    TOLERANCE,
    Complexity,
    Scored,
    complexity_figure,
    density_figure,
    roc_figure,
    spearman,
    thinned,
)
from oodbench.figures.stored import Stored
from oodbench.figures.style import file_format, to_bytes
from oodbench.flow.stored.models import load_model
from oodbench.leaderboards.rows import group_runs
from oodbench.rank.metrics import auroc, roc_curve
from oodbench.store.store import Entry, Store


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scored(label: str = "A L", shift: float = 1.0, count: int = 400) -> Scored:
    generator = rng()
    return Scored(label, generator.normal(size=count), generator.normal(shift, 2.0, size=count))


def legend(ax: object) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- arrays behind the figures
@pytest.mark.parametrize("decimals", [0, 12])  # with ties and without
def test_roc_curves_equal_sklearns_and_enclose_the_auroc(decimals: int) -> None:
    a, b = rng().normal(size=300).round(decimals), rng(1).normal(0.7, size=200).round(decimals)
    fpr, tpr = roc_curve(a, b)
    labels = np.repeat([0, 1], [300, 200])
    theirs = sklearn_roc_curve(labels, np.concatenate([a, b]), drop_intermediate=False)
    np.testing.assert_allclose(fpr, theirs[0], atol=1e-12)
    np.testing.assert_allclose(tpr, theirs[1], atol=1e-12)
    assert trapezoid(tpr, fpr) == pytest.approx(auroc(a, b), abs=1e-12)


def test_a_thinned_curve_keeps_its_ends_and_stays_close() -> None:
    fpr, tpr = roc_curve(rng().normal(size=20_000), rng(1).normal(1, size=20_000))
    x, y = thinned(fpr, tpr)
    assert len(x) < 3 / TOLERANCE
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.abs(np.interp(fpr, x, y) - tpr).max() <= 2 * TOLERANCE


def test_rank_correlation_equals_scipys() -> None:
    a, b = rng().integers(0, 20, 100), rng(1).normal(size=100)
    assert spearman(a, a + b) == pytest.approx(spearmanr(a, a + b).statistic, abs=1e-12)
    assert math.isnan(spearman(a, np.ones(100)))


def test_fences_leave_out_what_lies_far_off_and_only_that() -> None:
    normal = scored(count=1000)
    both = np.concatenate([normal.id_scores, normal.ood_scores])
    low, high = normal.fences
    assert both.min() <= low < high <= both.max()
    assert ((both < low) | (both > high)).mean() < 0.01
    tailed = Scored("", normal.id_scores, np.append(normal.ood_scores, 1e6))
    assert tailed.fences[1] < 100
    assert "of 2,001 images beyond" in tailed.beyond
    assert Scored("", np.arange(9.0), np.arange(9.0)).beyond == ""
    flat = Scored("", np.ones(5), np.ones(5))
    assert flat.fences == (0.5, 1.5)


def test_tsne_keeps_clusters_apart_and_repeats_itself() -> None:
    centres = np.repeat(np.eye(3) * 50, 20, axis=0)
    points = embed(centres + rng().normal(size=(60, 3)))
    assert np.array_equal(points, embed(centres + rng().normal(size=(60, 3))))
    groups = points.reshape(3, 20, 2)
    middle = groups.mean(1)
    spread = np.linalg.norm(groups - middle[:, None], axis=2).mean()
    apart = min(np.linalg.norm(middle[i] - middle[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert apart > 2 * spread


# ---------------------------------------------------------------------- figures from arrays
def test_roc_figure() -> None:
    one, two = scored("A L"), scored("B LLR_ada", -1.0)
    figure = roc_figure([("digits (ID)", [one, two]), ("reversed", [one])])
    left, right = figure.axes
    assert (left.get_title("left"), left.get_xlabel()) == ("digits (ID)", "False positive rate")
    assert [len(ax.lines) for ax in (left, right)] == [3, 2]  # and the diagonal
    value = 100 * auroc(one.id_scores, one.ood_scores)
    assert legend(left)[0].startswith(f"A L: {value:.1f} [")
    assert legend(left)[1].startswith("B LLR_ada: ")
    styles = {(line.get_color(), line.get_linestyle()) for line in left.lines[1:]}
    assert len({colour for colour, _ in styles}) == len({dash for _, dash in styles}) == 2


def test_density_figure_has_unit_areas() -> None:
    one = Scored("A L", np.linspace(0, 1, 500), np.linspace(0.5, 2, 700))
    figure = density_figure([("digits", one)])
    (ax,) = figure.axes
    assert ax.get_xlabel() == "A L (higher = more OOD)"
    assert legend(ax) == ["ID", "OOD"]
    for patch in ax.patches:
        values, edges, _ = patch.get_data()  # type: ignore[attr-defined]
        assert (values * np.diff(edges)).sum() == pytest.approx(1.0)


def test_complexity_figure() -> None:
    one = scored(count=1500)
    shown = Complexity(one, one.id_scores * 2 + 9, rng(3).normal(size=1500))
    figure = complexity_figure("digits", [shown])
    (ax,) = figure.axes
    assert (ax.get_xlabel().splitlines()[0], ax.get_ylabel()) == ("PNG length (bytes)", "A L")
    assert legend(ax)[0] == "ID, ρ = 1.00"
    assert re.fullmatch(r"OOD, ρ = -?0\.\d\d", legend(ax)[1])
    assert [len(line.get_xdata()) for line in ax.lines] == [1000, 1000]  # type: ignore[arg-type]


def test_auroc_by_k_figure() -> None:
    value = np.array([60.0, 80.0])
    families = [
        ByK("A", "LLR>k", np.array([1, 2]), value, value - 2, value + 2),
        ByK("A", "L>k", np.array([0, 1]), value, value - 2, value + 2),
        ByK("B", "LLR>k", np.array([1, 2]), value, value - 2, value + 2),
    ]
    (ax,) = auroc_by_k_figure([("digits", families)]).axes
    assert legend(ax) == ["A LLR>k", "A L>k", "B LLR>k"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("k", "AUROC, %")
    assert list(ax.get_xticks()) == [0, 1, 2]
    curves = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    assert curves[0].get_color() == curves[1].get_color() != curves[2].get_color()
    assert curves[0].get_linestyle() == curves[2].get_linestyle() != curves[1].get_linestyle()


def test_kl_figure_is_logarithmic_unless_a_layer_has_collapsed() -> None:
    kl = np.exp(rng().normal(2, 0.1, size=(50, 3)))
    dead = kl * [1.0, 1.0, 1e-5]
    for shown, scale in ((kl, "log"), (dead, "symlog")):
        left, right = kl_figure([LayerKL("A", kl, kl), LayerKL("B", shown, kl)]).axes
        assert {left.get_yscale(), right.get_yscale()} == {scale}
        assert legend(left) == ["ID", "OOD"]
        assert list(right.get_xticks()) == [1, 2, 3]
        means = next(line for line in right.lines if line.get_label() == "ID").get_ydata()
        np.testing.assert_allclose(np.asarray(means), shown.mean(0))


def test_training_figure_has_a_panel_for_every_model_with_layers() -> None:
    epochs = np.arange(1.0, 5.0)
    deep = {"epoch": epochs, "bits_per_dim": 9 / epochs, "kl_1": epochs, "kl_2": epochs * 2}
    flat = {"epoch": epochs, "bits_per_dim": 8 / epochs}
    logs = [TrainingLog("A", deep), TrainingLog("A", deep), TrainingLog("glow", flat)]
    bits, kl = training_figure(logs).axes
    (below,) = bits.figure.legends  # type: ignore[union-attr]
    assert [text.get_text() for text in below.get_texts()] == [
        "A",
        "glow",
    ]  # a seed is not named again
    assert len(bits.lines) == 3
    assert (kl.get_title(), legend(kl)) == ("A", ["layer 1", "layer 2"])
    assert bits.get_ylabel() == "Bits per dimension"
    (loss,) = training_figure([TrainingLog("C", {"epoch": epochs, "loss": epochs})]).axes
    assert loss.get_ylabel() == "Loss, nats per image"


def test_forest_figure() -> None:
    rows = [Estimate("A(2)", "L", 60, 55, 66, 1), Estimate("A(2)", "LLR>1", 70, 68, 72, 3),
            Estimate("PNG length", "", 12, 10, 14, 1)]  # fmt: skip
    (ax,) = forest_figure("digits", rows).axes
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["A(2)  L", "  LLR>1", "PNG length"]
    assert [t.get_text() for t in ax.texts] == ["60.0 [55.0, 66.0]", "70.0 ± 2.0",
                                                "12.0 [10.0, 14.0]"]  # fmt: skip
    assert "DeLong" in ax.get_xlabel()
    assert "sd over seeds" in ax.get_xlabel()
    low, high = ax.get_ylim()
    assert low > high  # the first row is on top


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_figure_shows_every_pixel(channels: int) -> None:
    images = rng().random((2, 3, channels, 8, 8))
    images[1, 2] = np.nan
    grid = Grid("A: digits (ID)", ("x", "k = 0"), images)
    figure = grid_figure([[grid, grid]])
    ax = figure.axes[1]
    assert ax.get_title() == "A: digits (ID)"
    assert [text.get_text() for text in ax.get_yticklabels()] == ["x", "k = 0"]
    canvas = np.asarray(ax.images[0].get_array()).reshape(2 * 8 + 1, 3 * 8 + 2, channels)
    np.testing.assert_array_equal(canvas[9:17, 9:17], images[1, 1].transpose(1, 2, 0))
    assert (canvas[9:17, 18:] == 1).all()
    assert (canvas[8] == 1).all()


def test_tsne_figure_marks_classes_by_number() -> None:
    points = rng().normal(size=(30, 2))
    labels = np.arange(30) % 3 + 7
    figure = tsne_figure("t-SNE", [Embedded("A", [points] * 2, labels), Embedded("B", [points] * 2,
                                                                                None)])  # fmt: skip
    assert [ax.get_title() for ax in figure.axes] == ["z1", "z2"] * 2
    assert [figure.axes[i].get_ylabel() for i in (0, 2)] == ["A", "B"]
    assert [line.get_marker() for line in figure.axes[0].lines] == ["$7$", "$8$", "$9$"]
    assert len(figure.axes[2].lines) == 1


# ---------------------------------------------------------------------- files
@pytest.mark.parametrize("format_", ["pdf", "svg", "png"])
def test_equal_figures_give_equal_bytes_with_text_as_text(format_: str) -> None:
    def draw() -> Figure:
        return density_figure([("Title of it", scored())])

    first = to_bytes(draw(), format_, dpi=60)
    assert first == to_bytes(draw(), format_, dpi=60)
    assert first.startswith({"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[format_])
    if format_ == "svg":
        assert re.search(rb"<text[^>]*>Title of it</text>", first)
        assert b"<dc:date>" not in first
    if format_ == "pdf":
        assert b"CreationDate" not in first
        assert b"/FontFile2" in first  # TrueType, so that text can be searched and edited
        assert b"/Type3" not in first


def test_other_formats_are_refused() -> None:
    assert file_format("a/b.PDF") == "pdf"
    with pytest.raises(ConfigError, match=r"\.pdf, \.svg or \.png, not as 'x\.jpg'"):
        file_format("x.jpg")


# ---------------------------------------------------------------------- from a store
PAIR = "digits-photos"
DETECTORS = ("vanilla-hvae", "informative-hvae", "png-length")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two HVAEs (one of them with two seeds) and PNG lengths on the embedded pair."""
    store = tmp_path_factory.mktemp("figures") / "store"
    oodbench.run(PAIR, DETECTORS, scale="smoke", store=str(store), device="cpu", quiet=True)
    oodbench.run(PAIR, ["vanilla-hvae"], seeds=[1], scale="smoke", store=str(store), device="cpu",
                 quiet=True)  # fmt: skip
    return store


def drawn(finished: Path, name: str, *detectors: str, **more: object) -> Drawn:
    selection = Selection(detectors=detectors, **more)  # type: ignore[arg-type]
    return build(name, selection, Store(finished), find_places([], str(finished)))


def run_of(finished: Path, detector: str, seed: int = 0) -> Entry:
    (group,) = [
        g for g in group_runs(Store(finished).entries("run")) if g.first["detector"] == detector
    ]
    return next(run for run in group.entries if run.record["seed"] == seed)


# `settling` takes trainings of several budgets: tests/benchmark/test_snapshots.py
@pytest.mark.parametrize("name", [name for name in KINDS if name != "settling"])
def test_every_figure_is_drawn_twice_alike(
    finished: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodbench.figures.from_models.TSNE_IMAGES", 60)
    first, second = (drawn(finished, name) for _ in range(2))
    assert first.pairs == (PAIR,)
    assert to_bytes(first.figure, "svg", dpi=40) == to_bytes(second.figure, "svg", dpi=40)
    assert f"{PAIR} (ID: digits, OOD: photos)" in first.notes[0]


def test_every_kind_has_a_builder_and_numbers_name_kinds() -> None:
    assert set(BUILDERS) == set(KINDS)
    assert [find_kind(str(n)).name for n in range(2, 10)] == [
        "reconstructions", "roc", "densities", "comparison", "comparison", "tsne", "draws", "prior",
    ]  # fmt: skip
    assert find_kind("figure3") is find_kind("roc")
    with pytest.raises(UnknownNameError, match="nearest: roc"):
        find_kind("rocs")


def test_curves_show_the_aurocs_of_the_runs(finished: Path) -> None:
    figure = drawn(finished, "roc", "vanilla-hvae:L", "png-length").figure
    names = legend(figure.axes[0])
    for name, detector, score in zip(names, ("vanilla-hvae", "png-length"), ("L", "score"),
                                     strict=True):  # fmt: skip
        metric = run_of(finished, detector).record["scores"][score]["auroc"]  # type: ignore[index,call-overload]
        assert f"{100 * metric['value']:.1f} [{100 * metric['low']:.1f}" in name  # type: ignore[index,call-overload,operator]
    assert names[1].startswith("PNG length: ")


def test_a_detector_without_a_score_shows_what_tables_show(finished: Path) -> None:
    names = legend(drawn(finished, "roc", "vanilla-hvae").figure.axes[0])
    assert [name.split("(2) ")[1].split(":")[0] for name in names] == [
        "L", "LLR>1", "LLR_ada", "LLR_optk", "KL<=2",
    ]  # fmt: skip


def test_scores_of_groups_are_drawn_as_the_groups_that_the_table_counts(tmp_path: Path) -> None:
    store = tmp_path / "store"
    oodbench.run(
        PAIR,
        ["flow-group", "png-length"],
        scale="smoke",
        store=str(store),
        device="cpu",
        quiet=True,
    )
    run = run_of(store, "flow-group")
    found = drawn(store, "roc", "flow-group")
    names = legend(found.figure.axes[0])
    scores = run.record["scores"]
    groups = {name: n for name, n in scores.items() if "members" in n}  # type: ignore[union-attr,operator]
    assert groups
    for name, stored in groups.items():
        auroc_, members = stored["auroc"], stored["members"]
        (label,) = (text.replace("\n", " ") for text in names if f" {name} " in text + " ")
        assert f"groups of {members} images" in label
        shown = (
            f"{100 * auroc_['value']:.1f} [{100 * auroc_['low']:.1f}, {100 * auroc_['high']:.1f}]"
        )
        assert shown in label
        with pytest.raises(ConfigError, match="a group has no code length"):
            drawn(store, "complexity", f"flow-group:{name}")


def test_a_figure_of_one_seed_says_which_and_one_of_all_says_all(finished: Path) -> None:
    one = drawn(finished, "roc", "vanilla-hvae:L")
    assert one.figure.axes[0].get_title("left").endswith(", seed\u00a00")
    assert "seed 0" in one.notes[0]
    assert "seeds 0, 1" in drawn(finished, "training", "vanilla-hvae").notes[0]
    assert "seed" not in drawn(finished, "roc", "png-length").figure.axes[0].get_title("left")


def test_seeds_are_chosen_or_shown_together(finished: Path) -> None:
    runs = [run_of(finished, "vanilla-hvae", seed).record for seed in (0, 1)]
    values = [100 * r["scores"]["L"]["auroc"]["value"] for r in runs]  # type: ignore[index,call-overload,operator]
    texts = [t.get_text() for t in drawn(finished, "forest", "vanilla-hvae:L").figure.axes[0].texts]
    assert texts == [f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"]
    one = drawn(finished, "forest", "vanilla-hvae:L", seed=1).figure.axes[0].texts[0].get_text()
    assert one.startswith(f"{values[1]:.1f} [")
    assert len(drawn(finished, "training", "vanilla-hvae").figure.axes[0].lines) == 2
    assert len(drawn(finished, "training", "vanilla-hvae", seed=1).figure.axes[0].lines) == 1


def test_the_forest_holds_everything_that_ran(finished: Path) -> None:
    ax = drawn(finished, "forest").figure.axes[0]
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["Informative HVAE(2)  L", "  LLR>1", "  LLR_ada", "  LLR_optk",
                     "  KL<=2", "HVAE, plain ELBO(2)  L", "  LLR>1", "  LLR_ada",
                     "  LLR_optk", "  KL<=2", "PNG length"]  # fmt: skip


def test_lengths_are_joined_by_image(finished: Path) -> None:
    stored = Stored(Store(finished), find_places([], str(finished)))
    lengths = run_of(finished, "png-length")
    ax = drawn(finished, "complexity", "png-length").figure.axes[0]
    found = stored.compared(lengths, "score")
    for line, sides in zip(ax.lines, (found.id_scores, found.ood_scores), strict=True):
        np.testing.assert_array_equal(np.asarray(line.get_xdata()), sides)  # each against itself
        np.testing.assert_array_equal(np.asarray(line.get_ydata()), sides)


def test_kl_is_that_of_the_measurement(finished: Path) -> None:
    figure = drawn(finished, "kl", "vanilla-hvae").figure
    diagnostics = run_of(finished, "vanilla-hvae").record["diagnostics"]
    for label, side in (("ID", "id_test"), ("OOD", "ood_test")):
        line = next(line for line in figure.axes[0].lines if line.get_label() == label)
        expected = diagnostics[side]["kl_nats"]  # type: ignore[index,call-overload]
        np.testing.assert_allclose(np.asarray(line.get_ydata()), expected)


@pytest.fixture(scope="session")
def fitted(finished: Path) -> tuple[Fitted, np.ndarray]:
    """The plain HVAE and the ID test images."""
    run = run_of(finished, "vanilla-hvae")
    stored = Stored(Store(finished), find_places([], str(finished)))
    images, _ = stored.images(run)
    return Fitted(stored.fits(run)[0], images.shape), images.images


def test_pictures_have_their_shapes_and_their_input(fitted: tuple[Fitted, np.ndarray]) -> None:
    model, images = fitted
    index = np.array([3, 5])
    rows = model.reconstructions(images, index)
    assert rows.shape == (1 + model.layers, 2, 1, 8, 8)
    np.testing.assert_allclose(rows[0], images[index] / 255)
    draws = model.draws(images[3], 4)
    assert draws.shape == (1 + model.layers, 4, 1, 8, 8)
    np.testing.assert_allclose(draws[0, 0], images[3] / 255)
    assert np.isnan(draws[0, 1:]).all()
    assert all(not np.array_equal(draws[1, 0], draws[1, i]) for i in (1, 2, 3))
    samples = model.samples(5)
    assert samples.shape == (5, 1, 8, 8)
    assert 0 <= samples.min() < samples.max() <= 1
    np.testing.assert_allclose(samples[:2], model.samples(2), atol=1e-5)  # whatever the others


def test_layer_means_do_not_depend_on_the_other_images(fitted: tuple[Fitted, np.ndarray]) -> None:
    model, images = fitted
    layers = model.layer_means(images, np.arange(130))
    assert [len(layer) for layer in layers] == [130, 130]
    for layer, alone in zip(layers, model.layer_means(images, np.array([110])), strict=True):
        np.testing.assert_allclose(layer[110], alone[0], atol=1e-5)


# ---------------------------------------------------------------------- what is missing
def no_runs(finished: Path) -> None:
    shutil.rmtree(finished / "run")


def no_fit(finished: Path) -> None:
    shutil.rmtree(finished / "fit")


def no_scores(finished: Path) -> None:
    shutil.rmtree(finished / "score")


@pytest.mark.parametrize(
    ("spoil", "name", "command"),
    [
        (no_runs, "roc", "`oodbench run --pair fashionmnist-mnist --detector vanilla-hvae --store"),
        (no_runs, "forest", "`oodbench run --pair fashionmnist-mnist --store .*` makes it"),
        (no_fit, "prior", "fit .* of vanilla-hvae on digits-photos is not in .* any more; `oodbench"
         " run --pair digits-photos --detector vanilla-hvae@D2 --scale smoke --store FOLDER`"),
        (no_scores, "densities", "score .* of informative-hvae .* is not in"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_command(
    finished: Path, tmp_path: Path, spoil: Callable[[Path], None], name: str, command: str
) -> None:
    copy = tmp_path / "store"
    shutil.copytree(finished, copy)
    spoil(copy)
    with pytest.raises(MissingRunError, match=command):
        drawn(copy, name)


def test_fits_of_another_version_and_other_images_are_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oodbench.declare.recipes import MODELS

    run = run_of(finished, "vanilla-hvae")
    stored = Stored(Store(finished), find_places([], str(finished)))
    (fit,) = stored.fits(run)
    monkeypatch.setattr(MODELS.get("hvae"), "revision", 99)
    with pytest.raises(StoreError, match="made by an earlier version of the model 'hvae'"):
        load_model(fit, (1, 8, 8))
    swapped = Entry(run.store, run.path, {**run.record, "in_dist": "photos"})
    with pytest.raises(DataError, match="test images of photos found here are not those"):
        stored.images(swapped)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rocs"], "unknown figure 'rocs'; nearest: roc"),
        (["roc", "--pair", "digits-photo"], "unknown pair 'digits-photo'; nearest: digits-photos"),
        (["roc", "--pair", "cifar10-svhn"], "no run of vanilla-hvae on cifar10-svhn in .*;"
         " `oodbench run --pair cifar10-svhn --detector vanilla-hvae --store .*` makes it"),
        (["roc", "--detector", "glow"], "`oodbench run --pair digits-photos --detector glow"),
        (["roc", "--detector", "glwo"], "unknown detector 'glwo'; nearest: glow"),
        (["roc", "--detector", "vanilla-hvae:LR"], "unknown score of vanilla-hvae 'LR'"),
        (["roc", "--detector", "vanilla-hvae", "--seed", "7"], "with seed 7 in .* --first-seed 7"),
        (["roc", "--scale", "tiny"], "unknown scale 'tiny'; one of paper, small, smoke"),
        (["roc", "--scale", "paper"], "no run of vanilla-hvae on .* at scale paper"),
        (["roc", "--out", "x.jpg"], "written as .pdf, .svg or .png, not as 'x.jpg'"),
        (["prior", "--detector", "png-length"], "png-length has no layers; this figure takes"),
        (["training", "--detector", "png-length"], "none of these detectors is trained in epochs"),
        (["draws", "--image", "500"], "--image 500: the test split of digits has images 0 … 499"),
        (["tsne", "--pair", "digits-photos", "--pair", "china-flower"], "takes one --pair, not 2"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments: list[str], message: str, finished: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["oodbench", "figure", *arguments, "--store", str(finished)])
    with pytest.raises(SystemExit) as stop:
        main()
    out = capsys.readouterr()
    assert (stop.value.code, out.out) == (2, "")
    assert re.search(message, out.err)
    assert len(out.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_file_and_says_what_is_in_it(
    finished: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["oodbench", "figure", "3", "--store", str(finished)])
    main()
    assert capsys.readouterr().out.splitlines() == [
        "roc-digits-photos.pdf: ROC curves, AUROC with its interval in the legend",
        "  digits-photos (ID: digits, OOD: photos): vanilla-hvae@D2-smoke, seed 0;"
        " informative-hvae@D2-smoke, seed 0",
    ]
    assert (tmp_path / "roc-digits-photos.pdf").read_bytes().startswith(b"%PDF")


def test_the_list_imports_no_drawing_library() -> None:
    code = (
        "import sys; from oodbench.cli import oodbench;"
        " oodbench.main(['figure', 'list'], standalone_mode=False);"
        " assert not {'matplotlib', 'torch', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in KINDS)


def test_a_model_without_layers_is_refused(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from oodbench.figures import fitted as module

    run = run_of(finished, "vanilla-hvae")
    (fit,) = Stored(Store(finished), find_places([], str(finished))).fits(run)
    monkeypatch.setattr(module, "load_model", lambda fit, shape: torch.nn.Linear(1, 1))
    with pytest.raises(OodbenchError, match="has no layers to decode from"):
        Fitted(fit, (1, 8, 8))

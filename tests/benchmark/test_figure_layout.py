"""Every figure at 1, 10 and 40 curves with long names: nothing cut, nothing covered, all apart."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from oodbench.figures.forest import Estimate, forest_figure
from oodbench.figures.layers import (
    ByK,
    LayerKL,
    TrainingLog,
    auroc_by_k_figure,
    kl_figure,
    training_figure,
)
from oodbench.figures.scores import (
    BEST,
    Complexity,
    Scored,
    complexity_figure,
    density_figure,
    roc_figure,
)
from oodbench.figures.style import line_styles

COUNTS = (1, 10, 40)
LONG = "a detector whose name takes some fifty characters, no. {}"
TITLE = "a folder of photographs with a long name (ID), another folder (OOD), 10,000 each, seed 0"


def scored(number: int) -> Scored:
    generator = np.random.default_rng(number)
    shift = generator.uniform(-1, 3)
    return Scored(LONG.format(number), generator.normal(size=60), generator.normal(shift, size=60))


def roc(count: int) -> Figure:
    return roc_figure([(TITLE, [scored(i) for i in range(count)])] * 2)


def densities(count: int) -> Figure:
    return density_figure([(TITLE, scored(i)) for i in range(count)])


def complexity(count: int) -> Figure:
    sides = np.arange(60.0), np.arange(60.0)
    return complexity_figure(TITLE, [Complexity(scored(i), *sides) for i in range(count)])


def forest(count: int) -> Figure:
    rows = [
        Estimate(LONG.format(i), "LLR_ada", 97.0, 96.0, 100.0, 1 + 2 * (i % 2), f"F{d}-small", tag)
        for i in range(count)
        for d, tag in ((3, ""), (5, "[oracle]"))
    ]
    return forest_figure(TITLE, rows)


def by_k(count: int) -> Figure:
    k = np.arange(3)
    families = [
        ByK(LONG.format(i), "LLR>k", k, 50.0 + k + i, 49.0 + k + i, 51.0 + k + i)
        for i in range(count)
    ]
    return auroc_by_k_figure([(TITLE, families)] * 2)


def kl(count: int) -> Figure:
    nats = np.exp(np.random.default_rng(0).normal(2, 1, size=(50, 3)))
    return kl_figure([LayerKL(f"{LONG.format(i)}\n{TITLE}", nats, nats) for i in range(count)])


def training(count: int) -> Figure:
    epochs = np.arange(1.0, 21.0)
    columns = {"epoch": epochs, "bits_per_dim": 3 + 5 / epochs, "kl_1": epochs, "kl_2": epochs * 2}
    return training_figure([TrainingLog(LONG.format(i), columns) for i in range(count)])


FIGURES = (roc, densities, complexity, forest, by_k, kl, training)


def texts(figure: Figure) -> list[tuple[str, np.ndarray]]:
    """What is written, with its box in pixels: left, bottom, right, top."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    undrawn = _undrawn(figure)
    return [
        (text.get_text(), text.get_window_extent(renderer).extents)
        for text in figure.findobj(Text)
        if isinstance(text, Text)
        and text.get_text().strip()
        and text.get_visible()
        and id(text) not in undrawn
    ]


def _undrawn(figure: Figure) -> set[int]:
    """Labels of ticks that are made but lie off their axis."""
    found = set()
    for ax in figure.axes:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            low, high = sorted(limits)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    found |= {id(tick.label1), id(tick.label2)}
    return found


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_no_text_is_cut_or_covered(draw: Callable[[int], Figure], count: int) -> None:
    figure = draw(count)
    found = texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for text, (left, bottom, right, top) in found:
        assert min(left, bottom) >= -1, text
        assert max(right - width, top - height) <= 1, text
    boxes = [box for _, box in found]
    for a, b in combinations(range(len(found)), 2):
        across = min(boxes[a][2], boxes[b][2]) - max(boxes[a][0], boxes[b][0])
        up = min(boxes[a][3], boxes[b][3]) - max(boxes[a][1], boxes[b][1])
        assert min(across, up) <= 1.5, (found[a][0], found[b][0])


@pytest.mark.parametrize("count", COUNTS)
def test_curves_are_told_apart_and_the_axes_keep_their_size(count: int) -> None:
    figure = roc(count)
    for ax in figure.axes:
        named = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
        looks = {(line.get_color(), str(line._dash_pattern)) for line in named}  # type: ignore[attr-defined]
        assert len(looks) == len(named) == min(count, BEST)
        assert ax.get_position().width * figure.get_size_inches()[0] == pytest.approx(2.7)
        assert len(ax.lines) == count + 1


def test_the_best_curves_are_told_apart_and_the_others_counted() -> None:
    every = [scored(i) for i in range(40)]
    (ax,) = roc_figure([("pair", every)]).axes
    best = sorted(every, key=lambda one: -one.auroc)[:BEST]
    named = {str(line.get_label()).replace("\n", " ") for line in ax.lines}
    assert all(any(label.startswith(f"{one.label}:") for label in named) for one in best)
    legend = ax.get_legend()
    assert legend is not None
    assert "26 more in grey" in legend.get_title().get_text()


def test_a_detector_looks_the_same_in_every_figure() -> None:
    names = [LONG.format(i) for i in range(49)]
    together = line_styles(names)
    assert len(set(map(str, together.values()))) == 49
    assert sum(line_styles([name])[name] == together[name] for name in names) > 20
    assert line_styles(names[:5]) == line_styles(names[4::-1])

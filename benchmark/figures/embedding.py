"""t-SNE of the posterior means of every layer, coloured by class (van der Maaten, Hinton 2008)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oodbench.figures.style import TEXT_WIDTH, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERPLEXITY = 30.0
#: Paul Tol's "muted" scheme with black; a class is also told by its number, which is the marker.
CLASS_COLOURS = ("#332288", "#117733", "#CC6677", "#AA4499", "#44AA99", "#88CCEE", "#999933",
                 "#882255", "#DDCC77", "#000000")  # fmt: skip


def embed(means: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, 2) t-SNE of (n, d) points, perplexity 30 or (n − 1)/3 where that is less.

    Seeded, from random starting points, in one thread: the same on every call.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(means) - 1) / 3)
    with threadpool_limits(1):
        points = TSNE(init="random", perplexity=perplexity, random_state=seed).fit_transform(means)
    return np.asarray(points, dtype=np.float64)


@dataclass(frozen=True)
class Embedded:
    """One model's layers from z1 on: `layers` of (n, 2) points, `labels` (n,) or None."""

    title: str
    layers: Sequence[np.ndarray]
    labels: np.ndarray | None


@styled
def tsne_figure(title: str, models: Sequence[Embedded]) -> Figure:
    """One row per model, one panel per layer; the markers are the numbers of the classes."""
    columns = max(len(model.layers) for model in models)
    side = TEXT_WIDTH / max(3, columns)
    figure = new_figure(columns * side, len(models) * (side + 0.1) + 0.4)
    for r, model in enumerate(models):
        for c, points in enumerate(model.layers):
            ax = figure.add_subplot(len(models), columns, r * columns + c + 1)
            _scatter(ax, points, model.labels)
            ax.set_title(f"z{c + 1}")
            if c == 0:
                ax.set_ylabel(model.title)
    figure.suptitle(title)
    return figure


def _scatter(ax: Axes, points: np.ndarray, labels: np.ndarray | None) -> None:
    classes = np.zeros(len(points), dtype=int) if labels is None else labels
    for i, label in enumerate(np.unique(classes)):
        chosen = classes == label
        ax.plot(
            points[chosen, 0], points[chosen, 1], linestyle="none",
            marker="." if labels is None else f"${label}$", markersize=3.2, markeredgewidth=0,
            color=CLASS_COLOURS[i % len(CLASS_COLOURS)],
        )  # fmt: skip
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(True)

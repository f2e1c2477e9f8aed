"""Figures of per-image scores: ROC curves, histograms, scores against code length.

Scores are (n,) arrays, higher = more OOD, and OOD is the positive class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oodbench.figures.style import (
    COLOURS,
    DASHES,
    GREY,
    ID_COLOUR,
    OOD_COLOUR,
    legend_below,
    panels,
    styled,
)
from oodbench.rank.metrics import roc_curve
from oodbench.rank.significance import auroc_interval, midranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A drawn ROC curve stays this close to the exact one, as a fraction of either axis.
TOLERANCE = 1 / 500
BINS = 60
#: An axis of scores ends this many interquartile ranges beyond the quartiles of the wider side.
FENCE = 2.0
POINTS = 1000


@dataclass(frozen=True)
class Scored:
    """One score of the ID and the OOD images, (n_id,) and (n_ood,), under a name for the legend."""

    label: str
    id_scores: np.ndarray
    ood_scores: np.ndarray

    @property
    def auroc_text(self) -> str:
        """AUROC in percent with its 95 % DeLong interval: ``84.1 [83.5, 84.7]``."""
        value, low, high = auroc_interval(self.id_scores, self.ood_scores)
        return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"

    @property
    def fences(self) -> tuple[float, float]:
        """Ends of an axis that a few images far out do not stretch (Tukey's fences).

        From the lower of the sides' Q1 − 2 (Q3 − Q1) to the higher Q3 + 2 (Q3 − Q1), as far as
        there are images.
        """
        sides = (self.id_scores, self.ood_scores)
        quartiles = [np.quantile(side, [0.25, 0.75]) for side in sides]
        low = max(min(map(np.min, sides)), min(a - FENCE * (b - a) for a, b in quartiles))
        high = min(max(map(np.max, sides)), max(b + FENCE * (b - a) for a, b in quartiles))
        return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)

    @property
    def beyond(self) -> str:
        """How many images lie beyond the fences, as a second line of a label; "" where none do."""
        both = np.concatenate([self.id_scores, self.ood_scores])
        low, high = self.fences
        outside = int(((both < low) | (both > high)).sum())
        return f"\n{outside:,} of {len(both):,} images beyond the axis" if outside else ""


def thinned(fpr: np.ndarray, tpr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices of a ROC curve that are at least `TOLERANCE` apart, and both of its ends."""
    kept = [0]
    for i in range(1, len(fpr)):
        last = kept[-1]
        if max(fpr[i] - fpr[last], tpr[i] - tpr[last]) >= TOLERANCE:
            kept.append(i)
    if kept[-1] != len(fpr) - 1:
        kept.append(len(fpr) - 1)
    return fpr[kept], tpr[kept]


@styled
def roc_figure(curves: Sequence[tuple[str, Sequence[Scored]]]) -> Figure:
    """One panel per pair, (title, scores): the ROC curve of every score, AUROC in the legend."""
    figure, axes = panels(len(curves), height=3.6, columns=2)
    for ax, (title, scored) in zip(axes, curves, strict=True):
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, zorder=1)
        for i, one in enumerate(scored):
            ax.plot(
                *thinned(*roc_curve(one.id_scores, one.ood_scores)),
                color=COLOURS[i % len(COLOURS)], linestyle=DASHES[i % len(DASHES)],
                label=f"{one.label}: {one.auroc_text}",
            )  # fmt: skip
        ax.set(title=title, xlabel="False positive rate", ylabel="True positive rate",
               xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")  # fmt: skip
        legend_below(ax, title="AUROC, % [95 % interval, DeLong]")
    return figure


@styled
def density_figure(curves: Sequence[tuple[str, Scored]]) -> Figure:
    """One panel per score, (title, scores): histograms of the ID and the OOD images.

    The axis ends at the `fences`; how many images lie beyond is printed.
    """
    figure, axes = panels(len(curves), columns=2)
    for ax, (title, scored) in zip(axes, curves, strict=True):
        _histograms(ax, scored)
        ax.set(title=title, ylabel="Density", yticks=[],
               xlabel=f"{scored.label} (higher = more OOD){scored.beyond}")  # fmt: skip
    axes[0].legend(loc="best")
    return figure


def _histograms(ax: Axes, scored: Scored) -> None:
    low, high = scored.fences
    edges = np.linspace(low, high, BINS + 1)
    for values, label, colour, dashes, hatch in (
        (scored.id_scores, "ID", ID_COLOUR, "-", ""),
        (scored.ood_scores, "OOD", OOD_COLOUR, "--", "/////"),
    ):
        counts = np.histogram(values, edges)[0]
        density = counts / (len(values) * np.diff(edges))
        ax.stairs(density, edges, fill=True, facecolor=(colour, 0.25 if not hatch else 0.0),
                  edgecolor=(colour, 0.6), linewidth=0, hatch=hatch)  # fmt: skip
        ax.stairs(density, edges, color=colour, linestyle=dashes, linewidth=1.2, label=label)


@dataclass(frozen=True)
class Complexity:
    """A score of images and their lossless code lengths in bytes, (n,) each, ID and OOD."""

    scored: Scored
    id_bytes: np.ndarray
    ood_bytes: np.ndarray


@styled
def complexity_figure(title: str, shown: Sequence[Complexity]) -> Figure:
    """One panel per score: score against PNG length, with Spearman's ρ within either side.

    At most `POINTS` evenly spaced images of a side are drawn; ρ counts all of them.
    """
    figure, axes = panels(len(shown), height=3.0, columns=2)
    for ax, one in zip(axes, shown, strict=True):
        for side, lengths, scores, colour, marker in (
            ("ID", one.id_bytes, one.scored.id_scores, ID_COLOUR, "o"),
            ("OOD", one.ood_bytes, one.scored.ood_scores, OOD_COLOUR, "x"),
        ):
            drawn = np.unique(np.linspace(0, len(scores) - 1, POINTS).astype(int))
            ax.plot(lengths[drawn], scores[drawn], linestyle="none", marker=marker,
                    markersize=2.2, color=colour, alpha=0.6, markeredgewidth=0.6,
                    markerfacecolor="none",
                    label=f"{side}, ρ = {spearman(lengths, scores):.2f}")  # fmt: skip
        ax.set(xlabel=f"PNG length (bytes){one.scored.beyond}", ylabel=one.scored.label)
        low, high = one.scored.fences
        ax.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        ax.legend(loc="best", markerscale=1.8, handlelength=1)
    figure.suptitle(title)
    return figure


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where a side is constant."""
    ranks = midranks(a), midranks(b)
    if not (np.ptp(ranks[0]) > 0 and np.ptp(ranks[1]) > 0):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])

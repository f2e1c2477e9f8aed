"""Figures of per-image scores: ROC curves, histograms, scores against code length.

Scores are (n,) arrays, higher = more OOD, and OOD is the positive class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oodbench.figures.style import (
    GREY,
    ID_COLOUR,
    OOD_COLOUR,
    TEXT_WIDTH,
    legend_height,
    line_styles,
    new_figure,
    panels,
    styled,
    wrapped,
)
from oodbench.leaderboards.rounding import cleaned, shown
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
#: Curves of one panel that are told apart.
BEST = 14
#: Inches: the width of text over a panel of two; the side of a ROC panel, and what is around it.
PANEL = 2.9
ROC_SIDE = 2.7
ROC_MARGIN = 0.95


@dataclass(frozen=True, eq=False)
class Scored:
    """One score of the ID and the OOD images, (n_id,) and (n_ood,), under a name for the legend."""

    label: str
    id_scores: np.ndarray
    ood_scores: np.ndarray

    @property
    def auroc(self) -> float:
        """Between 0 and 1."""
        return auroc_interval(self.id_scores, self.ood_scores)[0]

    @property
    def auroc_text(self) -> str:
        """AUROC in percent with its 95 % DeLong interval: ``84.1 [83.5, 84.7]``."""
        found = auroc_interval(self.id_scores, self.ood_scores)
        value, low, high = (shown(cleaned(100 * part)) for part in found)
        return f"{value} [{low}, {high}]"

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
    """A row per pair, (title, scores): ROC curves, and beside them the AUROC of every score.

    Of more than `BEST` curves those of the highest AUROC are told apart, the others are grey.
    """
    styles = line_styles(one.label for _, scored in curves for one in scored)
    rows = [_roc_labels(scored) for _, scored in curves]
    heights = [max(ROC_SIDE, legend_height(labels.values()) + 0.3) + ROC_MARGIN for labels in rows]
    figure = new_figure(TEXT_WIDTH, sum(heights))
    figure.set_layout_engine("none")
    top = sum(heights)
    for (title, scored), labels, height in zip(curves, rows, heights, strict=True):
        bottom = (top - 0.4 - ROC_SIDE) / sum(heights)
        left, width = 0.6 / TEXT_WIDTH, ROC_SIDE / TEXT_WIDTH
        ax = figure.add_axes((left, bottom, width, ROC_SIDE / sum(heights)))
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, zorder=1)
        for one in scored:
            points = thinned(*roc_curve(one.id_scores, one.ood_scores))
            if one.label in labels:
                colour, dashes = styles[one.label]
                ax.plot(*points, color=colour, linestyle=dashes, label=labels[one.label])
            else:
                ax.plot(*points, color="#BBBBBB", linewidth=0.6, zorder=1.5)
        ax.set(xlabel="False positive rate", ylabel="True positive rate",
               xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))  # fmt: skip
        ax.set_title(wrapped(title, TEXT_WIDTH - 0.8, 8), loc="left")
        left_out = len(scored) - len(labels)
        head = "AUROC, % [95 % interval, DeLong]"
        ax.legend(
            loc="upper left", bbox_to_anchor=(1.04, 1.0), borderaxespad=0, alignment="left",
            title=head + (f"\nthe best {len(labels)}; {left_out} more in grey" if left_out else ""),
        )  # fmt: skip
        top -= height
    return figure


def _roc_labels(scored: Sequence[Scored]) -> dict[str, str]:
    """What the legend says of the curves that are told apart, in the order given."""
    best = sorted(scored, key=lambda one: -one.auroc)[:BEST]
    return {
        one.label: wrapped(f"{one.label}: {one.auroc_text}", TEXT_WIDTH - ROC_SIDE - 1.3)
        for one in scored if one in best
    }  # fmt: skip


@styled
def density_figure(curves: Sequence[tuple[str, Scored]]) -> Figure:
    """One panel per score, (title, scores): histograms of the ID and the OOD images.

    The axis ends at the `fences`; how many images lie beyond is printed.
    """
    figure, axes = panels(len(curves), columns=2)
    for ax, (title, scored) in zip(axes, curves, strict=True):
        _histograms(ax, scored)
        label = wrapped(f"{scored.label} (higher = more OOD)", PANEL, 8)
        ax.set(title=wrapped(title, PANEL, 8), ylabel="Density", yticks=[],
               xlabel=f"{label}{scored.beyond}")  # fmt: skip
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
        label = wrapped(one.scored.label, 2.2, 8)
        ax.set(xlabel="PNG length (bytes)", ylabel=f"{label}{one.scored.beyond}")
        low, high = one.scored.fences
        ax.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        ax.legend(loc="best", markerscale=1.8, handlelength=1)
    figure.suptitle(wrapped(title, TEXT_WIDTH if len(shown) > 1 else 0.6 * TEXT_WIDTH, 8.5))
    return figure


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where a side is constant."""
    ranks = midranks(a), midranks(b)
    if not (np.ptp(ranks[0]) > 0 and np.ptp(ranks[1]) > 0):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])

"""The figure of a sweep: AUROC, KL and active units of every layer against what is varied.

Lines are means over seeds.  Bars: ± sample standard deviation over training seeds, where there are
several.  Bands of AUROC: 95 % DeLong intervals over test images, their ends averaged over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter, MaxNLocator

from oodbench.figures.layers import nats_scale
from oodbench.figures.style import COLOURS, DASHES, GREY, MARKERS, TEXT_WIDTH, new_figure, styled
from oodbench.sweeps.results import short_names

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from oodbench.sweeps.results import Spread, Swept

HEIGHT = 2.4


class _Plain(LogFormatter):
    """``0.6`` where others write 6×10⁻¹; as sparing with labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


@styled
def sweep_figure(found: Sequence[Swept]) -> Figure:
    """For every model a panel per OOD set, one of KL and one of active units.

    A star marks the highest AUROC of a score, an oracle choice; the vertical lines are the default
    and the value that held-out ID images choose.
    """
    pairs = found[0].sweep.pairs
    scores = _all_scores(found)
    drawn: dict[str, Artist] = {}
    count = len(pairs) + 2
    across = 2 if count == 4 else 3
    rows = -(-count // across)
    figure = new_figure(TEXT_WIDTH, HEIGHT * rows * len(found) + 0.5)
    for number, (one, name) in enumerate(zip(found, short_names(found), strict=True)):
        start = number * rows * across
        panels = [
            figure.add_subplot(rows * len(found), across, start + place + 1)
            for place in range(count)
        ]
        for ax, pair in zip(panels, pairs, strict=False):
            _areas(ax, one, pair.ood, scores)
            ax.set(title=f"{name}\n{pair.in_dist} (ID), {pair.ood} (OOD)")
            handles, labels = ax.get_legend_handles_labels()
            drawn |= dict(zip(labels, handles, strict=True))
        _layers(panels[-2], one, [setting.kl() for setting in one.settings])
        kls = [kl.mean - (kl.sd or 0.0) for setting in one.settings for kl in setting.kl()]
        nats_scale(panels[-2], min(kls))
        if panels[-2].get_yscale() == "log":
            panels[-2].yaxis.set_major_formatter(_Plain())
            panels[-2].yaxis.set_minor_formatter(_Plain(minor_thresholds=(1, 0.4)))
        panels[-2].set(title=f"{name}\n{pairs[0].in_dist} (ID)", ylabel="KL, nats per image")
        _layers(panels[-1], one, [[a for a, _ in s.active()] for s in one.settings])
        _units(panels[-1], one)
        panels[-1].set(title=f"{name}\n{pairs[0].in_dist} (ID)", ylabel="Active units")
        panels[-1].yaxis.set_major_locator(MaxNLocator(5, integer=True))
        for ax in panels:
            _choices(ax, one)
        for ax in panels[-2:]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), title="Layer", ncols=5,
                      handlelength=1.8, columnspacing=1.0)  # fmt: skip
    figure.legend(
        handles=[*drawn.values(), *_mark_handles(found)], loc="outside lower center", ncols=4
    )
    return figure


def _all_scores(found: Sequence[Swept]) -> list[str]:
    """Every score once, in the order of the deepest model: a score looks the same everywhere."""
    by_depth = sorted(found, key=lambda one: -len(one.default.scores()))
    return list(dict.fromkeys(score for one in by_depth for score in one.default.scores()))


def _areas(ax: Axes, one: Swept, ood: str, scores: Sequence[str]) -> None:
    """AUROC of every score against one OOD set."""
    ax.axhline(50, color=GREY, linewidth=0.7, zorder=1)
    values = [setting.point.value for setting in one.settings]
    for score in one.default.scores():
        index = scores.index(score)
        found = [setting.auroc(ood, score) for setting in one.settings]
        means = [estimate.cell.value for estimate in found]
        colour = COLOURS[index % len(COLOURS)]
        ax.fill_between(values, [e.low for e in found], [e.high for e in found], color=colour,
                        alpha=0.15, linewidth=0)  # fmt: skip
        ax.errorbar(values, means, [estimate.cell.sd or 0.0 for estimate in found], color=colour,
                    linestyle=DASHES[index % len(DASHES)], marker=MARKERS[index % len(MARKERS)],
                    markersize=3, capsize=2, elinewidth=0.8, label=score)  # fmt: skip
        best = one.oracle(ood, score)
        ax.plot([best.point.value], [best.auroc(ood, score).cell.value], linestyle="none",
                marker="*", markersize=9, markerfacecolor="none", color=colour)  # fmt: skip
    ax.set(ylim=(0, 102), ylabel="AUROC, %")


def _layers(ax: Axes, one: Swept, found: Sequence[Sequence[Spread]]) -> None:
    """A line per layer, `found` holding the layers of every setting."""
    values = [setting.point.value for setting in one.settings]
    for index, layer in enumerate(zip(*found, strict=True)):
        ax.errorbar(values, [s.mean for s in layer], [s.sd or 0.0 for s in layer],
                    color=COLOURS[index % len(COLOURS)], linestyle=DASHES[index % len(DASHES)],
                    marker=MARKERS[index % len(MARKERS)], markersize=3, capsize=2, elinewidth=0.8,
                    label=str(index + 1))  # fmt: skip


def _units(ax: Axes, one: Swept) -> None:
    """The units that a layer has, faintly behind those that are active."""
    values = [setting.point.value for setting in one.settings]
    sizes = [[units for _, units in setting.active()] for setting in one.settings]
    for index, layer in enumerate(zip(*sizes, strict=True)):
        ax.plot(values, layer, color=COLOURS[index % len(COLOURS)], linewidth=3, alpha=0.25,
                zorder=1)  # fmt: skip


def _choices(ax: Axes, one: Swept) -> None:
    ax.axvline(one.default.point.value, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    ax.axvline(one.chosen.point.value, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
    ax.set(xlabel=one.sweep.symbol)


def _mark_handles(found: Sequence[Swept]) -> list[Line2D | Patch]:
    symbol, several = found[0].sweep.symbol, len(found[0].sweep.seeds) > 1
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=GREY, linestyle="none", marker="*", markersize=9,
               markerfacecolor="none", label=f"oracle: {symbol} of the best AUROC"),
        Line2D([], [], color=GREY, linestyle="--", linewidth=0.9, label=f"{symbol} by ID data"),
        Line2D([], [], color=GREY, linestyle=":", linewidth=0.8, label=f"default {symbol}"),
        Patch(color=GREY, alpha=0.25, linewidth=0, label="95 % over images (DeLong)"),
    ]  # fmt: skip
    if several:
        count = len(found[0].sweep.seeds)
        handles.append(Line2D([], [], color=GREY, marker="|", markersize=7, linestyle="none",
                              label=f"± sd over {count} seeds"))  # fmt: skip
    return handles

"""Figures against what is varied: of a sweep, and of one training at several budgets.

Lines are means over seeds.  Bars: ± sample standard deviation over training seeds, where there are
several.  Bands of AUROC: 95 % DeLong intervals over test images, their ends averaged over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator

from oodbench.figures.layers import nats_scale
from oodbench.figures.style import (
    COLOURS,
    DASHES,
    GREY,
    MARKERS,
    TEXT_WIDTH,
    new_figure,
    styled,
    wrapped,
)
from oodbench.leaderboards.rows import category_tag
from oodbench.sweeps.results import short_names

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from oodbench.sweeps.results import Spread, Swept
    from oodbench.sweeps.settling import Curve

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
        _nats_axis(panels[-2], min(kls))
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


def _nats_axis(ax: Axes, reach: float) -> None:
    """As `nats_scale`, with labels between the powers of ten."""
    nats_scale(ax, reach)
    if ax.get_yscale() == "log":
        ax.yaxis.set_major_formatter(_Plain())
        ax.yaxis.set_minor_formatter(_Plain(minor_thresholds=(1, 0.4)))


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


# ---------------------------------------------------------------------- budgets of one training
@styled
def settling_figure(curves: Sequence[Curve]) -> Figure:
    """For every model and ID set a panel of AUROC per OOD set, one of bits/dim and one of KL.

    Markers are empty where a warm-up or free bits were not over at that budget.
    """
    models: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        models.setdefault((curve.label, str(curve.first["in_dist"])), []).append(curve)
    counts = [len(own) + 2 for own in models.values()]
    across = 2 if max(counts) == 4 else 3
    rows = [-(-count // across) for count in counts]
    figure = new_figure(TEXT_WIDTH, (HEIGHT + 0.4) * sum(rows) + 0.3)
    drawn: dict[str, Artist] = {}
    place, every = 0, _settling_scores(curves)
    for (label, in_dist), own, below in zip(models, models.values(), rows, strict=True):
        title = wrapped(label, 6 / across, 8)
        axes = [figure.add_subplot(sum(rows), across, place + i + 1) for i in range(len(own) + 2)]
        place += below * across
        for ax, curve in zip(axes, own, strict=False):
            _settling_areas(ax, curve, every)
            ax.set(title=f"{title}\n{in_dist} (ID), {curve.first['ood']} (OOD)")
            handles, labels = ax.get_legend_handles_labels()
            drawn |= dict(zip(labels, handles, strict=True))
        first = own[0]
        bits = [budget.bits_per_dim() for budget in first.budgets]
        names = ["L", *(f"L>{k}" for k in range(1, min(map(len, bits))))]
        _against_images(axes[-2], first, dict(zip(names, zip(*bits, strict=False), strict=False)))
        axes[-2].set(title=f"{title}\n{in_dist} (ID)", ylabel="Bits per dimension")
        kl = [budget.kl() for budget in first.budgets]
        layers = {str(i + 1): layer for i, layer in enumerate(zip(*kl, strict=False))}
        _against_images(axes[-1], first, layers)
        axes[-1].set(title=f"{title}\n{in_dist} (ID)", ylabel="KL, nats per image")
        if layers:
            _nats_axis(axes[-1], min(s.mean - (s.sd or 0.0) for one in kl for s in one))
        for ax, known, about in ((axes[-2], bits, None), (axes[-1], kl, "Layer")):
            ax.set_visible(all(map(bool, known)))
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), title=about, ncols=5,
                      handlelength=1.8, columnspacing=1.0)  # fmt: skip
    figure.legend(handles=[*drawn.values(), *_settling_handles(curves)], loc="outside lower center",
                  ncols=4)  # fmt: skip
    return figure


def _settling_scores(curves: Sequence[Curve]) -> list[str]:
    """Every score once: it looks the same in all panels."""
    by_number = sorted(curves, key=lambda curve: -len(curve.scores))
    return list(dict.fromkeys(score for curve in by_number for score in curve.scores))


def _settling_areas(ax: Axes, curve: Curve, every: Sequence[str]) -> None:
    """AUROC of every score against the images seen, with the intervals over test images."""
    ax.axhline(50, color=GREY, linewidth=0.7, zorder=1)
    images = [budget.trained.images for budget in curve.budgets]
    for score in curve.scores:
        found = [budget.auroc(score) for budget in curve.budgets]
        index = every.index(score)
        ax.fill_between(images, [e.low for e in found], [e.high for e in found],
                        color=COLOURS[index % len(COLOURS)], alpha=0.15, linewidth=0)  # fmt: skip
        values = [(estimate.cell.value, estimate.cell.sd or 0.0) for estimate in found]
        tag = category_tag("oracle" if curve.budgets[0].row(score).category == "oracle" else
                           "unsupervised")  # fmt: skip
        _line(ax, curve, values, index, f"{score} {tag}".strip())
    ax.set(ylim=(0, 102), ylabel="AUROC, %")
    _images_axis(ax, curve)


def _against_images(ax: Axes, curve: Curve, lines: Mapping[str, Sequence[Spread]]) -> None:
    """A line per name."""
    for index, (name, found) in enumerate(lines.items()):
        _line(ax, curve, [(one.mean, one.sd or 0.0) for one in found], index, name)
    _images_axis(ax, curve)


def _line(
    ax: Axes, curve: Curve, values: Sequence[tuple[float, float]], index: int, label: str
) -> None:
    """Means and standard deviations by budget."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    images = [budget.trained.images for budget in curve.budgets]
    means, sds = [value for value, _ in values], [sd for _, sd in values]
    ax.errorbar(images, means, sds, color=colour, linestyle=DASHES[index % len(DASHES)],
                marker=marker, markersize=3, capsize=2, elinewidth=0.8, label=label)  # fmt: skip
    changing = [budget.trained.changing for budget in curve.budgets]
    ax.plot([x for x, open_ in zip(images, changing, strict=True) if open_],
            [y for y, open_ in zip(means, changing, strict=True) if open_], linestyle="none",
            marker=marker, markersize=3, color=colour, markerfacecolor="white")  # fmt: skip


def _images_axis(ax: Axes, curve: Curve) -> None:
    """A tick at every budget, where there is room for its number."""
    images = [budget.trained.images for budget in curve.budgets]
    ticks, apart = list[int](), (images[-1] / images[0]) ** (1 / 8)
    for number in reversed(images):
        if not ticks or number * apart <= ticks[-1]:
            ticks.append(number)
    ax.set(xscale="log", xlabel="Images seen", xticks=ticks, xticklabels=map(_in_short, ticks))
    ax.xaxis.set_minor_locator(NullLocator())


def _in_short(count: int) -> str:
    """``256``, ``11k``, ``1.32M``: three digits."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)


def _settling_handles(curves: Sequence[Curve]) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Patch(color=GREY, alpha=0.25, linewidth=0, label="95 % over images (DeLong)")
    ]
    if (count := max(len(curve.seeds) for curve in curves)) > 1:
        handles.append(Line2D([], [], color=GREY, marker="|", markersize=7, linestyle="none",
                              label=f"± sd over {count} seeds"))  # fmt: skip
    if any(budget.trained.changing for curve in curves for budget in curve.budgets):
        handles.append(Line2D([], [], color=GREY, marker="o", markersize=3, markerfacecolor="white",
                              linestyle="none", label="loss still changing"))  # fmt: skip
    return handles

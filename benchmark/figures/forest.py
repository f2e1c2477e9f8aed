"""Forest plot: the AUROC of every detector on a pair, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oodbench.figures.style import COLOURS, GREY, TEXT_WIDTH, new_figure, styled, wrapped
from oodbench.leaderboards.rounding import shown
from oodbench.media import terminal_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 0.17
#: Inches for the names of rows.
NAMES = 2.6
#: What a bar is, by whether a row has several seeds.
INTERVALS = {False: "dots: 95 % DeLong interval over test images, one seed",
             True: "diamonds: mean ± sd over seeds"}  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """One row, in percent: the interval over test images of one seed, or mean ± sd of several."""

    detector: str
    score: str
    value: float
    low: float
    high: float
    seeds: int
    recipe: str = ""
    tag: str = ""

    @property
    def block(self) -> tuple[str, str]:
        """Rows of one block are scores of one model."""
        return self.detector, self.recipe

    @property
    def text(self) -> str:
        """As tables print it."""
        if self.seeds > 1:
            return f"{shown(self.value)} ± {shown(self.high - self.value)}"
        return f"{shown(self.value)} [{shown(self.low)}, {shown(self.high)}]"


@styled
def forest_figure(title: str, estimates: Sequence[Estimate]) -> Figure:
    """Rows from top to bottom in the order given, a line between detectors, chance at 50."""
    several = {name for name, _ in _blocks(estimates) if _depths(estimates, name) > 1}
    names = [
        wrapped(_name(estimates, y, several), NAMES, 7).replace("\n", "\n  ")
        for y in range(len(estimates))
    ]
    lines = sum(1 + name.count("\n") for name in names)
    kinds = {row.seeds > 1: INTERVALS[row.seeds > 1] for row in estimates}
    figure = new_figure(TEXT_WIDTH, 0.9 + 0.15 * len(kinds) + ROW * lines)
    ax = figure.add_subplot()
    ax.axvline(50, color=GREY, linewidth=0.8, zorder=1)
    for y, row in enumerate(estimates):
        if y and row.block != estimates[y - 1].block:
            ax.axhline(y - 0.5, color="#CCCCCC", linewidth=0.5, zorder=0)
        seeds = row.seeds > 1
        drawn = ax.errorbar(
            row.value, y, xerr=[[row.value - row.low], [row.high - row.value]], capsize=2.5,
            marker="D" if seeds else "o", markersize=2.5, elinewidth=1, capthick=1,
            color=COLOURS[seeds], markerfacecolor="white" if seeds else COLOURS[0],
            clip_on=False, zorder=3,
        )  # fmt: skip
        for part in drawn.get_children():
            part.set_clip_on(False)
        ax.text(103, y, row.text, va="center", ha="left", fontsize=6.5)
    ax.set_yticks(range(len(names)), [terminal_lines(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    label = "\n".join(["AUROC, %", *(f"({kind})" for kind in kinds.values())])
    ax.set(xlabel=label, xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    figure.suptitle(wrapped(title, TEXT_WIDTH, 8.5))
    return figure


def _blocks(estimates: Sequence[Estimate]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(row.block for row in estimates))


def _depths(estimates: Sequence[Estimate], detector: str) -> int:
    """How many recipes of a detector there are."""
    return sum(name == detector for name, _ in _blocks(estimates))


def _name(estimates: Sequence[Estimate], y: int, several: set[str]) -> str:
    """The detector on the first row of its block, with its recipe where it has several."""
    row = estimates[y]
    words = [row.score, row.tag]
    if y == 0 or row.block != estimates[y - 1].block:
        words = [row.detector, row.recipe if row.detector in several else "", *words]
        return "  ".join(word for word in words if word)
    return "  " + "  ".join(word for word in words if word)

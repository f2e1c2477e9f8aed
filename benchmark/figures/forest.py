"""Forest plot: the AUROC of every detector on a pair, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oodbench.figures.style import COLOURS, GREY, TEXT_WIDTH, new_figure, styled
from oodbench.media import terminal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 0.17
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

    @property
    def text(self) -> str:
        """As tables print it."""
        if self.seeds > 1:
            return f"{self.value:.1f} ± {self.high - self.value:.1f}"
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


@styled
def forest_figure(title: str, estimates: Sequence[Estimate]) -> Figure:
    """Rows from top to bottom in the order given, a line between detectors, chance at 50."""
    figure = new_figure(TEXT_WIDTH, 0.9 + ROW * len(estimates))
    ax = figure.add_subplot()
    ax.axvline(50, color=GREY, linewidth=0.8, zorder=1)
    names = []
    for y, row in enumerate(estimates):
        new = y == 0 or row.detector != estimates[y - 1].detector
        if new and y:
            ax.axhline(y - 0.5, color="#CCCCCC", linewidth=0.5, zorder=0)
        names.append(f"{row.detector if new else ''}  {row.score}".rstrip())
        several = row.seeds > 1
        ax.errorbar(
            row.value, y, xerr=[[row.value - row.low], [row.high - row.value]], capsize=2.5,
            marker="D" if several else "o", markersize=2.5, elinewidth=1, capthick=1,
            color=COLOURS[several], markerfacecolor="white" if several else COLOURS[0],
        )  # fmt: skip
        ax.text(102, y, row.text, va="center", ha="left", fontsize=6.5)
    ax.set_yticks(range(len(names)), [terminal(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    kinds = {row.seeds > 1: INTERVALS[row.seeds > 1] for row in estimates}
    ax.set(title=title, xlabel=f"AUROC, %   ({'; '.join(kinds.values())})", xlim=(0, 100),
           ylim=(len(names) - 0.5, -0.5))  # fmt: skip
    return figure

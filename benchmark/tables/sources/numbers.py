"""What a cell can hold: a number with its uncertainty, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from oodbench.declare.layouts import Select
from oodbench.leaderboards.rounding import shown

#: Metrics of which the highest is the best; of FPR80 and FPR95 the lowest is.
RISING = ("auroc", "auprc")


@dataclass(frozen=True)
class Number:
    """A number as a table wants it, metrics in percent.

    One seed: `low` and `high` bound the 95 % interval over test images where there is one.
    Several: `sd` is the sample standard deviation over seeds.  `n` of each side: images, or groups
    of `members` images.  `notes`: what a reader has to know
    of the runs.  `printed` is what a paper shows.
    """

    value: float
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    seeds: int = 1
    n: int | None = None
    recipe: str = ""
    runs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    printed: str = ""
    members: int = 1


class Missing(Enum):
    """Why there is no number: nobody ran it, or the run (or the paper) does not give it."""

    NOT_RUN = ""
    NOT_AVAILABLE = "-"


class Source(Protocol):
    """Where numbers come from."""

    def number(self, query: Select) -> Number | Missing:
        """The number that a cell asks for."""


def decimals_of(number: Number, query: Select, wanted: int | None) -> int:
    """Decimals of a cell: those of its column, else 1, and 2 for an FPR80 below 1 percent."""
    if wanted is not None:
        return wanted
    return 2 if query.get("metric") == "fpr80" and number.value < 1 else 1


def number_text(number: Number, decimals: int, scientific: bool = False) -> str:
    """A label (see `oodbench.tables.layout.markup`): ``84.1``, ``1.59×10^{3}``, or as printed."""
    if number.printed:
        mantissa, _, exponent = number.printed.partition("×10^")
        return f"{mantissa}×10^{{{exponent}}}" if exponent else mantissa
    if not scientific:
        return shown(number.value, decimals)
    mantissa, exponent = f"{number.value:.{decimals}e}".split("e")
    return f"{mantissa}×10^{{{int(exponent)}}}"

"""Numbers as every table, report and figure shows them: rounded once, from the exact fraction.

An FPR is k of n_ID images and an AUROC k of 2·n_ID·n_OOD half pairs: whole numbers that a stored
binary fraction still tells.  `percent` and `mean_percent` divide them once, so that a value that
lies in the middle between two shown ones (17.15) is that decimal and no neighbour of it; `shown`
then rounds halves away from zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import cast

from oodbench.canonical_json import JSON

#: Significant digits that a stored fraction has for certain.
DIGITS = 13


def percent(metric: str, run: Mapping[str, JSON]) -> float:
    """A metric of one run, as `Metrics.to_json` holds it, in percent."""
    found = _counted(metric, run)
    if found is None:
        return cleaned(100.0 * cast("Mapping[str, float]", run[metric])["value"])
    return 100 * found[0] / found[1]


def mean_percent(metric: str, runs: Sequence[Mapping[str, JSON]]) -> float:
    """The mean of a metric over runs, in percent."""
    found = [_counted(metric, run) for run in runs]
    counted = [one for one in found if one is not None]
    if len(counted) < len(found):
        return cleaned(math.fsum(percent(metric, run) for run in runs) / len(runs))
    if len({whole for _, whole in counted}) == 1:
        return 100 * sum(part for part, _ in counted) / (counted[0][1] * len(runs))
    return float(100 * sum(Fraction(*one) for one in counted) / len(runs))


def _counted(metric: str, run: Mapping[str, JSON]) -> tuple[int, int] | None:
    """(part, whole) of which a metric is the fraction; None where it is of no such."""
    if metric not in ("auroc", "fpr80", "fpr95"):
        return None
    whole = cast(int, run["n_id"]) * (2 * cast(int, run["n_ood"]) if metric == "auroc" else 1)
    value = cast("Mapping[str, float]", run[metric])["value"]
    part = round(value * whole)
    return (part, whole) if abs(part / whole - value) < 1e-13 else None


def cleaned(value: float) -> float:
    """A value without the digits that are rounding errors of a computation."""
    return float(f"{value:.{DIGITS}g}")


def shown(value: float, decimals: int = 1, flags: str = "") -> str:
    """Fixed decimals, halves away from zero; `flags` of a format: ``+`` a sign, ``,`` thousands."""
    if abs(abs(value) * 10**decimals % 1 - 0.5) > 1e-6:
        text = f"{value:{flags}.{decimals}f}"
    else:
        step = Decimal(1).scaleb(-decimals)
        text = f"{Decimal(repr(float(value))).quantize(step, ROUND_HALF_UP):{flags}.{decimals}f}"
    if text.startswith("-") and not text.strip("-0.,"):
        return text.replace("-", "+" if "+" in flags else "")
    return text


def as_shown(value: float, decimals: int = 1) -> float:
    """The number that `shown` prints; two of them are equal where a reader sees them equal."""
    return float(shown(value, decimals))


def in_full(row: Mapping[str, object]) -> dict[str, object]:
    """A row for CSV, in which nothing is rounded: floats with all digits that a decimal keeps."""
    return {k: f"{v:.15g}" if isinstance(v, float) else v for k, v in row.items()}

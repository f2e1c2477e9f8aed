"""Scores of single images as they are published: rounded as far as no metric notices.

A score has 53 significant bits and a table prints three digits of what is computed from thousands
of them.  Every table of scores is rounded to the fewest bits, the same for all of its columns,
with which every metric of every run that rests on it stays within `WITHIN` of what it was; what
cannot be rounded so stays as it is.  Rounding to a number of significant bits keeps the order of
any two scores or makes them equal, and keeps infinities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from oodbench.errors import OodbenchError
from oodbench.leaderboards.compared_images import metrics_from

if TYPE_CHECKING:
    from oodbench.store.store import Entry, Store

    Table = Mapping[str, np.ndarray]

#: Significant bits to try: up to 24 a number is a float32; 53 is all that there are.
BITS = (14, 17, 20, 24)
WHOLE = 53
#: By how much a metric, of 0 to 1, may change: a thousandth of the last digit that is printed.
WITHIN = 1e-6
SCORES = "scores.parquet"


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """`values` (n,) float64 to `bits` significant bits; as they are where they leave float32."""
    if bits >= WHOLE:
        return values
    mantissa, exponent = np.frexp(values)
    with np.errstate(over="ignore"):
        found: np.ndarray = np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)
    sized = np.abs(found[np.isfinite(found) & (found != 0)])
    limits = np.finfo(np.float32)
    if bits <= 24 and sized.size and not (limits.tiny <= sized.min() <= sized.max() <= limits.max):
        return values
    return found


def needed_bits(store: Store, runs: Iterable[Entry]) -> dict[str, int]:
    """Significant bits of the scores that `runs` were ranked from, by the digest of their entry.

    What is damaged or not in the store is left out.
    """
    found: dict[str, int] = {}
    chosen = list(runs)
    settled = False
    while not settled:  # a table has several runs: more bits for one of them change the others
        settled = True
        for run in chosen:
            digests = [str(run.parts[side]) for side in ("id_scores", "ood_scores")]
            tables = [_table(store, digest) for digest in digests]
            if tables[0] is None or tables[1] is None:
                continue
            given = [found.setdefault(digest, BITS[0]) for digest in digests]
            whole = metrics_from(run, tables[0], tables[1])
            while not _agree(whole, run, (tables[0], tables[1]), given):
                given = [_next(max(given))] * 2
                settled = False
            found |= dict(zip(digests, given, strict=True))
    return found


def packed(table: Table, bits: int) -> bytes:
    """A table rounded to `bits`: float32 columns where they hold it, whole ones elsewhere."""
    from oodbench.store.payload import pack_table

    columns = {}
    for name, values in table.items():
        short = rounded(values, bits)
        with np.errstate(over="ignore"):
            single = short.astype(np.float32)
        fits = np.array_equal(single.astype(np.float64), short, equal_nan=True)
        columns[name] = single if fits else short
    return pack_table(columns, split_bytes=True)


def _agree(
    whole: Mapping[tuple[str, str], float],
    run: Entry,
    tables: Sequence[Table],
    bits: Sequence[int],
) -> bool:
    """Whether the metrics of rounded scores are those of the whole ones."""
    sides = [
        {name: rounded(values, count) for name, values in table.items()}
        for table, count in zip(tables, bits, strict=True)
    ]
    short = metrics_from(run, sides[0], sides[1])
    return all(abs(short[name] - value) <= WITHIN for name, value in whole.items())


def _next(bits: int) -> int:
    return next((more for more in BITS if more > bits), WHOLE)


def _table(store: Store, digest: str) -> Table | None:
    from oodbench.store.payload import unpack_table

    entry = store.get("score", digest)
    if entry is None:
        return None
    try:
        return entry.parse(SCORES, unpack_table)
    except OodbenchError:
        return None

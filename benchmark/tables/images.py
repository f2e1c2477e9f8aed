"""What a table says of the images behind its rows: how many of each side, which, what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Compared:
    """A detector's score on a pair: `n` images of each side, and what is to be said of them."""

    pair: str
    label: str
    score: str
    n: int
    notes: tuple[str, ...]


def size_note(rows: Iterable[Compared]) -> str:
    """How many images were compared: of most rows of a pair, and of those that differ."""
    said: dict[str, list[str]] = {}
    for pair, column in _by_pair(rows).items():
        counts = Counter(row.n for row in column)
        usual = max(counts, key=lambda n: (counts[n], n))
        text = f"{usual:,} ID + {usual:,} OOD images"
        for n in sorted(counts.keys() - {usual}, reverse=True):
            text += f"; {n:,} + {n:,} of {', '.join(_who(column, n))}"
        said.setdefault(text, []).append(pair)
    return ".  ".join(f"{', '.join(pairs)}: {text}" for text, pairs in said.items()) + (
        " (equal size)."
    )


def _who(column: Sequence[Compared], n: int) -> list[str]:
    """Detectors that compare `n` images on a pair; by their scores where others compare more."""
    found = []
    for label in dict.fromkeys(row.label for row in column if row.n == n):
        own = [(row.score, row.n == n) for row in column if row.label == label]
        some = [] if all(same for _, same in own) else [score for score, same in own if same]
        found.append(f"{label} {' and '.join(some)}".rstrip())
    return found


def image_notes(rows: Iterable[Compared]) -> list[str]:
    """What a reader has to know of the images, with the detectors where it is not so for all."""
    known: dict[str, dict[str, None]] = {}
    columns = _by_pair(rows)
    for column in columns.values():
        for row in column:
            for note in row.notes:
                known.setdefault(note, {})[row.label] = None
    everyone = [{row.label for row in column} for column in columns.values()]
    common, some = [], dict[tuple[str, ...], list[str]]()
    for note, labels in known.items():
        if any(labels.keys() >= all_of_pair for all_of_pair in everyone):
            common.append(note)
        else:
            some.setdefault(tuple(labels), []).append(note)
    return common + [f"{', '.join(who)}: {'; '.join(notes)}" for who, notes in some.items()]


def _by_pair(rows: Iterable[Compared]) -> dict[str, list[Compared]]:
    columns: dict[str, list[Compared]] = {}
    for row in rows:
        columns.setdefault(row.pair, []).append(row)
    return columns

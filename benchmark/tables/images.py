"""What is said of the runs and images behind rows: how many, which, what was found; one wording.

Tables of runs and of suites, published layouts, figures and the report take their words from here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from oodbench.leaderboards.rows import Row

Kind = TypeVar("Kind", int, str, tuple[int, int])


@dataclass(frozen=True)
class Compared:
    """A detector's score on a pair: `n` of each side, and what is to be said of the images.

    With `members` other than 1 the score judges groups of that many images (0: not recorded), and
    `n` counts groups.  `seeds` runs stand behind it, by recipes of a `scale` ("" without one).
    """

    pair: str
    label: str
    score: str
    n: int
    notes: tuple[str, ...]
    members: int = 1
    seeds: int = 1
    scale: str = ""


def compared_row(row: Row, label: str = "") -> Compared:
    """The same of a row of a leaderboard, under its own name or another."""
    return Compared(
        row.pair, label or row.detector, row.score, row.n, row.notes, row.members, len(row.seeds),
        row.recipe.rpartition("-")[2],
    )  # fmt: skip


# ---------------------------------------------------------------------- how many
def size_note(rows: Iterable[Compared]) -> str:
    """`sizes` of every pair, with its name."""
    said: dict[str, list[str]] = {}
    for pair, column in _by_pair(rows).items():
        said.setdefault(sizes(column), []).append(pair)
    return ".  ".join(f"{', '.join(pairs)}: {text}" for text, pairs in said.items()) + "."


def sizes(column: Sequence[Compared]) -> str:
    """How many images of each side the rows of a pair compare: most of them, and who differs.

    ``2,000 ID + 2,000 OOD images (equal size); 500 + 500 of WAIC; 100 + 100 groups of 20 of b=20``.
    """
    (members, n), others = _differing(
        column, lambda row: (row.members, row.n), lambda kind: (kind[0] == 1, *kind)
    )
    what = "images" if members == 1 else _groups(members)
    text = f"{n:,} ID + {n:,} OOD {what} (equal size)"
    for (members, n), who in sorted(others, key=lambda other: (other[0][0], -other[0][1])):
        groups = "" if members == 1 else f" {_groups(members)}"
        text += f"; {n:,} + {n:,}{groups} of {', '.join(who)}"
    return text


def sizes_in_short(column: Iterable[Compared]) -> str:
    """``2,000 each``, ``500 to 2,000, 100 groups of 20 each``."""
    known: dict[int, set[int]] = {}
    for row in column:
        known.setdefault(row.members, set()).add(row.n)
    parts = []
    for members, counts in sorted(known.items()):
        least, most = min(counts), max(counts)
        count = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        parts.append(count if members == 1 else f"{count} {_groups(members)}")
    return f"{', '.join(parts)} each"


def _groups(members: int) -> str:
    return f"groups of {members}" if members else "groups of images"


def seeds_note(rows: Sequence[Compared]) -> str:
    """``3 training seeds; 2 of HVK; 1 of Mean intensity``; "one seed" where there is no more."""
    usual, others = _differing(rows, lambda row: row.seeds, lambda seeds: (seeds,))
    if usual == 1 and not others:
        return "one seed"
    text = f"{usual} training seed{'s' if usual > 1 else ''}"
    others.sort(key=lambda other: -other[0])
    return text + "".join(f"; {seeds} of {', '.join(who)}" for seeds, who in others)


def means_note(rows: Sequence[Compared]) -> str:
    """``Means over training seeds: 3 of HVK; 1 of the others.``; `one_seed_note` for one of all."""
    usual, others = _differing(rows, lambda row: row.seeds, lambda seeds: (seeds,))
    if not others:
        return f"Means over {usual} training seeds." if usual > 1 else one_seed_note(rows)
    named = [f"{seeds} of {', '.join(who)}" for seeds, who in sorted(others, key=lambda o: -o[0])]
    return f"Means over training seeds: {'; '.join([*named, f'{usual} of the others'])}."


def one_seed_note(rows: Iterable[Compared]) -> str:
    """What is to be said where something was trained, and once; "" where nothing was."""
    if not any(row.scale for row in rows):
        return ""
    return "One training seed: by how much another would move these numbers is not known."


def scale_note(rows: Iterable[Compared]) -> str:
    """``Scale of the recipes: small; paper of HVK.``; "" where no row has a recipe."""
    scaled = [row for row in rows if row.scale]
    if not scaled:
        return ""
    usual, others = _differing(scaled, lambda row: row.scale, lambda scale: (scale,))
    more = "".join(f"; {scale} of {', '.join(who)}" for scale, who in sorted(others))
    return f"Scale of the recipes: {usual}{more}."


def _differing(
    rows: Sequence[Compared],
    kind: Callable[[Compared], Kind],
    first: Callable[[Kind], tuple[object, ...]],
) -> tuple[Kind, list[tuple[Kind, list[str]]]]:
    """What most rows are, the greatest by `first` of equals, and the others with their names."""
    counts = Counter(kind(row) for row in rows)
    whole = {found for found in counts if first(found)[0] is not False} or set(counts)
    usual = max(whole, key=lambda found: (counts[found], *first(found)))
    return usual, [
        (found, _who(rows, [kind(row) == found for row in rows]))
        for found in counts if found != usual
    ]  # fmt: skip


def _who(rows: Sequence[Compared], chosen: Sequence[bool]) -> list[str]:
    """The detectors of the chosen rows; with their scores where not all of them are chosen."""
    own: dict[str, dict[str, bool]] = {}
    for row, is_one in zip(rows, chosen, strict=True):
        scores = own.setdefault(row.label, {})
        scores[row.score] = scores.get(row.score, False) or is_one
    found = []
    for label, scores in own.items():
        some = [score for score, is_one in scores.items() if is_one]
        if some:
            named = "" if len(some) == len(scores) else " and ".join(some)
            found.append(f"{label} {named}".rstrip())
    return found


# ---------------------------------------------------------------------- which, and what was found
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
            # What a detector chose begins with its title, which stands before it here.
            first = re.sub(r"\(\d+\)$", "", next(iter(labels)))
            some.setdefault(tuple(labels), []).append(note.removeprefix(f"{first}: "))
    return common + [f"{', '.join(who)}: {'; '.join(notes)}" for who, notes in some.items()]


def _by_pair(rows: Iterable[Compared]) -> dict[str, list[Compared]]:
    columns: dict[str, list[Compared]] = {}
    for row in rows:
        columns.setdefault(row.pair, []).append(row)
    return columns

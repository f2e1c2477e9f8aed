"""Whether results stand in the category that what they were given allows.

What is read is the records alone: the detectors that this installation knows, the OOD images that
scores were chosen with, and the labels and outliers that fits were given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from oodbench.detect.detector import CATEGORIES, DETECTORS
from oodbench.detect.entitlement import WITH_LABELS, WITH_OUTLIERS
from oodbench.store.store import Entry


def broken_rules(entries: Iterable[Entry]) -> Iterator[str]:
    """A line for every run whose category does not allow what is known of it.

    `entries` are runs and as much of what is behind them as is at hand: of scores, measurements
    and fits that are not among them nothing is said.
    """
    known = {(entry.stage, entry.digest): entry for entry in entries}
    for (stage, digest), run in known.items():
        if stage != "run":
            continue
        name, category = str(run.record["detector"]), str(run.record["category"])
        for reason in _reasons(run, name, category, known):
            yield f"run {digest[:12]} ({name} on {run.record['pair']}): {reason}"


def _reasons(
    run: Entry, name: str, category: str, known: Mapping[tuple[str, str], Entry]
) -> Iterator[str]:
    if category not in CATEGORIES:
        yield f"there is no category {category!r}; one of {', '.join(CATEGORIES)}"
        return
    if name in DETECTORS.names() and DETECTORS.get(name).category != category:
        yield f"it says {category}, and {name} is of the category {DETECTORS.get(name).category}"
    given = set()
    for side in ("id_scores", "ood_scores"):
        scored = known.get(("score", str(run.parts[side])))
        if scored is None:
            continue
        if scored.parts.get("validation"):
            given.add("validation OOD images")
        measured = known.get(("measure", str(scored.parts["measure"])))
        fits = cast("list[str]", measured.parts["fits"]) if measured is not None else []
        for fit in filter(None, (known.get(("fit", digest)) for digest in fits)):
            given |= {kind for kind in ("labels", "outliers") if kind in fit.parts}
    allowed = {
        "labels": WITH_LABELS, "outliers": WITH_OUTLIERS, "validation OOD images": WITH_OUTLIERS,
    }  # fmt: skip
    for kind in sorted(given):
        if category not in allowed[kind]:
            yield f"it was given {kind}, which {category} may not have"

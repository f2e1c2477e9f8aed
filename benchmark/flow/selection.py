"""What is asked for, as pairs and detectors: the same for the command line and for Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from oodbench.datasets.pairs import Pair, get_pair, make_pair, named_apart, registered_pairs
from oodbench.declare.recipes import SCALES, find_recipe
from oodbench.declare.wildcards import any_wild, expanded
from oodbench.detect.detector import DETECTORS
from oodbench.errors import OodbenchError
from oodbench.flow.plan import (
    DEFAULT_DETECTORS,
    DetectorRequest,
    Job,
    parse_detector,
    plan_jobs,
    split_detector,
)
from oodbench.flow.suites import Part, find_suite

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON
    from oodbench.store.store import Store


@dataclass(frozen=True)
class Selection:
    """Parts (pairs and the detectors that run on them), and the scale of their recipes.

    `first`: detectors (``name[@recipe]``) whose jobs are started before the others.  `columns`: of
    the suite's table.
    """

    parts: tuple[tuple[tuple[Pair, ...], tuple[DetectorRequest, ...]], ...]
    scale: str
    first: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every pair once."""
        return tuple(dict.fromkeys(pair for pairs, _ in self.parts for pair in pairs))

    @property
    def asked(self) -> dict[str, DetectorRequest]:
        """The requests by their detector's name."""
        return {request.name: request for _, requests in self.parts for request in requests}

    def jobs(self, seeds: Sequence[int], overrides: Mapping[str, JSON] | None = None) -> list[Job]:
        """Every job of every part."""
        ranks = {name: rank for rank, name in enumerate(self.first)}
        return [
            replace(job, rank=ranks.get(job.request.label, len(ranks)))
            for pairs, requests in self.parts
            for job in plan_jobs(
                requests, pairs, scale=self.scale, seeds=seeds, overrides=overrides
            )
        ]  # fmt: skip


def choose(
    pairs: Sequence[str | Pair] = (), in_dist: str | None = None, oods: Sequence[str] = (),
    suite: str | None = None, detectors: Sequence[str] = (), scale: str | None = None,
    recipe: str = "", both: bool = False,
) -> Selection:  # fmt: skip
    """What to run; the embedded suite where neither a pair nor a suite is given.

    `recipe` is for every detector that stands on one and names none itself; `both` adds each pair
    with its sides exchanged.  Raises OodbenchError, with the nearest names, on what does not exist.
    """
    if (in_dist is None) != (not oods):
        raise OodbenchError("--in-dist and --ood go together: name one ID set and its OOD sets")
    if not (pairs or suite) and in_dist is None:
        suite = "embedded"
    pairs, oods, detectors = _named(pairs, oods, detectors)
    chosen = [get_pair(pair) if isinstance(pair, str) else pair for pair in pairs]
    chosen += [make_pair(in_dist, ood) for ood in oods if in_dist is not None]
    found = find_suite(suite) if suite else None
    scale = scale or (found.scale if found else "small")
    check_scale(scale)
    own = Part((), tuple(detectors) or (found.detectors if found else DEFAULT_DETECTORS))
    parts = [(chosen, own)] if chosen else []
    if found is not None:
        parts += [([found.pair(name) for name in part.pairs], part) for part in found.parts]

    def request(name: str) -> DetectorRequest:
        asked = parse_detector(name)
        if recipe and asked.detector.recipe_variant:
            asked = DetectorRequest(asked.name, asked.recipe or recipe, asked.scores)
        if asked.recipe:
            find_recipe(asked.recipe)
        return asked

    if recipe:
        find_recipe(recipe)

    out = []
    for listed, part in parts:
        both_ways = [*listed, *(pair.reversed() for pair in listed)] if both else listed
        requests = tuple(request(name) for name in detectors or part.detectors)
        out.append((tuple(named_apart(both_ways)), requests))
    more = (found.first, found.columns) if found else ((), ())
    return Selection(tuple(out), scale, *more)


def _named(
    pairs: Sequence[str | Pair], oods: Sequence[str], detectors: Sequence[str]
) -> tuple[Sequence[str | Pair], Sequence[str], Sequence[str]]:
    """The same without wildcards: registered pairs, data sets and detectors that match."""
    texts = [pair for pair in pairs if isinstance(pair, str)]
    if any_wild(texts):
        named = expanded("pair", texts, registered_pairs())
        pairs = [*(pair for pair in pairs if isinstance(pair, Pair)), *named]
    return pairs, data_names(oods), detector_names(detectors)


def data_names(names: Sequence[str]) -> Sequence[str]:
    """Data sets by name, wildcards for the registered ones that match; a path stays as it is."""
    from oodbench.datasets.spec import catalogue

    if not any_wild(names):
        return names
    return [
        one
        for name in names
        for one in ([name] if Path(name).exists() else expanded("data set", [name], catalogue()))
    ]


def detector_names(names: Sequence[str]) -> Sequence[str]:
    """Detectors by name, wildcards for the registered ones that match."""
    if not any_wild(names):
        return names
    broken = DETECTORS.broken()
    return expanded("detector", names, [n for n in DETECTORS.names() if n not in broken])


def check_scale(scale: str | None) -> None:
    """OodbenchError on a scale that does not exist."""
    if scale and scale not in SCALES:
        raise OodbenchError(f"unknown scale {scale!r}; one of {', '.join(SCALES)}")


def asked_scores(
    detectors: Sequence[str], store: Store | None = None
) -> dict[str, DetectorRequest]:
    """Requests of stored runs by their labels; names are not looked up, the store decides.

    Wildcards stand for detectors that ran.
    """
    if store is not None and any_wild(detectors):
        ran = dict.fromkeys(str(run.record["detector"]) for run in store.entries("run"))
        detectors = expanded("detector that ran", detectors, sorted(ran))
    return {request.label: request for request in map(split_detector, detectors)}

"""Groups of stored runs: which are asked for, what a score is called in them, their recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.datasets.loading import find_places
from oodbench.datasets.pairs import built_in_pairs
from oodbench.errors import ConfigError, OodbenchError, UnknownNameError, listed, nearest
from oodbench.flow.plan import simplified
from oodbench.flow.stored.runs import stored_runs
from oodbench.leaderboards.named_runs import answering, answering_any, typed_name
from oodbench.leaderboards.rows import Group, group_runs
from oodbench.store.places import shown

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON
    from oodbench.flow.plan import DetectorRequest
    from oodbench.flow.suites import Suite
    from oodbench.store.store import Store


def asked_groups(
    store: Store, location: str, pairs: Sequence[str] = (),
    asked: Mapping[str, DetectorRequest] | None = None, scale: str | None = None,
    suite: Suite | None = None, data: Sequence[str] = (),
) -> list[Group]:  # fmt: skip
    """The groups of a store that are asked for, under the names of the pairs asked for.

    Pairs are found by their images as well as by name (see `oodbench.flow.stored.runs`); those of
    a `suite` are named so, all others are left in.
    """
    places = find_places(data, location)
    if suite is None or pairs:
        found = stored_runs(store, pairs, places)
    else:
        of_suite = [suite.pair(name) if name in suite.own else name for name in suite.pairs]
        found = stored_runs(store, of_suite, places, unsearched=built_in_pairs())
    chosen = found.pairs if pairs else ()
    return selected_groups(group_runs(found.runs), chosen, asked or {}, scale, location)


def selected_groups(
    groups: Sequence[Group], pairs: Sequence[str], asked: Mapping[str, DetectorRequest],
    scale: str | None, store: str,
) -> list[Group]:  # fmt: skip
    """The groups asked for, sorted by pair, category, detector and recipe."""
    known_pairs = {str(g.first["pair"]) for g in groups}
    known_detectors = {str(g.first["detector"]) for g in groups}
    of_known = [typed_name(g.first, g.mark) for g in groups]
    strange = [
        label for label, request in asked.items()
        if all(answering(group, request) is None for group in groups)
    ]  # fmt: skip
    for name, valid, kind in [
        *((p, known_pairs, "pair") for p in pairs if p not in known_pairs),
        *((d, of_known if set("@#") & set(d) else known_detectors, "detector") for d in strange),
    ]:
        close = listed(nearest(name, valid)) or "nothing is stored yet; `oodbench run`"
        raise OodbenchError(f"no run of {kind} {name!r} in {shown(store)}; stored: {close}")
    found = [
        g for g in (answering_any(groups, asked.values()) if asked else groups)
        if (not pairs or g.first["pair"] in pairs)
        and (not scale or g.first["scale"] in (scale, ""))
    ]  # fmt: skip
    found.sort(key=lambda g: (str(g.first["pair"]), str(g.first["category"]),
                              str(g.first["detector"]), str(g.first["recipe"])))  # fmt: skip
    return found


def score_of(group: Group, wanted: str) -> str | None:
    """The record's name of a score; "" asks for the only one.  None where the run has no such.

    Raises ConfigError where no score is named and the run has several.
    """
    names = group.score_names
    if not wanted:
        if len(names) > 1:
            raise ConfigError(
                f"{group.first['detector']} has several scores; name one of {', '.join(names)}"
            )
        return names[0]
    return {simplified(name): name for name in names}.get(simplified(wanted))


def required_score(group: Group, wanted: str) -> str:
    """`score_of`, or UnknownNameError with the nearest names."""
    name = score_of(group, wanted)
    if name is None:
        scores = cast("Mapping[str, JSON]", group.first["scores"])
        raise UnknownNameError(f"score of {group.first['detector']}", wanted, scores)
    return name


def recipe_label(group: Group) -> str:
    """``F5-small``; "" for a detector without a recipe."""
    record = group.first
    return f"{record['recipe']}-{record['scale']}" if record["recipe"] else ""

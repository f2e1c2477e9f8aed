"""Which stored runs a typed name means: every name that a table or a line prints can be typed.

    glow   glow@F   glow@F-smoke   glow#3ee8   glow@F-smoke#3ee8   1f09ab33c2d1 (the key of a run)

A detector is also found by the title that tables print for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from oodbench.canonical_json import JSON
from oodbench.flow.plan import DetectorRequest, simplified
from oodbench.leaderboards.rows import Group, titled

KEY = re.compile("[0-9a-f]{4,64}")


def typed_name(record: Mapping[str, JSON], mark: str = "") -> str:
    """``glow@F-smoke#3ee8``: the name under which the runs of a record can be asked for."""
    recipe = f"@{record['recipe']}-{record['scale']}" if record["recipe"] else ""
    return f"{record['detector']}{recipe}{mark}"


def answering(group: Group, request: DetectorRequest) -> Group | None:
    """The group, or its runs of the key that is asked for; None where it is not meant."""
    if is_named(group.first, request):
        return group
    if not is_key(request):
        return None
    runs = [entry for entry in group.entries if entry.digest.startswith(request.name)]
    return Group(runs[0].record, runs, group.mark) if runs else None


def answering_any(groups: Iterable[Group], requests: Iterable[DetectorRequest]) -> list[Group]:
    """The groups that one of several requests means, each once."""
    asked, found = list(requests), []
    for group in groups:
        answers = [answer for one in asked if (answer := answering(group, one)) is not None]
        found += [group] if group in answers else answers
    return found


def request_for(
    group: Group, asked: Mapping[str, DetectorRequest] | None
) -> DetectorRequest | None:
    """The request, of several by their labels, that a group answers; None where none names it."""
    if not asked:
        return None
    plain = asked.get(str(group.first["detector"]))
    named = (one for one in asked.values() if answering(group, one) is not None)
    return plain or next(named, None)


def is_named(record: Mapping[str, JSON], request: DetectorRequest) -> bool:
    """Whether a request's name, recipe and mark are those of a record."""
    recipe = str(record["recipe"])
    recipes = ("", recipe, f"{recipe}-{record['scale']}")
    return (
        _is_detector(record, request.name)
        and request.recipe in recipes
        and str(record["configuration"]).startswith(request.mark)
    )


def says_scale(record: Mapping[str, JSON], request: DetectorRequest) -> bool:
    """Whether a name that means a record already says which of several scales it is."""
    scaled = f"{record['recipe']}-{record['scale']}"
    return is_key(request) or bool(request.mark) or request.recipe == scaled


def is_key(request: DetectorRequest) -> bool:
    """Whether a name may be the beginning of a run's key."""
    return KEY.fullmatch(request.name) is not None and not (request.recipe or request.mark)


def _is_detector(record: Mapping[str, JSON], name: str) -> bool:
    if record["detector"] == name:
        return True
    titles = {simplified(str(record["title"])), simplified(titled(record))}
    return simplified(name) in titles - {""}

"""The runs of a store one by one, as they can be named: a list, and those that names mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from oodbench.datasets.loading import find_places
from oodbench.errors import OodbenchError, nearest
from oodbench.flow.plan import DetectorRequest, split_detector
from oodbench.flow.stored.runs import stored_runs
from oodbench.leaderboards.named_runs import is_key, is_named, typed_name
from oodbench.leaderboards.revisions import names_of
from oodbench.store.records.files import IMPORTED

if TYPE_CHECKING:
    from oodbench.store.store import Entry, Store

SHOWN = 12


def listed(
    store: Store, pairs: Sequence[str] = (), detectors: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """When it was made, key, name, pair, seed and note of every run, the latest last."""
    found = _asked(store, pairs, [split_detector(text) for text in detectors])
    found.sort(key=lambda one: (str(one[0].record["created"]), one[0].digest))
    return [
        (
            str(run.record["created"])[:16].replace("T", " "), run.digest[:SHOWN], name,
            str(run.record["pair"]), str(run.record["seed"]),
            "imported" if IMPORTED in run.record else "",
        )
        for run, name in found
    ]  # fmt: skip


def named_entries(store: Store, names: Iterable[str], pairs: Sequence[str] = ()) -> list[Entry]:
    """The runs that names or keys mean; OodbenchError on one that means none."""
    found: dict[str, Entry] = {}
    for name in names:
        for run, _ in _asked(store, pairs, [split_detector(name)]):
            found[run.path] = run
    return list(found.values())


def _asked(
    store: Store, pairs: Sequence[str], requests: Sequence[DetectorRequest]
) -> list[tuple[Entry, str]]:
    """Runs with their typed names; all of them where nothing is asked for."""
    stored = stored_runs(store, pairs, find_places((), store.storage.location))
    runs = [run for run in stored.runs if not pairs or run.record["pair"] in stored.pairs]
    configurations = defaultdict(set)
    for run in runs:
        configurations[names_of(run.record)].add(str(run.record["configuration"]))

    def name(run: Entry) -> str:
        several = len(configurations[names_of(run.record)]) > 1
        return typed_name(run.record, f"#{str(run.record['configuration'])[:4]}" if several else "")

    known = [(run, name(run)) for run in runs]
    if not requests:
        return known
    found = []
    for request in requests:
        own = [one for one in known if is_named(one[0].record, request)]
        if not own and is_key(request):
            own = [one for one in known if one[0].digest.startswith(request.name)]
            if len({run.digest for run, _ in own}) > 1:
                keys = ", ".join(sorted({run.digest[:SHOWN] for run, _ in own})[:5])
                raise OodbenchError(f"{request.name!r} begins several keys: {keys}; give more")
        if not own:
            on = f" on {', '.join(pairs)}" if pairs else ""
            names = dict.fromkeys(typed for _, typed in known)
            close = ", ".join(nearest(request.label, names)[:5]) or "nothing is stored yet"
            raise OodbenchError(f"no run of {request.label!r}{on}; stored: {close}")
        found += own
    return list(
        {(run.path, str(run.record["pair"])): (run, typed) for run, typed in found}.values()
    )

"""A suite's results as files to be committed: its tables, and what stands behind every number.

Of a suite ``table1`` a folder gets

- ``table1.txt``, ``.csv``, ``.tex``: the table in the suite's layout, the papers' values beside
  ours,
- ``table1-costs.txt``, ``.csv``: every score with training time, time an image and parameters,
- ``table1-models.json``: the diagnostics of every model; machine, versions and commit of every fit;
  how long all fits and measurements took,
- ``table1-runs.tar``: the records of the runs and the scores of their images, which `oodbench
  store import` adds to any store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from oodbench.canonical_json import JSON
from oodbench.datasets.paths.shown_names import NamesOnly
from oodbench.errors import ConfigError, StoreError
from oodbench.flow.suites import Suite
from oodbench.leaderboards.rows import Group
from oodbench.leaderboards.stored_groups import asked_groups
from oodbench.share.transfer import export_records, names_only, without_folders
from oodbench.store.maintenance import needed
from oodbench.store.storage import atomic_file
from oodbench.store.store import Entry, Store
from oodbench.tables.request import TableRequest, suite_groups, table_text

COSTS = ("cost", "classifier", "paper")
OF_A_FIT = ("key", "name", "recipe", "created", "seconds", "images_per_second", "parameters",
            "machine", "arithmetic")  # fmt: skip
DIGITS = 6


def published_groups(store: Store, suite: Suite, scale: str = "") -> list[Group]:
    """The runs of a suite, at `scale` or any; StoreError where there is none."""
    location = str(store.storage.location)
    groups = asked_groups(store, location, scale=scale or None, suite=suite)
    found = suite_groups(groups, suite)
    if not found:
        raise StoreError(
            f"no finished run of suite {suite.name} in {location}; `oodbench run --suite"
            f" {suite.name}` makes some"
        )
    return found


def publish(
    store: Store, suite: Suite, groups: Sequence[Group], folder: Path, scale: str = ""
) -> tuple[list[Path], dict[str, JSON]]:
    """Write the files of a suite's runs; their paths, and `work`.

    ConfigError where the suite's name is a path.
    """
    if Path(suite.name).name != suite.name:
        raise ConfigError(
            f"suite {suite.name!r} names files; give it a name without a folder in it"
        )
    runs = [entry for group in groups for entry in group.entries]
    entries = list(needed(store, runs).values())
    names = names_only(entry.record for entry in entries)
    plain = [_without_folders(group, names) for group in groups]
    layout = suite.layout or "general"
    own = TableRequest(layout=layout, title=suite.title, name=suite.name, scale=scale, paper=True)
    costs = TableRequest(title=suite.title, name=suite.name, scale=scale, extras=COSTS)
    tables = {
        ".txt": own,
        ".csv": replace(own, format="csv"),
        ".tex": replace(own, format="latex", paper=layout == "general"),
        "-costs.txt": costs,
        "-costs.csv": replace(costs, format="csv"),
    }
    # A paper's layout finds its cells by the names of sets as they are declared.
    files = {
        end: table_text(plain if request.layout == "general" else groups, store, request)
        for end, request in tables.items()
    }
    done = work(entries)
    behind = {"work": done, "models": _models(plain), "fits": names.of(_fits(entries))}
    files["-models.json"] = json.dumps(behind, indent=1, ensure_ascii=False) + "\n"
    written = []
    for end, text in files.items():
        written.append(folder / f"{suite.name}{end}")
        with atomic_file(written[-1]) as file:
            file.write(names.text(text).encode())
    archive = folder / f"{suite.name}-runs.tar"
    export_records(store, archive, runs)
    return [*written, archive], done


def _without_folders(group: Group, names: NamesOnly) -> Group:
    """A group whose records name sets, not where they lie."""
    entries = [replace(entry, record=without_folders(entry, names)) for entry in group.entries]
    return replace(group, first=names.of(dict(group.first)), entries=entries)


def work(entries: Iterable[Entry]) -> dict[str, JSON]:
    """How many fits and measurements there are, and the seconds of all of each."""
    kept = list(entries)
    found: dict[str, JSON] = {}
    for stage, name in (("fit", "fits"), ("measure", "measurements")):
        seconds = [cast("float", e.record.get("seconds", 0)) for e in kept if e.stage == stage]
        found[name] = {"count": len(seconds), "seconds": _rounded(float(sum(seconds)))}
    return found


def work_line(done: Mapping[str, JSON]) -> str:
    """`work` in words; empty where there is neither a fit nor a measurement."""
    totals = {name: cast("dict[str, float]", part) for name, part in done.items()}
    return ", ".join(
        f"{name}: {part['count']:,}, {part['seconds']:,.0f} s"
        for name, part in totals.items()
        if part["count"]
    )


def _models(groups: Sequence[Group]) -> dict[str, JSON]:
    """Diagnostics on ID and OOD images and cost, by detector, recipe, ID set and seed."""
    found: dict[str, dict[str, JSON]] = {}
    for group in groups:
        for entry in group.entries:
            record = entry.record
            if not record["recipe"]:
                continue
            recipe = f"{record['recipe']}-{record['scale']}"
            name = f"{record['title']}, {recipe}, {record['in_dist']}, seed {record['seed']}"
            sides = cast("dict[str, JSON]", record["diagnostics"])
            model = found.setdefault(
                name,
                {
                    "id": {s: _rounded(v) for s, v in sides.items() if s.startswith("id")},
                    "ood": {},
                    "cost": _rounded(record["cost"]),
                },
            )
            cast("dict[str, JSON]", model["ood"])[str(record["ood"])] = _rounded(
                sides.get("ood_test", {})
            )
    return cast("dict[str, JSON]", found)


def _fits(entries: Iterable[Entry]) -> list[JSON]:
    """Times, size, machine, versions and commit of the fits among them, oldest first."""
    fits = [entry.record for entry in entries if entry.stage == "fit"]
    fits.sort(key=lambda record: str(record["created"]))
    return [{name: _rounded(fit[name]) for name in OF_A_FIT if name in fit} for fit in fits]


def _rounded(value: JSON) -> JSON:
    """`value` with floats of six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return value

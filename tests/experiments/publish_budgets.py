"""Publish how a training settles: the curve over its budgets, and the scores at the last of them.

    python tests/experiments/publish_budgets.py settling-fashionmnist FOLDER --store runs \\
        --pair fashionmnist-mnist --pair fashionmnist-notmnist --detector vanilla-hvae

Takes the snapshots of one training of every detector (docs/sweeps.md), and writes NAME-budgets.svg,
its values NAME-budgets.csv, and of the last budget what `oodbench publish` writes: the table
NAME.txt, .csv and .tex, and NAME-runs.tar, the records with the scores of every image.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import oodbench
from oodbench.leaderboards.rows import group_runs
from oodbench.share.transfer import export_records
from oodbench.store.store import Entry, Store
from oodbench.tables.request import TableRequest, table_text


def last_budgets(store: Store, values: Path) -> list[Entry]:
    """The runs of the rows whose training saw most images, of every detector and OOD set."""
    with values.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "auroc"]
    last: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        where = row["detector"], row["ood"]
        if where not in last or int(row["images"]) > int(last[where]["images"]):
            last[where] = row
    wanted = {key for row in last.values() for key in row["runs"].split()}
    return [run for run in store.entries("run") if run.digest[:12] in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="what the files' names begin with")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--title", default="The last budget of a training")
    parser.add_argument("--store", default="results/store")
    parser.add_argument("--pair", action="append", required=True)
    parser.add_argument("--detector", action="append", default=[])
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    curve, values, runs = (
        asked.folder / f"{asked.name}-{end}" for end in ("budgets.svg", "budgets.csv", "runs.tar")
    )
    oodbench.figure(
        "settling", pairs=asked.pair, detectors=asked.detector, store=asked.store, out=curve,
        values=values,
    )  # fmt: skip
    store = Store(asked.store)
    chosen = last_budgets(store, values)
    moved = export_records(store, runs, chosen)
    for end, form in (("txt", "table"), ("csv", "csv"), ("tex", "latex")):
        request = TableRequest(title=asked.title, name=asked.name, format=form, paper=True)
        table = table_text(group_runs(chosen), store, request)
        (asked.folder / f"{asked.name}.{end}").write_text(table, encoding="utf-8")
    print(f"{runs}: {len(chosen)} runs, {moved.written} entries")


if __name__ == "__main__":
    main()

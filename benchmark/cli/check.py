"""`oodbench check`: the conformance suite on one detector, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodbench.cli.options import console, plugin_option
from oodbench.errors import OodbenchError
from oodbench.store.places import shown

if TYPE_CHECKING:
    from oodbench.conformance.outcome import Result
    from oodbench.store.store import Store

STYLES = {"passed": "green", "failed": "bold red", "reminder": "yellow", "not applicable": "dim"}


@click.command()
@click.argument("name", metavar="NAME[@RECIPE]")
@plugin_option
@click.option("--store", metavar="FOLDER", help="Results whose source is compared with today's.")
@click.option(
    "--verbose", is_flag=True, help="Also tracebacks, and what each check guards against."
)
def check(name: str, store: str | None, verbose: bool) -> None:
    """Hold a detector to its contract: shapes, seeds, batches, saved state, sign, cost, …

    Runs on small generated images on the CPU, in well under a minute; nothing is downloaded or
    kept. Exit status 0: every check passed or does not apply; 1: a check FAILED, each with what
    was seen and how to mend it; 2: no such detector, or other bad input.
    """
    recorded = None if store is None else _existing(store)
    from oodbench.conformance.outcome import Check
    from oodbench.conformance.suite import CHECKS, run_checks
    from oodbench.progress import Progress

    with Progress().task(f"check {name}", len(CHECKS)) as task:
        started: list[Check] = []

        def watcher(check: Check) -> None:
            if started:
                task.advance(1, {"next:": check.name})
            started.append(check)

        results = run_checks(name, recorded=recorded, watcher=watcher)
        task.advance(1)
    _print(name, results, verbose)
    if any(result.status == "failed" for result in results):
        raise SystemExit(1)


def _existing(store: str) -> Store:
    from oodbench.store.store import Store

    if "://" not in store and not Path(store).is_dir():
        raise OodbenchError(f"--store {shown(store)}: there is no such folder; leave --store out")
    return Store(store)


def _print(name: str, results: Sequence[Result], verbose: bool) -> None:
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(title=f"oodbench check {escape(name)}", title_justify="left")
    table.add_column("Check", no_wrap=True)
    table.add_column("Result", no_wrap=True)
    table.add_column("What was seen")
    if verbose:
        table.add_column("s", justify="right")
    for result in results:
        seen = Text(result.seen)
        if result.mend:
            seen.append(f"\nTo mend: {result.mend}", style="italic")
        if verbose:
            seen.append(f"\nAsserts: {result.check.asserts}\nGuards: {result.check.guards}", "dim")
        shown = result.status.upper() if result.status == "failed" else result.status
        seconds = [f"{result.seconds:.1f}"] if verbose else []
        table.add_row(result.check.name, Text(shown, STYLES[result.status]), seen, *seconds)
    out.print(table)
    for result in results:
        if verbose and result.trace:
            out.print(Text(f"\n{result.check.name}:\n{result.trace}"))
    counts = {status: sum(r.status == status for r in results) for status in STYLES}
    said = [f"{count} {status}" for status, count in counts.items() if count]
    out.print(Text(", ".join(said).replace("failed", "FAILED")))

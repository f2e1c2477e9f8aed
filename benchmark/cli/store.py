"""The commands of `oodbench store`: verify, gc, export and import."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodbench.cli.options import Commands, plugin_option
from oodbench.errors import StoreError
from oodbench.media import terminal
from oodbench.store.storage import DEFAULT_STORE

if TYPE_CHECKING:
    from oodbench.store.store import Entry

_store = click.option(
    "--store", default=DEFAULT_STORE, show_default=True, envvar="OODBENCH_STORE",
    help="Folder or fsspec URL of the results.",
)  # fmt: skip


@click.group("store", cls=Commands)
def store_() -> None:
    """The store of results: verify it, tidy it up, move results between machines."""


@store_.command("verify")
@plugin_option
@_store
def verify(store: str) -> None:
    """Read every file against its checksum and key; set aside what fails."""
    from oodbench.store.maintenance import verify
    from oodbench.store.store import Store

    verdict = verify(Store(store))
    note_changes(verdict.sound)
    note_lines(verdict.notes)
    counts = ", ".join(f"{stage} {count}" for stage, count in verdict.entries.items())
    click.echo(f"sound: {counts} ({verdict.bytes / 2**20:,.1f} MiB)")
    if verdict.damaged:
        raise StoreError(
            f"{len(verdict.damaged)} damaged: {', '.join(verdict.damaged)}; the `oodbench run` that"
            " made them makes them again"
        )


@store_.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@click.option(
    "--keep-days", type=click.FloatRange(0), default=7.0, show_default=True,
    help="Leave alone what was written in the last so many days.",
)  # fmt: skip
@_store
def gc(store: str, keep_days: float, dry_run: bool) -> None:
    """Remove what no run needs: lone fits and measurements, stale scratch, damaged files.

    Only what the store itself made goes, nothing behind a link, and nothing while a record is
    damaged.
    """
    from oodbench.store.garbage import collect, remove
    from oodbench.store.store import Store

    opened = Store(store)
    found = collect(opened, keep_days)
    if found.damaged:
        raise StoreError(
            f"nothing was removed, since entries are damaged: {'; '.join(found.damaged)};"
            " `oodbench store verify` sets them aside, and the `oodbench run` that made them makes"
            " them again"
        )
    gone = found.waste if dry_run else remove(opened, found.waste)
    for one in gone:
        click.echo(f"{one.reason}: {terminal(str(one.path))} ({one.bytes:,} bytes)")
    note_lines(found.notes)
    done = "would be removed" if dry_run else "removed"
    click.echo(f"{len(gone)} {done}, {sum(one.bytes for one in gone) / 2**20:,.1f} MiB")


@store_.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--pair", "pairs", multiple=True, metavar="NAME", help="Only runs of these pairs.")
@click.option("--no-fits", is_flag=True, help="Leave the weights out.")
@_store
def export(file: Path, pairs: tuple[str, ...], no_fits: bool, store: str) -> None:
    """Write finished runs and what they were made from into one archive (a plain tar)."""
    from oodbench.share.transfer import export_store
    from oodbench.store.store import Store

    moved = export_store(Store(store), file, pairs, fits=not no_fits)
    left = f"; {moved.left_out} damaged ones left out" if moved.left_out else ""
    click.echo(f"{moved.written} entries in {file}{left}")


@store_.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@_store
def import_(file: Path, store: str) -> None:
    """Add the entries of an archive; every checksum and key is verified before anything is."""
    from oodbench.share.transfer import import_store
    from oodbench.store.store import Store

    moved = import_store(Store(store), file)
    click.echo(f"{moved.written} entries added, {moved.known} were here already")


def note_changes(entries: Iterable[Entry]) -> None:
    """One line on standard error where sources changed since results were stored."""
    from oodbench.detect.source_fingerprints import changed_sources

    note_lines(changed_sources(entries))


def note_lines(lines: Iterable[str]) -> None:
    """Notes on standard error, so that standard output holds the result alone."""
    for line in lines:
        click.echo(f"oodbench: note: {terminal(line)}", err=True)

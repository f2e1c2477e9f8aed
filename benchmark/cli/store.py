"""The commands of `oodbench store`: list, verify, gc, remove, export and import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodbench.cli.options import Commands, plugin_option, print_columns
from oodbench.errors import StoreError
from oodbench.media import terminal
from oodbench.store.storage import DEFAULT_STORE

if TYPE_CHECKING:
    from oodbench.store.store import Entry, Store

_store = click.option(
    "--store", default=DEFAULT_STORE, show_default=True, envvar="OODBENCH_STORE",
    help="Folder or fsspec URL of the results.",
)  # fmt: skip


@click.group("store", cls=Commands)
def store_() -> None:
    """The store of results: what is in it, verify it, tidy it up, move results."""


@store_.command("verify")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@plugin_option
@_store
def verify(file: Path | None, store: str) -> None:
    """Read every file against its checksum and key; set aside what fails.

    The metrics of runs are computed again from their scores, where these are there. Of FILE, an
    archive of `oodbench store export` or `oodbench publish`, the same is verified as before it is
    imported, and that every run is of a category that allows what it was given; it is said where
    the source of a detector is another here. Nothing is written.
    """
    from oodbench.store.maintenance import verify
    from oodbench.store.store import Store

    opened = Store(store)
    if file is not None:
        _verify_archive(opened, file)
        return
    verdict = verify(opened)
    note_changes(verdict.sound)
    note_lines(verdict.notes)
    wrong = _recomputed(opened, verdict.sound)
    counts = ", ".join(f"{stage} {count}" for stage, count in verdict.entries.items())
    click.echo(f"sound: {counts} ({verdict.bytes / 2**20:,.1f} MiB)")
    if verdict.damaged:
        raise StoreError(
            f"{len(verdict.damaged)} damaged: {', '.join(verdict.damaged)}; the `oodbench run` that"
            " made them makes them again"
        )
    if wrong:
        raise StoreError("; ".join(wrong))


def _verify_archive(store: Store, file: Path) -> None:
    from oodbench.share.category_rules import broken_rules
    from oodbench.share.transfer import verify_archive
    from oodbench.store.store import STAGES

    found = verify_archive(store, file)
    note_changes(found)
    broken = list(broken_rules(found))
    counts = Counter(entry.stage for entry in found)
    with_scores = {entry.digest for entry in found if entry.stage == "score"}
    runs = [entry for entry in found if entry.stage == "run"]
    bare = sum(not {*map(str, (r.parts["id_scores"], r.parts["ood_scores"]))} <= with_scores
               for r in runs)  # fmt: skip
    note_lines([f"{bare} of {len(runs)} runs come without scores of images: their metrics could not"
                " be computed again"] if bare else [])  # fmt: skip
    if broken:
        raise StoreError(f"{file}: {'; '.join(broken)}")
    click.echo(f"sound: {', '.join(f'{stage} {counts[stage]}' for stage in STAGES)}")


def _recomputed(store: Store, entries: Iterable[Entry]) -> list[str]:
    """A line for every run whose metrics are not those of its scores."""
    from oodbench.share.recomputed import recomputed

    with recomputed(store) as metrics:
        for entry in entries:
            if entry.stage == "run":
                metrics.add(entry, {})
        return [
            f"the metrics of run {run.digest[:12]} ({run.record['detector']} on"
            f" {run.record['pair']}) are not those of its scores ({seen})"
            for run, seen in metrics.wrong()
        ]


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


@store_.command("list")
@click.option("--pair", "pairs", multiple=True, metavar="NAME", help="Only runs of these pairs.")
@click.option("--detector", "detectors", multiple=True, metavar="NAME[@RECIPE][#MARK]",
              help="Only runs of this detector.")  # fmt: skip
@_store
def list_runs(pairs: tuple[str, ...], detectors: tuple[str, ...], store: str) -> None:
    """Every finished run, the latest last: when it was made, its key and its name.

    Keys and names may be typed wherever a stored run is asked for. Runs by older revisions, which
    tables leave out, are listed too.
    """
    from oodbench.leaderboards.stored_list import listed
    from oodbench.store.store import Store

    rows = listed(Store(store), pairs, detectors)
    print_columns([("MADE", "KEY", "RUN", "PAIR", "SEED", "NOTE"), *rows])


@store_.command("remove")
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option("--pair", "pairs", multiple=True, metavar="NAME", help="Where RUN is a detector.")
@click.option("--yes", is_flag=True, help="Remove it; otherwise only say what would go.")
@_store
def remove_runs(runs: tuple[str, ...], pairs: tuple[str, ...], yes: bool, store: str) -> None:
    """Remove runs, and what only they rest on; says what would go unless --yes is given.

    RUN is the key of a run, or DETECTOR[@RECIPE][#MARK] as `oodbench store list` prints it; all
    runs of that name are meant, on --pair where it is given.
    """
    from oodbench.leaderboards.stored_list import named_entries
    from oodbench.store.garbage import remove
    from oodbench.store.removal import removable
    from oodbench.store.store import Store

    opened = Store(store)
    found = removable(opened, named_entries(opened, runs, pairs))
    gone = remove(opened, found) if yes else found
    for one in gone:
        click.echo(f"{one.reason}: {terminal(str(one.path))} ({one.bytes:,} bytes)")
    done = "removed" if yes else "would be removed; --yes removes them"
    size = sum(one.bytes for one in gone) / 2**20
    click.echo(f"{len(gone)} entries, {size:,.1f} MiB {done}")


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

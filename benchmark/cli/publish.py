"""The command `publish`: a suite's tables and provenance as files; it trains nothing."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import collector_paused, plugin_option, store_option
from oodbench.media import terminal


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--suite", "suites", multiple=True, required=True, metavar="NAME",
              help="May be repeated.")  # fmt: skip
@click.option("--scale", default="", metavar="paper|small|smoke", help="Only runs of this scale.")
@plugin_option
@store_option
def publish(folder: Path, suites: tuple[str, ...], scale: str, store: str) -> None:
    """Write a suite's results into FOLDER, to be committed beside a paper.

    Tables as text, CSV and LaTeX with the papers' values beside ours, costs, diagnostics of every
    model, machine, versions and commit of every fit, the seconds of all work, and the records of
    the runs with the scores of their images, rounded as far as no metric notices, which `oodbench
    store import` adds to any store and `oodbench store verify` computes the metrics from. What
    stands there under the same names is replaced.
    """
    from oodbench.cli.store import note_changes, note_lines
    from oodbench.flow.selection import check_scale
    from oodbench.flow.suites import find_suite
    from oodbench.leaderboards.rows import left_out_notes
    from oodbench.share.publishing import publish as publish_suite
    from oodbench.share.publishing import published_groups, work_line
    from oodbench.store.store import Store

    check_scale(scale or None)
    chosen, opened = [find_suite(name) for name in suites], Store(store)
    for suite in chosen:
        with collector_paused():
            groups = published_groups(opened, suite, scale)
            written, done = publish_suite(opened, suite, groups, folder, scale)
        note_changes(entry for group in groups for entry in group.entries)
        note_lines(left_out_notes(groups))
        note_lines(line for line in [work_line(done)] if line)
        for path in written:
            click.echo(f"{terminal(str(path))}: {path.stat().st_size:,} bytes")

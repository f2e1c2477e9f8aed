"""`oodbench status`: what of a run is made, what runs, what waits, what failed and why."""

from __future__ import annotations

import time

import click

from oodbench.cli.options import (
    asked_options,
    data_option,
    overrides_of,
    plugin_option,
    store_option,
)
from oodbench.media import terminal

#: Seconds between two looks with --watch.
LOOK_SECONDS = 5.0


@click.command()
@asked_options
@data_option
@store_option
@click.option("--watch", is_flag=True, help="Look again every few seconds, until all is over.")
@plugin_option
def status(
    pairs: tuple[str, ...], in_dist: str | None, oods: tuple[str, ...], suite: str | None,
    detectors: tuple[str, ...], seeds: int, first_seed: int, scale: str | None, recipe: str,
    both: bool, settings: tuple[str, ...], precision: str | None, data: tuple[str, ...],
    store: str, watch: bool,
) -> None:  # fmt: skip
    """What of a run is made, what runs and how far, what waits, what failed and why.

    Takes the options that say what is asked for, as `oodbench run` does, and reads the store alone,
    from any machine.
    """
    from oodbench.datasets.loading import find_places
    from oodbench.flow.bench import Bench
    from oodbench.flow.executors.status import lines
    from oodbench.flow.executors.status import status as look
    from oodbench.flow.selection import choose
    from oodbench.progress import Progress
    from oodbench.store.store import Store

    chosen = choose(pairs, in_dist, oods, suite, detectors, scale, recipe, both)
    overrides = overrides_of(settings, precision)
    jobs = chosen.jobs(range(first_seed, first_seed + seeds), overrides)
    opened = Store(store)
    bench = Bench(opened, find_places(data, store), Progress("quiet"))
    while True:
        found = look(opened, jobs, bench)
        for line in lines(found):
            click.echo(terminal(line))
        if not watch or found.over:
            return
        click.echo()
        time.sleep(LOOK_SECONDS)

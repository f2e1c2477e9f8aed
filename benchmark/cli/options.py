"""What the modules of the command line share: options, columns of text, the console."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

import click

from oodbench.errors import OodbenchError, nearest
from oodbench.media import terminal
from oodbench.store.storage import DEFAULT_STORE

if TYPE_CHECKING:
    from rich.console import Console

    from oodbench.flow.bench import Bench
    from oodbench.store.store import Store


#: Where a command keeps the plug-ins that could not be loaded.
BROKEN = "oodbench.broken_plugins"


class Commands(click.Group):
    """Unknown commands name the nearest valid one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None:
            close = ", ".join(nearest(name, self.list_commands(ctx))[:3])
            raise OodbenchError(f"unknown command {name!r}; nearest: {close} (see oodbench --help)")
        return super().resolve_command(ctx, args)


def store_option(function: click.decorators.FC) -> click.decorators.FC:
    """--store, shared by all commands that read results."""
    return click.option(
        "--store", default=DEFAULT_STORE, show_default=True, envvar="OODBENCH_STORE",
        help="Folder or fsspec URL of the results.",
    )(function)  # fmt: skip


def data_option(function: click.decorators.FC) -> click.decorators.FC:
    """--data, shared by all commands that load images."""
    return click.option(
        "--data", "data", multiple=True, metavar="FOLDER",
        help="Folder with <dataset>-<split>.npz arrays or torchvision roots; also OODBENCH_DATA.",
    )(function)  # fmt: skip


def trust_option(function: click.decorators.FC) -> click.decorators.FC:
    """--trust-imported, shared by all commands that make results."""
    return click.option(
        "--trust-imported", is_flag=True, envvar="OODBENCH_TRUST_IMPORTED",
        help="Build on imported entries instead of computing one's own.",
    )(function)  # fmt: skip


class BenchOptions(TypedDict):
    """What `bench_options` hands to a command."""

    data: tuple[str, ...]
    store: str
    device: str
    compile_: bool
    batch_size: int | None
    checkpoint_seconds: float
    quiet: bool
    trust_imported: bool


def bench_options(function: click.decorators.FC) -> click.decorators.FC:
    """Where things are and how to run, shared by the commands that train; see `make_bench`."""
    options = (
        data_option,
        store_option,
        click.option("--device", default="auto", show_default=True,
                     help="auto, cpu, cuda, cuda:1, …"),
        click.option("--compile", "compile_", is_flag=True, help="Use torch.compile."),
        click.option("--batch-size", type=click.IntRange(1),
                     help="Images per batch while measuring."),
        click.option("--checkpoint-seconds", type=click.FloatRange(0), default=60.0,
                     show_default=True, help="Seconds between checkpoints of training."),
        click.option("--stop-after", expose_value=False, metavar="TIME",
                     callback=_stop_after, help="Save and stop once this time is over, such as"
                     " 3h50m, with status 75; the same command goes on."),
        click.option("--quiet", is_flag=True, help="No progress, only the table."),
        trust_option,
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


#: Seconds of the units of a time.
UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_time(text: str) -> float:
    """Seconds of ``3h50m``, ``90s``, ``1d12h`` or ``2.5h``; BadParameter elsewhere."""
    plain = text.replace(" ", "").lower()
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([dhms])", plain)
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != plain or not 0 < seconds < 1e8:
        raise click.BadParameter(f"{text!r} is no time; write 3h50m, 45m or 90s")
    return seconds


def _stop_after(_: click.Context, __: click.Parameter, text: str | None) -> None:
    from oodbench.interruption import stop_after

    if text is not None:
        stop_after(parse_time(text))


def seed_options(function: click.decorators.FC, count: int = 1) -> click.decorators.FC:
    """--seeds and --first-seed, shared by the commands that plan runs; `count` seeds unasked."""
    seeds = click.option("--seeds", type=click.IntRange(1, 100), default=count,
                         show_default=True, help="Number of training seeds.")  # fmt: skip
    first = click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True,
                         help="The first of them.")  # fmt: skip
    return seeds(first(function))


precision_option = click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), help="Training precision."
)


def make_bench(options: BenchOptions) -> Bench:
    """The bench that the options of a command describe."""
    from oodbench.datasets.loading import find_places
    from oodbench.flow.bench import Bench
    from oodbench.progress import Progress
    from oodbench.store.store import Store

    return Bench(
        store=Store(options["store"], trust_imported=options["trust_imported"]),
        places=find_places(options["data"], options["store"]),
        progress=Progress("quiet" if options["quiet"] else None),
        device=options["device"],
        compile=options["compile_"],
        batch_size=options["batch_size"],
        checkpoint_seconds=options["checkpoint_seconds"],
    )


def plugin_option(function: click.decorators.FC, *, lenient: bool = False) -> click.decorators.FC:
    """--plugin and --project, shared by all commands that look names up; both act when parsed.

    `lenient`: a plug-in that cannot be loaded is kept for `broken_plugins`.
    """
    plugin = click.option(
        "--plugin", multiple=True, metavar="FILE|MODULE", expose_value=False,
        callback=_try_plugins if lenient else _load_plugins,
        help="Load a plug-in; may be repeated.",
    )  # fmt: skip
    project = click.option(
        "--project", metavar="FOLDER", expose_value=False, callback=_use_project, is_eager=True,
        help="Recipes, pairs, suites, layouts and data sets of one's own; also OODBENCH_PROJECT."
        "  [oodbench-project, where there is one]",
    )  # fmt: skip
    return plugin(project(function))


def _load_plugins(_: click.Context, __: click.Parameter, plugins: Sequence[str]) -> None:
    from oodbench.declare.registry import load_plugin

    for plugin in plugins:
        load_plugin(plugin)


def _try_plugins(context: click.Context, _: click.Parameter, plugins: Sequence[str]) -> None:
    from oodbench.declare.registry import load_plugin

    broken: dict[str, str] = context.meta.setdefault(BROKEN, {})
    for plugin in plugins:
        try:
            load_plugin(plugin)
        except OodbenchError as error:
            broken[plugin] = str(error)


def broken_plugins() -> dict[str, str]:
    """What `plugin_option(lenient=True)` could not load in this command, with the reason."""
    found: dict[str, str] = click.get_current_context().meta.get(BROKEN, {})
    return found


def _use_project(_: click.Context, __: click.Parameter, folder: str | None) -> None:
    from oodbench.declare.declarations import use_project

    if folder is not None:
        use_project(folder)


def note_untrusted(store: Store) -> None:
    """One line where imported entries were passed over."""
    line = store.untrusted_note()
    if line:
        click.echo(f"oodbench: note: {line}", err=True)


def note_problems(problems: Mapping[str, str]) -> None:
    """One line on standard error for everything that is declared and cannot be used."""
    for reason in problems.values():
        click.echo(f"broken: {terminal(reason)}", err=True)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Rows of text with their columns on line."""
    rows = [[terminal(text) for text in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def console(to_file: bool = False) -> Console:
    """Standard output; 150 characters wide where it is no terminal or goes to a file."""
    from rich.console import Console

    if to_file or not sys.stdout.isatty():
        forced = False if to_file else None
        return Console(width=150, highlight=False, markup=False, emoji=False, force_terminal=forced)
    return Console(highlight=False, markup=False, emoji=False)


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for reference cycles meanwhile.

    Reading thousands of records makes millions of objects that all stay; searching them again and
    again is a seventh of the time of a large leaderboard, and finds nothing.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()

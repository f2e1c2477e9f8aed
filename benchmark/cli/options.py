"""What the modules of the command line share: options, columns of text, the console."""

from __future__ import annotations

import gc
import itertools
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypedDict

import click

from oodbench.errors import OodbenchError, listed, nearest
from oodbench.media import terminal
from oodbench.output_encoding import spelled
from oodbench.store.storage import DEFAULT_STORE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from rich.console import Console
    from rich.text import Text

    from oodbench.canonical_json import JSON
    from oodbench.flow.bench import Bench
    from oodbench.store.store import Store
    from oodbench.tables.render.console import Boxed


class ReaderLeftError(Exception):
    """Whoever read standard output has seen enough (`| head`)."""


#: Where a command keeps the plug-ins that could not be loaded.
BROKEN = "oodbench.broken_plugins"


class Commands(click.Group):
    """Unknown commands name the nearest valid one; a closed pipe is no failure."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # which click would end with status 1
            raise ReaderLeftError from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None:
            close = listed(nearest(name, self.list_commands(ctx)), 3)
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
    checkpoints: str
    quiet: bool
    trust_imported: bool
    log: tuple[str, ...]


def asked_options(function: click.decorators.FC) -> click.decorators.FC:
    """What a run is asked for, which names it for `oodbench status` too."""
    options = (
        click.option("--pair", "pairs", multiple=True, metavar="NAME",
                     help="A pair, e.g. cifar10-svhn."),
        click.option("--in-dist", metavar="DATA", help="ID set: a name, an .npz file or a folder."),
        click.option("--ood", "oods", multiple=True, metavar="DATA",
                     help="OOD set; may be repeated."),
        click.option("--suite", metavar="NAME", help="Pairs and detectors of a suite."),
        click.option("--detector", "detectors", multiple=True, metavar="NAME[@RECIPE][:SCORE]",
                     help="A detector; may be repeated. Default: the HVAEs and the trivial"
                     " detectors."),
        seed_options,
        click.option("--scale", default=None, metavar="paper|small|smoke",
                     help="Size of the recipes: paper (a GPU), small (a laptop), smoke (seconds)."
                     "  [small]"),
        click.option("--recipe", default="", metavar="NAME",
                     help="Recipe for every detector, e.g. F5."),
        click.option("--both", is_flag=True, help="Also the pairs with ID and OOD exchanged."),
        set_option,
        precision_option,
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


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
        click.option("--checkpoints", type=click.Choice(["local", "store"]), default="local",
                     show_default=True, help="Where they are kept of a store at a URL: on this"
                     " machine, or in the store, for another machine to go on."),
        click.option("--stop-after", expose_value=False, metavar="TIME",
                     callback=_stop_after, help="Save and stop once this time is over, such as"
                     " 3h50m, with status 75; the same command goes on."),
        click.option("--quiet", is_flag=True, help="No progress, only the table."),
        trust_option,
        click.option("--log", multiple=True, metavar="NAME[=FOLDER]",
                     help="Watch trainings in tensorboard, mlflow, wandb or a log of a plug-in."),
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


class Named(click.types.StringParamType):
    """Text that a shell completes to the names of a kind; nothing is said of what is broken."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so."""
        from click.shell_completion import CompletionItem

        try:
            return [CompletionItem(n) for n in _names(self.kind) if n.startswith(incomplete)]
        except OodbenchError:
            return []


#: What the options of all commands are completed to.
COMPLETED = {
    "--pair": "pair", "--detector": "detector", "--model": "detector", "--in-dist": "data set",
    "--ood": "data set", "--suite": "suite", "--recipe": "recipe", "--layout": "layout",
    "--scale": "scale", "--for": "data set",
}  # fmt: skip


def complete_names(group: click.Group) -> None:
    """Let a shell complete the options of all commands of a group that take names."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            complete_names(command)
        for option in command.params:
            kind = COMPLETED.get(option.opts[0])
            if kind is not None and isinstance(option.type, click.types.StringParamType):
                option.type = Named(kind)


def _names(kind: str) -> Iterable[str]:
    if kind == "pair":
        from oodbench.datasets.pairs import registered_pairs

        return registered_pairs()
    if kind == "detector":
        from oodbench.detect.detector import DETECTORS

        return DETECTORS.names()
    if kind == "data set":
        from oodbench.datasets.spec import catalogue

        return catalogue()
    if kind == "suite":
        from oodbench.flow.suites import suites

        return suites()
    if kind == "recipe":
        from oodbench.declare.recipes import recipe_files

        return recipe_files()
    if kind == "layout":
        from oodbench.declare.layout_files import layout_names

        return ["general", *layout_names()]
    from oodbench.declare.recipes import SCALES

    return SCALES


set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="A setting of the recipe, as in training.epochs=30 or model.layers.0.latent=c8; may be"
    " repeated.",
)  # fmt: skip


@contextmanager
def failures_first(failures: Sequence[OodbenchError]) -> Iterator[None]:
    """What cannot be done, before what is printed inside of what can; then status 2.

    Also where whoever reads the tables has gone meanwhile.
    """
    messages = dict.fromkeys(" ".join(str(failure).split()) for failure in failures)
    if messages:
        click.echo(f"oodbench: error: {terminal('; '.join(messages))}", err=True)
    if not messages:
        yield
        return
    with suppress(BrokenPipeError):
        yield
        sys.stdout.flush()
        raise SystemExit(2)
    to_nowhere()
    raise SystemExit(2)


def to_nowhere() -> None:
    """What is still written to standard output goes nowhere: whoever read it has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def overrides_of(settings: Sequence[str], precision: str | None) -> dict[str, JSON]:
    """What --set and --precision change of a recipe."""
    from oodbench.declare.overrides import parse_settings

    added = [f"training.precision={precision}"] if precision else []
    return parse_settings([*settings, *added])


def make_bench(options: BenchOptions) -> Bench:
    """The bench that the options of a command describe."""
    from oodbench.datasets.loading import find_places
    from oodbench.flow.bench import Bench
    from oodbench.progress import Progress
    from oodbench.store.store import Store
    from oodbench.train.training_logs import check_logs

    check_logs(options["log"])
    return Bench(
        store=Store(
            options["store"],
            trust_imported=options["trust_imported"],
            keep_checkpoints=options["checkpoints"] == "store",
        ),
        places=find_places(options["data"], options["store"]),
        progress=Progress("quiet" if options["quiet"] else None),
        device=options["device"],
        compile=options["compile_"],
        batch_size=options["batch_size"],
        checkpoint_seconds=options["checkpoint_seconds"],
        logs=options["log"],
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
    """Rows of text with their columns on line; on a terminal long cells go on in next lines."""
    rows = [[spelled(terminal(text)) for text in row] for row in rows]
    widths, between = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))], "  "
    if sys.stdout.isatty():
        words = [[word for row in rows for word in row[i].split()] for i in range(len(widths))]
        least = [max(map(len, held), default=0) for held in words]
        least = [least[0], *(min(width, LONG_WORD) for width in least[1:])]
        limit = shutil.get_terminal_size().columns
        widths, between = _narrowed(widths, least, limit)
    for row in rows:
        parts = [_wrapped(text, width) for text, width in zip(row, widths, strict=True)]
        for line in itertools.zip_longest(*parts, fillvalue=""):
            cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
            click.echo(between.join(cells).rstrip())


def _narrowed(widths: Sequence[int], least: Sequence[int], limit: int) -> tuple[list[int], str]:
    """Widths that fit a line where any do, the widest column taken from first; what is between."""
    found = list(widths)
    for between in ("  ", " "):
        while sum(found) + len(between) * (len(found) - 1) > limit:
            loose = [i for i, width in enumerate(found) if width > least[i]]
            if not loose:
                break
            found[max(loose, key=lambda i: found[i])] -= 1
        else:
            break
    return found, between


def _wrapped(text: str, width: int) -> list[str]:
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_on_hyphens=False)


#: Places from which on a word of a list may be broken on a terminal.
LONG_WORD = 20


wide_option = click.option(
    "--wide", is_flag=True, help="All columns, however wide the terminal is."
)
#: Of what does not go to a terminal; and with --wide.
PIPE_WIDTH, ALL_COLUMNS = 150, 10_000


def console(to_file: bool = False, wide: bool = False) -> Console:
    """Standard output; 150 characters wide where it is no terminal or goes to a file."""
    from rich.console import Console

    width = ALL_COLUMNS if wide else PIPE_WIDTH if to_file or not sys.stdout.isatty() else None
    forced = False if to_file else None
    return Console(width=width, highlight=False, markup=False, emoji=False, force_terminal=forced)


def table_width(to_file: bool, wide: bool) -> int | None:
    """Places that a line of a table may take; None where nobody limits it."""
    if to_file or wide or not sys.stdout.isatty():
        return None
    return console().width


def print_boxed(out: Console, *tables: Boxed | Text | str) -> None:
    """Print; a table whose numbers need more than the console has is not cut."""
    for one in tables:
        out.print(one, crop=False)


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

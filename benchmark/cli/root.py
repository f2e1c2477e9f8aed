"""The command line: its groups, and how a command ends; heavy imports happen inside commands."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from oodbench.cli.check import check
from oodbench.cli.cluster.status import status
from oodbench.cli.diagnose import diagnose
from oodbench.cli.export import export, score
from oodbench.cli.figures import figure
from oodbench.cli.list import data_, list_
from oodbench.cli.new import new
from oodbench.cli.options import (
    Commands,
    ReaderLeftError,
    complete_names,
    print_columns,
    store_option,
    to_nowhere,
)
from oodbench.cli.publish import publish
from oodbench.cli.report import report
from oodbench.cli.run import run
from oodbench.cli.scores import scores
from oodbench.cli.store import store_
from oodbench.cli.sweep import sweep
from oodbench.cli.tables import compare, leaderboard
from oodbench.errors import OodbenchError
from oodbench.media import terminal, terminal_lines


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="oodbench")
def oodbench() -> None:
    """Out-of-distribution detection with deep generative models, benchmarked.

    `oodbench run` alone trains small models on images that ship with the package and prints their
    table; add --pair fashionmnist-mnist --data FOLDER for the papers' pairs.
    """


oodbench.add_command(run)
oodbench.add_command(status)
oodbench.add_command(sweep)
oodbench.add_command(list_)
oodbench.add_command(data_)
oodbench.add_command(leaderboard)
oodbench.add_command(compare)
oodbench.add_command(diagnose)
oodbench.add_command(figure)
oodbench.add_command(report)
oodbench.add_command(publish)
oodbench.add_command(check)
oodbench.add_command(new)
oodbench.add_command(export)
oodbench.add_command(score)
oodbench.add_command(scores)


@oodbench.command()
@click.argument("key")
@store_option
def show(key: str, store: str) -> None:
    """The record of a run, fit or measurement, by the first digits of its key."""
    import json

    from oodbench.store.store import Store

    entry = Store(store).resolve(key)
    text = json.dumps({"path": entry.path, **entry.record}, indent=1, ensure_ascii=False)
    click.echo(terminal_lines(text))  # its escapes are those of JSON


@oodbench.command()
@click.argument("a")
@click.argument("b")
@store_option
def why(a: str, b: str, store: str) -> None:
    """Which part of two keys differs, down to the recipe, the data and the seed."""
    from oodbench.store.key_differences import explain
    from oodbench.store.store import Store

    opened = Store(store)
    entries = [opened.resolve(key) for key in (a, b)]
    left, right = (dict(entry.parts) for entry in entries)
    rows = explain(left, right, opened)
    if entries[0].stage != entries[1].stage:
        rows.insert(0, ("stage", entries[0].stage, entries[1].stage))
    if not rows:
        click.echo("the keys are equal")
        return
    print_columns([("PART", a, b), *((path, str(x), str(y)) for path, x, y in rows)])


oodbench.add_command(store_)


complete_names(oodbench)


def restore_help(command: click.Command) -> None:
    """Help texts from the source: under ``python -OO`` no function has a docstring."""
    import ast
    import inspect

    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        restore_help(inner)
    function = inspect.unwrap(command.callback) if command.callback else None
    if command.help or function is None:
        return
    try:
        tree = ast.parse(Path(inspect.getfile(function)).read_text(encoding="utf-8"))
    except (OSError, TypeError, SyntaxError):
        return  # installed without its source
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            command.help = ast.get_docstring(node)


class _PrintableFormatter(logging.Formatter):
    """What is logged names files and titles of other people."""

    def format(self, record: logging.LogRecord) -> str:
        return terminal_lines(super().format(record))


def main() -> None:
    """Entry point: errors in one line with status 2, interruption with 130, 143 or 75."""
    from oodbench.interruption import Interrupted, listening
    from oodbench.output_encoding import prepare

    prepare()
    if sys.flags.optimize > 1:
        restore_help(oodbench)
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_PrintableFormatter("oodbench: %(message)s"))
    try:
        with listening():
            oodbench.main(prog_name="oodbench", standalone_mode=False)
        sys.stdout.flush()
    except Interrupted as stopped:
        where = f" while {stopped.where}" if stopped.where else ""
        how = "stopped by --stop-after" if stopped.by_time else "interrupted"
        click.echo(f"oodbench: {how}{where}; the same command goes on from here", err=True)
        sys.exit(stopped.status)
    except OodbenchError as error:
        _fail(str(error))
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        _fail(error.format_message() + where)
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        click.echo("oodbench: interrupted; the same command goes on from here", err=True)
        sys.exit(130)
    except (BrokenPipeError, ReaderLeftError):
        to_nowhere()
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except MemoryError:
        _fail("out of memory; use a smaller --batch-size or --scale")
    except RuntimeError as error:
        # torch's errors of the GPU and of the CPU; other texts name memory for other reasons.
        told = type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
        if not told:
            raise
        _fail("out of memory; use a smaller --batch-size or --scale")


def _fail(message: str) -> None:
    click.echo(f"oodbench: error: {terminal(' '.join(message.split()))}", err=True)
    sys.exit(2)

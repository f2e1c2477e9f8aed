"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
from site_text import escaped

from oodbench.cli import oodbench

INTRODUCTION = """# Command line

Every command says the same of itself with `--help`. Names that do not exist are answered with the
nearest ones. Bad input is one line and exit status 2; an interruption ends with 130 (Ctrl-C) or
143, and the same command goes on from there. Results go to standard output, progress and notes to
standard error.

| variable | |
|---|---|
| `OODBENCH_DATA` | folders with data sets, separated as in `PATH`; as `--data` |
| `OODBENCH_STORE` | the store; as `--store` |
| `OODBENCH_CACHE` | prepared splits, and `downloads`; default: `data` beside the store |
| `OODBENCH_PROJECT` | a folder of recipes, pairs, suites, layouts and data sets; as `--project` |
"""


def commands_page() -> str:
    """Every command with its help text, usage, arguments and options."""
    return "\n".join([INTRODUCTION, *_sections(oodbench, ())])


def _sections(command: click.Command, above: tuple[str, ...]) -> Iterator[str]:
    path = (*above, command.name or "")
    context = click.Context(command, info_name=" ".join(path))
    if above:
        yield f"{'#' * (len(path))} {' '.join(path)}\n"
        yield _paragraphs(command.help or "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _sections(command.commands[name], path)
        return
    yield f"```text\n{' '.join([*path, *command.collect_usage_pieces(context)])}\n```\n"
    records = [_record(option, context) for option in command.get_params(context)]
    rows = [record for record in records if record is not None]
    if rows:
        yield "| option | |\n|---|---|"
        yield "\n".join(f"| `{name}` | {escaped(text)} |" for name, text in rows) + "\n"


def _record(option: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    """An option's names and help; None for an argument and for --help."""
    if not isinstance(option, click.Option) or option.name == "help":
        return None
    record = option.get_help_record(context)
    if record is None:
        return None
    text = record[1]
    more = "May be repeated." if option.multiple and "repeated" not in text else ""
    return record[0], " ".join(part for part in (text, more) if part)


def _paragraphs(text: str) -> str:
    return escaped(inspect.cleandoc(text.replace("\b", ""))) + "\n"

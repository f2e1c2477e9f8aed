"""Commands that a text advises, held against the command line: their words, options and values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

import click

from oodbench.cli import oodbench
from oodbench.errors import OodbenchError

#: What stands for something that the reader has: its value is not looked at.
PLACEHOLDER = re.compile(r"^(?:[A-Z][A-Z_]*|.*[<{…$].*)$")
SUBSTITUTED = re.compile(r"\$\([^()]*\)")


def commands_in(console: str) -> list[list[str]]:
    """The words of every `oodbench …` of a console, joined over lines; comments left out."""
    text = SUBSTITUTED.sub("VALUE", console.replace("\\\n", " "))
    lines = [line.removeprefix("$ ") for line in text.splitlines()]
    parts = [part for line in lines if "oodbench" in line for part in _parts(line)]
    return [part[1:] for part in parts if part[0] == "oodbench"]


def _parts(line: str) -> Iterator[list[str]]:
    """The words of every command of a line of bash."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    part: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|()<>"):
            if part:
                yield part
            part = []
        else:
            part.append(word)


def quoted_in(text: str) -> Iterator[list[str]]:
    """The words of every `` `oodbench …` `` in prose."""
    for command in re.findall(r"`oodbench ([^`]+)`", text):
        words = shlex.split(command.replace("\n", " "))
        named = bool(words) and words[-1].startswith("--")  # an option is spoken of, not used
        yield [*words, "VALUE"] if named else words


def refusal(arguments: Sequence[str]) -> str:
    """Why the command line would not take these words; "" where it would.  Nothing runs."""
    command: click.Command = oodbench
    words = list(arguments)
    try:
        with oodbench.make_context("oodbench", ["list"]) as context:
            while isinstance(command, click.Group) and words and not words[0].startswith("-"):
                if PLACEHOLDER.match(words[0]):
                    return ""
                _, found, words = command.resolve_command(context, words)
                assert found is not None
                command = found
    except (OodbenchError, click.UsageError) as error:
        return str(error)
    if isinstance(command, click.Group):
        return ""
    known = {name: p for p in command.params for name in (*p.opts, *p.secondary_opts)}
    if command.context_settings.get("ignore_unknown_options"):  # it hands them to `oodbench run`
        passed = oodbench.commands["run"].params
        known |= {name: p for p in passed for name in (*p.opts, *p.secondary_opts)}
    known |= {"--help": click.Option(["--help"], is_flag=True)}
    while words:
        word, _, value = words.pop(0).partition("=")
        if not word.startswith("-") or word == "-":
            continue
        if word not in known:
            return f"{command.name} has no option {word}"
        option = known[word]
        if isinstance(option, click.Option) and not option.is_flag:
            if not value and not words:
                return f"{word} is without a value"
            if why := _value_refused(option, value or words.pop(0)):
                return why
    return ""


def _value_refused(option: click.Option, value: str) -> str:
    if PLACEHOLDER.match(value) or not isinstance(option.type, click.Choice | click.types.IntRange):
        return ""
    try:
        option.type.convert(value, option, None)
    except click.BadParameter as error:
        return error.format_message()
    return ""

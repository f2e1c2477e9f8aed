"""Everything that a user can name is on a page: options, variables, names of Python, files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import oodbench
from oodbench.cli import oodbench as command_line

ROOT = Path(__file__).parents[2]
#: What is written by hand; a reference that is made of the code mentions everything by itself.
WRITTEN = "\n".join(
    path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)


def options(group: click.Group) -> Iterator[tuple[str, str]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from options(command)
            continue
        for option in command.params:
            if isinstance(option, click.Option):
                for word in (*option.opts, *option.secondary_opts):
                    yield word, name


def variables() -> set[str]:
    """Variables of the environment that the source reads."""
    texts = [path.read_text("utf-8") for path in (ROOT / "benchmark").rglob("*.py")]
    return {name for text in texts for name in re.findall(r"\bOODBENCH_[A-Z]+\b", text)}


@pytest.mark.parametrize("word", sorted({word for word, _ in options(command_line)}))
def test_every_option_is_on_a_page(word: str) -> None:
    assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", WRITTEN), word


@pytest.mark.parametrize("name", sorted(variables()))
def test_every_variable_of_the_environment_is_on_a_page(name: str) -> None:
    assert name in WRITTEN


@pytest.mark.parametrize("name", oodbench.__all__)
def test_every_public_name_is_on_a_page(name: str) -> None:
    assert re.search(rf"(?<!\w){name}(?!\w)", WRITTEN)


def test_every_file_of_a_project_is_on_a_page() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "benchmark").rglob("*.py")]
    pattern = r'\.add_(?:files|entries)\("([\w.]+)"'
    declared = {name for text in texts for name in re.findall(pattern, text)}
    files = {name if name.endswith(".yaml") else f"{name}/NAME.yaml" for name in declared}
    assert files == {
        "recipes/NAME.yaml", "suites/NAME.yaml", "layouts/NAME.yaml", "pairs.yaml", "datasets.yaml"
    }  # fmt: skip
    assert [name for name in files if name not in WRITTEN] == []


def test_every_command_is_on_a_page() -> None:
    def named(group: click.Group, above: str) -> Iterator[str]:
        for name, command in group.commands.items():
            yield f"{above} {name}"
            if isinstance(command, click.Group):
                yield from named(command, f"{above} {name}")

    assert [name for name in named(command_line, "oodbench") if name not in WRITTEN] == []

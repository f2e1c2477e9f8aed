"""Commands that pages, help and errors advise are commands that there are; none advises itself."""

from __future__ import annotations

import ast
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from advice import commands_in, quoted_in, refusal
from in_process import invoke
from pagerunner import shown_only, snippets

from oodbench.cli import oodbench as command_line
from oodbench.datasets.sources.selections import base_of
from oodbench.datasets.spec import catalogue, get_spec

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
         *sorted((ROOT / "results").rglob("*.md"))]  # fmt: skip
SOURCES = [path for room in ("benchmark", "baselines", "models")
           for path in sorted((ROOT / room).rglob("*.py"))]  # fmt: skip


def texts(source: Path) -> Iterator[str]:
    """Every text of a module, what is filled in as `X`; a docstring is one."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "X" for v in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_what_errors_and_help_advise_is_a_command() -> None:
    advised = {
        (tuple(words), source.name)
        for source in SOURCES for text in texts(source) for words in quoted_in(text)
    }  # fmt: skip
    assert len(advised) > 30
    assert [(words, source, why) for words, source in advised if (why := refusal(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_advises_is_a_command(page: Path) -> None:
    text = page.read_text("utf-8")
    blocks = [s.text for s in snippets(text)] + shown_only(text, ("bash", "sh", "shell"))
    advised = [*quoted_in(text), *(words for block in blocks for words in commands_in(block))]
    assert [(words, why) for words in advised if (why := refusal(words))] == []


def long_commands() -> Iterator[list[str]]:
    """Runs and sweeps of `console long`, which can be planned, once each."""
    found = {}
    for page in PAGES:
        for snippet in snippets(page.read_text("utf-8")):
            if "long" in snippet.words:
                for words in commands_in(snippet.text):
                    if words[:1] in (["run"], ["sweep"]) and not {"--store", "--data"} & {*words}:
                        found[" ".join(words)] = words
    yield from found.values()


@pytest.mark.parametrize("words", list(long_commands()), ids=" ".join)
def test_what_takes_long_is_planned(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OODBENCH_DATA", raising=False)
    status, out, err = invoke(tmp_path, *words, "--dry-run")
    if status:  # the images are all that is missing
        assert status == 2
        faults = re.sub(r"^oodbench: error: ", "", err, flags=re.M).strip().split("; ")
        assert all(re.search("not found|no such|data fetch|point --data", f) for f in faults), err
    else:
        assert "missing" in out


def test_no_page_hides_commands_from_the_tests() -> None:
    for page in PAGES:
        blocks = "\n".join(shown_only(page.read_text("utf-8")))
        hidden = re.findall(r"^(?:\$ |(?:oodbench|python|pip) [a-z-]).*$", blocks, re.M)
        assert not hidden, f"{page}: say `console long` {hidden}"


def test_scripts_that_pages_name_are_there_and_have_their_options() -> None:
    called = re.compile(r"python ((?:tests|docs)/\S+\.py[^`\n#]*)")
    named = {script for page in PAGES for script in called.findall(page.read_text("utf-8"))}
    assert len(named) > 8
    for script in named:
        file, *words = script.split()
        path = ROOT / file
        beside = "".join(other.read_text("utf-8") for other in path.parent.glob("*.py"))
        for word in words:
            assert not word.startswith("--") or f'"{word}"' in beside, script


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("run --pair a-b --seeds 3", ""),
        ("run --sead 3", "no option --sead"),
        ("rum --pair a-b", "unknown command 'rum'"),
        ("store verfy", "unknown command 'verfy'"),
        ("leaderboard --format doc", "is not one of"),
        ("run --seeds zero", "not a valid integer"),
        ("run --seeds N", ""),
        ("run --pair", "without a value"),
        ("list", ""),
    ],
)
def test_advice_is_refused_for_its_words(words: str, why: str) -> None:
    said = refusal(words.split())
    assert why in said
    assert bool(why) == bool(said)


def every_command(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        path = (*above, name)
        yield path
        if isinstance(command, click.Group):
            yield from every_command(command, path)


@pytest.mark.parametrize("path", list(every_command(command_line)), ids=" ".join)
def test_every_command_says_what_it_does_and_every_option_what_it_means(
    path: tuple[str, ...], tmp_path: Path
) -> None:
    status, out, _ = invoke(tmp_path, *path, "--help")
    assert status == 0
    command: click.Command = command_line
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command.help
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, (path, option.opts)
        assert not isinstance(option, click.Option) or option.opts[0] in out


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_what_cannot_be_fetched_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path))
    status, out, err = invoke(tmp_path, "data", "fetch", name)
    said = out + err
    assert "oodbench data fetch" not in said  # it has just been tried
    if status == 0:
        assert "nothing to fetch" in said
    else:
        assert status == 2
        assert f"oodbench data info {base_of(get_spec(name)).name}" in said
        assert str(tmp_path) in said

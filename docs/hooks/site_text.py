"""Plain docstrings as Markdown, tables, and links to papers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

ARXIV = re.compile(r"(?:arXiv )?\b(\d{4}\.\d{4,5})\b")
CODE = re.compile(r"(``[^`]+``|`[^`]+`)")


def doc_of(thing: object) -> str:
    """The docstring of a module or class, its indentation removed."""
    return inspect.getdoc(thing) or ""


def markdown(text: str) -> str:
    """A docstring as Markdown: lines that stand further in are formulas, the rest is prose."""
    out: list[str] = []
    formula = False
    for line in text.splitlines():
        inside = line.startswith("    ") or (formula and not line.strip())
        if inside and not formula:
            out += ["", "```text"]
        if formula and not inside:
            _close(out)
        formula = inside
        out.append(line[4:] if inside else prose(line))
    if formula:
        _close(out)
    return "\n".join(out).strip() + "\n"


def _close(out: list[str]) -> None:
    while not out[-1].strip():
        out.pop()
    out += ["```", ""]


def prose(line: str) -> str:
    """A line of text with what Markdown would take for markup escaped, and arXiv ids as links."""
    parts = CODE.split(line)
    return "".join(part if part.startswith("`") else cited(escaped(part)) for part in parts)


def escaped(text: str) -> str:
    """Text that means itself in Markdown."""
    return re.sub(r"([\\*_\[\]|#])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")


def cited(text: str) -> str:
    """Every arXiv id as a link."""
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> str:
    """A Markdown table; the last `right` columns are numbers."""
    rules = ["---"] * (len(heads) - right) + ["--:"] * right
    lines = [heads, rules, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def cell(text: str) -> str:
    """Code, empty where there is nothing."""
    return f"`{text}`" if text else ""

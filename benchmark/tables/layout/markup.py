"""Text of table cells with raised and lowered parts, and what it looks like as plain text.

Labels of layouts are written with two marks, ``LLR^{>1}`` and ``L_{x}``; text that comes from
elsewhere (titles of detectors, names of pairs) is taken as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

SUPERSCRIPTS = str.maketrans("0123456789-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")
_MARK = re.compile(r"([_^])\{([^{}]*)\}")


@dataclass(frozen=True)
class Part:
    """A piece of text on, below or above the line."""

    text: str
    place: Literal["line", "below", "above"] = "line"


Text: TypeAlias = tuple[Part, ...]


def literal(text: str) -> Text:
    """Text as it is, no mark read."""
    return (Part(text),) if text else ()


def parse(label: str) -> Text:
    """The text of a label with its marks ``_{…}`` (below) and ``^{…}`` (above) read."""
    parts: list[Part] = []
    start = 0
    for match in _MARK.finditer(label):
        parts += literal(label[start : match.start()])
        parts.append(Part(match[2], "below" if match[1] == "_" else "above"))
        start = match.end()
    return (*parts, *literal(label[start:]))


def plain(text: Text) -> str:
    """One line without marks: ``LLR>1``, ``LLRada``, ``I_T``, ``1.59×10³``."""
    return "".join(map(_plain, text))


def _plain(part: Part) -> str:
    if part.place == "above" and re.fullmatch(r"[-−]?\d+", part.text):
        return part.text.translate(SUPERSCRIPTS)
    return f"_{part.text}" if part.place == "below" and part.text.isupper() else part.text

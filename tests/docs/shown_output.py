"""The output that a page shows, held against what the command printed.

Both are taken apart into words: rules of tables and the width of a terminal say nothing.  `…`
stands for any words, and inside a word for any characters.  Where numbers may move, every number is
as good as every other.  A page shows what goes to standard output, or notes and output together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

RULES = re.compile("[\u2500-\u257f]+")
NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
ANY = "…"


def words(text: str, *, moving: bool) -> list[str]:
    """The words of an output; a number is `#` where numbers may move."""
    text = RULES.sub(" ", text)
    return (NUMBER.sub("#", text) if moving else text).split()


def agrees(shown: str, out: str, notes: str = "", *, moving: bool = False) -> bool:
    """Whether a page may show this of standard output, or of error and output together."""
    pattern = words(shown, moving=moving)
    return any(
        _matches(pattern, words(text, moving=moving)) for text in (out, f"{notes}\n{out}", notes)
    )


def _matches(pattern: Sequence[str], printed: Sequence[str]) -> bool:
    """Like the stars of a shell, over words: the parts between are found one after the other."""
    parts: list[list[str]] = [[]]
    for word in pattern:
        if word == ANY:
            parts.append([])
        else:
            parts[-1].append(word)
    if len(parts) == 1:
        return len(pattern) == len(printed) and _at(parts[0], printed, 0)
    first, *middle, last = parts
    at, end = len(first), len(printed) - len(last)
    if at > end or not _at(first, printed, 0) or not _at(last, printed, end):
        return False
    for part in middle:
        found = next((i for i in range(at, end - len(part) + 1) if _at(part, printed, i)), None)
        if found is None:
            return False
        at = found + len(part)
    return True


def _at(part: Sequence[str], printed: Sequence[str], start: int) -> bool:
    there = printed[start : start + len(part)]
    return len(there) == len(part) and all(map(_same, part, there))


def _same(shown: str, word: str) -> bool:
    if ANY not in shown or shown == word:
        return shown == word
    return re.fullmatch(".*".join(map(re.escape, shown.split(ANY))), word) is not None

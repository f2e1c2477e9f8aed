"""Names with wildcards, wherever several names are taken: ``informative-*``, ``fashionmnist-*``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from oodbench.errors import UnknownNameError


def is_wild(text: str) -> bool:
    """Whether a name has ``*`` or ``?``; brackets are steps and classes of a data set."""
    return "*" in text or "?" in text


def expanded(kind: str, texts: Iterable[str], known: Iterable[str]) -> list[str]:
    """Every name, those with wildcards replaced by the `known` ones that match, each once.

    What stands behind ``@`` or ``:`` is kept: ``*-hvae@F5:llr-ada`` is that of every match.
    UnknownNameError, with the nearest names, where nothing matches.
    """
    names, found = list(known), dict[str, None]()
    for text in texts:
        if not is_wild(text):
            found[text] = None
            continue
        matching = [name for name in names if fnmatchcase(name, text)]
        if matching:
            found |= dict.fromkeys(matching)
            continue
        head, tail = _parted(text)
        matching = [name for name in names if fnmatchcase(name, head)]
        if not matching:
            raise UnknownNameError(kind, text, names, "no name matches")
        found |= dict.fromkeys(f"{name}{tail}" for name in matching)
    return list(found)


def any_wild(texts: Sequence[str]) -> bool:
    """Whether one of several names has a wildcard."""
    return any(map(is_wild, texts))


def _parted(text: str) -> tuple[str, str]:
    cut = min((at for mark in "@:" if (at := text.find(mark)) >= 0), default=len(text))
    return text[:cut], text[cut:]

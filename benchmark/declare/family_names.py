"""Names with parameters, for members of a family: ``sklearn.IsolationForest,n_estimators=200``.

FAMILY.MEMBER[,KEY=VALUE…].  A value is a Python literal (200, 0.5, True, None, (64,32)) or a bare
word, which is text; nothing is ever evaluated.  No character of the usual forms has a meaning to a
shell.  One object has one name: parameters are sorted and values written as Python writes them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from oodbench.errors import ConfigError

Value = int | float | str | bool | None | tuple["Value", ...]
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class ParametrisedName:
    """A family, the name of its member, and parameters sorted by name."""

    family: str
    member: str
    parameters: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> ParametrisedName:
        """ConfigError where a part is not NAME or KEY=VALUE, or a key stands twice."""
        head, *rest = _split(text)
        family, _, member = head.partition(".")
        if not (_WORD.fullmatch(family) and _WORD.fullmatch(member)):
            raise ConfigError(f"{head!r}: write FAMILY.CLASS, such as sklearn.IsolationForest")
        found: dict[str, Value] = {}
        for part in rest:
            key, equals, value = part.partition("=")
            if not (equals and key.isidentifier()):
                raise ConfigError(f"{text!r}: {part!r} is no parameter; write KEY=VALUE")
            if key in found:
                raise ConfigError(f"{text!r}: the parameter {key!r} stands twice")
            found[key] = _value(value, text)
        return cls(family, member, dict(sorted(found.items())))

    def __str__(self) -> str:
        parts = [f"{key}={_written(value)}" for key, value in self.parameters.items()]
        return ",".join([f"{self.family}.{self.member}", *parts])


def _split(text: str) -> list[str]:
    """Parts between the commas that stand in no bracket."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in _OPEN) - (char in _CLOSE)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _value(text: str, where: str) -> Value:
    try:
        return _plain(ast.literal_eval(text), where)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if _WORD.fullmatch(text):
            return text
    raise ConfigError(
        f"{where!r}: {text!r} is no value; write a number, a word, True, False, None or (1,2)"
    )


def _plain(value: object, where: str) -> Value:
    """Numbers, texts without special characters, True, False, None and tuples of them."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item, where) for item in value)
    if isinstance(value, str) and not _WORD.fullmatch(value):
        raise ConfigError(f"{where!r}: the text {value!r} may hold letters, digits, '.', '_', '-'")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and abs(value) != float("inf"):
        return value
    raise ConfigError(f"{where!r}: {type(value).__name__} is no type of a parameter")


def _written(value: Value) -> str:
    if isinstance(value, tuple):
        inner = ",".join(map(_written, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if not isinstance(value, str):
        return repr(value)
    try:
        ast.literal_eval(value)
    except ValueError:
        return value
    return f"'{value}'"  # the text "None" is not None

"""Arguments of the Python API in the types that people give: one thing or several, paths, numpy's.

Each function returns plain Python values, or raises a ConfigError that names the argument and says
what to give.  A leading ``~`` is the home folder, as it is in a shell.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeAlias, cast

from oodbench.datasets.pairs import Pair
from oodbench.errors import ConfigError

if TYPE_CHECKING:
    from oodbench.detect.detector import Detector

    Text: TypeAlias = str | Path

Several: TypeAlias = "str | Path | Iterable[str | Path]"


def text(argument: str, value: object) -> str:
    """One name or path."""
    if isinstance(value, str | PurePath):
        return os.path.expanduser(str(value))  # of the folder, not of "@steps"
    if hasattr(value, "__array__") or hasattr(value, "__getitem__"):
        raise ConfigError(
            f"{argument} holds images or other values ({_kind(value)}); save them, as with"
            " numpy.savez('mine.npz', images=...), and give the path"
        )
    raise ConfigError(f"{argument}={_shown(value)}: give a name or a path, not {_kind(value)}")


def optional(argument: str, value: object) -> str | None:
    """One name or path, or none."""
    return None if value is None else text(argument, value)


def texts(argument: str, value: object) -> list[str]:
    """Names or paths, one or several."""
    if isinstance(value, str | PurePath):
        return [text(argument, value)]
    if value is None:
        return []
    return [text(argument, one) for one in _items(argument, value)]


def pairs(value: object) -> list[str | Pair]:
    """Pairs, one or several."""
    if isinstance(value, Pair):
        return [value]
    listed = [value] if isinstance(value, str) else [] if value is None else _items("pairs", value)
    return [one if isinstance(one, Pair) else text("pairs", one) for one in listed]


def detectors(value: object) -> list[str]:
    """Detectors by name; a registered class is its name."""
    if isinstance(value, str) or value is None:
        return [value] if value else []
    listed = [value] if isinstance(value, type) else _items("detectors", value)
    return [_detector(one) for one in listed]


def _detector(value: object) -> str:
    if isinstance(value, str):
        return str(value)
    name = getattr(value, "name", "") if isinstance(value, type) else ""
    if name and isinstance(name, str) and hasattr(value, "measure"):
        return cast("type[Detector]", value).name
    raise ConfigError(
        f"detectors={_shown(value)}: give names, as in 'knn' or 'hvae@F5:L', or classes that are"
        " registered"
    )


def seeds(value: object) -> list[int]:
    """How many from 0 on, or which."""
    bad = ConfigError(
        f"seeds={_shown(value)}: give how many (1 or more), or whole numbers from 0 on"
    )
    if isinstance(value, str | bytes | bool):
        raise bad
    try:
        numbers = list(range(operator.index(value)))  # type: ignore[arg-type]
    except TypeError:
        try:
            listed = list(cast("Iterable[object]", value))
            numbers = [operator.index(one) for one in listed]  # type: ignore[arg-type]
        except TypeError as error:
            raise bad from error
        if any(isinstance(one, bool) for one in listed):
            raise bad from None
    if not numbers or min(numbers) < 0:
        raise bad
    return numbers


def _items(argument: str, value: object) -> Sequence[object]:
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise ConfigError(
            f"{argument}={_shown(value)}: give one name or several, not {_kind(value)}"
        )
    return list(value)


def _kind(value: object) -> str:
    return type(value).__name__


def _shown(value: object) -> str:
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:60]}…"

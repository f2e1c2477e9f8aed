"""Errors a user can mend: one line that names what is wrong and how to put it right.

The command line prints the message of an `OodbenchError` after "oodbench: error:" and exits with
status 2, without a traceback.  Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class OodbenchError(Exception):
    """Something the user gave, or something on this machine, that the user can mend."""


class UnknownNameError(OodbenchError):
    """A name that is not registered; the message lists the nearest valid names first."""

    def __init__(self, kind: str, name: str, valid: Iterable[str], hint: str = "") -> None:
        shown = listed(nearest(name, valid), 8)
        message = f"unknown {kind} {name!r}; "
        message += f"nearest: {shown}" if shown else f"no {kind} is registered"
        super().__init__(message + (f" ({hint})" if hint else ""))


class DataError(OodbenchError):
    """A data set that is missing, unreadable, of the wrong shape or damaged."""


class ConfigError(OodbenchError):
    """A recipe, suite or option with a wrong key, type or value."""


class TrainingError(OodbenchError):
    """Training stopped because going on would be meaningless (a non-finite loss)."""


class StoreError(OodbenchError):
    """The store cannot be read or written (disk full, no permission)."""


class PluginError(OodbenchError):
    """A plug-in that cannot be imported or breaks the detector contract."""


@contextmanager
def plugin_contract(part: object, method: str, kind: str = "detector") -> Iterator[None]:
    """Turn what somebody else's detector or model raises into a PluginError that says where.

    A part of ours is let through: what it raises is our bug and deserves its traceback.
    """
    try:
        yield
    except (OodbenchError, MemoryError):
        raise
    except Exception as error:
        module = type(part).__module__
        if module.startswith("oodbench."):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        # Where the plug-in stood: what torch does inside tells nobody where to look.
        last = [frame for frame in frames if "torch" not in Path(frame.filename).parts][-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise PluginError(
            f"{kind} {getattr(part, 'name', module)!r}: {method} raised"
            f" {type(error).__name__}: {reason} ({place})"
        ) from error


def listed(names: Iterable[object], most: int = 5) -> str:
    """``a, b, c``, with ``…`` behind the first `most` where there are more."""
    known = [str(name) for name in names]
    return ", ".join([*known[:most], *(["…"] if len(known) > most else [])])


def nearest(name: str, valid: Iterable[str]) -> list[str]:
    """All `valid` names: those that begin with `name`, shortest first, those like it, the rest."""
    rest = sorted(set(valid))
    begun = sorted((other for other in rest if name and other.startswith(name)), key=len)
    close = difflib.get_close_matches(name, rest, n=5, cutoff=0.4)
    return list(dict.fromkeys([*begun, *close, *rest]))

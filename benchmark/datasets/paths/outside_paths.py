"""Paths that a project names: opened inside of it, beyond it only where the user named the folder.

A project is a folder of declarations, and may be somebody else's.  One whose data sets, pairs
or suites lead to ``../../x.npz`` would have files of this machine measured and shown, so what
lies neither in the project nor in the working directory has to be in a folder given with ``--data``
or OODBENCH_DATA.  Links count as what they lead to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from oodbench.datasets.naming import split_name
from oodbench.declare.declarations import Source, sources
from oodbench.errors import DataError

_named: dict[str, Source] = {}


class OutsidePathError(DataError):
    """A project leads out of itself; the message says how to allow it."""


def note_path(source: Source, name: str) -> None:
    """Remember the path in the name of a set that a project declares."""
    if source.is_project:
        _named[split_name(name, registered=False)[0]] = source


def note_suite_pair(file: Path, pair: str | Mapping[str, object]) -> None:
    """Remember the paths in a pair of a suite, where its file stands in a project."""
    source = next((s for s in sources() if s.is_project and _inside(str(file), s.path)), None)
    if source is None:
        return
    if isinstance(pair, Mapping):
        names = [str(pair.get(side)) for side in ("in_dist", "ood")]
    else:  # ``id-ood``, which may be cut at any hyphen
        cuts = [place for place, char in enumerate(pair) if char == "-"]
        names = [part for cut in cuts for part in (pair[:cut], pair[cut + 1 :])]
    for name in names:
        note_path(source, name)


def check_path(path: str, folders: Iterable[Path]) -> None:
    """OutsidePathError on a path of a project that leads out of it, unless `folders` hold it."""
    source = _named.get(path)
    if source is None or any(_inside(path, f) for f in (source.path, Path.cwd(), *folders)):
        return
    raise OutsidePathError(
        f"{source.origin} names {path}, which is outside of it; where that is meant, name its"
        " folder with --data or OODBENCH_DATA"
    )


def _inside(path: str, folder: Path) -> bool:
    inner, outer = os.path.realpath(path), os.path.realpath(folder)
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)

"""Declarations in YAML beside those of oodbench: of plug-ins, and of a project.

A folder of declarations may hold

    recipes/NAME.yaml  suites/NAME.yaml  layouts/NAME.yaml    one file each, named after itself
    pairs.yaml  datasets.yaml                                 name: declaration

It is one of
- the folder of a package named by an entry point of the group ``oodbench.resources``;
- the folder of what ``--plugin`` names;
- the project: ``--project FOLDER``, else OODBENCH_PROJECT, else ``oodbench-project`` in the working
  directory, where there is one.  A project holds declarations only; code comes by ``--plugin``.

Of two declarations with one name neither is served: asking for it names both.  A broken one of an
installed package disables only itself; a broken one that was asked for by an option is an error.
No code of a plug-in is imported here.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Generic, TypeVar

from oodbench.declare.yaml_files import read_yaml
from oodbench.errors import ConfigError, OodbenchError, PluginError, UnknownNameError

T = TypeVar("T")
PROJECT = "oodbench-project"
log = logging.getLogger("oodbench.declare")


@dataclass(frozen=True)
class Source:
    """A folder of declarations; `asked`: by an option, so that what is wrong in it is an error."""

    path: Path
    origin: str
    asked: bool = True

    @property
    def is_built_in(self) -> bool:
        """Whether it is oodbench's own."""
        return self.origin == "oodbench"

    @property
    def is_project(self) -> bool:
        """Whether it is a folder of declarations without code, which may be a stranger's."""
        return self.origin.startswith("project ")


_added: dict[str, Source] = {}


def add_source(path: Path, origin: str) -> None:
    """Add the folder of a plug-in."""
    _added[str(path.resolve())] = Source(path, origin)


def use_project(path: str) -> None:
    """Take `path` as the project from now on; ConfigError where there is no such folder."""
    if not Path(path).expanduser().is_dir():
        raise ConfigError(f"project {path}: there is no such folder")
    os.environ["OODBENCH_PROJECT"] = path


def sources() -> tuple[Source, ...]:
    """oodbench's own folder first, then installed packages, the project, plug-ins; each once."""
    found = {_resolved(source.path): source for source in (built_in(), *_installed())}
    project = _project()
    if project is not None:
        found.setdefault(str(project.path.resolve()), project)
    for key, source in _added.items():
        found.setdefault(key, source)
    return tuple(found.values())


@cache
def _resolved(path: Path) -> str:
    """The path without links, of a folder that stays where it is."""
    return str(path.resolve())


@cache
def built_in() -> Source:
    """The declarations of oodbench itself."""
    return Source(Path(str(files("oodbench.declare"))), "oodbench")


def project_folder() -> Path | None:
    """The folder of the project, None where there is none."""
    found = _project()
    return found.path if found is not None else None


def _project() -> Source | None:
    named = os.environ.get("OODBENCH_PROJECT")
    path = Path(named or PROJECT).expanduser()
    if path.is_dir():
        # In full: what is read is remembered by it, also where the working directory changes.
        return Source(path.absolute(), f"project {path}")
    if named:
        raise ConfigError(f"OODBENCH_PROJECT={named}: there is no such folder")
    return None


@cache
def _installed() -> tuple[Source, ...]:
    """Folders of the packages in the group ``oodbench.resources``, found without importing them."""
    found = {}
    for point in entry_points(group="oodbench.resources"):
        top, *below = point.value.split(".")
        try:
            spec = importlib.util.find_spec(top)
        except (ValueError, ImportError) as error:  # ``__main__`` is no package
            log.warning("resources of %s cannot be found: %s", point.value, error)
            continue
        for home in (spec.submodule_search_locations or []) if spec is not None else []:
            path = Path(home, *below)
            if path.is_dir():
                found[path] = Source(path, f"package {point.value}", asked=False)
    return tuple(found.values())


@dataclass(frozen=True)
class _Item(Generic[T]):
    source: Source
    where: str
    read: Callable[[], T]


class Declarations(Generic[T]):
    """Everything of one kind ("recipe", "pair") that is declared; read when it is asked for."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.problems: dict[str, str] = {}
        self._items: dict[str, list[_Item[T]]] = {}
        self._values: dict[str, T] = {}

    def add_files(self, folder: str, read: Callable[[Path], T]) -> Declarations[T]:
        """Every ``folder/*.yaml`` of every source, named by its stem."""
        for source in sources():
            for path in sorted((source.path / folder).glob("*.yaml")):
                item = _Item(source, str(path), lambda path=path: read(path))  # type: ignore[misc]
                self._items.setdefault(path.stem, []).append(item)
        return self

    def add_entries(self, file: str, read: Callable[[Source, str, object], T]) -> Declarations[T]:
        """Every key of the file of this name of every source."""
        for source in sources():
            path = source.path / file
            for name, body in self._entries(source, path):
                item = _Item(source, str(path), lambda s=source, n=name, b=body: read(s, n, b))  # type: ignore[misc]
                self._items.setdefault(name, []).append(item)
        return self

    def _entries(self, source: Source, path: Path) -> Iterator[tuple[str, object]]:
        if not path.is_file():
            return
        try:
            yield from read_yaml(path).items()
        except OodbenchError as error:
            if source.asked:
                raise
            self.problems[str(path)] = f"{source.origin}: {error}"

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def is_built_in(self, name: str) -> bool:
        """Whether oodbench itself declares it."""
        return any(item.source.is_built_in for item in self._items.get(name, ()))

    def names(self) -> list[str]:
        """Every name, in the order of the sources; reads no file that holds one declaration."""
        return list(self._items)

    def get(self, name: str, hint: str = "") -> T:
        """What is declared under a name.

        UnknownNameError with the nearest names; PluginError where two are declared or the only one
        is broken.
        """
        if name not in self._items:
            raise UnknownNameError(self.kind, name, self._items, hint)
        items = self._items[name]
        if len(items) > 1:
            first, second = (f"in {item.where} ({item.source.origin})" for item in items[:2])
            raise PluginError(
                f"two {self.kind}s are named {name!r}: {first} and {second}; rename one of them"
            )
        if name not in self._values:
            try:
                self._values[name] = items[0].read()
            except OodbenchError as error:
                if items[0].source.is_built_in:
                    raise
                raise PluginError(
                    f"{self.kind} {name!r} ({items[0].source.origin}): {error}"
                ) from error
        return self._values[name]

    def all(self) -> dict[str, T]:
        """What can be read, by name; `problems` says what cannot, and why."""
        found = {}
        for name, items in self._items.items():
            try:
                found[name] = self.get(name)
            except OodbenchError as error:
                if any(item.source.asked and not item.source.is_built_in for item in items):
                    raise
                self.problems[name] = str(error)
                if items[0].source.is_built_in:
                    found[name] = items[0].read()
        return found


def checked_entry(
    body: object, where: str, required: Mapping[str, type], optional: Mapping[str, type]
) -> dict[str, object]:
    """A declaration with the keys it must and may have, each of its type; else ConfigError."""
    if not isinstance(body, Mapping):
        raise ConfigError(f"{where}: must be a mapping, not {type(body).__name__}")
    for key in required:
        if key not in body:
            raise ConfigError(f"{where}: the key {key!r} is missing")
    known = {**required, **optional}
    for key, value in body.items():
        if key not in known:
            raise UnknownNameError(f"key in {where}", str(key), known)
        if not isinstance(value, known[key]) or (known[key] is int and isinstance(value, bool)):
            raise ConfigError(f"{where}: {key!r} must be {known[key].__name__}, not {value!r:.60}")
    return dict(body)

"""A small registry: names to objects, filled by decorators and, lazily, by entry points.

Looking up the names imports nothing: an entry point is loaded when its object is first asked for.
A plug-in that fails to import disables only itself, and says why when it is used or listed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from oodbench.errors import PluginError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects of one kind ("detector", "model"), by name; `group` is the entry-point group."""

    def __init__(self, kind: str, group: str, adopt: Callable[[str, object], T]) -> None:
        self.kind, self.group = kind, group
        self._adopt = adopt
        self._objects: dict[str, T] = {}

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def add(self, name: str, value: T) -> None:
        """Register `value`; PluginError if another object has the name already."""
        known = self._objects.get(name)
        if known is not None and _origin(known) != _origin(value):
            raise PluginError(
                f"two {self.kind}s are named {name!r}: {_origin(known)} and {_origin(value)};"
                " rename one of them"
            )
        self._objects[name] = value

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted({*self._objects, *self._points})

    def get(self, name: str) -> T:
        """The object; UnknownNameError with the nearest names, or PluginError if it cannot load."""
        if name not in self._objects:
            if name not in self._points:
                raise UnknownNameError(self.kind, name, self.names())
            self._load(self._points[name])
        return self._objects[name]

    def broken(self) -> dict[str, str]:
        """Entry points that cannot be loaded, with the reason in one line."""
        failures = {}
        for name in self.names():
            try:
                self.get(name)
            except PluginError as error:
                failures[name] = str(error)
        return failures

    def _load(self, point: EntryPoint) -> None:
        try:
            loaded = point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.kind} {point.name!r} ({point.value}) cannot be loaded:"
                f" {type(error).__name__}: {_one_line(error)}"
            ) from error
        if point.name not in self._objects:
            if isinstance(loaded, ModuleType):
                raise PluginError(f"{point.value} registers no {self.kind} named {point.name!r}")
            self._objects[point.name] = self._adopt(point.name, loaded)


def load_plugin(source: str) -> None:
    """Import a plug-in, a path to a .py file or a dotted module; PluginError says what failed."""
    try:
        if source.endswith(".py") or "/" in source:
            path = Path(source)
            if not path.is_file():
                raise PluginError(f"plug-in {source!r}: there is no such file")
            name = f"oodbench_plugin_{path.stem}"
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is None or spec.loader is None:
                raise PluginError(f"plug-in {source!r} is not a Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            # Without bytecode: an edit within the same second would otherwise run the old code.
            before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
            finally:
                sys.dont_write_bytecode = before
        else:
            importlib.import_module(source)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"plug-in {source!r} cannot be imported: {type(error).__name__}: {_one_line(error)}"
        ) from error


def _origin(value: object) -> str:
    module = getattr(value, "__module__", type(value).__module__)
    return f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _one_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else "no message"

"""A small registry: names to objects, filled by decorators and, lazily, by entry points.

Looking up the names imports nothing: an entry point is loaded when its object is first asked for.
A plug-in that fails to import disables only itself, and says why when it is used or listed; of two
objects with one name neither is served.  A registry may have families, whose members are made
from their names: see `oodbench.declare.family_names`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar, cast

from oodbench.declare.family_names import ParametrisedName
from oodbench.errors import OodbenchError, PluginError, UnknownNameError
from oodbench.interruption import Interrupted

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects of one kind ("detector", "model"), by name; `group` is the entry-point group.

    `families` is the group of its families: functions from a `ParametrisedName` to an object.
    """

    def __init__(
        self, kind: str, group: str, adopt: Callable[[str, object], T], families: str = ""
    ) -> None:
        self.kind, self.group, self._family_group = kind, group, families
        self._adopt = adopt
        self._objects: dict[str, T] = {}
        self._made: dict[str, T] = {}
        self._origins: dict[str, str] = {}
        self._loading: set[str] = set()

    @cached_property
    def _points(self) -> dict[str, list[EntryPoint]]:
        return _by_name(entry_points(group=self.group))

    @cached_property
    def _families(self) -> dict[str, list[EntryPoint]]:
        return _by_name(entry_points(group=self._family_group)) if self._family_group else {}

    def add(self, name: str, value: T) -> None:
        """Register `value`; PluginError if another object has the name already."""
        origin = _origin(value)
        known = self._origins.get(name, origin) if name in self._objects else origin
        for point in self._points.get(name, []):
            # A package may register its own entry point under way; anybody else may not.
            if name not in self._loading and _top(point.module) != _top(_module_of(value)):
                known = _described(point)
        if known != origin:
            raise PluginError(
                f"two {self.kind}s are named {name!r}: {known} and {origin}; rename one of them"
            )
        self._objects[name], self._origins[name] = value, origin

    def names(self) -> list[str]:
        """All registered names, sorted; without the members of families."""
        return sorted({*self._objects, *self._points})

    def families(self) -> list[str]:
        """Names of the families, sorted."""
        return sorted(self._families)

    def canonical(self, name: str) -> str:
        """The one spelling of a member of a family; any other name as it is."""
        family = name.partition(".")[0]
        return (
            str(ParametrisedName.parse(name)) if "." in name and family in self._families else name
        )

    def get(self, name: str) -> T:
        """The object; UnknownNameError with the nearest names, or PluginError if it cannot load."""
        if name not in self._objects:
            if name not in self._points:
                return self._member(name)
            self._load(self._points[name])
        return self._objects[name]

    def broken(self) -> dict[str, str]:
        """Entry points that cannot be loaded, with the reason in one line."""
        failures = {}
        for name in self.names():
            try:
                self.get(name)
            except OodbenchError as error:
                failures[name] = str(error)
        return failures

    def _member(self, name: str) -> T:
        """The member of a family that `name` describes."""
        family = name.partition(".")[0]
        if "." not in name or family not in self._families:
            members = [f"{family}.CLASS" for family in self._families]
            raise UnknownNameError(self.kind, name, [*self.names(), *members])
        parsed = ParametrisedName.parse(name)
        if str(parsed) not in self._made:
            make = cast("Callable[[ParametrisedName], T]", self._imported(self._families[family]))
            self._made[str(parsed)] = make(parsed)
        return self._made[str(parsed)]

    def _imported(self, points: Sequence[EntryPoint]) -> object:
        """What the entry points of one name stand for; PluginError where there are two."""
        point = points[0]
        if len(points) > 1:
            raise PluginError(
                f"two {self.kind}s are named {point.name!r}: {_described(point)} and"
                f" {_described(points[1])}; uninstall one of the packages"
            )
        self._loading.add(point.name)
        try:
            return point.load()
        except OodbenchError as error:
            raise PluginError(
                f"{self.kind} {point.name!r} ({point.value}) cannot be loaded: {_one_line(error)}"
            ) from error
        except (KeyboardInterrupt, Interrupted):
            raise
        except BaseException as error:  # whatever it raises disables it alone
            raise PluginError(
                f"{self.kind} {point.name!r} ({point.value}) cannot be loaded:"
                f" {type(error).__name__}: {_one_line(error)}"
            ) from error
        finally:
            self._loading.discard(point.name)

    def _load(self, points: Sequence[EntryPoint]) -> None:
        loaded, point = self._imported(points), points[0]
        if point.name not in self._objects:
            if isinstance(loaded, ModuleType):
                raise PluginError(f"{point.value} registers no {self.kind} named {point.name!r}")
            self._objects[point.name] = self._adopt(point.name, loaded)


_loaded: list[str] = []


def loaded_plugins() -> tuple[str, ...]:
    """What `load_plugin` has imported in this process, in order; files by their whole paths."""
    return tuple(_loaded)


def load_plugin(source: str) -> None:
    """Import a plug-in, a path to a .py file or a dotted module, with what is declared beside it.

    A module is looked for where Python does, then in the working folder.  PluginError says what
    failed.
    """
    from oodbench.declare.declarations import add_source
    from oodbench.declare.plugin_files import run_file

    try:
        if source.endswith(".py") or "/" in source:
            file: str | None = str(run_file(source))
        else:
            file = _import_module(source).__file__
    except (OodbenchError, KeyboardInterrupt, Interrupted):
        raise
    except BaseException as error:
        raise PluginError(
            f"plug-in {source!r} cannot be imported: {type(error).__name__}: {_one_line(error)}"
        ) from error
    if file is not None:
        add_source(Path(file).parent, f"plug-in {source}")
    is_file = source.endswith(".py") or "/" in source
    named = str(Path(source).absolute()) if is_file else source
    if named not in _loaded:
        _loaded.append(named)


def _import_module(name: str) -> ModuleType:
    top, here = _top(name), str(Path.cwd())
    if here not in sys.path and importlib.util.find_spec(top) is None:
        # At the end: what is installed goes first.
        sys.path.append(here)
        importlib.invalidate_caches()
    return importlib.import_module(name)


def _by_name(points: Sequence[EntryPoint]) -> dict[str, list[EntryPoint]]:
    """Entry points by name; two that name the same object are one."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in points:
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: list(values.values()) for name, values in found.items()}


def _described(point: EntryPoint) -> str:
    package = f" (package {point.dist.name})" if point.dist is not None else ""
    return f"{point.value}{package}"


def _module_of(value: object) -> str:
    return str(getattr(value, "__module__", type(value).__module__))


def _top(module: str) -> str:
    return module.partition(".")[0]


def _origin(value: object) -> str:
    """Where an object comes from: of a plug-in file its path, else module and name."""
    module = _module_of(value)
    name = str(getattr(value, "__qualname__", type(value).__qualname__))
    if module.startswith("oodbench_plugin_"):
        return f"{name} in {getattr(sys.modules.get(module), '__file__', module)}"
    return f"{module}.{name}"


def _one_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else "no message"

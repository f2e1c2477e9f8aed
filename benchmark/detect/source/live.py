"""Where a class came from: its definition in a file or a cell, or the values it was made of.

A class of a file is a name of its module.  One made by calling `type` (a score function, an
estimator by name) is what was put into it: functions by where they are defined, plain values as
they are.  One of a notebook is read from the cells that define what it uses.
"""

from __future__ import annotations

import ast
import sys
from types import FunctionType

from oodbench.detect.source.compiled import closed_over
from oodbench.detect.source.definitions import Definition
from oodbench.detect.source.modules import Module, find_module, loaded_module
from oodbench.detect.source.normal_form import DECLARED, REVISIONS, Parts
from oodbench.detect.source.notebook import notebook_module

#: What is not code: of Python, and what registering a class sets.
_NOT_CODE = {"name", "measure_name", "category"} | DECLARED | REVISIONS


class NoSourceError(Exception):
    """The source of a class, or of something that it uses, cannot be read."""


def class_parts(cls: type, near: Module | None = None) -> Parts:
    """The normal form of a class, as text and references; NoSourceError where it has none.

    `near` is the module of the class that uses it: what that one does not follow is a name.
    """
    module = _module(cls.__module__, near)
    if module is None:
        if near is None and cls.__module__.partition(".")[0] != "oodbench":
            raise NoSourceError
        return [f"{cls.__module__}.{cls.__qualname__}"]
    name, _, below = cls.__qualname__.partition(".")
    if not _defines(module, name):
        return _made(cls, near or module)
    is_class = any(isinstance(binding, ast.ClassDef) for binding in module.bindings[name])
    made = [] if is_class or below else _made(cls, near or module)
    # What a class that is defined in a function takes from it is in no text.
    closed = [f"closure {text}" for text in closed_over(cls)] if "<locals>" in below else []
    return [Definition(module, name), *made, *closed]


def _made(cls: type, near: Module) -> Parts:
    """A class that was made by calling `type`: what it holds, and its bases."""
    parts: list[str | Definition] = ["type("]
    for name, value in sorted(vars(cls).items()):
        if not name.startswith("__") and name not in _NOT_CODE:
            parts += [f"{name}=", *_value(value, near), ","]
    for base in cls.__bases__:
        parts += class_parts(base, near)
    return [*parts, ")"]


def _value(value: object, near: Module) -> Parts:
    if isinstance(value, staticmethod | classmethod):
        return [f"{type(value).__name__} ", *_value(value.__func__, near)]
    if isinstance(value, property):
        return ["property ", *_value(value.fget, near)]
    if isinstance(value, FunctionType):
        module = _module(value.__module__, near)
        name = value.__qualname__.partition(".")[0]
        if module is None or not _defines(module, name):
            raise NoSourceError
        return [Definition(module, name)]
    if isinstance(value, type):
        return class_parts(value, near)
    if isinstance(value, str | int | float | bytes | list | tuple | dict | set | None):
        return [ascii(value)]
    return [f"a {type(value).__qualname__}"]


def _module(name: str, near: Module | None) -> Module | None:
    """The module of a class or function, if it is followed; of one without a file what it holds."""
    if near is not None and name == near.name:
        return near
    if near is not None or name.partition(".")[0] == "oodbench":
        return find_module(name, near)
    return loaded_module(name) or notebook_module(sys.modules.get(name))


def _defines(module: Module, name: str) -> bool:
    """Whether a module defines a function or class of that name."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return any(isinstance(binding, kinds) for binding in module.bindings.get(name, ()))

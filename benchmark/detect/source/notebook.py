"""The module of a notebook: its names, each with the cell that defines what it is now.

A notebook has no file.  IPython keeps the text of every cell that ran for tracebacks; functions
and classes are read from there, imports from the objects that they brought, plain values are as
they are.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from oodbench.detect.source.modules import Binding, Imported, Module


def notebook_module(loaded: ModuleType | None) -> Module | None:
    """What the namespace of a module without a file holds; None of one with a file.

    A function or class whose text is not known is left out, and so is every name that begins with
    an underscore and a digit, IPython's own.
    """
    if loaded is None or getattr(loaded, "__file__", None) is not None:
        return None
    module = Module(loaded.__name__, Path("notebook.py"))
    for name, value in vars(loaded).items():
        binding = _binding(loaded.__name__, name, value)
        if binding is not None:
            module.bindings[name] = [binding]
    return module


def _binding(module: str, name: str, value: object) -> Binding | None:
    if isinstance(value, ModuleType):
        return Imported(value.__name__)
    if isinstance(value, FunctionType | type):
        if value.__module__ != module:
            return Imported(value.__module__, value.__qualname__)
        return _definition(value)
    text = ascii(value)
    try:
        plain = ast.literal_eval(text) == value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        plain = False
    node = ast.parse(text, mode="eval").body if plain is True else ast.Constant(_described(value))
    return ast.Assign(targets=[ast.Name(name, ast.Store())], value=node)


def _definition(value: FunctionType | type) -> Binding | None:
    """The statement of the newest cell that defines a function or class."""
    for file in _files(value):
        try:
            tree = ast.parse("".join(linecache.getlines(file)))
        except (SyntaxError, ValueError):
            continue
        for node in reversed(tree.body):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name == value.__qualname__:
                return node
    return None


def _files(value: FunctionType | type) -> Iterator[str]:
    """The cells that code of an object stands in."""
    held = [value] if isinstance(value, FunctionType) else vars(value).values()
    for part in held:
        inner = getattr(part, "__func__", None) or getattr(part, "fget", None) or part
        if isinstance(inner, FunctionType):
            yield inner.__code__.co_filename


def _described(value: object) -> str:
    """An object that is no plain value: its type, and of an array what it holds."""
    held = value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else ""
    return f"{type(value).__module__}.{type(value).__qualname__} {held}"

"""A class whose text nobody kept, by its compiled code: typed in, or made by `exec`.

Compiled code is that of one version of Python, so it is compared within that version alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType

PLAIN = (str, int, float, bool, bytes, complex, type(None), tuple, list, dict, set, frozenset)
#: Of what a function takes from around it: a list or mapping may be what it keeps, such as a cache.
FIXED = (str, int, float, bool, bytes, complex, type(None), tuple, frozenset)
#: What Python and registering a class add to it.
_NOT_CODE = {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__",
             "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl",
             "name", "measure_name", "category", "cite", "title", "revision"}  # fmt: skip


def compiled_parts(cls: type) -> list[str]:
    """What a class and its bases of the same module hold, and functions that these call."""
    seen: set[object] = set()
    parts: list[str] = []
    for base in cls.__mro__:
        if base.__module__ != cls.__module__:
            parts.append(f"{base.__module__}.{base.__qualname__}")
            continue
        for name, value in sorted(vars(base).items()):
            if name not in _NOT_CODE:
                parts += [f"{name}=", *_value(value, seen)]
    return parts


def closed_over(cls: type) -> list[str]:
    """Fixed values that the methods of a class take from the function that it is defined in."""
    found = []
    for name, value in sorted(vars(cls).items()):
        inner = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        if isinstance(inner, FunctionType):
            found += [f"{name}:{text}" for text in _closure(inner)]
    return found


def _value(value: object, seen: set[object]) -> Iterator[str]:
    inner = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
    if isinstance(inner, FunctionType):
        yield from _function(inner, seen)
    else:
        yield _shown(inner)


def _shown(value: object) -> str:
    """A plain value as text that does not depend on the process; of another its type."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_shown(k)}: {_shown(v)}' for k, v in value.items())}}}"
    if isinstance(value, set | frozenset):
        return f"set({', '.join(sorted(map(_shown, value)))})"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(map(_shown, value))})"
    return ascii(value) if isinstance(value, PLAIN) else f"a {type(value).__qualname__}"


def _function(function: FunctionType, seen: set[object]) -> Iterator[str]:
    """Its code, defaults and closure, and what its module holds under the names that it uses."""
    if function in seen:
        return
    seen.add(function)
    yield from _code(function.__code__, function.__doc__)
    yield _shown((function.__defaults__, sorted((function.__kwdefaults__ or {}).items())))
    yield from _closure(function)
    for name in sorted(_names(function.__code__)):
        used = function.__globals__.get(name)
        if isinstance(used, FunctionType) and used.__module__ == function.__module__:
            yield from _function(used, seen)
        elif name in function.__globals__ and isinstance(used, FIXED):
            yield f"{name}={_shown(used)}"


def _closure(function: FunctionType) -> Iterator[str]:
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            held = cell.cell_contents
        except ValueError:  # nothing was bound to it
            continue
        if isinstance(held, FIXED):
            yield f"{name}={_shown(held)}"


def _code(code: CodeType, doc: str | None) -> Iterator[str]:
    yield ascii((code.co_code, code.co_names, code.co_varnames, code.co_freevars))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant, None)
        elif constant is None or constant != doc:
            yield _shown(constant)


def _names(code: CodeType) -> set[str]:
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return set(code.co_names).union(*map(_names, inner))

"""What the classes of a detector say beside its declarations, as a key holds it.

    class Q50(Detector):
        q = 0.5             # measure reads self.q: another q is another measurement

Two classes that differ in such an attribute alone differ in what they measure, and so does one
class before and after it was edited.  Methods are not compared: a class with a method of its own
measures under its own name, and its `revision` and source hash tell its versions apart.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import types
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import PurePath

from oodbench.canonical_json import JSON, canonical_json
from oodbench.detect.detector import Detector
from oodbench.errors import PluginError

#: Attributes that `Detector` declares: names, costs, and what is in a key already.
DECLARATIONS = frozenset({*vars(Detector), *Detector.__annotations__})
#: Methods, and what holds no value that a number could depend on.
_IGNORED = (
    types.FunctionType, types.ModuleType, property, classmethod, staticmethod, cached_property,
    logging.Logger,
)  # fmt: skip


def own_attributes(cls: type[Detector]) -> dict[str, JSON]:
    """The values, by name, of the attributes that plug-in classes give a detector.

    Of every class that is no part of oodbench, with its bases; a name that begins and ends with
    two underscores is Python's.  PluginError where a value cannot be written down.
    """
    names = {
        name
        for base in cls.__mro__
        if base is not object and not base.__module__.startswith("oodbench.")
        for name, value in vars(base).items()
        if not (name in DECLARATIONS or name.startswith("__") or isinstance(value, _IGNORED))
    }
    found = {}
    for name in sorted(names):
        value = inspect.getattr_static(cls, name)
        if isinstance(value, _IGNORED):  # a method in the place of a base's value
            continue
        try:
            found[name] = _plain(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise PluginError(
                f"{cls.name or cls.__name__}: the class attribute {name!r} is"
                f" {_named(type(value))}, which cannot stand in a key; make it a number, a text, an"
                " array or a list, tuple or dict of such, or set it in __init__"
            ) from error
    return found


def _plain(value: object) -> JSON:
    """A value as JSON that is the same for the same value; TypeError where there is none."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else repr(value)
    if isinstance(value, complex | bytes | range | slice | types.EllipsisType):
        return repr(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, type | types.BuiltinFunctionType):
        return _named(value)
    if isinstance(value, partial):
        return [_plain(part) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((_plain(item) for item in value), key=canonical_json)}
    if isinstance(value, Mapping):
        pairs = [[_plain(name), _plain(item)] for name, item in value.items()]
        return {"items": sorted(pairs, key=canonical_json)}
    if hasattr(value, "__array__"):
        return _array(value)
    if hasattr(value, "state_dict"):
        return [repr(value), _plain(value.state_dict())]
    text = repr(value)
    if type(value).__repr__ is object.__repr__ or " at 0x" in text:
        raise TypeError(text)
    return [_named(type(value)), text]


def _array(value: object) -> JSON:
    """Shape, type and hash of an array or tensor."""
    import numpy as np

    kind, plain = str(getattr(value, "dtype", "")), value
    if hasattr(value, "detach"):
        plain = value.detach().cpu()
        # numpy knows no bfloat16; every such number is one of 32 bits.
        plain = plain.float() if "bfloat16" in kind else plain
    array = np.asarray(plain)
    if array.dtype.hasobject:
        raise TypeError("an array of objects")
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": kind, "sha256": content}


def _named(thing: type | types.BuiltinFunctionType) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"

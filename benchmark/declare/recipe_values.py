"""Values of a recipe file: overlays, and checks whose messages name the key and what is valid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.errors import ConfigError, listed, nearest

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails


def shown(value: object) -> str:
    """A value of a file in a message, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def overlay(base: JSON, top: JSON) -> JSON:
    """`base` with what `top` says put over it, key by key; entries of a list by their number."""
    if isinstance(base, Mapping) and isinstance(top, Mapping):
        merged = dict(base)
        for key, value in top.items():
            merged[key] = overlay(merged[key], value) if key in merged else value
        return merged
    if isinstance(base, list) and isinstance(top, Mapping) and top and all(map(_is_index, top)):
        listed = list(base)
        for key, value in top.items():
            if int(key) >= len(listed):
                raise ConfigError(f"there is no entry {key}; the list has {len(listed)}, from 0 on")
            listed[int(key)] = overlay(listed[int(key)], value)
        return listed
    return top


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdecimal()


def validate(model: object, value: JSON, where: str) -> BaseModel:
    """The settings of a pydantic class; ConfigError names the key and the nearest valid ones."""
    from pydantic import ValidationError

    cls = cast("type[BaseModel]", model)
    try:
        settings = cls.model_validate(value)
        _check_values(value, settings.model_dump(mode="json"), where)
        return settings
    except ValidationError as error:
        unknown = [e for e in error.errors() if e["type"] == "extra_forbidden"]
        first = (unknown or error.errors())[0]
        path = ".".join(str(part) for part in first["loc"])
        about = f"{where}: {path}" if path else where
        if unknown:
            close = listed(nearest(str(first["loc"][-1]), _keys(cls)), 3)
            raise ConfigError(f"{where}: unknown key {path!r}; nearest: {close}") from error
        raise ConfigError(f"{about}: {_worded(first)}") from error


#: Our words for the kinds of pydantic's errors, the braces filled from their context.
_WORDS = {
    "missing": "is missing",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "too_short": "must hold at least {min_length}",
    "too_long": "must hold at most {max_length}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}",
    "union_tag_not_found": "{discriminator} is missing",
    "string_too_short": "must not be empty",
    "value_error": "{error}",
}
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
}


def _worded(error: ErrorDetails) -> str:
    """One error in words that do not change with the library's; its own for a kind unknown here."""
    kind = error["type"]
    wrong_type = kind.endswith(("_type", "_parsing", "_parsing_size", "_from_float"))
    wanted = _TYPES.get(kind.partition("_")[0]) if wrong_type else None
    if kind in _WORDS:
        text = _WORDS[kind].format_map(error.get("ctx", {}))
    elif wanted is not None:
        text = f"must be {wanted}"
    else:
        return error["msg"]
    about = kind in ("missing", "value_error") or kind.startswith("union_tag")
    return text if about else f"{text}, not {shown(error['input'])}"


def _check_values(given: JSON, taken: JSON, where: str) -> None:
    """ConfigError on what pydantic lets through: yes for 1, 1 for yes, and infinities."""
    if isinstance(given, Mapping) and isinstance(taken, Mapping):
        for key, value in given.items():
            _check_values(value, taken.get(key), f"{where}.{key}")
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        for index, value in enumerate(given[: len(taken)]):
            _check_values(value, taken[index], f"{where}[{index}]")
    elif isinstance(taken, bool) and not isinstance(given, bool):
        raise ConfigError(f"{where}: must be true or false, not {shown(given)}")
    elif isinstance(given, bool) and isinstance(taken, int | float) and type(taken) is not bool:
        raise ConfigError(f"{where}: must be a number, not {shown(given)}")
    elif isinstance(taken, float) and not math.isfinite(taken):
        raise ConfigError(f"{where}: must be a finite number, not {shown(given)}")


def _keys(cls: type[BaseModel]) -> set[str]:
    """Every key that the settings or anything in them may have."""
    schema = cls.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {key for part in parts for key in part.get("properties", {})}


def check_known(mapping: Mapping[str, object], known: set[str], where: str) -> None:
    """ConfigError on a key that is not `known`, with the nearest ones."""
    for key in mapping:
        if key not in known:
            close = listed(nearest(str(key), known), 4)
            raise ConfigError(f"{where}: unknown key {key!r}; nearest: {close}")

"""Canonical JSON and SHA-256: one text, and so one key, for one meaning."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TypeAlias

JSON: TypeAlias = (
    "bool | int | float | str | list[JSON] | tuple[JSON, ...] | Mapping[str, JSON] | None"
)


def canonical_json(value: JSON) -> str:
    """Serialise with sorted keys, no white space and shortest round-trip floats.

    A whole float (``2.0``) and the integer (``2``) mean the same in a recipe and give the same
    text.  Raises ValueError on NaN and infinities, TypeError on anything that is not JSON.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: JSON) -> str:
    """SHA-256 (64 hexadecimal digits) of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _plain(value: JSON) -> JSON:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"keys must be text, not {key!r}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no canonical form")
        return int(value) if value.is_integer() else value
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"{type(value).__name__} is not JSON: {value!r}")

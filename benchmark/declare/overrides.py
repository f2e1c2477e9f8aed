"""Settings of a recipe changed by hand: ``training.epochs=30``, ``model.layers.0.latent=c8``.

A path is the keys from a section (``model``, ``training``, ``measure``) downwards, an entry of a
list by its number.  What a resolved recipe then holds is checked, and keyed, like any other recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

import yaml

from oodbench.canonical_json import JSON
from oodbench.declare.recipe_values import shown
from oodbench.errors import ConfigError

MAX_LENGTH = 10_000
#: 1e-3, which YAML 1.1 takes for text.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_MISSING = object()


def parse_settings(texts: Iterable[str]) -> dict[str, JSON]:
    """``KEY.KEY=VALUE`` as an overlay on a recipe; ConfigError on what is none, or stands twice."""
    found: dict[str, JSON] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {text}: write KEY=VALUE, as in training.epochs=30")
        found = _joined(found, path.strip(), _value(text, value.strip()))
    return found


def parse_grid(texts: Iterable[str]) -> dict[str, list[JSON]]:
    """``KEY.KEY=VALUE,VALUE`` as the values of every key, in the order given, each once."""
    found: dict[str, list[JSON]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        parts = _split(values)
        if not equals or not path.strip() or not all(part.strip() for part in parts):
            raise ConfigError(f"--set {text}: write KEY=VALUE,VALUE, as in training.lr=1e-3,2e-3")
        if path.strip() in found:
            raise ConfigError(f"--set {path.strip()} stands twice; list its values in one")
        listed = [_value(text, part.strip()) for part in parts]
        found[path.strip()] = [v for i, v in enumerate(listed) if v not in listed[:i]]
    return found


def _split(values: str) -> list[str]:
    """At the commas that stand in no bracket."""
    parts, depth = [""], 0
    for char in values:
        depth += (char in "[{") - (char in "]}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def nested(settings: Mapping[str, JSON]) -> dict[str, JSON]:
    """Overrides with dotted keys taken apart: ``{"training.epochs": 3}`` as well as nested ones."""
    found: dict[str, JSON] = {}
    for path, value in settings.items():
        if not isinstance(path, str):
            raise ConfigError(f"overrides: the key {path!r} is no text; write 'training.epochs'")
        value = nested(value) if isinstance(value, Mapping) else value
        found = _joined(found, path, value)
    return found


def _joined(found: Mapping[str, JSON], path: str, value: JSON) -> dict[str, JSON]:
    head, _, rest = path.partition(".")
    known = found.get(head)
    if rest:
        if known is not None and not isinstance(known, Mapping):
            raise ConfigError(f"{head} is set as a whole and in parts ({path}); set one of them")
        inner = cast("Mapping[str, JSON]", known or {})
        return {**found, head: _joined(inner, rest, value)}
    if isinstance(known, Mapping) and isinstance(value, Mapping):
        for key, part in value.items():
            known = _joined(known, key, part)
        return {**found, head: known}
    if head in found:
        raise ConfigError(f"{path} is set twice")
    return {**found, head: value}


def _value(text: str, value: str) -> JSON:
    if len(value) > MAX_LENGTH:
        raise ConfigError(f"--set {text[:40]}…: more than {MAX_LENGTH:,} characters")
    if _NUMBER.fullmatch(value):
        return float(value)
    try:
        if any(
            isinstance(event, yaml.AliasEvent)
            for event in yaml.parse(value, Loader=yaml.SafeLoader)
        ):
            raise ConfigError(f"--set {text}: aliases (*name) are not allowed")
        read = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise ConfigError(f"--set {text}: {value!r} is no value ({reason})") from error
    return cast("JSON", _plain(text, read))


def _plain(text: str, value: object) -> object:
    """Dates and the like back into text; numbers that YAML takes for text into numbers."""
    if isinstance(value, list):
        return [_plain(text, item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(text, item) for key, item in value.items()}
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"--set {text}: {shown(value)} is neither number nor text; quote it")


def leaves(overrides: Mapping[str, JSON], above: str = "") -> dict[str, JSON]:
    """Every value by its path."""
    found: dict[str, JSON] = {}
    for key, value in overrides.items():
        path = f"{above}.{key}" if above else key
        if isinstance(value, Mapping) and value:
            found |= leaves(value, path)
        else:
            found[path] = value
    return found


def changed(
    before: Mapping[str, JSON], after: Mapping[str, JSON], overrides: Mapping[str, JSON]
) -> tuple[str, ...]:
    """``training.epochs=1`` for every override by which the settings `after` differ from `before`.

    Both are whole sections as they were validated; one that says what the recipe says is none.
    """
    found = []
    for path, value in leaves(overrides).items():
        section = path.partition(".")[0]
        old, new = _at(before, path), _at(after, path)
        if new is _MISSING:  # forgotten once it has taken effect, as the budget of latents
            old, new = before.get(section), after.get(section)
        if old != new:
            found.append(f"{path}={_written(value)}")
    return tuple(found)


def _at(settings: JSON, path: str) -> object:
    value: object = settings
    for key in path.split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


def _written(value: JSON) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value)

"""Suites: named sets of pairs and detectors in YAML, one table each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import cast

from oodbench.errors import ConfigError, UnknownNameError
from oodbench.yamlfile import read_yaml

KEYS = {"name", "title", "pairs", "detectors", "recipe", "scale"}


@dataclass(frozen=True)
class Suite:
    """Pairs × detectors; `scale` is the one it is sized for."""

    name: str
    title: str
    pairs: tuple[str, ...]
    detectors: tuple[str, ...]
    scale: str


@cache
def suites() -> dict[str, Suite]:
    """The suites that ship with the package."""
    folder = Path(str(files("oodbench") / "suites"))
    found = [read_suite(path) for path in sorted(folder.glob("*.yaml"))]
    return {suite.name: suite for suite in found}


def find_suite(name: str) -> Suite:
    """A suite by name, or a path to a YAML file."""
    if name.endswith((".yaml", ".yml")):
        return read_suite(Path(name))
    known = suites()
    if name not in known:
        raise UnknownNameError("suite", name, known)
    return known[name]


def read_suite(path: Path) -> Suite:
    """Parse a suite file; ConfigError names the file and the key."""
    raw = read_yaml(path)
    for key in raw:
        if key not in KEYS:
            raise ConfigError(f"{path.name}: unknown key {key!r}; one of {', '.join(sorted(KEYS))}")
    for key in ("pairs", "detectors"):
        value = raw.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{path.name}: {key!r} must be a list of names")
    body = cast("Mapping[str, list[str]]", raw)
    return Suite(
        name=str(raw.get("name", path.stem)),
        title=str(raw.get("title", "")),
        pairs=tuple(body["pairs"]),
        detectors=tuple(body["detectors"]),
        scale=str(raw.get("scale", "small")),
    )

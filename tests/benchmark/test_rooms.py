"""The rooms of the code: imports go one way, in few levels, and no room is crowded."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
MOST_LEVELS = 10
MOST_MODULES = 15
#: Rooms that hold more today; they may shrink.
LARGER = {"benchmark/figures": 16, "benchmark/flow": 16}


@pytest.fixture(scope="module")
def reading() -> ModuleType:
    """What draws the map of the site; it imports nothing of MkDocs."""
    sys.path.insert(0, str(ROOT / "docs" / "hooks"))
    try:
        import site_imports
    finally:
        sys.path.pop(0)
    return site_imports


def members() -> set[str]:
    """What stands in benchmark/ itself: packages and modules."""
    found = {path.stem for path in (ROOT / "benchmark").glob("*.py")}
    return found - {"__init__", "__main__"} | {
        p.parent.name for p in (ROOT / "benchmark").glob("*/__init__.py")
    }


def test_no_module_stands_in_a_circle_of_imports(reading: ModuleType) -> None:
    assert reading.circle(reading.imports(reading.source_files())) == []


@pytest.mark.parametrize(("package", "most"), [("oodbench", MOST_LEVELS), ("oodbench.models", 3)])
def test_rooms_stand_on_few_levels(package: str, most: int, reading: ModuleType) -> None:
    graph = reading.imports(reading.source_files())
    room = {name: reading.room(name, package) for name in graph if reading.room(name, package)}
    found = reading.levels(reading.grouped(graph, room))
    assert len(found) > most / 2
    assert max(found.values()) <= most, sorted(found.items(), key=lambda item: item[1])


@pytest.mark.parametrize("top", ["benchmark", "models"])
def test_no_room_is_crowded(top: str) -> None:
    for folder in (ROOT / top, *(ROOT / top).rglob("*/")):
        own = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        name = folder.relative_to(ROOT).as_posix()
        assert len(own) <= LARGER.get(name, MOST_MODULES), f"{name} holds {len(own)} modules"


def test_every_room_has_its_layer() -> None:
    """A new room cannot stand outside the order that import-linter holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    named = {name for layer in layers for name in re.findall(r"oodbench\.(\w+)", layer)}
    assert named == members()


def test_contributing_says_what_every_room_holds() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.split("## The rooms")[1].split("\n## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?) \|", section, re.M)
             for name in re.findall(r"`(\w+)(?:/|\.py)`", row)}  # fmt: skip
    models = {p.parent.name for p in (ROOT / "models").glob("*/__init__.py")} | {"config"}
    assert named == members() | models


# --------------------------------------------------------------- what it rests on
HOUSE = {
    "__init__.py": "",
    "high.py": "import typing\nif typing.TYPE_CHECKING:\n    from pkg.mid import part\n",
    "mid/__init__.py": "from .part import thing\n",
    "mid/part.py": "def thing():\n    from .. import low\n",
    "low.py": "import os, pkg.ground\n",
    "ground.py": "import numpy\n",
}


def test_imports_are_read_wherever_they_stand(reading: ModuleType, tmp_path: Path) -> None:
    for name, text in HOUSE.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    files = reading.source_files(tmp_path, {"pkg": "src"})
    graph = reading.imports(files)
    assert graph == {
        "pkg": set(), "pkg.high": {"pkg.mid.part"}, "pkg.mid": {"pkg.mid.part"},
        "pkg.mid.part": {"pkg.low"}, "pkg.low": {"pkg.ground"}, "pkg.ground": set(),
    }  # fmt: skip
    room = {name: reading.room(name, "pkg") for name in graph if name != "pkg"}
    assert reading.levels(reading.grouped(graph, room)) == {
        "ground": 1, "low": 2, "mid": 3, "high": 4,
    }  # fmt: skip


def test_circles_and_shorter_ways_are_found(reading: ModuleType) -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert set(reading.circle(graph)) == {"a", "b", "c"}
    graph["c"] = set()
    assert reading.circle(graph) == []
    graph["d"] = {"a", "c"}
    assert reading.reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}

"""Rules of the source: which folder may import which, and what must not be imported at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "benchmark": "oodbench",
    "baselines": "oodbench.baselines",
    "models": "oodbench.models",
    "results/reference": "oodbench.reference",
}


def imports(folder: str) -> Iterator[tuple[Path, str]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                yield path, node.module or ""


def ours(name: str) -> str:
    """The folder an imported module of ours lies in, "" for anybody else's."""
    if name.startswith("oodbench.models"):
        return "models"
    if name.startswith("oodbench.baselines"):
        return "baselines"
    return "benchmark" if name == "oodbench" or name.startswith("oodbench.") else ""


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("models", {"models"}),
        ("benchmark", {"benchmark"}),
        ("baselines", {"baselines", "models", "benchmark"}),
    ],
)
def test_folders_import_only_what_they_may(folder: str, allowed: set[str]) -> None:
    for path, name in imports(folder):
        assert ours(name) in {"", *allowed}, f"{path.relative_to(ROOT)} imports {name}"


def test_packages_are_listed_for_the_wheel() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *parts]))
    assert set(settings["packages"]) == found


def test_constraints_hold_a_version_in_range_of_all_that_is_declared() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = chain(project["dependencies"], *project["optional-dependencies"].values())
    for requirement in map(Requirement, declared):
        if requirement.name != "oodbench":
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize(
    "code",
    [
        "import oodbench, oodbench.cli",
        "from oodbench.detect.detector import DETECTORS\n"
        "[DETECTORS.get(name) for name in DETECTORS.names()]",
        "from oodbench import Detector, register",
        "from oodbench.declare.recipes import find_recipe, resolve; "
        "resolve(find_recipe('F3'), 'small', 'vanilla')",
    ],
)
def test_torch_is_not_imported_where_nothing_is_computed(code: str) -> None:
    check = f"{code}\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_public_api_is_importable_and_complete() -> None:
    import oodbench

    for name in oodbench.__all__:
        assert getattr(oodbench, name) is not None
    assert callable(oodbench.leaderboard)
    with pytest.raises(AttributeError, match="no attribute 'leaderboards_'"):
        _ = oodbench.leaderboards_  # type: ignore[attr-defined]

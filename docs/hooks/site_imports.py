"""Which module imports which, read from the source itself, and the levels that follow from it.

Every import counts: inside functions and under TYPE_CHECKING as well.  Nothing is imported here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The folders of the repository by the package that each is imported as.
PACKAGES = {
    "oodbench": "benchmark", "oodbench.baselines": "baselines", "oodbench.models": "models",
}  # fmt: skip
Graph = Mapping[str, frozenset[str]]


def source_files(root: Path = ROOT, packages: Mapping[str, str] = PACKAGES) -> dict[str, Path]:
    """The file of every module, by the name it is imported as; `__main__` never is."""
    found = {}
    for package, folder in packages.items():
        for path in sorted((root / folder).rglob("*.py")):
            inside = path.relative_to(root / folder).with_suffix("").parts
            if inside[-1] == "__main__":
                continue
            parts = inside[:-1] if inside[-1] == "__init__" else inside
            found[".".join((package, *parts))] = path
    return found


def imports(files: Mapping[str, Path]) -> Graph:
    """The modules of `files` that each of them imports."""
    return {
        name: frozenset(_named(name, path, files)) - {name} for name, path in files.items()
    }  # fmt: skip


def _named(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                if full in known:
                    yield full
                elif base in known:
                    yield base


def room(name: str, package: str) -> str:
    """The package or module of `package` that a module stands in; empty for what is not in it."""
    inside = name.removeprefix(f"{package}.")
    return "" if inside == name else inside.split(".")[0]


def grouped(graph: Graph, groups: Mapping[str, str]) -> Graph:
    """The same arrows between groups of modules; what has no group is left out."""
    found: dict[str, set[str]] = {group: set() for group in groups.values()}
    for name, targets in graph.items():
        if name in groups:
            found[groups[name]] |= {groups[target] for target in targets if target in groups}
    return {group: frozenset(targets - {group}) for group, targets in found.items()}


def circle(graph: Graph) -> list[str]:
    """One circle of imports, first node repeated at its end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def levels(graph: Graph) -> dict[str, int]:
    """1 for what imports nothing, else one more than the highest that it imports.

    Raises CycleError where imports go in a circle.
    """
    found: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = 1 + max((found[target] for target in graph.get(name, ())), default=0)
    return found


def reduced(graph: Graph) -> Graph:
    """Without the arrows that a longer way implies as well."""
    reach: dict[str, frozenset[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        below = graph.get(name, frozenset())
        reach[name] = below.union(*(reach[target] for target in below))
    return {
        name: frozenset(t for t in below if not any(t in reach[other] for other in below))
        for name, below in graph.items()
    }

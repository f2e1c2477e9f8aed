"""Modules as syntax trees with what their names are bound to, read without being imported.

Importing a module of a network would import torch; so files are found by their place.  Followed
are `oodbench.baselines` and `oodbench.models`, of a plug-in its own package, and the modules that
lie beside a plug-in of a single file.  All others are known by name alone.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from oodbench.renamed import now

#: Packages of ours that are followed; the rest of oodbench decides nothing that is not in a key.
FOLLOWED = ("oodbench.baselines", "oodbench.models")
#: Folders of installed packages: what lies side by side there does not belong together.
_INSTALLED = {"site-packages", "dist-packages"}
#: How the modules of plug-in files are named (`oodbench.declare.plugin_files`).
_PLUGIN = "oodbench_plugin_"


@dataclass(frozen=True)
class Imported:
    """What an import binds a name to: `name` of a module, or the module itself ("")."""

    module: str
    name: str = ""


Binding = ast.stmt | Imported


@dataclass(eq=False)
class Module:
    """A followed module: all that binds or changes a name, in the order of the file.

    `stars` are modules of which every name was imported; `effects` are statements that change
    something of another package when the module is imported, such as torch's default type.
    """

    name: str
    file: Path
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    effects: list[ast.stmt] = field(default_factory=list)

    @property
    def is_package(self) -> bool:
        """Whether the file is that of a package."""
        return self.file.name == "__init__.py"

    @property
    def home(self) -> Path | None:
        """The folder of the outermost package, whatever the name it runs under; None of a file."""
        if "." not in self.name and not self.is_package:
            return None
        return self.file.parents[self.name.count(".") - 1 + self.is_package]

    @property
    def loose(self) -> bool:
        """Whether it is a single file, or of a plug-in file, beside which helpers may lie."""
        single = "." not in self.name and not self.is_package
        return self.name.startswith(_PLUGIN) or (single and self.file.parent.name not in _INSTALLED)


def find_module(name: str, near: Module | None = None) -> Module | None:
    """The module of a dotted name as `near` imports it; None where it is not followed."""
    name = now(name) or name
    place = _place(name, near)
    if place is None:
        return None
    for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        found = read_module(name, file)
        if found is not None:
            return found
    if near is not None and place.is_dir() and not name.startswith(FOLLOWED):
        return Module(name, place / "__init__.py")  # a package without a file of its own
    return None


def read_module(name: str, file: Path) -> Module | None:
    """A module by name and file; None where the file is not there or is no Python."""
    try:
        status = file.stat()
    except OSError:
        return None
    return _parsed(name, file, status.st_mtime_ns, status.st_size)


def loaded_module(name: str) -> Module | None:
    """A followed module by name, or one that is loaded, by its file; None without a file."""
    followed = find_module(name)
    file = getattr(sys.modules.get(name), "__file__", None)
    return followed if followed or file is None else read_module(name, Path(file))


def is_module_of_ours(name: str) -> bool:
    """Whether a dotted name below ``oodbench.`` is a module rather than a name of one."""
    home = _home("oodbench")
    name = now(name) or name
    place = home.joinpath(*name.split(".")[1:]) if home else None
    return place is not None and (place.is_dir() or place.with_name(f"{place.name}.py").is_file())


def _place(name: str, near: Module | None) -> Path | None:
    """Where a module lies: the path of its file without a suffix, or of its folder."""
    for package in FOLLOWED:
        if name == package or name.startswith(f"{package}."):
            home = _home(package)
            return home.joinpath(*name.removeprefix(package).split(".")[1:]) if home else None
    top, *below = name.split(".")
    if near is None or top == "oodbench":
        return None
    if near.home is not None and top in (near.name.partition(".")[0], near.home.name):
        return near.home.joinpath(*below)
    if not near.loose or top in sys.stdlib_module_names:
        return None
    folder = near.file.parent
    file = getattr(sys.modules.get(name), "__file__", None)
    beside = file is None or Path(file).resolve().is_relative_to(folder.resolve())
    return folder.joinpath(top, *below) if beside or near.name.startswith(_PLUGIN) else None


@cache
def _home(package: str) -> Path | None:
    """The folder of a package of ours."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) if folders else None


@lru_cache(maxsize=1024)
def _parsed(name: str, file: Path, _changed: int, _size: int) -> Module | None:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    module = Module(name, file)
    bind(module, tree.body)
    return module


def bind(module: Module, body: Sequence[ast.stmt]) -> None:
    """Enter what the statements of a module bind and change."""
    changed: list[tuple[str, ast.stmt]] = []
    for node in _unconditional(body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, imported in imports(module, node):
                if name == "*":
                    module.stars.append(imported.module)
                else:
                    module.bindings.setdefault(name, []).append(imported)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.bindings.setdefault(node.name, []).append(node)
        else:
            bound, roots = touched(node)
            for name in bound:
                module.bindings.setdefault(name, []).append(node)
            changed += [(name, node) for name in roots - bound]
    for name, node in changed:
        held = module.bindings.get(name, ())
        if not all(isinstance(binding, Imported) for binding in held):
            module.bindings[name].append(node)
        elif any(_counts(binding) for binding in held) and node not in module.effects:
            module.effects.append(node)


def imports(module: Module, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Imported]]:
    """Names that an import statement binds, and to what."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.asname:
                yield alias.asname, Imported(alias.name)
            else:
                yield alias.name.partition(".")[0], Imported(alias.name.partition(".")[0])
        return
    above = module.name.split(".")
    if node.level:
        above = above[: len(above) + module.is_package - node.level]
    base = ".".join([*(above if node.level else ()), *([node.module] if node.module else ())])
    for alias in node.names:
        yield alias.asname or alias.name, Imported(base, "" if alias.name == "*" else alias.name)


def is_type_checking(node: ast.expr) -> bool:
    """Whether a test is `TYPE_CHECKING`."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name == "TYPE_CHECKING"


def touched(node: ast.AST) -> tuple[set[str], set[str]]:
    """Names that a statement of a module binds, and names whose objects it changes."""
    bound: set[str] = set()
    roots: set[str] = set()
    for part in _shallow(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(part.name)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            bound |= {a.asname or a.name.partition(".")[0] for a in part.names}
        elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            bound.add(part.id)
        elif isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
            roots |= _root(part)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            called = part.value.func
            if isinstance(called, ast.Attribute):
                roots |= _root(called)
            elif isinstance(called, ast.Name) and called.id == "setattr" and part.value.args:
                roots |= _root(part.value.args[0])
    return bound, roots


def _unconditional(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements without what is there for type checkers alone."""
    for node in body:
        if isinstance(node, ast.If) and is_type_checking(node.test):
            yield from _unconditional(node.orelse)
        else:
            yield node


def _shallow(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, not entering functions, classes and comprehensions."""
    yield node
    if not isinstance(
        node,
        ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
        | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp,
    ):  # fmt: skip
        for child in ast.iter_child_nodes(node):
            yield from _shallow(child)


def _root(node: ast.expr) -> set[str]:
    """The name that a chain of attributes, items and calls begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _counts(binding: Binding) -> bool:
    """Whether a change of what was imported can change a number: of loggers and paths it cannot."""
    if not isinstance(binding, Imported):
        return False
    top = binding.module.partition(".")[0]
    if top == "oodbench":
        return binding.module.startswith(FOLLOWED)
    return top == "random" or top not in sys.stdlib_module_names

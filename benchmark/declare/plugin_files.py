"""Plug-ins that are files: run as modules of their own, with the modules that stand beside them.

A file that is named with ``--plugin`` may import its neighbours as a script would (``from helper
import f``) or as a module of a package would (``from .helper import f``).  Several such files may
each have a ``helper.py``: neighbours are modules below the plug-in's own, found for the importing
file alone, so that nothing is put on Python's path and no two of them are mixed up.

    one/detector.py  oodbench_plugin_detector    one/helper.py  oodbench_plugin_detector.helper
    two/detector.py  oodbench_plugin_detector_2  two/helper.py  oodbench_plugin_detector_2.helper

No bytecode is read or written: an edit within the same second would otherwise run the old code.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from oodbench.errors import PluginError

PREFIX = "oodbench_plugin_"


def run_file(source: str) -> Path:
    """Run the file as a module of its own; its path.  PluginError where it is no Python file."""
    path = Path(source)
    if not path.is_file():
        raise PluginError(f"plug-in {source!r}: there is no such file")
    if path.suffix != ".py":
        raise PluginError(f"plug-in {source!r} is not a Python file")
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    package = _package_of(path)
    if package is None:
        _run(_free_name(path), path, path.parent)
        return path
    below = path.resolve().relative_to(package).with_suffix("").parts
    installed = PathFinder.find_spec(package.name)
    if installed is not None and installed.origin == str(package / "__init__.py"):
        importlib.import_module(".".join([package.name, *below]))
        return path
    root = _free_name(package / "__init__.py", package.name)
    _run(root, package / "__init__.py", package)
    importlib.import_module(".".join([root, *below]))
    return path


def _package_of(path: Path) -> Path | None:
    """The outermost package of a file that imports relatively; None for one that stands alone."""
    tree = ast.parse(path.read_bytes(), str(path))
    if not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        return None
    found = None
    for folder in path.resolve().parents:
        if not (folder / "__init__.py").is_file():
            break
        found = folder
    return found


def _free_name(path: Path, stem: str = "") -> str:
    """``oodbench_plugin_<stem>``, numbered where another file has it."""
    stem = stem or path.stem
    name, number = f"{PREFIX}{stem}", 1
    while _is_of_another_file(name, path):
        number += 1
        name = f"{PREFIX}{stem}_{number}"
    return name


def _is_of_another_file(module: str, path: Path) -> bool:
    held = getattr(sys.modules.get(module), "__file__", None)
    return held is not None and Path(held).resolve() != path.resolve()


def _run(name: str, path: Path, beside: Path) -> None:
    """Run a file anew under a name; what stands in `beside` are its submodules."""
    for known in [known for known in sys.modules if known.startswith(f"{name}.")]:
        del sys.modules[known]
    spec = spec_from_file_location(
        name, path, loader=_Loader(name, str(path)), submodule_search_locations=[str(beside)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise


class _Finder:
    """Finds the submodules of plug-ins."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` says."""
        if not name.startswith(PREFIX) or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
            spec.cached = None
        return spec


class _Loader(SourceFileLoader):
    """Compiles a plug-in's file with the names of its neighbours written out."""

    def get_code(self, fullname: str) -> CodeType:
        """Of the source as it is now."""
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        whole = ast.fix_missing_locations(_Neighbours(self.name, path).visit(tree))
        return self.source_to_code(whole, path)


class _Neighbours(ast.NodeTransformer):
    """``import helper`` in a plug-in becomes ``import oodbench_plugin_x.helper as helper``."""

    def __init__(self, module: str, path: str) -> None:
        self.module, self.path = module, path

    def visit_Import(self, node: ast.Import) -> ast.AST | list[ast.AST]:
        """Each name on a line of its own."""
        out: list[ast.AST] = []
        for alias in node.names:
            whole = neighbour(alias.name, self.module, self.path)
            if whole is None:
                out.append(ast.Import([alias]))
            elif alias.asname or "." not in alias.name:
                out.append(ast.Import([ast.alias(whole, alias.asname or alias.name)]))
            else:
                top, _, below = alias.name.partition(".")
                out.append(ast.Import([ast.alias(whole)]))
                out.append(ast.Import([ast.alias(whole.removesuffix(f".{below}"), top)]))
        return [ast.copy_location(found, node) for found in out]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """The module that names are taken from."""
        whole = neighbour(node.module, self.module, self.path) if node.module else None
        if node.level or whole is None:
            return node
        return ast.copy_location(ast.ImportFrom(whole, node.names, 0), node)


def neighbour(name: str, module: str, path: str) -> str | None:
    """The whole name of the neighbour that ``import name`` means in the file of `module`.

    None where it means an installed module: one of Python's own, of oodbench, or none that stands
    beside the file or is its package.
    """
    top = name.partition(".")[0]
    if not module.startswith(PREFIX) or top in sys.stdlib_module_names or top == "oodbench":
        return None
    root = module.partition(".")[0]
    home = getattr(sys.modules.get(root), "__file__", None)
    if home is not None and Path(home).name == "__init__.py" and Path(home).parent.name == top:
        return ".".join([root, *name.split(".")[1:]])
    folder = Path(path).parent
    if not ((folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()):
        return None
    is_package = module == root or Path(path).name == "__init__.py"
    above = module if is_package else module.rpartition(".")[0]
    return f"{above}.{name}"

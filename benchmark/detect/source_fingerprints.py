"""A hash of the source that a result comes from, to notice a change without a new `revision`.

Keys hold revisions, not sources: a comment must not throw a week of training away.  So each record
keeps the hash of its detector's source (and of its model's), and whoever prints stored results
compares it with the source of today.  What is hashed is the syntax tree without docstrings; blank
space and comments do not count.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON, digest
from oodbench.errors import PluginError

if TYPE_CHECKING:
    from oodbench.declare.recipes import Recipe
    from oodbench.detect.detector import Detector
    from oodbench.store.store import Entry

#: Packages whose imports are followed; the rest of oodbench decides nothing that is not in a key.
FOLLOWED = ("oodbench.baselines", "oodbench.models")
#: Modules of base classes that compute nothing.
CONTRACT = {"builtins", "oodbench.detect.detector", "oodbench.detect.score_functions"}
_IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}
#: What a detector declares to the conformance suite alone; no number can depend on it.
_DECLARED = {"one_sided", "unoriented"}


def source_record(detector: Detector, recipe: Recipe | None) -> dict[str, JSON]:
    """What a record keeps: name, revision and source hash of the detector and of the model.

    With the model, how often the settings of its recipe and of the companions have changed their
    meaning (`oodbench.declare.recipes.Recipe.settings_revision`).
    """
    cls: type = type(detector)
    parts: dict[str, JSON] = {
        "detector": _part(detector.name, detector.revision, detector_source(cls))
    }
    if recipe is not None:
        config = type(recipe.config)
        model = _part(config.name, config.revision, model_source(config))
        settings = sum(r.settings_revision for r in (recipe, *detector.companion_recipes))
        parts["model"] = model | ({"settings_revision": settings} if settings else {})
    return parts


def _part(name: str, revision: int, source: str | None) -> dict[str, JSON]:
    return {"name": name, "revision": revision, "sha256": source}


@cache
def detector_source(cls: type) -> str | None:
    """Hash of the modules of a detector's classes and of what they import; None without a file."""
    own = {c.__module__ for c in cls.__mro__} - CONTRACT
    return None if any(_tree(name) is None for name in own) else _digest(own, "")


@cache
def model_source(config: type) -> str | None:
    """Hash of the modules that a model's configuration class builds from; None without a file.

    The configurations of oodbench stand in one module that is left out: their fields are in the
    key, one by one.  That of a plug-in may hold the network, and counts.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(config)))
    except (OSError, TypeError):
        return None
    if not config.__module__.startswith(FOLLOWED):
        return _digest([config.__module__], "")
    network = str(getattr(config, "network_class", "")).partition(":")[0]
    return _digest([network] if network else _imports(tree, config.__module__), config.__module__)


def changed_sources(entries: Iterable[Entry]) -> list[str]:
    """One line that names every detector and model that changed since results were stored.

    Only such as are registered here under the recorded revision can be compared.
    """
    from oodbench.declare.recipes import MODELS
    from oodbench.detect.detector import DETECTORS

    found: dict[tuple[str, str, int], None] = {}
    changed: set[str] = set()
    for entry in entries:
        source = entry.record.get("source")
        if not isinstance(source, Mapping):
            continue
        for kind, part in source.items():
            held = cast("Mapping[str, JSON]", part)
            name = str(held["name"])
            registry = DETECTORS if kind == "detector" else MODELS
            if name not in registry.names():
                continue
            try:
                cls = cast(type, registry.get(name))
            except PluginError:
                continue
            now = detector_source(cls) if kind == "detector" else model_source(cls)
            revision = int(cast(int, held["revision"]))
            comparable = now is not None and getattr(cls, "revision", 1) == revision
            if comparable and held["sha256"] not in (None, now):
                found[kind, name, revision] = None
                changed.add(entry.digest)
    if not found:
        return []
    names = {
        kind: [repr(name) for k, name, _ in found if k == kind] for kind in ("detector", "model")
    }
    who = " and ".join(
        f"{kind}{'s' if len(known) > 1 else ''} {', '.join(known)}"
        for kind, known in names.items()
        if known
    )
    if len(found) == 1:
        ((_, _, revision),) = found
        still = f"its revision is still {revision}"
    else:
        still = "their revisions are the same"
    results = f"{len(changed)} stored result{'s' if len(changed) > 1 else ''}"
    return [
        f"the source of {who} is not that of {results}, but {still}; if numbers change, set a new"
        " `revision` and run again"
    ]


def _digest(modules: Iterable[str], left_out: str) -> str | None:
    hashes: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        module = None if name in hashes or name == left_out else _module(name)
        if module is not None:
            hashes[name] = module[0]
            waiting += module[1]
    return digest(cast(JSON, hashes)) if hashes else None


@cache
def _tree(module: str) -> ast.Module | None:
    """The syntax tree of a module's file; None for one that has none (a notebook, a C module).

    The file is found without importing the module, which might import torch.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    package = next((name for name in FOLLOWED if module.startswith(f"{name}.")), None)
    package = package or module.partition(".")[0]
    if file is None and package != module:
        home = getattr(importlib.import_module(package), "__file__", None)
        below = module.removeprefix(f"{package}.").split(".")
        file = f"{Path(str(home)).parent.joinpath(*below)}.py"
    try:
        return ast.parse(Path(str(file)).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


@cache
def _module(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Hash of a module's source, and the modules to follow from there."""
    tree = _tree(name)
    if tree is None:
        return None
    text = hashlib.sha256(_skeleton(tree).encode()).hexdigest()
    return text, tuple(_imports(tree, name))


def _imports(tree: ast.AST, module: str) -> Iterator[str]:
    """What a module imports, anywhere in its tree: of oodbench the followed packages, of a
    plug-in its own package."""
    followed = FOLLOWED if module.startswith("oodbench.") else (f"{module.partition('.')[0]}.",)
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.startswith(followed))


def _skeleton(node: object) -> str:
    """A syntax tree as text, the same in every Python version that reads the same code."""
    if isinstance(node, list):
        return f"[{','.join(map(_skeleton, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name in _IGNORED or value is None or value == []:
            continue
        if name == "body" and isinstance(value, list) and _is_docstring(value[0]):
            value = value[1:]
        if isinstance(value, list):
            value = [part for part in value if not _is_declaration(part)]
        fields.append(f"{name}={_skeleton(value)}")
    return f"{type(node).__name__}({','.join(sorted(fields))})"


def _is_declaration(node: object) -> bool:
    """Whether a statement assigns to one of `_DECLARED`."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return any(isinstance(target, ast.Name) and target.id in _DECLARED for target in targets)


def _is_docstring(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )

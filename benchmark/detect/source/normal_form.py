"""The normal form of a definition: what it does, as text in which other definitions are references.

Left out are docstrings, annotations, names of modules and of what stands at their top, the words
of errors, and what a detector declares beside its numbers.  What is not followed stands by its
dotted name, so that another way to import it changes nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from functools import cache

from oodbench.detect.source.definitions import (
    Definition,
    External,
    Target,
    lookup,
    member,
    resolve,
)
from oodbench.detect.source.modules import (
    Imported,
    Module,
    find_module,
    imports,
    is_type_checking,
)
from oodbench.detect.source.scopes import (
    Comprehension,
    Scope,
    block_scope,
    comprehension_scope,
    function_scope,
)

#: What a detector says of itself to people and to the conformance suite; no number depends on it.
DECLARED = {"title", "cite", "cost", "one_sided", "unoriented"}
#: Revisions are compared by themselves.
REVISIONS = {"revision", "measure_revision"}
_REGISTERS = (External("oodbench:register"), External("oodbench:score_function"))
_DETECTORS = ("oodbench:Detector", "oodbench:ScoreFunction", "oodbench:ReferencedScoreFunction")
_IGNORED = {
    "annotation", "ctx", "kind", "lineno", "returns", "simple", "type_comment", "type_ignores",
    "type_params",
}  # fmt: skip
#: A dotted name in a text, as configurations name their network.
_POINTER = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+:[A-Za-z_]\w*")

Parts = Sequence[str | Definition]


@cache
def normal_form(definition: Definition) -> Parts:
    """Text of a definition, with the definitions that it refers to between its pieces."""
    parts: list[str | Definition] = []
    for binding in definition.module.bindings[definition.name]:
        writer = _Writer(definition.module)
        if isinstance(binding, Imported):
            writer.target(resolve(definition.module, binding))
        elif isinstance(binding, ast.FunctionDef | ast.AsyncFunctionDef):
            writer.function(binding, name="")
        elif isinstance(binding, ast.ClassDef):
            writer.class_(binding, name="")
        else:
            writer.node(binding)
        parts += [*writer.parts, ";"]
    return parts


@cache
def effects(module: Module) -> Parts:
    """Text of what importing a module changes elsewhere."""
    writer = _Writer(module)
    writer.block(module.effects)
    return writer.parts


def _is_detector(target: Target | None, depth: int = 0) -> bool:
    """Whether a name stands for a subclass of `oodbench.Detector`."""
    if isinstance(target, External):
        return target.name in _DETECTORS
    if not isinstance(target, Definition) or depth > 50:
        return False
    writer = _Writer(target.module)
    return any(
        _is_detector(writer.chain(base), depth + 1)
        for binding in target.module.bindings[target.name]
        if isinstance(binding, ast.ClassDef)
        for base in binding.bases
    )


class _Writer:
    """Writes nodes of one module; `scopes` are those around the node, a class marked True."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.parts: list[str | Definition] = []
        self.scopes: list[tuple[bool, Scope]] = []

    def text(self, text: str) -> None:
        self.parts.append(text)

    def target(self, target: Target) -> None:
        """A reference; a module that is used as a value stands for all that it defines."""
        if isinstance(target, External):
            self.text(target.name)
        elif isinstance(target, Definition):
            self.parts.append(target)
        else:
            self.text("module(")
            for name in sorted(target.bindings):
                self.target(lookup(target, name))
            self.text(")")

    def node(self, node: object) -> None:
        """Any value of a field of a syntax tree."""
        if isinstance(node, list):
            self.block(node)
            return
        if not isinstance(node, ast.AST):
            self.text(repr(node))
            return
        special = getattr(self, f"_{type(node).__name__}", None)
        if special is not None:
            special(node)
        elif isinstance(node, Comprehension):
            self.scopes.append((False, comprehension_scope(node)))
            self._fields(node)
            self.scopes.pop()
        else:
            self._fields(node)

    def block(self, nodes: Iterable[object]) -> None:
        """A list of nodes, without statements that do nothing."""
        self.text("[")
        for node in nodes:
            before = len(self.parts)
            if not _is_idle(node):
                self.node(node)
            if len(self.parts) > before:
                self.text(",")
        self.text("]")

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> None:
        """A function; `name` where it is not that of a module."""
        self.text(f"{type(node).__name__} {name}(")
        self._decorators(node.decorator_list)
        self._arguments(node.args)
        self.scopes.append((False, function_scope(node, self.module)))
        self.block(node.body)
        self.scopes.pop()
        self.text(")")

    def class_(self, node: ast.ClassDef, name: str) -> None:
        """A class; `name` where it is not that of a module."""
        bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
        detector = any(_is_detector(self.chain(base)) for base in bases)
        left_out = REVISIONS | (DECLARED if detector else set())
        self.text(f"ClassDef {name}(")
        self._decorators(node.decorator_list)
        self.block(bases)
        self.block(node.keywords)
        self.scopes.append((True, block_scope(node.body, self.module)))
        self.block(part for part in node.body if not _assigns(part, left_out))
        self.scopes.pop()
        self.text(")")

    # ------------------------------------------------------------------ kinds of nodes
    def _FunctionDef(self, node: ast.FunctionDef) -> None:
        self.function(node, node.name)

    def _AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.function(node, node.name)

    def _ClassDef(self, node: ast.ClassDef) -> None:
        self.class_(node, node.name)

    def _Lambda(self, node: ast.Lambda) -> None:
        self.text("Lambda(")
        self._arguments(node.args)
        self.scopes.append((False, function_scope(node, self.module)))
        self.node(node.body)
        self.scopes.pop()
        self.text(")")

    def _arg(self, node: ast.arg) -> None:
        self.text(f"arg {node.arg}")

    def _Name(self, node: ast.Name) -> None:
        found = self._name(node.id)
        if found is None:
            self.text(f"Name({node.id})")
        else:
            self.target(found)

    def _Attribute(self, node: ast.Attribute) -> None:
        found = self.chain(node)
        if found is not None:
            self.target(found)
            return
        self.text("Attribute(")
        self.node(node.value)
        self.text(f".{node.attr})")

    def _Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and _POINTER.fullmatch(node.value):
            module, _, name = node.value.partition(":")
            owner = find_module(module, self.module)
            if owner is not None:
                self.target(lookup(owner, name))
                return
        self.text(f"{type(node.value).__name__} {node.value!a}")

    def _Call(self, node: ast.Call) -> None:
        if len(node.args) == 2 and self.chain(node.func) == External("typing.cast"):
            self.node(node.args[1])
        else:
            self._fields(node)

    def _AnnAssign(self, node: ast.AnnAssign) -> None:
        assert node.value is not None  # else it is idle
        self.node(ast.Assign(targets=[node.target], value=node.value))

    def _Raise(self, node: ast.Raise) -> None:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        self.text("Raise(")
        self.node(kind)
        self.text(")")

    def _Assert(self, node: ast.Assert) -> None:
        self.text("Assert(")
        self.node(node.test)
        self.text(")")

    def _Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Only where the name is bound in other ways too: else it is followed where it is used."""
        for name, imported in imports(self.module, node):
            if self._name(name) is None or not self.scopes:
                self.text(f"import {name}=")
                self.target(resolve(self.module, imported))

    _ImportFrom = _Import

    def _If(self, node: ast.If) -> None:
        if is_type_checking(node.test):
            self.block(node.orelse)
        else:
            self._fields(node)

    # ------------------------------------------------------------------ parts
    def _fields(self, node: ast.AST) -> None:
        self.text(f"{type(node).__name__}(")
        for name, value in ast.iter_fields(node):
            if name not in _IGNORED and value is not None and value != []:
                self.text(f"{name}=")
                self.node(value)
        self.text(")")

    def _arguments(self, node: ast.arguments) -> None:
        self._fields(node)

    def _decorators(self, nodes: Iterable[ast.expr]) -> None:
        for node in nodes:
            self.text("@")
            if isinstance(node, ast.Call) and self.chain(node.func) in _REGISTERS:
                for keyword in node.keywords:
                    if keyword.arg not in DECLARED | REVISIONS:
                        self.node(keyword)
            else:
                self.node(node)

    def _name(self, name: str) -> Target | None:
        """What a name stands for; None for one that a function or class binds itself."""
        for number, (of_class, scope) in enumerate(reversed(self.scopes)):
            if name in scope and not (of_class and number):
                imported = scope[name]
                return None if imported is None else resolve(self.module, imported)
        return lookup(self.module, name)

    def chain(self, node: ast.expr) -> Target | None:
        """What a name or an attribute of a module stands for; None for any other expression."""
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if not isinstance(node, ast.Attribute):
            return None
        owner = self.chain(node.value)
        return member(owner, node.attr) if isinstance(owner, Module | External) else None


def _is_idle(node: object) -> bool:
    """Whether a statement does nothing: a text or `...` by itself, an annotation, `pass`."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Pass | ast.Global | ast.Nonlocal)


def _assigns(node: ast.stmt, names: set[str]) -> bool:
    """Whether a statement does nothing but assign to one of `names`."""
    targets: Sequence[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return bool(targets) and all(isinstance(t, ast.Name) and t.id in names for t in targets)

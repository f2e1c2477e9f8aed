"""Which names a function, class or comprehension binds itself; all others are its module's."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from oodbench.detect.source.modules import Imported, Module, imports

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
#: Names bound in a scope: None for a value of its own, else what was imported there.
Scope = dict[str, Imported | None]


def function_scope(node: Function, module: Module) -> Scope:
    """Names of a function: parameters, and all that its body binds."""
    a = node.args
    arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    scope: Scope = {argument.arg: None for argument in arguments}
    body: Sequence[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
    return scope | block_scope(body, module)


def block_scope(body: Sequence[ast.AST], module: Module) -> Scope:
    """Names that the statements of a function or class bind, in no scope below."""
    scope: Scope = {}
    elsewhere: set[str] = set()
    imported: Scope = {}
    for node in body:
        for part in _within(node):
            if isinstance(part, ast.Global | ast.Nonlocal):
                elsewhere |= set(part.names)
            elif isinstance(part, ast.Import | ast.ImportFrom):
                imported |= dict(imports(module, part))
            else:
                scope |= dict.fromkeys(_binds(part))
    return {k: v for k, v in (imported | scope).items() if k not in elsewhere}


def comprehension_scope(node: Comprehension) -> Scope:
    """Names of the loops of a comprehension."""
    parts = (part for generator in node.generators for part in ast.walk(generator.target))
    return {part.id: None for part in parts if isinstance(part, ast.Name)}


def _binds(part: ast.AST) -> list[str]:
    if isinstance(part, ast.Name):
        return [] if isinstance(part.ctx, ast.Load) else [part.id]
    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [part.name]
    if isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return [part.name] if part.name else []
    if isinstance(part, ast.MatchMapping):
        return [part.rest] if part.rest else []
    return []


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it in the same scope; of a comprehension what it binds outside."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        below: Sequence[ast.AST] = [*node.decorator_list, node.args]
    elif isinstance(node, ast.ClassDef):
        below = [*node.decorator_list, *node.bases, *node.keywords]
    elif isinstance(node, ast.Lambda):
        below = [node.args]
    elif isinstance(node, Comprehension):
        yield from (part.target for part in ast.walk(node) if isinstance(part, ast.NamedExpr))
        return
    else:
        below = list(ast.iter_child_nodes(node))
    for child in below:
        yield from _within(child)

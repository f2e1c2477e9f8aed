"""What a name stands for, followed through imports and re-exports to where it is defined."""

from __future__ import annotations

from dataclasses import dataclass

from oodbench.detect.source.modules import (
    Imported,
    Module,
    find_module,
    is_module_of_ours,
)


@dataclass(frozen=True)
class Definition:
    """A name of a followed module: a function, a class or a value."""

    module: Module
    name: str


@dataclass(frozen=True)
class External:
    """Something that is not followed, by its dotted name; of oodbench the last part is kept.

    `is_module` where that is known; attributes of modules belong to the name.
    """

    name: str
    is_module: bool = False


Target = Definition | External | Module


def lookup(module: Module, name: str) -> Target:
    """What a global name of a module stands for; a built-in where nothing binds it."""
    return _lookup(module, name, frozenset())


def resolve(module: Module, imported: Imported) -> Target:
    """What an import of `module` binds."""
    return _resolve(module, imported, frozenset())


def member(owner: Module | External, name: str) -> Target | None:
    """The attribute `name` of a module; None of an object of oodbench, which is not looked into."""
    return _member(owner, name, frozenset())


def _lookup(module: Module, name: str, seen: frozenset[tuple[str, str]]) -> Target:
    if (module.name, name) in seen:
        return External(name)  # imports in a circle
    seen |= {(module.name, name)}
    bindings = module.bindings.get(name, [])
    if bindings and all(isinstance(binding, Imported) for binding in bindings):
        last = bindings[-1]
        assert isinstance(last, Imported)
        return _resolve(module, last, seen)
    if bindings:
        return Definition(module, name)
    for star in module.stars:
        owner = find_module(star, module)
        if owner is not None and (name in owner.bindings or owner.stars):
            found = _lookup(owner, name, seen)
            if found != External(name):
                return found
    return External(name)


def _resolve(module: Module, imported: Imported, seen: frozenset[tuple[str, str]]) -> Target:
    owner: Module | External = find_module(imported.module, module) or External(
        imported.module, is_module=True
    )
    if not imported.name:
        return owner
    return _member(owner, imported.name, seen) or External(imported.name)


def _member(owner: Module | External, name: str, seen: frozenset[tuple[str, str]]) -> Target | None:
    if isinstance(owner, Module):
        found = _lookup(owner, name, seen)
        below = find_module(f"{owner.name}.{name}", owner) if found == External(name) else None
        return below or found
    dotted = f"{owner.name}.{name}"
    if owner.name.partition(".")[0] != "oodbench":
        return External(dotted)
    if not owner.is_module:
        return None
    followed = find_module(dotted)
    if followed is not None:
        return followed
    if is_module_of_ours(dotted):
        return External(dotted, is_module=True)
    return External(f"oodbench:{name}")

"""Functions and classes as Markdown, where a page names one after ``:::``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module

from site_text import doc_of, escaped, table

#: A bar outside code; inside code a table leaves it alone.
CODE_BAR = re.compile(r"\|(?=(?:[^`]*`[^`]*`)*[^`]*$)")
REST = "::: everything else"
NAMED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def with_references(markdown: str) -> str:
    """A page with every ``::: module.name`` replaced by what that object says of itself.

    ``::: everything else`` stands for the public names of `oodbench` that no line names.
    """
    if REST in markdown:
        named = {path.rpartition(".")[2] for path in NAMED.findall(markdown)}
        left = [name for name in import_module("oodbench").__all__ if name not in named]
        markdown = markdown.replace(REST, "\n\n".join(f"::: oodbench.{name}" for name in left))
    return NAMED.sub(lambda found: "\n".join(_object(found[1])), markdown)


def _object(path: str) -> Iterator[str]:
    home, _, name = path.rpartition(".")
    thing = getattr(import_module(home), name)
    shown = f"oodbench.{name}" if hasattr(import_module("oodbench"), name) else path
    yield f"### {escaped(name)}\n"
    if inspect.isclass(thing) and issubclass(thing, Exception):
        yield f"`{shown}`: {_doc(thing)}"
        return
    yield f"```python\n{_signature(thing, shown)}\n```\n"
    yield _doc(thing)
    if inspect.isclass(thing):
        yield from _members(thing)


def _signature(thing: object, name: str) -> str:
    """``name(…) -> …``, an argument a line where it is long."""
    if not callable(thing):
        return name
    try:
        found = inspect.signature(thing)
    except ValueError:
        return name
    short = f"{name}{_unquoted(str(found))}"
    if len(short) <= 88:
        return short
    lines, keyword_only = [], False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            lines.append("    *,")
            keyword_only = True
        lines.append(f"    {_unquoted(str(parameter))},")
    returned = found.return_annotation
    arrow = "" if returned is inspect.Signature.empty else f" -> {returned}"
    return "\n".join([f"{name}(", *lines, f"){arrow}"])


def _unquoted(text: str) -> str:
    """Annotations that are not evaluated stand in quotes; without them."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def _doc(thing: object) -> str:
    return doc_of(thing) + "\n"


def _members(cls: type) -> Iterator[str]:
    """Public methods and properties of a class itself, in the order of its source."""
    rows = []
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        inner = member.fget if isinstance(member, property) else member
        inner = inner.__func__ if isinstance(inner, classmethod | staticmethod) else inner
        if not inspect.isfunction(inner):
            continue
        call = name if isinstance(member, property) else f"{name}{_parameters(inner)}"
        first = doc_of(inner).split("\n\n")[0].replace("\n", " ")
        rows.append((f"`{call}`", CODE_BAR.sub(r"\\|", first)))
    if rows:
        yield table(["member", ""], rows)


def _parameters(function: object) -> str:
    """``(train, context)``: the parameters' names."""
    assert callable(function)
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    return f"({', '.join(names)})"

"""Reading YAML declarations: the safe loader, no duplicate keys, no aliases, errors in one line.

Every bound is checked here before the library meets it, so that a refusal reads the same under
every version of it: the nesting of brackets in the text itself (the library looks ahead), then
aliases, tags and the nesting of the events, all before anything is built from them.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from oodbench.errors import ConfigError

if TYPE_CHECKING:
    _Base = yaml.SafeLoader
else:
    _Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
#: What PyYAML's constructors raise on scalars that do not match their tag, beside its own errors.
_CONSTRUCTION = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
#: Quoted scalars and comments, whose brackets do not count, and brackets, which do.
_BRACKETS = re.compile(
    r"""(?<![^\s\[{,:])(?:"(?:\\.|[^"\\])*"|'[^']*')|(?<!\S)\#[^\n]*|[\[\]{}]""", re.DOTALL
)
#: What an explicit tag may name: plain values, nothing that is an object.
_TAGS = set(filter(None, yaml.SafeLoader.yaml_constructors))


class _Loader(_Base):
    """Refuses duplicate keys."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _check_brackets(path: Path, text: str) -> None:
    """ConfigError where lists and mappings in brackets nest too deeply."""
    depth = 0
    for found in _BRACKETS.finditer(text):
        if found[0] in ("[", "{"):
            depth += 1
        elif found[0] in ("]", "}"):
            depth = max(0, depth - 1)
        if depth > MAX_DEPTH:
            raise _too_deep(path, text.count("\n", 0, found.start()) + 1)


def _too_deep(path: Path, line: int) -> ConfigError:
    return ConfigError(f"{path}, line {line}: nested more than {MAX_DEPTH} levels deep")


def _check_events(path: Path, text: str) -> None:
    """ConfigError on aliases (a small file could grow without bound), on tags of objects and on
    deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(
                f"{path}, line {line}: aliases (*name) are not allowed; write the value out"
            )
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _TAGS:
            raise ConfigError(
                f"{path}, line {line}: the tag {tag} is not allowed; leave it out and write the"
                " value as it is"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _too_deep(path, line)


def read_yaml(path: Path) -> dict[str, object]:
    """The mapping in a YAML file; ConfigError with file and line where it is not one."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a file; give the path of a YAML file")
        if status.st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes; that is no declaration")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    try:
        _check_brackets(path, text)
        _check_events(path, text)
        value = _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: {error.problem}") from error
    except (yaml.YAMLError, *_CONSTRUCTION) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path} is not valid YAML: {reason}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a mapping (key: value), not {type(value).__name__}")
    return value

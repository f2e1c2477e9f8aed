"""What of a data set's name leaves this machine: that of a file or folder, not where it lies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TypeVar

from oodbench.canonical_json import JSON

T = TypeVar("T", bound=JSON)


def shown_name(name: str) -> str:
    """A data set's name; of a path only its last part, with the variants."""
    base, *variants = name.split("@")
    return "@".join([base.rstrip("/").rsplit("/", 1)[-1] or base, *variants])


class NamesOnly:
    """Texts without the folders of the sets that are named; what else they hold stays."""

    def __init__(self, names: Iterable[str]) -> None:
        bases = {name.split("@")[0] for name in names}
        self._shown = {base: shown_name(base) for base in bases if "/" in base}
        home = os.path.expanduser("~").rstrip("/")
        known = "|".join(re.escape(base) for base in sorted(self._shown, key=len, reverse=True))
        also = rf"|(?<![\w/]){re.escape(home)}/(?:[^\s/:;,'\"]+/)*" if len(home) > 1 else ""
        self._pattern = re.compile(f"(?:{known or '(?!)'}){also}")

    def text(self, text: str) -> str:
        """A text of one or more lines."""
        return self._pattern.sub(lambda found: self._shown.get(found[0], ""), text)

    def of(self, value: T) -> T:
        """Every text in JSON, the keys of mappings aside."""
        return self._of(value)  # type: ignore[return-value]

    def _of(self, value: JSON) -> JSON:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self._of(item) for item in value]
        if isinstance(value, dict):
            return {name: self._of(item) for name, item in value.items()}
        return value

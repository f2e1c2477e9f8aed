"""The files of docs/plugins.md, so that what is documented is what is tested."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
_BLOCK = re.compile(r'^```[a-z]+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def examples() -> dict[str, str]:
    """Text of every titled block, by its title."""
    return dict(_BLOCK.findall(PAGE.read_text(encoding="utf-8")))


def write_examples(folder: Path, *names: str) -> None:
    """Write some of them into a folder, with their folders."""
    held = examples()
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(held[name], encoding="utf-8")

"""Pages that stand in the root of the repository: how to contribute, and what changed."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = {
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}


def root_pages() -> dict[str, str]:
    """Their text by the page's path."""
    return {page: (ROOT / name).read_text(encoding="utf-8") for page, name in FILES.items()}

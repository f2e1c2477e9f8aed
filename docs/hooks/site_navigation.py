"""The order of the pages; one that is not there is left out, one that is not named stands last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SECTIONS: dict[str, tuple[str, ...]] = {
    "Use": (
        "numbers.md", "pitfalls.md", "papers.md", "python.md", "figures.md", "sweeps.md",
        "report.md", "practical.md",
    ),
    "Extend": ("adding.md", "plugins.md", "check.md", "data.md"),
    "Methods": ("detectors/index.md", "recipes.md", "dvp.md"),
    "Design": ("architecture.md", "store.md"),
    "Reference": ("reference/cli.md", "reference/api.md"),
    "Project": ("contributing.md", "changelog.md"),
}  # fmt: skip
HOME = "index.md"
DETECTORS = "detectors/"
PAGES = {HOME, *(page for pages in SECTIONS.values() for page in pages)}


def navigation(there: Iterable[str]) -> list[Any]:
    """MkDocs' navigation of the pages that exist; titles are those of the pages themselves."""
    found = set(there)
    nav: list[Any] = [{"Quick start": HOME}]
    for title, pages in SECTIONS.items():
        listed: list[Any] = [page for page in pages if page in found]
        if title == "Methods":
            members = sorted(p for p in found if p.startswith(DETECTORS) and p not in pages)
            listed[0] = {"Detectors": [{"All detectors": pages[0]}, *members]}
        if listed:
            nav.append({title: listed})
    known = PAGES | {page for page in found if page.startswith(DETECTORS)}
    return [*nav, *sorted(found - known)]

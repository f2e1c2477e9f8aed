"""The order of the pages; one that is not there is left out, one that is not named stands last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SECTIONS: dict[str, tuple[str, ...]] = {
    "Use": (
        "questions.md", "numbers.md", "pitfalls.md", "papers.md", "python.md", "figures.md",
        "sweeps.md", "report.md", "practical.md", "gpu.md", "cluster.md", "terminal.md",
        "datasets/index.md",
    ),
    "Extend": ("adding.md", "plugins.md", "models.md", "check.md", "data.md"),
    "Results": ("leaderboard.md", "reproduction.md"),
    "Methods": ("detectors/index.md", "recipes.md", "dvp.md", "diffusion.md"),
    "Design": ("architecture.md", "store.md"),
    "Reference": ("reference/cli.md", "reference/api.md"),
    "Project": ("contributing.md", "security.md", "changelog.md"),
}  # fmt: skip
HOME = "index.md"
#: Folders of generated pages: the title of their first page, which stands in a section.
FOLDERS = {"detectors": ("Detectors", "All detectors"), "datasets": ("Data sets", "All data sets")}
PAGES = {HOME, *(page for pages in SECTIONS.values() for page in pages)}


def navigation(there: Iterable[str]) -> list[Any]:
    """MkDocs' navigation of the pages that exist; titles are those of the pages themselves."""
    found = set(there)
    nav: list[Any] = [{"Quick start": HOME}]
    for title, pages in SECTIONS.items():
        listed = [_with_members(page, found) for page in pages if page in found]
        if listed:
            nav.append({title: listed})
    known = PAGES | {page for page in found if page.partition("/")[0] in FOLDERS}
    return [*nav, *sorted(found - known)]


def _with_members(page: str, found: set[str]) -> Any:
    """A page, or the first of a folder with the others below it."""
    folder = page.partition("/")[0]
    if folder not in FOLDERS:
        return page
    title, first = FOLDERS[folder]
    members = sorted(p for p in found if p.startswith(f"{folder}/") and p != page)
    return {title: [{first: page}, *members]}

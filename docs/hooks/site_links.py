"""Links that lead somewhere in the repository, as links of the site.

A page names files of the repository, so that its links work where it is read there; on the site
the same link leads to the page made from that file, and is plain text where there is none.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from functools import cache

from oodbench.detect.detector import DETECTORS

LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\((?!https?:|#)([^()#\s]+)(#[\w-]+)?\)")
FENCED = re.compile(r"(^ *`{3,}[^\n]*\n.*?^ *`{3,}[ \t]*$)", re.MULTILINE | re.DOTALL)
#: Pages of the site by the file or folder of the repository that they are made from.
MADE_FROM: Mapping[str, str] = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "baselines": "detectors/index.md",
    "benchmark/cli": "reference/cli.md",
    "benchmark/declare/datasets.yaml": "datasets/index.md",
    "benchmark/declare/recipes": "recipes.md",
}


@cache
def _detector_files() -> dict[str, str]:
    """The page of the detector that a file of baselines holds, where it holds one."""
    found: dict[str, list[str]] = {}
    for name in DETECTORS.names():
        module = DETECTORS.get(name).__module__.removeprefix("oodbench.").replace(".", "/")
        found.setdefault(f"{module}.py", []).append(f"detectors/{name}.md")
    return {file: pages[0] for file, pages in found.items() if len(pages) == 1}


def of_the_site(markdown: str, file: str, page: str, there: Collection[str]) -> str:
    """`markdown` of the repository's `file`, with links from the site's `page` to pages `there`."""

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        to = _page(target)
        if to is None or (to.endswith(".md") and to not in there):
            return text
        return f"[{text}]({posixpath.relpath(to, posixpath.dirname(page) or '.')}{anchor})"

    parts = FENCED.split(markdown)  # what is fenced stands at odd places
    return "".join(LINK.sub(link, p) if n % 2 == 0 else p for n, p in enumerate(parts))


def _page(target: str) -> str | None:
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return MADE_FROM.get(target) or _detector_files().get(target)

"""What MkDocs calls while it builds the site: navigation, generated pages, fences, links."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files, InclusionLevel
from site_api import with_references
from site_commands import commands_page
from site_detectors import detector_pages
from site_navigation import PAGES, navigation
from site_recipes import recipes_page
from site_root import root_pages

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

#: ```` ```console data ````: what a test runs only where real images are; the site shows the rest.
DATA_FENCE = re.compile(r"^(\s*`{3,}\w+)[ \t]+data\b", re.MULTILINE)
LINK = re.compile(r"\[([^\]\[]+)\]\(([\w/.-]+\.md)(#[\w-]+)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages, and put everything that is there into the navigation."""
    made = {**detector_pages(), **root_pages()}
    made["recipes.md"] = recipes_page()
    made["reference/cli.md"] = commands_page()
    for path, text in made.items():
        files.append(File.generated(config, path, content=text, inclusion=InclusionLevel.INCLUDED))
    config.nav = navigation({file.src_uri for file in files.documentation_pages()})
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """References filled in, fences without the test's word, links to absent pages as text."""
    there = {file.src_uri for file in files.documentation_pages()}
    folder = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[2]))
        return found[1] if target in PAGES and target not in there else found[0]

    return with_references(LINK.sub(link, DATA_FENCE.sub(r"\1", markdown)))

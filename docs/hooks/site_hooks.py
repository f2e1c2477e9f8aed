"""What MkDocs calls while it builds the site: navigation, generated pages, fences, links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files, InclusionLevel
from site_api import with_references
from site_commands import commands_page
from site_datasets import dataset_pages
from site_detectors import detector_pages
from site_leaderboard import leaderboard_page
from site_links import of_the_site
from site_navigation import navigation
from site_published import with_published
from site_recipes import recipes_page
from site_rooms import with_rooms
from site_root import FILES, root_pages

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

#: ```` ```console data ````: words that say how a test takes a block; the site shows the rest.
WORDS = re.compile(r"^(\s*`{3,}(?:console|python))(?:[ \t]+(?:data|moving|long))+[ \t]*$", re.M)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages, and put everything that is there into the navigation."""
    made = {**detector_pages(), **dataset_pages(), **root_pages()}
    made["leaderboard.md"] = leaderboard_page()
    made["recipes.md"] = recipes_page()
    made["reference/cli.md"] = commands_page()
    for path, text in made.items():
        files.append(File.generated(config, path, content=text, inclusion=InclusionLevel.INCLUDED))
    config.nav = navigation({file.src_uri for file in files.documentation_pages()})
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """References and the map filled in, fences without the test's words, links of the site."""
    path = page.file.src_uri
    if path in FILES or page.file.generated_by is None:  # what is generated has the site's links
        there = {file.src_uri for file in files.documentation_pages()}
        markdown = of_the_site(markdown, FILES.get(path, f"docs/{path}"), path, there)
    return with_rooms(with_references(WORDS.sub(r"\1", with_published(markdown))))

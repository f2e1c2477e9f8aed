"""Links between files of the repository lead to files and headings that are there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("*.md")]
FENCED = re.compile(r"^ *(`{3,})[^\n]*\n.*?^ *\1[ \t]*$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^()\s]+)\)")
QUESTIONS = 10


@cache
def prose(page: Path) -> str:
    """Without what is fenced or code, where brackets are no links."""
    return re.sub(r"`[^`\n]+`", "code", FENCED.sub("", page.read_text("utf-8")))


@cache
def headings(page: Path) -> set[str]:
    """The anchors that a page has, as forges and the site make them of its headings."""
    lines = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text("utf-8")), re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).lower() for line in lines]
    return {re.sub(r"[^\w -]", "", line).strip().replace(" ", "-") for line in plain}


def targets(page: Path) -> list[tuple[Path, str]]:
    """Where the links of a page lead: file or folder, and anchor."""
    found = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        found.append(((page.parent / path).resolve() if path else page, anchor))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target, anchor in targets(page):
        assert target.exists(), f"{page.name}: {target}"
        assert target.is_relative_to(ROOT), f"{page.name}: {target}"
        if anchor and target.suffix == ".md":
            assert anchor in headings(target), f"{page.name}: {target.name}#{anchor}"


def test_the_citation_of_the_pages_is_that_of_the_file() -> None:
    text = (ROOT / "docs" / "questions.md").read_text("utf-8")
    for line in (ROOT / "CITATION.cff").read_text("utf-8").splitlines():
        key, _, value = line.strip("- ").partition(": ")
        if key in ("title", "version", "name"):
            assert value.strip('"') in text, line
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert version is not None
    assert f"version = {{{version[1]}}}" in text


def test_the_first_questions_are_two_clicks_from_the_front_page() -> None:
    questions = ROOT / "docs" / "questions.md"
    text = questions.read_text("utf-8")
    asked = re.findall(r"^## (.+\?)$", text, re.M)
    assert len(asked) >= QUESTIONS
    anchors = [re.sub(r"[^\w -]", "", question.lower()).replace(" ", "-") for question in asked]
    for page in (ROOT / "README.md", ROOT / "docs" / "index.md"):
        listed = [anchor for target, anchor in targets(page) if target == questions]
        assert listed == anchors
    for section in text.split("\n## ")[1:]:  # an answer, or one click to it
        assert "](" in section or "```" in section, section[:40]

"""The site builds strictly, asks nothing of the network, and has a page for every detector."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from needs import needed_module

from oodbench.cli import oodbench as command_line
from oodbench.datasets.sources.by_hand import downloads
from oodbench.datasets.spec import catalogue
from oodbench.detect.detector import DETECTORS

needed_module("material", "mkdocs-material is not installed")

ROOT = Path(__file__).parents[2]
#: What a browser fetches by itself; links that a reader follows are no requests.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?P<src>[^\"]+)\""
    r"|<link\b(?=[^>]*\brel=\"(?:stylesheet|preconnect|preload|icon)\")[^>]*\bhref=\"(?P<href>[^\"]+)\""
)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(DETECTORS.names())
    for page in pages:
        found = [m["src"] or m["href"] for m in FETCHED.finditer(page.read_text("utf-8"))]
        assert found
        assert not [url for url in found if re.match(r"(?:https?:)?//", url)], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text("utf-8"))


@pytest.mark.parametrize("name", DETECTORS.names())
def test_every_detector_has_a_page_with_source_cost_and_direction(name: str, site: Path) -> None:
    cls = DETECTORS.get(name)
    text = (site / "detectors" / f"{name}.html").read_text("utf-8")
    rows = dict(re.findall(r"<tr>\s*<td>([^<]+)</td>\s*<td>(.*?)</td>", text, re.DOTALL))
    assert rows["Direction"].startswith("higher = more OOD")
    assert cls.cost
    assert cls.cost in rows["Cost per image"]
    assert cls.cite
    arxiv = re.findall(r"\d{4}\.\d{5}", cls.cite)
    assert all(f"https://arxiv.org/abs/{number}" in rows["Source"] for number in arxiv)
    assert arxiv or rows["Source"] == cls.cite
    assert '<h2 id="what-it-computes">' in text
    assert ("Recipes" in rows) == bool(cls.recipe_variant)


def test_papers_and_our_numbers_stand_on_a_page(site: Path) -> None:
    text = (site / "detectors" / "informative-hvae.html").read_text("utf-8")
    published, *ours = text.split('id="our-numbers"')
    assert "97.5" in published.split('id="published-numbers"')[1]  # LLR>1 of Table 2
    tables = (ROOT / "results" / "published").rglob("*.csv")
    heads = ("pair,detector", "pair,name,detector")
    measured = any(table.read_text("utf-8").startswith(heads) for table in tables)
    assert len(ours) == measured  # where such a table is published


def test_every_command_and_every_option_is_in_the_reference(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text("utf-8")
    for name, command in command_line.commands.items():
        assert f"oodbench {name}" in text
        for option in getattr(command, "params", []):
            if option.opts[0].startswith("--"):
                assert option.opts[0] in text, (name, option.opts)


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    import oodbench

    text = (site / "reference" / "api.html").read_text("utf-8")
    for name in oodbench.__all__:
        assert f'<h3 id="{name.lower()}">' in text


def test_the_map_shows_every_room_and_follows_the_scheme(site: Path) -> None:
    text = (site / "architecture.html").read_text("utf-8")
    svg = text[text.index('<svg class="rooms"') : text.index("</svg>", text.index("rooms-head"))]
    boxes = re.findall(r'class="name"[^>]*>([^<]+)<', svg)
    folder = ROOT / "benchmark"
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert rooms | {"api", "baselines", "models"} <= set(boxes)
    assert svg.count('marker-end="url(#rooms-head)"') >= len(boxes) - 1
    assert "prefers-color-scheme: dark" in svg
    assert not re.search(r"(?:fill|stroke)=", svg)  # every colour stands in the style


def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    pages = {page: page.read_text("utf-8") for page in site.rglob("*.html")}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    for page, text in pages.items():
        if page.name == "404.html":  # its links stand for whatever address was asked for
            continue
        for link in re.findall(r'\b(?:href|src)="(?!https?:|data:|mailto:)([^"]+)"', text):
            path, _, anchor = html.unescape(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target in anchors:
                assert anchor in anchors[target] or anchor == "__skip", f"{page.name}: {link}"


def test_every_data_set_has_a_page_with_source_licence_files_and_sums(site: Path) -> None:
    for spec in catalogue().values():
        text = html.unescape((site / "datasets" / f"{spec.name}.html").read_text("utf-8"))
        assert spec.licence in text
        assert f'href="{spec.homepage}"' in text
        for one in downloads(spec):
            assert one.file in text
            assert one.md5 in text
    assert "MD5 c9890a473a9769fda4bdf314aaf500dd" in (
        site / "datasets" / "notmnist.html"
    ).read_text("utf-8")

"""The site's leaderboard holds what is published, and is sorted and filtered in a real browser."""

from __future__ import annotations

import csv
import html
import importlib
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from needs import lacking, needed_module

needed_module("material", "mkdocs-material is not installed")

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "published"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HEADS = ("ID", "OOD", "detector", "score", "category", "recipe", "scale", "seeds", "n",
         "AUROC ↑", "AUPRC ↑", "FPR80 ↓", "FPR95 ↓", "date")  # fmt: skip


def table_of(site: Path) -> list[dict[str, str]]:
    """The rows of the page by the heads."""
    text = (site / "leaderboard.html").read_text("utf-8")
    (table,) = re.findall(r"<table>(.*?)</table>", text, re.DOTALL)
    rows = []
    for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
        cells = re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)
        plain = [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in cells]
        rows.append([cell.replace("\xa0", " ") for cell in plain])
    assert tuple(rows[0]) == HEADS
    return [dict(zip(HEADS, row, strict=True)) for row in rows[1:]]


def test_every_published_score_is_on_the_page_as_it_was_published(site: Path) -> None:
    shown = {}
    for row in table_of(site):
        detector = row["detector"].rstrip("*!")
        shown[f"{row['ID']}-{row['OOD']}", detector, row["score"], row["recipe"], row["scale"]] = (
            row
        )
    assert len(shown) == len(table_of(site))
    checked = 0
    for bundle in PUBLISHED.rglob("*-runs.tar"):
        with bundle.with_name(bundle.name.replace("-runs.tar", ".csv")).open(
            "r", -1, "utf-8"
        ) as file:
            lines = [line for line in csv.DictReader(file) if line["metric"] == "auroc"]
        if not lines or "name" not in lines[0]:  # a paper's layout is no list of rows
            continue
        for line in lines:
            scale = line["scale"] if line["recipe"] else ""
            row = shown[line["pair"], line["detector"], line["score"], line["recipe"], scale]
            assert re.match(rf"{float(line['value']):.1f}(?!\d)", row["AUROC ↑"])
            assert row["seeds"] in {line["seeds"], "–"}
            assert row["n"] == f"{int(line['n_per_side']):,}"
            checked += 1
    assert checked


def test_seeds_and_dates_are_said(site: Path) -> None:
    for row in table_of(site):
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["date"])
        assert (row["seeds"] == "–") == (not row["recipe"])
        assert ("†" in row["AUROC ↑"]) == (row["seeds"] == "1")
        assert ("±" in row["AUROC ↑"]) == (row["seeds"] not in {"1", "–"})


@pytest.fixture(scope="module")
def hook() -> Iterator[ModuleType]:
    """What makes the page."""
    sys.path.insert(0, str(ROOT / "docs" / "hooks"))
    yield importlib.import_module("site_leaderboard")
    sys.path.pop(0)


def test_one_seed_of_a_trained_model_is_marked(hook: ModuleType) -> None:
    cell = hook.Cell(84.14, 83.5, 84.7, None, 1)
    for single, shown in ((True, "84.1† [83.5, 84.7]"), (False, "84.1 [83.5, 84.7]")):
        text = hook._metric(cell, single)
        assert text.replace("&nbsp;", " ").replace("\\", "") == shown


# ---------------------------------------------------------------------- in a browser
@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Of the site, served on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


class Opened:
    """The page, by the heads of its table."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def head(self, name: str) -> Any:
        return self.page.locator("article th").nth(HEADS.index(name))

    def click(self, name: str) -> None:
        self.head(name).get_by_role("button").click()

    def order(self, name: str) -> str | None:
        found: str | None = self.head(name).get_attribute("aria-sort")
        return found

    def column(self, name: str) -> list[str]:
        """The texts of a column, of the rows that are seen."""
        nth = HEADS.index(name) + 1
        cells = self.page.locator(f"article tbody tr:not([hidden]) > :nth-child({nth})")
        return list(cells.all_inner_texts())

    def values(self, name: str) -> list[float]:
        """The numbers that the texts begin with."""
        found = [re.match(r"\d+\.\d", text) for text in self.column(name)]
        return [float(match[0]) for match in found if match]


@pytest.fixture
def opened(address: str) -> Iterator[Opened]:
    """In headless Chromium; the page asks nobody but its own server and complains of nothing."""
    playwright = needed_module("playwright.sync_api", "Playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as running:
        try:
            browser = running.chromium.launch(executable_path=path)
        except playwright.Error as error:
            lacking(f"no Chromium can be started here: {str(error).splitlines()[0]}")
        page = browser.new_page()
        page.set_default_timeout(10_000)
        requests: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}leaderboard.html")
        yield Opened(page)
        assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
        assert complaints == []
        browser.close()


def test_a_click_on_a_head_sorts_by_its_numbers(opened: Opened) -> None:
    before, whole = opened.values("AUROC ↑"), opened.column("AUROC ↑")
    assert len(before) == len(whole)
    opened.click("AUROC ↑")
    assert opened.order("AUROC ↑") == "descending"
    assert opened.values("AUROC ↑") == sorted(before, reverse=True)
    assert sorted(opened.column("AUROC ↑")) == sorted(whole)
    opened.page.keyboard.press("Enter")  # the button has the focus
    assert opened.order("AUROC ↑") == "ascending"
    assert opened.values("AUROC ↑") == sorted(before)
    opened.click("FPR95 ↓")
    assert opened.order("AUROC ↑") is None
    assert opened.order("FPR95 ↓") == "ascending"
    assert opened.values("FPR95 ↓") == sorted(opened.values("FPR95 ↓"))


def test_the_rows_stay_whole(opened: Opened) -> None:
    def rows() -> set[tuple[str, ...]]:
        return set(zip(*map(opened.column, HEADS), strict=True))

    before = rows()
    for name in ("n", "detector", "date"):
        opened.click(name)
        assert rows() == before


def test_words_are_sorted_as_words_and_what_is_empty_stands_last(opened: Opened) -> None:
    for name in ("OOD", "date"):
        opened.click(name)
        assert opened.column(name) == sorted(opened.column(name))
    for _ in range(2):
        opened.click("recipe")
        recipes = opened.column("recipe")
        empty = recipes.count("")
        assert 0 < empty < len(recipes)
        assert set(recipes[-empty:]) == {""}


def test_the_field_keeps_rows_with_all_its_words(opened: Opened) -> None:
    every = len(opened.column("ID"))
    opened.page.get_by_label("Rows with").fill("china informative llr_ada")
    assert set(opened.column("detector")) == {"Informative HVAE(3)"}
    assert all(score.startswith("LLR_ada") for score in opened.column("score"))
    opened.page.get_by_label("Rows with").fill("")
    assert len(opened.column("ID")) == every

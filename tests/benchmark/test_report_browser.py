"""The report in a real browser, headless, from a file: no network, no error, by mouse and keys.

Uses Playwright with the Chromium of this machine, or with Playwright's own; skipped without, and
failed in CI.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import lacking, needed_module

from oodbench.datasets.loading import find_places
from oodbench.leaderboards.rows import group_runs
from oodbench.reports.page import ReportRequest, report_page
from oodbench.store.store import Store

playwright = needed_module("playwright.sync_api", "Playwright is not installed")
axe = needed_module("axe_playwright_python.sync_playwright", "axe is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ROWS = "#board tbody tr"


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as running:
        try:
            found = running.chromium.launch(executable_path=path)
        except playwright.Error as error:
            lacking(f"no Chromium can be started here: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(report_store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    groups = group_runs(report_store.entries("run"))
    places = find_places((), str(folder / "store"))
    html = report_page(groups, report_store, places, ReportRequest(all_scores=True))
    (folder / "index.html").write_text(html, encoding="utf-8")
    return (folder / "index.html").as_uri()


class Opened:
    """A page in a window of its own, with all that it asked for and complained of."""

    def __init__(self, browser: playwright.Browser, address: str, scheme: str = "light") -> None:
        self.context = browser.new_context(offline=True, color_scheme=scheme,
                                           viewport={"width": 1200, "height": 800})  # fmt: skip
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)

    def texts(self, selector: str) -> list[str]:
        return list(self.page.locator(selector).all_inner_texts())

    def focused(self) -> str:
        """What has the focus: its id or name, else its text."""
        return str(self.page.evaluate(
            "(e => e.id || e.name || e.textContent)(document.activeElement)"
        ))  # fmt: skip

    def column(self, number: int) -> list[str]:
        """First lines of a column of the leaderboard."""
        return [t.splitlines()[0].rstrip("†") for t in
                self.texts(f"{ROWS} > :nth-child({number})")]  # fmt: skip


@pytest.fixture
def opened(browser: playwright.Browser, address: str) -> Iterator[Opened]:
    found = Opened(browser, address)
    yield found
    assert [url for url in found.requests if not url.startswith("data:")] == [address]
    assert found.complaints == []
    assert found.page.evaluate("window.harm") is None
    found.context.close()


def test_it_opens_from_a_file_and_shows_a_page_of_rows(opened: Opened) -> None:
    assert opened.page.locator(ROWS).count() == 100
    assert opened.texts("#status") == ["1–100 of 139 rows"]
    opened.page.get_by_role("button", name="Forward").click()
    assert opened.page.locator(ROWS).count() == 39
    assert opened.texts("#status") == ["101–139 of 139 rows"]
    assert opened.focused() == "First"  # the button that was pressed is gone dead
    opened.page.select_option("[name=size]", "500")
    assert opened.page.locator(ROWS).count() == 139
    assert opened.page.locator("#pages button").count() == 0


def test_hostile_names_are_shown_as_they_are(opened: Opened, hostile: tuple[str, ...]) -> None:
    opened.page.fill("[name=text]", "<!--<script>")
    assert opened.page.locator(ROWS).count() == 2
    text = opened.page.locator(ROWS).first.inner_text()
    for name in (hostile[2], hostile[3], hostile[6]):
        assert name in text
    opened.page.locator("button.open").first.click()
    opened.page.wait_for_selector("#detail-body section")
    detail = opened.page.locator("#detail").inner_text()
    for name in (hostile[0], hostile[1], hostile[3], hostile[4], hostile[8]):
        assert name in detail
    assert opened.page.locator("#detail script, #detail a, #detail iframe").count() == 0
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert opened.page.evaluate(wide)


def test_sorting(opened: Opened) -> None:
    head = opened.page.locator("th", has=opened.page.get_by_role("button", name="AUROC ↑"))
    opened.page.get_by_role("button", name="AUROC ↑").click()
    assert head.get_attribute("aria-sort") == "descending"
    best_first = [float(v) for v in opened.column(8)]
    assert best_first == sorted(best_first, reverse=True)
    opened.page.get_by_role("button", name="AUROC ↑").click()
    assert head.get_attribute("aria-sort") == "ascending"
    worst_first = [float(v) for v in opened.column(8)]
    assert worst_first == sorted(worst_first)
    assert worst_first[0] < best_first[-1]  # the whole table is sorted, not its page
    opened.page.get_by_role("button", name="FPR80 ↓").click()
    lowest = [float(v) for v in opened.column(10)]
    assert lowest == sorted(lowest)
    assert opened.page.locator("[aria-sort]").count() == 1
    opened.page.get_by_role("button", name="Detector").click()
    names = [name.lower() for name in opened.column(2)]
    assert names.index("many") > names.index("grouped")


def test_filters(opened: Opened) -> None:
    opened.page.select_option("[name=detector]", label="STRONG(2)")
    assert set(opened.column(2)) == {"STRONG(2)"}
    assert opened.texts("#status") == ["1–3 of 3 rows (139 in all)"]
    opened.page.fill("[name=text]", "llr DIGITS")
    assert opened.column(3) == ["LLR>1"]
    opened.page.get_by_role("button", name="Clear").click()
    assert opened.page.locator(ROWS).count() == 100
    opened.page.select_option("[name=category]", label="oracle")
    assert opened.column(3) == ["best b"]
    assert "oracle" in opened.texts(f"{ROWS} .tag")
    opened.page.select_option("[name=category]", label="all")
    opened.page.select_option("[name=scale]", label="smoke")
    assert opened.texts("#status") == ["1–100 of 130 rows (139 in all)"]
    opened.page.fill("[name=text]", "nothing like this")
    assert opened.texts(ROWS) == ["No row fits; clear a filter."]


def test_a_row_opens_its_detail(opened: Opened) -> None:
    opened.page.fill("[name=text]", "strong")
    opened.page.locator(f"{ROWS} td:nth-child(8)").first.click()  # a cell, not the button
    opened.page.wait_for_selector("#detail-body section")
    assert opened.texts("#detail h3") == [
        "Metrics", "Curves", "Images by score", "Diagnostics of the first seed", "Cost",
        "Provenance",
    ]  # fmt: skip
    assert opened.page.locator("#detail svg").count() == 2
    assert opened.page.locator("#detail svg path.curve").count() == 3  # one per seed
    widths = opened.page.eval_on_selector_all("#detail img", "all => all.map(i => i.naturalWidth)")
    assert widths == [8] * 32
    assert "layer 2" in opened.page.locator("#detail .note").first.inner_text()
    first = opened.texts("#detail-title")
    opened.page.get_by_role("button", name="Next").click()
    assert opened.texts("#detail-title") != first
    hash_ = opened.page.evaluate("location.hash")
    opened.page.keyboard.press("Escape")
    opened.page.wait_for_selector("#detail", state="hidden")
    # The dialog's close event, which gives the focus back, comes after it is hidden.
    # A function, since the page's security policy lets no text be evaluated while it is polled.
    opened.page.wait_for_function("() => document.activeElement.textContent === 'STRONG(2)'")
    opened.page.evaluate(f"location.hash = {hash_!r}")  # an address names a row
    opened.page.wait_for_selector("#detail-body section")


def test_curves_have_the_area_they_claim(opened: Opened) -> None:
    opened.page.fill("[name=text]", "strong llr")
    opened.page.locator("button.open").click()
    path = opened.page.locator("#detail path.curve:not(.other)").first
    points = [tuple(map(float, p.split())) for p in
              str(path.get_attribute("d")).strip("M").split("L")]  # fmt: skip
    (left, bottom), (right, top) = points[0], points[-1]
    xs = [(x - left) / (right - left) for x, _ in points]
    ys = [(y - bottom) / (top - bottom) for _, y in points]
    drawn = sum((xs[i + 1] - xs[i]) * (ys[i + 1] + ys[i]) / 2 for i in range(len(xs) - 1))
    cell = opened.page.locator("#detail tbody tr").first.locator("td").first.inner_text()
    assert 100 * drawn == pytest.approx(float(cell.split()[0]), abs=0.4)


def test_all_by_keyboard(opened: Opened) -> None:
    keys, page = opened.page.keyboard, opened.page
    order = []
    for _ in range(9):
        keys.press("Tab")
        order.append(opened.focused())
    assert order[:6] == ["theme", "pair", "detector", "category", "scale", "text"]
    assert order[6:8] == ["size", "clear"]
    page.locator("[data-field=auroc]").focus()
    keys.press("Enter")
    assert opened.focused() == "AUROC ↑▼"  # the head was drawn anew and kept the focus
    keys.press("Space")
    assert opened.focused() == "AUROC ↑▲"
    page.locator("[data-field=trivial]").focus()
    keys.press("Tab")
    before = page.evaluate("document.activeElement.getAttribute('aria-label')")
    keys.press("ArrowDown")
    after = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert before.endswith(": details")
    assert after.endswith(": details")
    assert before != after
    keys.press("Enter")
    page.wait_for_selector("#detail-body section")
    assert opened.focused() == "detail-title"
    for _ in range(12):  # the focus stays inside
        keys.press("Tab")
        assert page.evaluate("document.activeElement === document.body"
                             " || document.getElementById('detail')"
                             ".contains(document.activeElement)")  # fmt: skip
    keys.press("Escape")
    page.wait_for_function(
        "label => document.activeElement.getAttribute('aria-label') === label", arg=after
    )


def brightness(opened: Opened, selector: str) -> float:
    colour = opened.page.eval_on_selector(selector, "e => getComputedStyle(e).backgroundColor")
    return sum(float(part) for part in colour.strip("rgb()").split(",")) / 3


def test_dark_and_light(browser: playwright.Browser, address: str) -> None:
    for scheme, dark in (("light", False), ("dark", True)):
        opened = Opened(browser, address, scheme)
        assert (brightness(opened, "body") < 60) == dark
        opened.page.locator("#theme").click()
        assert (brightness(opened, "body") < 60) != dark
        assert opened.page.locator("#theme").get_attribute("aria-pressed") == str(not dark).lower()
        opened.context.close()


def test_printing(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    assert brightness(opened, "body") > 200  # light on paper
    assert not page.locator("#filters").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(ROWS).count() == 139
    assert page.locator("#board thead").inner_text().split()[:2] == ["Pair", "Detector"]
    assert page.locator("#board thead button:visible").count() == 0  # would not be repeated
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(ROWS).count() == 100
    page.locator("button.open").first.click()
    page.wait_for_selector("#detail-body section")
    assert not page.locator("main").is_visible()
    data = page.pdf(path=str(tmp_path / "detail.pdf"), format="A4")
    assert data.count(b"/Type /Page\n") > 1  # nothing is cut off at the first page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: playwright.Browser, address: str, scheme: str) -> None:
    opened = Opened(browser, address, scheme)
    opened.page.get_by_role("button", name="AUROC ↑").click()
    found = axe.Axe().run(opened.page).response["violations"]
    opened.page.fill("[name=text]", "strong")
    opened.page.locator("button.open").first.click()
    opened.page.wait_for_selector("#detail-body section")
    found += axe.Axe().run(opened.page).response["violations"]
    opened.context.close()
    grave = [f"{v['id']}: {v['nodes'][0]['html']}" for v in found
             if v["impact"] in ("serious", "critical")]  # fmt: skip
    assert grave == []

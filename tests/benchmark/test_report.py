"""The report without a browser: what is drawn, what is embedded, and that every name is text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodbench.cli import main
from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import find_places
from oodbench.errors import StoreError
from oodbench.leaderboards.paired_tests import PairedScores
from oodbench.leaderboards.rounding import as_shown
from oodbench.leaderboards.rows import group_runs, make_rows
from oodbench.rank.metrics import auroc
from oodbench.reports.curves import BINS, area, histogram, roc_curve, simplified
from oodbench.reports.page import ReportRequest, report_page
from oodbench.reports.thumbnails import Thumbnails, png, shown_name
from oodbench.store.payload import unpack_table
from oodbench.store.store import Store

Sets = tuple[ImageSet, ImageSet]


class Page(HTMLParser):
    """Elements with their attributes, the text outside scripts, and the scripts by id."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.text, self._open = "", ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append((dict(attrs).get("id") or "", ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif not self._open:
            self.text += data

    def block(self, name: str) -> dict[str, object]:
        """An embedded JSON block."""
        return dict(json.loads(dict(self.scripts)[name]))


def page_of(store: Store, folder: Path, **changes: object) -> str:
    places = find_places((), str(folder / "store"))
    groups = group_runs(store.entries("run"))
    return report_page(groups, store, places, ReportRequest(**changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def html(report_store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(report_store, tmp_path_factory.mktemp("page"), all_scores=True)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def detail_of(page: Page, detector: str) -> dict[str, object]:
    found = [page.block(name) for name, _ in page.scripts if name.startswith("detail-")]
    (detail,) = (d for d in found if d["detector"] == detector)
    return detail


# ---------------------------------------------------------------------- curves
@pytest.mark.parametrize("ties", [False, True])
def test_the_area_under_the_curve_is_the_auroc(ties: bool) -> None:
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.normal(0, 1, 301), rng.normal(0.7, 2, 200)
    if ties:
        id_scores, ood_scores = id_scores.round(), ood_scores.round()
    curve = roc_curve(id_scores, ood_scores)
    assert area(curve) == pytest.approx(auroc(id_scores, ood_scores), abs=1e-12)
    np.testing.assert_array_equal(curve[[0, -1]], [[0, 0], [1, 1]])
    for threshold, (fpr, tpr) in zip(
        np.unique([*id_scores, *ood_scores])[::-1], curve[1:], strict=True
    ):
        assert (fpr, tpr) == ((id_scores >= threshold).mean(), (ood_scores >= threshold).mean())


def test_a_short_curve_stays_within_its_tolerance() -> None:
    rng = np.random.default_rng(1)
    curve = roc_curve(rng.normal(0, 1, 5000), rng.normal(1, 1, 5000))
    short = simplified(curve, 0.002)
    assert len(short) < 100
    starts, ends = short[:-1], short[1:]
    for point in curve[::20]:
        chords = ends - starts
        along = ((point - starts) * chords).sum(1) / (chords**2).sum(1)
        nearest = starts + np.clip(along, 0, 1)[:, None] * chords
        assert np.linalg.norm(point - nearest, axis=1).min() <= 0.002 + 1e-12
    assert abs(area(short) - area(curve)) < 0.002
    np.testing.assert_array_equal(simplified(curve, 0.0)[[0, -1]], curve[[0, -1]])


@pytest.mark.parametrize(
    ("id_scores", "ood_scores"),
    [
        (np.arange(90.0), np.arange(30.0, 120.0)),
        (np.zeros(5), np.zeros(7)),
        (np.array([0.0, 0, 0, 1e9]), np.zeros(4)),
        (np.random.default_rng(2).normal(size=1000) * 1e-8, np.zeros(10)),
        (np.array([3.0]), np.array([4.0])),
    ],
)
def test_a_histogram_counts_every_image_once(id_scores: np.ndarray, ood_scores: np.ndarray) -> None:
    bins = histogram(id_scores, ood_scores)
    assert bins.low < bins.high
    assert (bins.id_counts.sum(), bins.ood_counts.sum()) == (len(id_scores), len(ood_scores))
    assert 1 <= len(bins.id_counts) <= BINS[1] + 1


def test_whole_scores_fill_bins_evenly() -> None:
    scores = np.repeat(np.arange(0.0, 100.0), 90)  # 100 values do not divide into 40 bins
    counts = histogram(scores, scores).id_counts
    assert set(counts[1:-1]) == {270}  # bins three values wide


# ---------------------------------------------------------------------- which images
def test_groups_and_oracle_choices_are_found_again(report_store: Store) -> None:
    scores = PairedScores(report_store)
    (run,) = (e for e in report_store.entries("run") if e.record["detector"] == "grouped")
    results: dict[str, dict[str, dict[str, float]]] = run.record["scores"]  # type: ignore[assignment]
    assert {name: scores.compared(run, name).members for name in results} == {
        "b=1": 1, "b=5": 5, "best b": 5,
    }  # fmt: skip
    for name, result in results.items():
        found = scores.compared(run, name)
        assert len(found.id_scores) == result["n_id"]
        assert auroc(found.id_scores, found.ood_scores) == pytest.approx(result["auroc"]["value"])
    with pytest.raises(StoreError, match="b=5 judges groups of 5 images and b=1 single images"):
        scores.compare(run, "b=5", run, "b=1")
    assert scores.compare(run, "best b", run, "b=5").difference == 0


def test_scores_that_are_no_groups_are_refused(
    embedded_sets: Sets, make_run: Callable[..., str], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    make_run(store, embedded_sets, "wrong", {"a": 1.0})
    (run,) = store.entries("run")
    run.record["scores"]["a"]["n_id"] = 12  # type: ignore[index, call-overload]
    with pytest.raises(StoreError, match="evaluated on 12 groups, but its scores are not"):
        PairedScores(store).compared(run, "a")


# ---------------------------------------------------------------------- content
def test_the_rows_are_those_of_the_leaderboard(report_store: Store, page: Page) -> None:
    table = page.block("table-data")
    fields, names = table["fields"], table["names"]
    rows = [dict(zip(fields, row, strict=True)) for row in table["rows"]]  # type: ignore[arg-type, attr-defined]
    shown = {
        tuple(names[f][row[f]] for f in ("pair", "detector", "score", "category"))  # type: ignore[index]
        : row for row in rows
    }  # fmt: skip
    groups = group_runs(report_store.entries("run"))
    expected = [row for group in groups for row in make_rows(group)]
    assert len(rows) == len(shown) == len(expected) == 3 + 1 + 3 + 130 + 2
    for row in expected:
        found = shown[row.pair, row.detector, row.score, row.category]
        assert (found["n"], found["seeds"]) == (row.n, len(row.seeds))
        assert found["members"] == row.members
        for metric, cell in row.cells.items():
            numbers = [cell.value, *((cell.sd,) if cell.sd is not None else (cell.low, cell.high))]
            assert found[metric] == [as_shown(number) for number in numbers]
    best = {}
    for row in rows:
        if row["marks"] & 1:
            best.setdefault(row["pair"], []).append(row["auroc"][0])
    for pair, values in best.items():
        most = max(row["auroc"][0] for row in rows if row["pair"] == pair)
        assert all(round(value, 1) == round(most, 1) for value in values)
    assert {row["trivial"] for row in rows} >= {"trivial", "yes", "undecided"}


def test_a_detail_holds_curves_of_every_seed_and_its_provenance(page: Page) -> None:
    detail = detail_of(page, "strong")
    score = detail["scores"]["LLR>1"]  # type: ignore[index]
    assert len(score["roc"]) == len(score["metrics"]) == len(detail["runs"]) == 3  # type: ignore[arg-type]
    for curve, metrics in zip(score["roc"], score["metrics"], strict=True):
        points = np.array(curve).reshape(-1, 2) / 1000
        assert 100 * area(points) == pytest.approx(metrics[0][0], abs=0.3)
    assert sum(score["histogram"]["id"]) == sum(score["histogram"]["ood"]) == 60
    steps = page.block("steps")
    for run in detail["runs"]:  # type: ignore[attr-defined]
        stages = [steps["entries"][key]["stage"] for key in run["steps"]]  # type: ignore[index]
        assert stages == ["score", "score", "measure", "measure", "fit"]
    made = steps["entries"][run["steps"][-1]]  # type: ignore[index]
    assert steps["machines"][made["machine"]]["commit"] == "c" * 40  # type: ignore[index]
    assert detail_of(page, "grouped")["scores"]["best b"]["oracle"] == "b=5"  # type: ignore[index]


def test_the_pictures_are_the_extreme_images_of_the_score(
    report_store: Store, embedded_sets: Sets, page: Page
) -> None:
    score = detail_of(page, "mean-intensity")["scores"]["score"]  # type: ignore[index]
    (run,) = (e for e in report_store.entries("run") if e.record["detector"] == "mean-intensity")
    held = page.block("pictures")
    for side, images, count in zip(("id", "ood"), embedded_sets, (90, 60), strict=True):
        entry = report_store.get("score", str(run.parts[f"{side}_scores"]))
        assert entry is not None
        values = unpack_table(entry.read("scores.parquet"))["score"]
        assert len(values) == count
        found = score["pictures"][side]
        compared = PairedScores(report_store).compared(run, "score")
        rows = compared.id_rows if side == "id" else compared.ood_rows
        order = sorted(rows, key=lambda row: values[row])
        for end, wanted in (("least", order[:8]), ("most", order[::-1][:8])):
            assert [v for _, v in found[end]] == pytest.approx(values[wanted], rel=1e-4)
        index = found["most"][0][0]
        data = base64.b64decode(held[found["set"]][str(index)])  # type: ignore[index]
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))),
                                      images.images[index][0])  # fmt: skip


def test_a_measured_subset_names_the_images_of_the_whole_split(
    embedded_sets: Sets, page: Page
) -> None:
    from oodbench.flow.resolved_job import subset_indices

    found = detail_of(page, "mean-intensity")["scores"]["score"]["pictures"]["id"]  # type: ignore[index]
    measured = set(subset_indices(len(embedded_sets[0]), 90).tolist())
    assert {index for end in ("most", "least") for index, _ in found[end]} <= measured


def test_the_page_says_why_there_are_no_pictures(
    embedded_sets: Sets, make_run: Callable[..., str], page: Page, hostile: tuple[str, ...],
    tmp_path: Path,
) -> None:  # fmt: skip
    missing = detail_of(page, hostile[0])["scores"][hostile[1]]["pictures"]  # type: ignore[index]
    assert "were not found where this page was made" in missing["id"]["note"]
    assert "/no/such/" not in missing["id"]["note"]

    store = Store(tmp_path / "store")
    make_run(store, embedded_sets[::-1], "other", {"a": 1.0}, in_dist="digits", ood="photos")
    wrong = detail_of(Page(page_of(store, tmp_path)), "other")["scores"]["a"]["pictures"]  # type: ignore[index]
    assert wrong["id"]["note"] == "The images found as digits are not those that were measured."
    none = detail_of(Page(page_of(store, tmp_path, pictures=0)), "other")
    assert none["scores"]["a"]["pictures"] == {}  # type: ignore[index]
    full = Thumbnails(find_places((), str(tmp_path / "store")), budget=300)
    assert "as many pictures as it can" in full.take(embedded_sets[0], range(20))
    assert sum(map(len, full.pictures[embedded_sets[0].fingerprint[:12]].values())) <= 300


def test_large_and_coloured_pictures() -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    shown = Image.open(io.BytesIO(base64.b64decode(png(colour))))
    np.testing.assert_array_equal(np.asarray(shown).transpose(2, 0, 1), colour)
    wide = Image.open(io.BytesIO(base64.b64decode(png(np.zeros((1, 100, 200), np.uint8)))))
    assert wide.size == (64, 32)
    assert shown_name("/home/me/my images/@resize") == "my images@resize"


def test_scores_that_are_gone_or_changed_are_not_drawn(
    embedded_sets: Sets, make_run: Callable[..., str], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    make_run(store, embedded_sets, "gone", {"a": 1.0})
    make_run(store, embedded_sets, "changed", {"a": 0.5, "bb": 1.0})
    runs = {str(e.record["detector"]): e for e in store.entries("run")}
    entry = store.get("score", str(runs["gone"].parts["id_scores"]))
    assert entry is not None
    store.set_aside(entry.path, "gone")
    results = runs["changed"].record["scores"]
    results["a"]["auroc"]["value"] = 0.1  # type: ignore[index, call-overload]
    groups = group_runs(runs.values())
    html = report_page(groups, store, find_places((), str(tmp_path / "store")), ReportRequest())
    gone = detail_of(Page(html), "gone")
    assert "is not in" in gone["scores"]["a"]["problem"]  # type: ignore[index]
    changed = detail_of(Page(html), "changed")["scores"]
    assert "its record says 10.00; nothing is drawn" in changed["a"]["problem"]  # type: ignore[index]
    assert "roc" in changed["bb"]  # type: ignore[index]
    assert {"stage": "score", "missing": True} in Page(html).block("steps")["entries"].values()  # type: ignore[attr-defined]


def test_it_says_what_the_numbers_mean(page: Page) -> None:
    for text in (
        "Higher score = more OOD",
        "95 % interval over test images",
        "equal-size rule",
        "Oracle",
        "OOD as the positive class",
        "sample standard deviation",
        "Holm over",
    ):
        assert text in page.text


# ---------------------------------------------------------------------- safety
def test_every_name_is_text(page: Page, hostile: tuple[str, ...]) -> None:
    executable = [attributes for tag, attributes in page.elements
                  if tag == "script" and attributes.get("type") != "application/json"]  # fmt: skip
    assert executable == [{}]
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "link", "object", "base")
        assert not [name for name in attributes if name.startswith("on")]
        assert not {"src", "href", "srcset", "style"} & set(attributes)
    assert hostile[2] in page.text  # the pair's name, in the table of pairs
    everything = json.dumps([json.loads(text) for name, text in page.scripts if name])
    for name in hostile:
        # What does not print is shown as its number, so that no name turns the page round.
        shown = name.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e")
        assert json.dumps(shown)[1:-1] in everything


def test_it_needs_nothing_from_elsewhere_and_runs_its_own_script_only(
    html: str, page: Page
) -> None:
    code = dict(page.scripts)[""]
    styles = re.findall(r"<style>(.*?)</style>", html, re.S)
    (policy,) = (a["content"] for tag, a in page.elements
                 if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")  # fmt: skip
    for kind, text in (("script-src", code), ("style-src", styles[0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "fetch(", "XMLHttpRequest", "import("):  # fmt: skip
        assert word not in code
    own = html.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in own
    assert "https:" not in own
    assert "@import" not in styles[0]
    assert "url(" not in styles[0]


def test_the_same_store_gives_the_same_page(report_store: Store, html: str, tmp_path: Path) -> None:
    root = Path(report_store.storage.location)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert page_of(report_store, tmp_path, all_scores=True) == html
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


# ---------------------------------------------------------------------- command line
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["oodbench", "report", *arguments])
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    out = capsys.readouterr()
    return status, out.out, out.err


def test_the_command_writes_a_folder_or_a_file(
    report_store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "cache"))
    common = ("--store", report_store.storage.location, "--pair", "digits-photos", "--detector",
              "strong:llr1", "--title", "A <b> title")  # fmt: skip
    assert run(monkeypatch, capsys, *common, "--out", "a/b")[0] == 0
    status, out, _ = run(monkeypatch, capsys, *common, "--out", "c/page.html")
    assert (status, out.split(":")[0]) == (0, "c/page.html")
    text = (tmp_path / "a/b/index.html").read_text(encoding="utf-8")
    assert (tmp_path / "c/page.html").read_text(encoding="utf-8") == text
    assert "<title>A &lt;b&gt; title</title>" in text
    assert len(Page(text).block("table-data")["rows"]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pair", "digits-photo"], "no run of pair 'digits-photo'.*stored: digits-photos"),
        (["--scale", "tiny"], "unknown scale 'tiny'"),
        (["--detector", "strong:zz", "--pair", "digits-photos"], "unknown score of strong 'zz'"),
        (["--data", "no/such"], "--data no/such: there is no such folder"),
        (["--store", "empty"], "no finished run in empty; `oodbench run` makes some"),
        (["--pair", "digits-photos", "--scale", "paper", "--detector", "many"],
         "no finished run"),
        (["--out", "file/x", "--pair", "digits-photos"], "cannot write to"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments: list[str], message: str, report_store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OODBENCH_STORE", report_store.storage.location)
    monkeypatch.setenv("OODBENCH_CACHE", str(tmp_path / "cache"))
    status, _, err = run(monkeypatch, capsys, *arguments)
    assert status == 2
    assert re.search(message, err)
    assert err.startswith("oodbench: error: ")
    assert len(err.splitlines()) == 1


def test_a_report_imports_no_torch(report_store: Store, tmp_path: Path) -> None:
    code = (
        "import sys; from oodbench.cli import oodbench; oodbench.main(["
        f"'report', '--store', {report_store.storage.location!r}, '--out', {str(tmp_path)!r}],"
        " standalone_mode=False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

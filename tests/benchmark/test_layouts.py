"""Published layouts: they print the papers' own tables, and ours with the same rules."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from needs import lacking

from oodbench.datasets.pairs import get_pair
from oodbench.declare.layout_files import find_layout, layout_names, read_layout
from oodbench.detect.detector import DETECTORS
from oodbench.errors import OodbenchError
from oodbench.flow.plan import simplified
from oodbench.flow.suites import find_suite, suites
from oodbench.leaderboards.rows import Group, group_runs
from oodbench.store.store import Store
from oodbench.tables.layout.filled import document, fill
from oodbench.tables.layout.grid import Cell, Grid, Line, flat_head, spanning
from oodbench.tables.layout.markup import literal, parse, plain
from oodbench.tables.render.formats import RENDERERS
from oodbench.tables.render.latex_fit import fitted
from oodbench.tables.request import TableRequest, table_text
from oodbench.tables.sources.numbers import Missing, Number
from oodbench.tables.sources.reported_tables import Published, base_name, key_of
from oodbench.tables.sources.results import results_for

LAYOUTS = layout_names()
GOLDEN = Path(__file__).parent / "golden"
REGENERATE = "OODBENCH_REGENERATE_GOLDEN"
FORMATS = (("table", "table"), ("csv", "tidy"), ("csv", "table"), ("latex", "table"),
           ("markdown", "table"), ("html", "table"), ("json", "tidy"))  # fmt: skip


@pytest.fixture(scope="module")
def groups(made_up_store: Store) -> list[Group]:
    return group_runs(made_up_store.entries("run"))


def text_of(groups: Sequence[Group], store: Store, layout: str, format_: str, shape: str = "table",
            **more: object) -> str:  # fmt: skip
    request = TableRequest(layout=layout, format=format_, shape=shape, significance=False, **more)  # type: ignore[arg-type]
    return table_text(groups, store, request)


def rounded(text: str) -> str:
    """Tidy tables hold whole floats, whose last digits depend on the version of SciPy."""
    return re.sub(r"\d+\.\d{9,}", lambda found: f"{float(found[0]):.8f}", text)


#: Layouts of papers that print fractions; tables here are in percent.
FRACTIONS = ("ddos", "diffpath", "diffpath-models", "lid")


# ---------------------------------------------------------------------- the papers' own tables
def printed_rows(name: str) -> list[dict[str, str]]:
    reference = files("oodbench.reference") / find_layout(name).reference
    return list(csv.DictReader(reference.read_text().splitlines()))


def test_there_is_a_layout_for_every_reference_file() -> None:
    known = {find_layout(name).reference for name in LAYOUTS}
    assert known == {p.name for p in files("oodbench.reference").iterdir() if ".csv" in p.name}
    others = ["ddos", "diffpath", "diffpath-models", "lid", "openood", "rst"]
    assert [*(f"table{n}" for n in range(1, 17)), *others] == LAYOUTS


@pytest.mark.parametrize("name", LAYOUTS)
def test_filled_with_the_published_numbers_a_layout_prints_the_paper(name: str) -> None:
    layout = find_layout(name)
    shown: dict[tuple[str, ...], list[str]] = {}
    for cell in fill(layout, Published(layout)):
        key = key_of(cell.query)
        place = (key.in_dist, key.ood, key.model, key.score, key.metric)
        shown.setdefault(place, []).append(plain(parse(cell.label())))
    rows = printed_rows(name)
    for row in rows:
        place = (row["in_dist"].lower(), row["ood"].lower(), row["model"],
                 simplified(row["score"]), row["metric"].lower())  # fmt: skip
        assert len(shown[place]) == 1, f"{place} stands {len(shown[place])} times"
        printed = row["printed"]
        if name in FRACTIONS and printed != "-":
            percent = f"{100 * float(printed):.{len(printed) - 4}f}"  # 91.0 of 0.910
            assert row["value"] == f"{100 * float(printed):.1f}"
            printed = percent
        assert shown[place][0] == plain(parse(re.sub(r"\^(-?\d+)", r"^{\1}", printed)))
    assert len(shown) == len(rows)  # and nothing else


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n not in ("table14", "table15")])
def test_row_labels_are_the_printed_ones_in_the_printed_order(name: str) -> None:
    layout = find_layout(name)
    for outer in layout.blocks:
        for block in outer.basic():
            numbers = [(row.label, {**block.select, **row.select}) for row in block.rows
                       if row.kind == "numbers"]  # fmt: skip
            labels = [plain(parse(label)) for label, _ in numbers]
            pair = get_pair(
                str({**block.select, **block.leaves[0].select, **numbers[0][1]}["pair"])
            )
            printed = {
                (int(row["row"]), row["label"]): None
                for row in printed_rows(name)
                if name in ("table5", "table16", "lid")
                or row["in_dist"].lower() == base_name(pair.in_dist)
            }
            if name == "table1":
                printed = {k: None for k in printed if k[1] in labels}
            if name == "table5":
                printed = dict.fromkeys([next(iter(printed))])
            assert labels == [label for _, label in printed], name


# ---------------------------------------------------------------------- ours
@pytest.mark.parametrize("name", LAYOUTS)
def test_cells_name_a_score_that_their_detector_gives(name: str) -> None:
    for query in find_layout(name).queries():
        detector = str(query["detector"])
        if "metric" not in query or detector not in DETECTORS.names():
            continue
        patterns = DETECTORS.get(detector).score_patterns
        score = str(query.get("score", ""))
        if not score:
            assert len(patterns) <= 1, f"{detector} gives {', '.join(patterns)}; name one"
        elif patterns:
            digit = re.sub(r"\d", "k", score)
            assert {score, digit} & {*patterns}, f"{detector} gives no {score}"


@pytest.mark.parametrize("name", [*LAYOUTS, "general", "table2-paper"])
def test_golden_files(name: str, groups: list[Group], made_up_store: Store) -> None:
    """Set OODBENCH_REGENERATE_GOLDEN=1 to write them anew, then read the difference."""
    layout, _, paper = name.partition("-")
    some = groups
    if name == "general":
        tables = {(query["detector"], query["pair"]) for number in range(1, 17)
                  for query in find_layout(f"table{number}").queries()}  # fmt: skip
        some = [g for g in groups if g.first["pair"] in ("cifar10-svhn", "cifar10-celeba")
                and (g.first["detector"], g.first["pair"]) in tables]  # fmt: skip
    parts = []
    for format_, shape in FORMATS:
        text = text_of(some, made_up_store, layout, format_, shape, paper=bool(paper))
        parts.append(f"===== {format_}{' tidy' if shape == 'tidy' else ''} =====\n{text}")
    path, text = GOLDEN / f"{name}.txt", "\n".join(parts)
    if os.environ.get(REGENERATE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    golden = path.read_text(encoding="utf-8")
    assert rounded(text) == rounded(golden), f"{path} differs; {REGENERATE}=1 rewrites it"


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_nobody_ran_is_empty_and_never_the_papers_number(
    name: str, groups: list[Group], made_up_store: Store
) -> None:
    layout = find_layout(name)
    for cell in fill(layout, results_for([], layout)):
        assert cell.found is Missing.NOT_RUN or isinstance(cell.found, str)
        assert cell.label() in ("", "N/A")
    rows = json.loads(text_of(groups, made_up_store, name, "json", "tidy"))
    registered = {str(g.first["detector"]) for g in groups}
    for row in rows:
        if row["detector"] not in registered:
            assert row["value"] is None
    assert any(row["value"] is not None for row in rows)


class Cells(HTMLParser):
    """Texts of the body cells of a page, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


@pytest.mark.parametrize("name", LAYOUTS)
def test_formats_hold_the_same_cells(name: str, groups: list[Group], made_up_store: Store) -> None:
    layout = find_layout(name)
    expected = sorted(plain(parse(c.label(layout.spread))) for c in
                      fill(layout, results_for(groups, layout)) if c.number)  # fmt: skip
    numeric = re.compile(r"-?\d+\.\d+(±\d+\.\d+)?(×10[⁻⁰-⁹²³¹]+)?|\d+")
    text = {f: text_of(groups, made_up_store, name, f) for f in RENDERERS}
    in_csv = [c for line in csv.reader(io.StringIO(text["csv"])) for c in line]
    in_markdown = [
        c.replace("\\", "").strip("* ")
        for line in text["markdown"].splitlines() if line.startswith("|")
        for c in line.split(" | ")
    ]  # fmt: skip
    labels = {plain(parse(row.label)) for b in layout.blocks for inner in b.basic()
              for row in inner.rows}  # fmt: skip
    for cells in (in_csv, [c.strip("| *") for c in in_markdown]):
        found = sorted(c for c in cells if numeric.fullmatch(c) and c not in labels)
        assert found == [e for e in expected if e not in labels]
    if name not in ("table13", "table14"):  # raised digits are marked up there
        page = Cells()
        page.feed(text["html"])
        found = sorted(c for row in page.rows for c in row if numeric.fullmatch(c))
        assert [c for c in found if c not in labels] == [e for e in expected if e not in labels]


def test_the_best_of_a_column_is_bold_and_ties_share_it(
    groups: list[Group], made_up_store: Store
) -> None:
    layout = find_layout("table16")
    source = results_for(groups, layout)
    grid = document(layout, source).panels[0].grid
    values: dict[tuple[str, str], list[float]] = {}
    for cell in fill(layout, source):
        if cell.number:
            key = str(cell.query["pair"]), str(cell.query["metric"])
            values.setdefault(key, []).append(float(cell.label()))
    best = {k: (max if k[1] != "fpr80" else min)(v) for k, v in values.items()}
    bold = sorted(float(plain(c.text)) for line in grid.body for c in line if c and c.bold)
    assert bold == sorted(best[k] for k in best for v in values[k] if v == best[k])


def test_table_1_sets_only_unsupervised_single_models_in_bold() -> None:
    layout = find_layout("table1")
    grid = document(layout, Published(layout)).panels[0].grid
    bold = [plain(c.text) for line in grid.body for c in line if c and c.bold]
    assert bold == ["98.8", "94.2"]  # LRe, LLRada: not LR(PC) 99.4 nor MD 99.7


def test_a_tie_is_bold_twice() -> None:
    layout = find_layout("table2")  # HVK and LLR>2 differ; LLRada 0.9 is the lowest FPR80
    grid = document(layout, Published(layout)).panels[0].grid
    bold = [plain(c.text) for line in grid.body for c in line[:4] if c and c.bold]
    assert bold == ["98.4", "98.4", "0.9"]
    sets = find_layout("table3")  # two models reach 100 on Omniglot
    line = document(sets, Published(sets)).panels[0].grid.body
    assert [c.bold for row in line if (c := row[4])] == [False, False, True, True]


def test_one_scale_fills_the_whole_table(groups: list[Group]) -> None:
    layout = find_layout("table10")
    assert results_for(groups, layout).scale == "small"
    assert results_for(groups, layout, "paper").number(next(layout.queries())) is Missing.NOT_RUN
    found = results_for(groups, layout).number(next(layout.queries()))
    assert isinstance(found, Number)
    assert found.seeds == 3
    assert found.recipe == "F3-small"


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_two_rows_of_a_comparison_read_alike(
    name: str, groups: list[Group], made_up_store: Store
) -> None:
    """Where models stand in the columns, as in Tables 14 and 15, a row says which it is of."""
    text = text_of(groups, made_up_store, name, "csv", paper=True)
    head, *rows = csv.reader(io.StringIO(text))
    assert head[:4] == ["ID", "OOD", "Row", "Quantity"]
    named = [tuple(row[:4]) for row in rows]
    assert len(set(named)) == len(named)
    assert not any(re.search(r"[a-z]_(nats|dim|sq)|I_T_nats", row[3]) for row in rows)
    if name in ("table14", "table15"):
        assert {row[2].rpartition(", ")[2] for row in rows} == {"HVAE", "Ours"}


# ---------------------------------------------------------------------- LaTeX
def compiled(latex: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The log of each table as a document of its own, set until its columns stand still."""
    engine = next((e for e in ("pdflatex", "tectonic", "lualatex") if shutil.which(e)), None)
    if engine is None:
        lacking("no LaTeX (pdflatex, tectonic or lualatex) is installed")
    assert engine is not None
    options = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    logs = {}
    for name, text in latex.items():
        packages = re.findall(r"\\usepackage\{\w+\}", text.splitlines()[0])
        (folder / f"{name}.tex").write_text(
            f"\\documentclass{{article}}{''.join(packages)}\n\\begin{{document}}\n{text}"
            "\\end{document}\n",
            encoding="utf-8",
        )
        for _ in range(1 + ("longtable" in text)):
            done = subprocess.run([engine, *options, f"{name}.tex"], cwd=folder, text=True,
                                  capture_output=True, errors="replace", timeout=120)  # fmt: skip
            assert done.returncode == 0, done.stdout[-3000:]
        logs[name] = (folder / f"{name}.log").read_text(errors="replace")
    return logs


def test_every_table_compiles_and_fits_its_pages(
    groups: list[Group], made_up_store: Store, tmp_path: Path
) -> None:
    """What a layout prints takes a page, and nothing of any table stands off its page."""
    some = [g for g in groups if str(g.first["pair"]).startswith("cifar10")]
    latex = {name: text_of(groups, made_up_store, name, "latex") for name in LAYOUTS}
    for name in ("table1", "table5", "table13", "table14"):
        latex[f"{name}-paper"] = text_of(groups, made_up_store, name, "latex", paper=True)
    latex["general"] = text_of(some, made_up_store, "general", "latex")
    latex["cost"] = text_of(some, made_up_store, "general", "latex",
                            extras=("cost", "diagnostics", "paper"))  # fmt: skip
    for name, log in compiled(latex, tmp_path).items():
        for fault in ("Overfull", "too large for page", "Missing character", "undefined"):
            assert fault not in log, f"{name}: {fault}"
        (pages,) = re.findall(r"\((\d+) pages?,", log)
        lines = sum(line.endswith("\\\\") for line in latex[name].splitlines())
        most = 1 if name in LAYOUTS and name != "table1" else 2 + lines // 40
        assert int(pages) <= most, f"{name}: {pages} pages for {lines} lines"


def numbers_of(text: str) -> Counter[str]:
    """How often each number stands in the body of a table."""
    return Counter(re.findall(r"\d+\.\d+", text))


@pytest.mark.parametrize("paper", [False, True])
def test_a_table_that_is_cut_to_fit_loses_no_number(
    paper: bool, groups: list[Group], made_up_store: Store
) -> None:
    for name in ("table1", "table3", "table5", "table13", "general"):
        layout = name if name != "general" or not paper else "table12"
        whole = text_of(groups, made_up_store, layout, "csv", paper=paper)
        cut = text_of(groups, made_up_store, layout, "latex", paper=paper)
        body = cut.partition("\\par\\smallskip{\\footnotesize")[0]
        body = re.sub(r"\\(p|multi)\w*\{[^}]*\}|p\{\d+pt\}", "", body)
        missing = numbers_of(whole) - numbers_of(body.replace("$\\pm$", "±"))
        assert not missing, name


def test_what_fits_stays_one_table_and_what_does_not_is_cut_at_its_blocks() -> None:
    cells = [tuple(Cell(literal(f"{row}{column}" * 2)) for column in range(8)) for row in range(3)]
    head: tuple[Line, ...] = (
        (Cell(literal("Label"), rows=2), Cell(literal("Score"), rows=2),
         *spanning(Cell(literal("one"), columns=3)), *spanning(Cell(literal("two"), columns=3))),
        (None, None, *(Cell(literal(f"M{i}")) for i in range(6))),
    )  # fmt: skip
    grid = Grid("ll" + "c" * 6, head, tuple(cells), gaps=frozenset({4}))
    (whole,) = fitted(grid)
    assert (whole.grid, whole.size) == (grid, "\\small")
    parts = fitted(grid, 170)
    assert [flat_head(part.grid) for part in parts] == [
        ["Label", "Score", "one M0", "one M1", "one M2"],
        ["Label", "Score", "two M3", "two M4", "two M5"],
    ]
    assert [[plain(c.text) for c in part.grid.body[1] if c][2] for part in parts] == [
        "1212", "1515",
    ]  # fmt: skip


# ---------------------------------------------------------------------- suites, bad files
@pytest.mark.parametrize("number", range(1, 17))
def test_suites_of_the_tables_run_what_their_layout_names(number: int) -> None:
    suite = find_suite(f"table{number}")
    registered = set(DETECTORS.names())
    asked = {
        (str(q["pair"]), f"{q['detector']}" + (f"@{q['recipe']}" if "recipe" in q else ""))
        for q in find_layout(suite.layout).queries() if q["detector"] in registered
    }  # fmt: skip
    planned = {(pair, name) for part in suite.parts for pair in part.pairs
               for name in part.detectors}  # fmt: skip
    assert planned == asked
    assert planned
    assert suites()[f"table{number}"] == suite


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blocks: []", "'blocks' must list one block"),
        ("blocks: [{rows: [{label: a}]}]", "block 1: the key 'columns' is missing"),
        ("blockz: []", "unknown key 'blockz'; nearest: blocks"),
        ("blocks: [{columns: [{title: x, select: {metric: aurocc}}], rows: [{label: a}]}]",
         "unknown metric .* 'aurocc'; nearest: auroc"),
        ("blocks: [{columns: [{titel: x}], rows: [{label: a}]}]", "'titel'; nearest: title"),
        ("blocks: [{columns: [{title: x}], rows: [{select: {layers: five}}]}]", "label"),
        ("blocks: [{columns: [{title: x}], rows: [{label: a, select: {layers: five}}]}]",
         "select.layers: 'five' is of the wrong type"),
    ],
)  # fmt: skip
def test_a_bad_layout_file_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(OodbenchError, match=message) as caught:
        read_layout(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cell_that_asks_for_too_little_is_named(groups: list[Group], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "blocks: [{columns: [{title: x, select: {metric: auroc}}], rows: [{label: mine}]}]"
    )
    layout = read_layout(tmp_path / "mine.yaml")
    with pytest.raises(OodbenchError, match="mine, row 'mine': select lacks the key 'pair'"):
        list(fill(layout, results_for(groups, layout, "small")))

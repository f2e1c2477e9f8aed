"""A number is rounded once, from the exact fraction, and reads the same in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodbench.canonical_json import JSON
from oodbench.datasets.loading import find_places
from oodbench.leaderboards.rounding import as_shown, in_full, mean_percent, percent, shown
from oodbench.leaderboards.rows import group_runs
from oodbench.reports.page import ReportRequest, report_page
from oodbench.store.store import Store
from oodbench.tables.request import TableRequest, table_text
from oodbench.tables.tidy import rows_to_csv


def exactly(value: Fraction, decimals: int) -> str:
    """Whole numbers alone: halves go up, away from zero."""
    scaled = abs(value) * 10**decimals
    whole = int((2 * scaled + 1) // 2)
    sign = "-" if value < 0 and whole else ""
    digits = str(whole).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


def record(value: float, n_id: int, n_ood: int, metric: str = "fpr80") -> dict[str, JSON]:
    return {metric: {"value": value}, "n_id": n_id, "n_ood": n_ood}


@pytest.mark.parametrize("count", [200, 386, 2000, 3000])
def test_every_false_positive_rate_rounds_as_its_fraction(count: int) -> None:
    for part in range(count + 1):
        value = percent("fpr80", record(part / count, count, count))
        assert shown(value) == exactly(Fraction(100 * part, count), 1), part
        assert shown(value, 2) == exactly(Fraction(100 * part, count), 2), part


def test_halves_that_binary_fractions_miss() -> None:
    """17.15 and 76.65 percent of 2,000 images: one binary neighbour lies below, one above."""
    assert (f"{100 * 0.1715:.1f}", f"{100 * 0.7665:.1f}") == ("17.2", "76.6")
    found = [shown(percent("fpr95", record(part / 2000, 2000, 2000, "fpr95")))
             for part in (343, 1533)]  # fmt: skip
    assert found == ["17.2", "76.7"]
    assert (shown(-0.25), shown(-0.04), shown(-0.04, 1, "+"), shown(1234.5, 0, ",")) == (
        "-0.3", "0.0", "+0.0", "1,235",
    )  # fmt: skip


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_an_auroc_rounds_as_its_number_of_half_pairs(
    n_id: int, n_ood: int, data: st.DataObject
) -> None:
    whole = 2 * n_id * n_ood
    part = data.draw(st.integers(0, whole))
    value = percent("auroc", record(part / whole, n_id, n_ood, "auroc"))
    assert shown(value) == exactly(Fraction(100 * part, whole), 1)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=2, max_size=8))
def test_a_mean_over_seeds_rounds_as_the_mean_of_the_fractions(parts: list[int]) -> None:
    """Of 3,000 images no rate but a few is a short decimal, yet a mean of them can be."""
    runs = [record(part / 3000, 3000, 3000) for part in parts]
    expected = Fraction(100 * sum(parts), 3000 * len(parts))
    assert shown(mean_percent("fpr80", runs)) == exactly(expected, 1)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_any_number_rounds_as_the_decimal_that_stands_for_it(value: float, decimals: int) -> None:
    step = Decimal(1).scaleb(-decimals)
    expected = Decimal(repr(value)).quantize(step, ROUND_HALF_UP)
    assert Decimal(shown(value, decimals)) == expected
    assert as_shown(value, decimals) == float(expected)


def test_csv_keeps_what_is_small() -> None:
    rows = [{"p": 5.75e-4, "q": 3.2e-12, "v": 17.15, "w": 77.84 - 97.0}]
    (line,) = csv.DictReader(io.StringIO(rows_to_csv(rows, list(rows[0]))))
    assert {k: float(v) for k, v in line.items()} == pytest.approx(rows[0], rel=1e-14)
    assert in_full({"a": 0.1 + 0.2, "b": "x", "c": 3}) == {"a": "0.3", "b": "x", "c": 3}


def test_the_report_and_every_table_show_the_same_digits(report_store: Store) -> None:
    known = group_runs(report_store.entries("run"))
    groups = [group for group in known if group.first["in_dist"] == "digits"]
    page = report_page(groups, report_store, find_places((), str(report_store.storage.location)),
                       ReportRequest(all_scores=True, significance=False, pictures=0))  # fmt: skip
    block = re.search(r'id="table-data">(.*?)</script>', page, re.S)
    assert block is not None
    table = json.loads(block[1])
    in_report = {
        (table["names"]["detector"][row["detector"]], table["names"]["score"][row["score"]]): [
            f"{row[metric][0]:.1f}" for metric in ("auroc", "auprc", "fpr80", "fpr95")
        ]
        for row in (dict(zip(table["fields"], line, strict=True)) for line in table["rows"])
    }
    request = TableRequest(format="csv", shape="table", significance=False, all_scores=True)
    seen, detector = {}, ""
    for line in csv.reader(io.StringIO(table_text(groups, report_store, request))):
        if len(line) == 6 and line[2].replace(".", "")[:1].isdigit():
            detector = re.sub(r" \[\w+\]$", "", line[0]) or detector
            score = line[1].removesuffix(" [oracle]")
            seen[detector, score] = [re.sub("[±*!†?].*", "", cell) for cell in line[2:]]
    assert len(seen) > 100
    assert {key: in_report[key] for key in seen} == seen

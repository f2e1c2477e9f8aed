"""What the page on reproduction prints of Li et al. 2022 is what their tables print."""

from __future__ import annotations

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reproduction.md"
VERDICT = re.compile(
    r"^\| (?P<id>\w+)/(?P<ood>\w+) \| (?P<score>[\w>]+) \| (?P<layers>\d), Table (?P<table>\d+)"
    r" \| (?P<paper>\S+) \|(?P<ours>[^|]*)\|(?P<seeds>[^|]*)\| (?P<verdict>[\w ]+) \|$",
    re.M,
)


def printed(table: int) -> list[dict[str, str]]:
    (path,) = (ROOT / "results" / "reference").glob(f"table{table:02}_*.csv")
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_headline_number_is_the_papers() -> None:
    rows = list(VERDICT.finditer(PAGE.read_text("utf-8")))
    assert len(rows) == 12
    for row in rows:
        wanted = (row["id"], row["ood"], f"Ours({row['layers']})", row["score"].replace("_", ""))
        (cell,) = {
            line["printed"]
            for line in printed(int(row["table"]))
            if line["metric"] == "AUROC"
            and (line["in_dist"], line["ood"], line["model"], line["score"]) == wanted
        }
        assert row["paper"] == cell


def test_every_verdict_has_as_many_values_as_seeds_and_none_without() -> None:
    for row in VERDICT.finditer(PAGE.read_text("utf-8")):
        ours, seeds = (re.findall(r"\d[\d.]*", row[part]) for part in ("ours", "seeds"))
        assert len(ours) == len(seeds)
        assert row["verdict"] == ("not reproduced" if ours else "open")


def test_the_diagnostics_are_those_of_tables_14_and_15() -> None:
    text = PAGE.read_text("utf-8")
    kl = [r["value"] for r in printed(14) if r["model"] == "Ours(5)"]
    vanilla = sum(float(r["value"]) for r in printed(14) if r["model"] == "HVAE(5)")
    assert f"{', '.join(kl[:-1])} and {kl[-1]}" in " ".join(text.split())
    assert round(sum(map(float, kl))) == 372
    assert round(vanilla) == 319
    nll = [
        r["value"] for r in printed(15)
        if (r["in_dist"], r["model"]) == ("FashionMNIST", "Ours(3)")
    ]  # fmt: skip
    assert " / ".join(nll) in text

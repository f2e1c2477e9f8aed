"""Tables of the methods since 2022: years, the papers' numbers, where they stand beside ours."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path

import pytest
from in_process import invoke

from oodbench.declare.layout_files import find_layout
from oodbench.detect.detector import DETECTORS
from oodbench.detect.years import method_year
from oodbench.errors import ConfigError
from oodbench.flow.suites import find_suite, read_suite
from oodbench.leaderboards.rows import group_runs
from oodbench.store.store import Store
from oodbench.tables.sources.numbers import Missing, Number
from oodbench.tables.sources.reported_scores import Papers
from oodbench.tables.sources.reported_tables import in_percent
from oodbench.tables.sources.results import results_for

ROOT = Path(__file__).parents[2]
FIELD = ("field-fashionmnist", "field-cifar10")
FRACTIONS = ("ddos", "diffpath", "diffpath-models", "lid")
NEW = (*FRACTIONS, "openood")
BUILT_IN = [
    name for name in DETECTORS.names()
    if DETECTORS.get(name).__module__.startswith("oodbench.baselines.")
]  # fmt: skip
#: Methods of the papers' tables that oodbench has not, and DiffPath on models of other sets.
NOT_HERE = {
    "igebm", "vaebm", "improved-cd", "dose-glow", "lr-glow", "input-complexity-diffusion", "msma",
    "openmax", "tempscale", "mdsens", "gram", "opengan", "klm", "dice", "rankfeat", "she", "gen",
    *(f"diffpath-{model}" for model in ("cifar10", "svhn", "celeba", "imagenet", "random")),
}  # fmt: skip
#: "Average" of the rows of Tables 3 and 4 of Heng et al. that have every cell, as printed.
AVERAGES = {
    "diffpath_table3.csv": {
        "Diffusion": "0.689", "Diffusion IC": "0.451", "MSMA": "0.945", "DDPM-OOD": "0.746",
        "DiffPath ImageNet": "0.850", "DiffPath CelebA": "0.931",
    },
    "diffpath_table4.csv": {
        "DiffPath C10": "0.853", "DiffPath SVHN": "0.838", "DiffPath CelebA": "0.931",
        "DiffPath ImageNet": "0.850", "DiffPath Random": "0.501",
    },
}  # fmt: skip


def reference(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((files("oodbench.reference") / name).read_text().splitlines()))


# ---------------------------------------------------------------------- years
@pytest.mark.parametrize(
    ("cite", "year"),
    [
        ("arXiv 2405.11881", "2024"), ("arXiv 1906.02994; Li et al. 2022", "2019"),
        ("Jiang et al., ICLR 2022", "2022"), ("Raya et al. 2022, openreview eATJn1VZQia", "2022"),
        ("ours; beside Li et al., NeurIPS 2022", "ours"), ("trivial; see Serrà et al. 2020", ""),
        ("doi 10.1109/TPAMI.2017.2723009", ""), ("", ""), ("openreview eATJn1VZQia", ""),
    ],
)  # fmt: skip
def test_a_year_is_that_of_the_source_cited_first(cite: str, year: str) -> None:
    assert method_year(cite) == year


def test_every_detector_that_learns_has_a_year() -> None:
    without = {name for name in BUILT_IN if not method_year(DETECTORS.get(name).cite)}
    assert {DETECTORS.get(name).cite.partition(";")[0] for name in without} == {"trivial"}


def test_the_years_of_the_page_are_those_of_the_detectors() -> None:
    text = (ROOT / "docs/diffusion.md").read_text("utf-8")
    rows = re.findall(r"^\| (to 2019|20\d\d|ours) \| (.*) \|$", text, re.MULTILINE)
    stated: dict[str, str] = {}
    for when, names in rows:
        last = ""
        for name, year in reversed(re.findall(r"`([\w*-]+)`(?: \((\d+)\))?", names)):
            last = year or last or when
            stated[name] = last if when == "to 2019" else when
    suite = {name for suite in FIELD for name in find_suite(suite).detectors}
    for name in suite:
        year = method_year(DETECTORS.get(name).cite)
        found = [w for pattern, w in stated.items() if fnmatchcase(name, pattern)]
        assert found[:1] == [year] if year else not found, (name, year, found)


# ---------------------------------------------------------------------- references
@pytest.mark.parametrize("name", sorted(find_layout(layout).reference for layout in FRACTIONS))
def test_values_are_the_printed_fractions_in_percent(name: str) -> None:
    for row in reference(name):
        assert row["metric"] == "AUROC"
        if row["printed"] == "-":
            assert row["value"] == ""
            continue
        assert re.fullmatch(r"[01]\.\d{2,3}", row["printed"]), row
        assert float(row["value"]) == pytest.approx(100 * float(row["printed"]), abs=1e-9)
        assert 0 <= float(row["value"]) <= 100
        shown = in_percent(row["printed"], row["value"])
        assert shown == f"{100 * float(row['printed']):.{len(row['printed']) - 4}f}"


@pytest.mark.parametrize("name", AVERAGES)
def test_the_cells_of_a_row_have_the_printed_average(name: str) -> None:
    rows = reference(name)
    for model, average in AVERAGES[name].items():
        cells = [float(row["printed"]) for row in rows if row["model"] == model]
        assert len(cells) == 12
        assert sum(cells) / 12 == pytest.approx(float(average), abs=0.00051), model


def test_the_tables_of_one_paper_agree_where_they_print_the_same() -> None:
    """Rows ImageNet and CelebA stand in both tables."""
    third, fourth = (reference(f"diffpath_table{n}.csv") for n in (3, 4))
    for model in ("DiffPath ImageNet", "DiffPath CelebA"):
        either = [
            {(r["in_dist"], r["ood"]): r["printed"] for r in rows if r["model"] == model}
            for rows in (third, fourth)
        ]
        assert either[0] == either[1]
        assert len(either[0]) == 12


def test_the_pair_is_never_below_the_likelihood_of_its_model() -> None:
    """The authors take the better of the two, so that a swapped column would show."""
    rows = reference("lid_diffusion.csv")
    assert len(rows) == 26 * 3
    cells = {(r["row"], r["model"]): float(r["value"]) for r in rows}
    numbers = {r["row"] for r in rows}
    assert all(cells[n, "LID OOD"] >= cells[n, "Diffusion"] for n in numbers)
    assert any(cells[n, "DDPM-OOD re-implemented"] < cells[n, "Diffusion"] for n in numbers)


# ---------------------------------------------------------------------- layouts and columns
@pytest.mark.parametrize("name", NEW)
def test_every_printed_row_has_a_detector_here_or_is_known_to_have_none(name: str) -> None:
    asked = {str(query["detector"]) for query in find_layout(name).queries()}
    assert asked - set(BUILT_IN) <= NOT_HERE
    assert asked & set(BUILT_IN)


def test_papers_speak_of_the_model_of_the_id_set(made_up_store: Store) -> None:
    groups = {
        (str(g.first["detector"]), str(g.first["in_dist"]), str(g.first["ood"])): g
        for g in group_runs(made_up_store.entries("run"))
    }
    papers = Papers()

    def printed(detector: str, pair: Sequence[str], score: str) -> str:
        found = papers.auroc(groups[detector, pair[0], pair[1]], score)
        return f"{found.number.printed} {found.source}" if found else ""

    colour = ("cifar10", "svhn")
    assert printed("diffpath", colour, "6D").startswith("93.9 Heng")
    assert printed("lid-diffusion", colour, "pair").startswith("94.3 Kamkari")
    assert printed("diffusion", colour, "L").startswith("9.1 Heng")
    assert printed("diffpath", colour, "1D") == ""
    assert printed("ddos", ("fashionmnist", "mnist"), "").startswith("98 Raya")


@pytest.mark.parametrize("name", FIELD)
def test_the_field_suites_print_year_and_paper(name: str, made_up_store: Store) -> None:
    assert find_suite(name).columns == ("year", "paper")
    status, text, err = invoke(
        ROOT, "leaderboard", "--store", str(made_up_store.storage.location), "--suite", name,
        "--format", "csv", "--no-significance",
    )  # fmt: skip
    assert status == 0, err
    rows = list(csv.DictReader(io.StringIO(text)))
    years = {row["name"]: row["year"] for row in rows}
    assert {n: method_year(DETECTORS.get(n).cite) for n in years} == years
    assert {"diffusion", "ddpm-ood"} <= set(years)
    assert any(row["auroc_paper"] for row in rows)
    assert "paper_source" in rows[0]


def test_columns_that_are_asked_for_stand_in_the_place_of_the_suites(made_up_store: Store) -> None:
    status, text, _ = invoke(
        ROOT, "leaderboard", "--store", str(made_up_store.storage.location), "--suite",
        "field-cifar10", "--columns", "reverse", "--format", "csv", "--no-significance",
    )  # fmt: skip
    head = text.splitlines()[0].split(",")
    assert (status, "year" in head, "auroc_reverse" in head) == (0, False, True)


@pytest.mark.parametrize(("columns", "said"), [("year", "list of names"), ("[1]", "list of names")])
def test_a_suite_with_bad_columns_is_one_line(tmp_path: Path, columns: str, said: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"pairs: [digits-photos]\ndetectors: [glow]\ncolumns: {columns}\n")
    with pytest.raises(ConfigError, match=f"s.yaml: 'columns' must be a {said}"):
        read_suite(path)


def test_a_run_of_such_a_suite_prints_the_years(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text(
        "pairs: [digits-photos]\ndetectors: [mean-intensity, png-length]\ncolumns: [year]\n"
    )
    monkeypatch.setattr(DETECTORS.get("png-length"), "cite", "Serrà et al. 2020")
    status, text, err = invoke(tmp_path, "run", "--suite", "s.yaml", "--quiet", "--wide")
    assert status == 0, err
    lines = text.splitlines()
    assert "Year" in next(line for line in lines if "AUROC" in line)
    assert re.search(r"\b2020\W*$", next(line for line in lines if "PNG length" in line))
    assert not re.search(r"\b20\d\d\W*$", next(li for li in lines if "Mean intensity" in li))
    assert "Year: when the method was first public" in " ".join(text.split())


#: Variants that Tables 6 and 7 and the latent allocation compare, and VAEs made for a certificate.
OTHER_TABLES = {
    "vanilla-lvae", "warmup-hvae", "dvp-vae", "rst-vae", "rst-prefit", "rst-plain-vae",
}  # fmt: skip


@pytest.mark.parametrize("name", FIELD)
def test_the_field_suites_have_every_detector_without_labels(name: str) -> None:
    alone = {
        name for name in BUILT_IN
        if DETECTORS.get(name).category in ("unsupervised", "ensemble")
    }  # fmt: skip
    assert set(find_suite(name).detectors) == alone - OTHER_TABLES


# ---------------------------------------------------------------------- near and far
def test_openoods_numbers_are_mean_and_deviation_as_printed() -> None:
    rows = reference("openood_cifar10.csv")
    assert len(rows) == 21 * 2
    for row in rows:
        assert row["printed"] == f"{row['value']} ± {row['std']}"
        assert 50 < float(row["value"]) < 100
    means = {(row["model"], row["ood"]): float(row["value"]) for row in rows}
    assert all(means[m, "near"] < means[m, "far"] for m, _ in means if m != "RankFeat")


def test_a_cell_of_means_is_that_of_its_sets_and_of_nothing_less(made_up_store: Store) -> None:
    groups = group_runs(made_up_store.entries("run"))
    layout = find_layout("openood")
    found = {
        (str(q["detector"]), str(q["mean"])): results_for(groups, layout).number(q)
        for q in layout.queries()
    }
    oods = {
        "near": ("cifar100", "tiny-imagenet-openood"),
        "far": ("mnist-openood@rgb@resize", "svhn", "textures-openood", "places365-openood"),
    }
    for detector in ("energy", "knn"):
        for name, sets in oods.items():
            own = [
                100 * entry.record["scores"]["S"]["auroc"]["value"]  # type: ignore[index,call-overload]
                for entry in made_up_store.entries("run")
                if (entry.record["detector"], entry.record["in_dist"]) == (detector, "cifar10")
                and entry.record["ood"] in sets
            ]
            assert len(own) == len(sets)
            number = found[detector, name]
            assert isinstance(number, Number)
            assert number.value == pytest.approx(sum(own) / len(own), abs=1e-9)
            assert len(number.runs) == len(sets)
    some = [g for g in groups if g.first["ood"] != "tiny-imagenet-openood"]
    left = [results_for(some, layout).number(q) for q in layout.queries() if q["mean"] == "near"]
    assert set(left) == {Missing.NOT_RUN}

"""Figures quoted from `results/published`, read from there; run by itself, it writes them anew.

A page marks what it quotes, so that it can also be read in the repository:

    <!-- from dvp-nll -->96.70<!-- end -->

The site is built with what the files hold now, and a test fails where the page says otherwise.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from site_text import table

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "published" / "small"
QUOTED = re.compile(r"(<!-- from ([\w-]+) -->)(.*?)(<!-- end -->)", re.DOTALL)
PAGES = (*(ROOT / "docs").rglob("*.md"), *(ROOT / "results" / "published").rglob("*.md"))


def with_published(markdown: str) -> str:
    """A page with everything that it quotes as the files have it; KeyError on another name."""

    def quoted(found: re.Match[str]) -> str:
        return f"{found[1]}{FIGURES[found[2]]()}{found[4]}"

    return QUOTED.sub(quoted, markdown)


# ---------------------------------------------------------------------- DVP-VAE and LVAE
def _dvp(samples: str, pattern: str) -> str:
    """A number of the comparison with an LVAE; `samples`: how its block begins or what heads it."""
    text = (PUBLISHED / "dvp-lvae.txt").read_text("utf-8")
    (found,) = re.findall(rf"{re.escape(samples)}(?!\d).*?{pattern}", text, re.DOTALL)[:1]
    return _minus(str(found))


def _minus(text: str) -> str:
    return text.replace("-", "−")


MODEL = r"\n{} [^\n]*? ([\d.]+) +[\d.]+\n"
OURS, THEIRS = MODEL.format("dvp-vae"), MODEL.format("vanilla-lvae")
DIFFERENCE, ERROR = r"images: ([-+][\d.]+) nats", r"images: \S+ nats, s\.e\. ([\d.]+)"


# ---------------------------------------------------------------------- the certificate
CERTIFIED = {
    "I_T_nats": ("I_T", 3), "L_TS_nats": ("L_TS", 3), "G_T_nats": ("G_T", 3),
    "reconstruction": ("Rec.", 1), "KL_nats": ("KL", 1), "E_mu_sq": ("E‖μ‖²", 1),
    "active_units": ("active", 0),
}  # fmt: skip
NAMES = {"VAE": "VAE (`rst-plain-vae`)"}


def _certificates() -> str:
    """Ours, and the paper's in brackets: a row per model."""
    text = (PUBLISHED / "rst.txt").read_text("utf-8")
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        cells = re.match(r"mnist +(\S+) +(\w+) +(-?[\d.]+) +(-?[\d.]+)", line)
        if cells:
            digits = CERTIFIED[cells[2]][1]
            ours, paper = (_minus(f"{float(number):.{digits}f}") for number in cells.group(3, 4))
            found.setdefault(cells[1], {})[cells[2]] = f"{ours} ({paper})"
    heads = ["model", *(head for head, _ in CERTIFIED.values())]
    rows = [
        [NAMES.get(name, name), *(row[quantity] for quantity in CERTIFIED)]
        for name, row in found.items()
    ]
    return f"\n{table(heads, rows)}"


# ---------------------------------------------------------------------- allocation
CHOICES = ("default", "chosen on ID data", "oracle")


def _allocation() -> str:
    """AUROC of LLR_ada at three choices of r: a row per model and OOD set."""
    found: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    with (PUBLISHED / "allocation.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["score"] == "LLR_ada" and row["choice"] in CHOICES:
                found.setdefault((row["detector"], row["ood"]), {})[row["choice"]] = row
    rows, names = [], {"mnist": "MNIST", "notmnist": "notMNIST"}
    for detector, ood in sorted(found, reverse=True):
        default, chosen, oracle = (found[detector, ood][choice] for choice in CHOICES)
        ends = (chosen[f"difference{end}"] for end in ("", "_low", "_high"))
        difference, low, high = (_minus(f"{float(end):+.1f}") for end in ends)
        rows.append([
            detector.removesuffix("(3)"), names[ood], _spread(default), _spread(chosen),
            f"{difference} [{low}, {high}]", f"{_spread(oracle)} (r = {float(oracle['point']):g})",
        ])  # fmt: skip
    heads = ["", "OOD", "r = ½", "r by ID data", "difference, 95 % interval", "oracle"]
    return f"\n{table(heads, rows)}"


def _spread(row: Mapping[str, str]) -> str:
    return f"{float(row['value']):.1f} ± {float(row['sd']):.1f}"


def _swept() -> list[float]:
    """Seconds of every fit of the sweep."""
    fits = json.loads((PUBLISHED / "models.json").read_text("utf-8"))["fits"]
    return [fit["seconds"] for fit in fits if fit["recipe"].startswith("F3-dense")]


# ---------------------------------------------------------------------- the paradox
def _paradox() -> str:
    """AUROC on `china-flower` of the two hierarchical VAEs: a row per score."""
    found: dict[str, dict[str, str]] = {}
    with (PUBLISHED / "embedded.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["pair"], row["metric"]) == ("china-flower", "auroc"):
                found.setdefault(row["score"], {})[row["name"]] = _spread(row) if row["sd"] else ""
    models = {"vanilla-hvae": "HVAE, plain ELBO", "informative-hvae": "Informative HVAE"}
    rows = [
        [f"`{score}`", *(row[name] for name in models)]
        for score, row in found.items()
        if set(models) <= set(row)
    ]
    return f"\n{table(['', *models.values()], rows)}"


# ---------------------------------------------------------------------- budgets of training
BUDGETS = ("L", "LLR>1", "LLR>2", "LLR_ada", "LLR_optk", "KL<=3")


def _budgets(suite: str) -> list[dict[str, str]]:
    with (PUBLISHED / f"{suite}-budgets.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _by_model(rows: list[dict[str, str]], *metrics: str) -> dict[tuple[str, int], dict[str, str]]:
    """By model and images seen: mean ± standard deviation of every quantity."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for row in rows:
        if row["metric"] in metrics:
            digits = {"auroc": 1, "bits_per_dim": 3, "kl_nats": 1}[row["metric"]]
            mean, sd = float(row["value"]), float(row["sd"] or "nan")
            at = found.setdefault((row["detector"].split("(")[0], int(row["images"])), {})
            at[row["score"]] = f"{mean:.{digits}f} ± {sd:.{digits}f}"
    return found


def _settled_id(suite: str) -> str:
    """Bits/dim and KL of ID test images: a row per model and budget."""
    rows = _by_model(_budgets(suite), "bits_per_dim", "kl_nats")
    names = list(dict.fromkeys(name for cells in rows.values() for name in cells))
    units = {name: "nats" if name.startswith("KL") else "bits/dim" for name in names}
    heads = ["", "images seen", *(f"{name}, {unit}" for name, unit in units.items())]
    cells = [[model, f"{seen:,}", *(c[n] for n in names)] for (model, seen), c in rows.items()]
    return f"\n{table(heads, cells)}"


def _settled_auroc(suite: str, ood: str) -> str:
    """AUROC on one OOD set: a row per model and budget."""
    chosen = [row for row in _budgets(suite) if row["ood"] == ood]
    rows = _by_model(chosen, "auroc")
    cells = [
        [model, f"{seen:,}", *(found[name] for name in BUDGETS)]
        for (model, seen), found in rows.items()
    ]
    heads = ["", "images seen", *(f"`{name}`" for name in BUDGETS)]
    return f"\n{table(heads, cells)}"


# ---------------------------------------------------------------------- the field
def _field(suite: str, *pairs: str) -> str:
    """AUROC on every pair, ours and the papers' where one is printed: a row per score."""
    found: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    with (PUBLISHED / f"{suite}.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["metric"] == "auroc":
                found.setdefault((row["detector"], row["score"]), {})[row["pair"]] = row
    rows = []
    for (detector, score), cells in found.items():
        line = [detector, f"`{score}`" if score else ""]
        for pair in pairs:
            paper = cells[pair]["auroc_paper"]
            line += [_spread(cells[pair]), f"{float(paper):.1f}" if paper else ""]
        rows.append(line)
    heads = [head for pair in pairs for head in (pair, "paper")]
    return f"\n{table(['', 'score', *heads], rows)}"


FIGURES: Mapping[str, Callable[[], str]] = {
    "dvp-nll": partial(_dvp, "S = 100", OURS),
    "lvae-nll": partial(_dvp, "S = 100", THEIRS),
    "dvp-lvae-difference": partial(_dvp, "S = 100", DIFFERENCE),
    "dvp-lvae-error": partial(_dvp, "S = 100", ERROR),
    "dvp-elbo": partial(_dvp, "S = 1", OURS),
    "lvae-elbo": partial(_dvp, "S = 1", THEIRS),
    "dvp-7x7-difference": partial(_dvp, "u of 7×7", r"images: \+([\d.]+) nats"),
    "certificates": _certificates,
    "allocation": _allocation,
    "paradox": _paradox,
    "budgets-fashionmnist": partial(_settled_id, "settling-fashionmnist"),
    "budgets-mnist": partial(_settled_auroc, "settling-fashionmnist", "mnist"),
    "budgets-notmnist": partial(_settled_auroc, "settling-fashionmnist", "notmnist"),
    "field-fashionmnist": partial(
        _field, "field-fashionmnist", "fashionmnist-mnist", "fashionmnist-notmnist"
    ),
    "sweep-fits": lambda: str(len(_swept())),
    "sweep-seconds": lambda: f"{sum(_swept()):,.0f}",
}


if __name__ == "__main__":
    for page in PAGES:
        before = page.read_text("utf-8")
        after = with_published(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{page}\n")

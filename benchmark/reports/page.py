"""From groups of runs to the page: everything embedded, nothing fetched, every name escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from oodbench.canonical_json import JSON
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import registered_pairs
from oodbench.datasets.paths.shown_names import NamesOnly, shown_name
from oodbench.errors import OodbenchError
from oodbench.flow.plan import DetectorRequest
from oodbench.flow.run_records import shown_notes
from oodbench.leaderboards.board import TRIVIAL, Place, make_board
from oodbench.leaderboards.paired_tests import PairedScores
from oodbench.leaderboards.rows import Group
from oodbench.leaderboards.significance_marks import Family, above_trivial, as_good_as_best
from oodbench.media import displayed, terminal_lines
from oodbench.reports.details import Details
from oodbench.reports.maps import Maps
from oodbench.reports.rows import BoardRow, board_rows, table_json
from oodbench.reports.thumbnails import Thumbnails
from oodbench.store.outputs import write_output
from oodbench.store.store import Store
from oodbench.tables.images import compared_row, sizes

STYLES = ("page.css", "dialog.css")
SCRIPTS = ("dom.js", "charts.js", "detail.js", "table.js")


@dataclass(frozen=True)
class ReportRequest:
    """What the page shows; `pictures` is the number per set and end, 0 for none.

    `explain`: beside every picture a map of its score, where there is one; that runs models.
    """

    title: str = "oodbench report"
    all_scores: bool = False
    asked: Mapping[str, DetectorRequest] = field(default_factory=dict)
    significance: bool = True
    pictures: int = 8
    explain: bool = False


@dataclass(frozen=True)
class PairSummary:
    """One line about a pair: its sets, its best score, and the best without a model."""

    name: str
    in_dist: str
    ood: str
    n: str
    rows: int
    best: str
    trivial: str
    remarks: Sequence[str]


def report_page(
    groups: Sequence[Group], store: Store, places: DataPlaces, request: ReportRequest
) -> str:
    """The whole page; it reads the store and, for pictures, the data sets."""
    board = make_board(groups, request.asked, request.all_scores)
    scores = PairedScores(store)
    as_good, trivial = (
        (as_good_as_best(board, scores), above_trivial(board, scores))
        if request.significance else (None, None)
    )  # fmt: skip
    rows = board_rows(board, as_good, trivial)
    thumbnails = Thumbnails(places if request.pictures else None)
    own = [entry.record for group in groups for entry in group.entries if not entry.imported]
    used = {str(record[side]) for record in own for side in ("in_dist", "ood")}
    maps = Maps(store, thumbnails) if request.explain else None
    details = Details(store, thumbnails, request.pictures, used, maps)
    names: dict[int, list[str]] = {id(group): [] for group in groups}
    for row in rows:
        names[id(row.place.group)].append(row.place.score)
    found = [details.of(group, names[id(group)]) for group in groups]
    style, script = _joined(STYLES), f'(() => {{\n"use strict";\n{_joined(SCRIPTS)}}})();\n'
    return _environment().get_template("page.html").render(
        title=request.title,
        version=_version(),
        newest=max(str(e.record["created"]) for group in groups for e in group.entries),
        style=style,
        script=script,
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        table=table_json(rows, groups),
        details=found,
        detectors=len({str(group.first["detector"]) for group in groups}),
        steps=details.steps.to_json(),
        pictures=thumbnails.to_json(),
        pairs=[_summary(pair, rows) for pair in board.pairs],
        tests=_tests(as_good),
        trivial=", ".join(TRIVIAL),
    )  # fmt: skip


def write_report(
    groups: Sequence[Group], store: Store, places: DataPlaces, request: ReportRequest, out: str
) -> tuple[Path, int]:
    """Write the page of runs into a folder or a file, whose folder is made; its path and bytes.

    OodbenchError where it cannot be written.
    """
    target = Path(out) if out.endswith((".html", ".htm")) else Path(out) / "index.html"
    page = report_page(groups, store, places, request).encode()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OodbenchError(f"cannot write to {target.parent}: {error.strerror}") from error
    write_output(target, page)
    return target, len(page)


@cache
def _environment() -> Environment:
    folder = str(files("oodbench.reports"))
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, finalize=_printable,
        auto_reload=False,
    )  # fmt: skip
    environment.policies["json.dumps_function"] = lambda value, **how: json.dumps(
        displayed(value), **how
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


@cache
def _version() -> str:
    return metadata.version("oodbench")


def _printable(value: object) -> object:
    """Names as the page shows them; style, script and JSON are no names."""
    return terminal_lines(value) if type(value) is str else value


@cache
def _joined(names: tuple[str, ...]) -> str:
    """Files of this folder, one after the other."""
    return "".join(
        Path(str(files("oodbench.reports") / name)).read_text(encoding="utf-8") for name in names
    )


def _csp_hash(text: str) -> str:
    """The source expression that lets a page run exactly this inline text."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _summary(pair: str, rows: Sequence[BoardRow]) -> PairSummary:
    """The best leaves oracle choices aside."""
    found = [row.place for row in rows if row.place.row.pair == pair]
    fair = [place for place in found if place.row.category != "oracle"]
    without = [place for place in fair if place.group.first["detector"] in TRIVIAL]
    record = found[0].group.first
    compared = [compared_row(place.row) for place in found]
    notes = dict.fromkeys(note for place in found for note in shown_notes(place.group.first))
    known = registered_pairs().get(pair)
    if known and known.reading and (known.in_dist, known.ood) == (record["in_dist"], record["ood"]):
        notes = {known.reading: None} | notes

    return PairSummary(
        name=pair,
        in_dist=shown_name(str(record["in_dist"])),
        ood=shown_name(str(record["ood"])),
        n=sizes(compared),
        rows=len(found),
        best=_first(fair),
        trivial=_first(without),
        remarks=tuple(map(NamesOnly([str(record["in_dist"]), str(record["ood"])]).text, notes)),
    )


def _first(places: Sequence[Place]) -> str:
    """The first score with its AUROC, "" where there is none."""
    return f"{places[0].row.label}: {places[0].row.cells['auroc'].text}" if places else ""


def _tests(family: Family | None) -> Mapping[str, JSON]:
    """How many comparisons the marks stand on, over how many seeds, and how many are not made."""
    if family is None:
        return {
            "made": 0,
            "untested": 0,
            "reason": "",
            "comparisons": 0,
            "seeds": 1,
            "split": False,
        }
    return {
        "made": len(family.p_values),
        "untested": len(family.untested),
        "reason": next(iter(family.untested.values()), ""),
        "comparisons": family.comparisons,
        "seeds": family.seeds,
        "split": bool(family.split),
    }

"""Diagnoses as tables, as tidy CSV and JSON, and as a sentence per model."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.diagnosis import Row, rows_of
from oodbench.media import csv_row
from oodbench.tables.render.console import Boxed

if TYPE_CHECKING:
    from oodbench.store.store import Entry

#: Columns of the table: head, and how a row fills it.
COLUMNS: Sequence[tuple[str, Callable[[Row], str]]] = (
    ("Layer", lambda row: str(row["layer"])),
    ("KL", lambda row: _number(row["kl_nats"])),
    ("Active", lambda row: active(row)),
    ("I(x;z) ≥", lambda row: _information(row)),
    ("NLL_k", lambda row: _number(row["nll_bits_per_dim"], 3)),
    ("L>k", lambda row: _number(row["bound_bits_per_dim"], 3)),
    ("E‖μ‖²", lambda row: _number(row["E_mu_sq"])),
    ("K", lambda row: str(row["K"])),
    ("I_T", lambda row: _number(row["I_T_nats"], 4)),
    ("L_TS", lambda row: _number(row["L_TS_nats"], 4)),
    ("G_T", lambda row: _number(row["G_T_nats"], 4)),
    ("G_T fitted", lambda row: _number(row["fitted_G_T_nats"], 4)),
    ("½E‖z*‖²", lambda row: _number(row["code_energy_nats"], 4)),
)
#: Columns that a narrow terminal does without, the first to go first.
SPARE = ("½E‖z*‖²", "E‖μ‖²", "L_TS", "I_T", "K", "G_T fitted", "NLL_k")
CAPTION = (
    "{images:,} test images. KL, I, I_T, L_TS, G_T in nats; NLL_k and L>k of k = layer − 1 in"
    " bits/dim, the layers below at their modes, so that L>k above layer 1 is no bound on log p(x)."
    " Active: variance of the mean > 0.01. I(x;z): a lower bound in expectation, at most"
    " log N = {limit:.2f} (=: at that limit). G_T = I_T − L_TS > 0 certifies that the mean is not"
    " constant, anything else proves nothing; G_T of the simplex witness{own}, G_T fitted of an"
    " affine readout learned from training images"
)


def active(row: Row) -> str:
    """``12/20``."""
    return f"{row['active_units']}/{row['units']}"


def diagnosis_table(entry: Entry) -> Boxed:
    """One line per layer."""
    rows = rows_of(entry)
    record = entry.record
    own = ", of the top layer the model's own" if any(row["own_witness"] for row in rows) else ""
    caption = CAPTION.format(
        images=record["images"], limit=cast(float, rows[0]["information_limit_nats"]), own=own
    )
    title = f"{record['name']} ({record['recipe']}, {record['variant']})"
    table = Boxed(title, [(head, "right") for head, _ in COLUMNS], caption, spare=SPARE)
    for row in rows:
        table.add(*(fill(row) for _, fill in COLUMNS))
    return table


def sentence(entry: Entry) -> str:
    """Which layers carry information, which are collapsed, which are certified, in words."""
    rows = rows_of(entry)
    living = [row for row in rows if row["active_units"]]
    dead = [row for row in rows if not row["active_units"]]
    certified = [row for row in rows if row["certified"]]
    fitted = [row for row in rows if row["fitted_certified"] and not row["certified"]]
    parts = []
    if living:
        parts.append(f"{_layers(living)} of {len(rows)} {_verb(living, 'carries', 'carry')}"
                     f" information ({_evidence(living)})")  # fmt: skip
    if dead:
        parts.append(f"{_layers(dead)} {_verb(dead, 'has', 'have')} no active unit"
                     f" ({_evidence(dead)}): collapsed by that criterion")  # fmt: skip
    if certified:
        parts.append(f"certified not constant by the simplex witness: {_layers(certified)}")
    if fitted:
        parts.append(f"certified not constant by a fitted readout: {_layers(fitted)}")
    if not certified and not fitted:
        parts.append("no certificate, which claims nothing")
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]


def diagnosis_csv(entries: Iterable[Entry]) -> str:
    """One line per model and layer, every number in full."""
    rows = diagnosis_rows(entries)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(csv_row, rows))
    return out.getvalue()


def diagnosis_rows(entries: Iterable[Entry]) -> list[dict[str, JSON]]:
    """One mapping per model and layer."""
    return [_identity(entry) | dict(row) for entry in entries for row in rows_of(entry)]


def diagnosis_json(entries: Iterable[Entry]) -> str:
    """A list of models, each with its sentence and its layers."""
    models = [
        _identity(entry)
        | {"sentence": sentence(entry), "layers": [dict(row) for row in rows_of(entry)]}
        for entry in entries
    ]
    return json.dumps(models, indent=1)


def _identity(entry: Entry) -> dict[str, JSON]:
    names = ("name", "model", "recipe", "variant", "in_dist", "seed", "images")
    return {"diagnosis": entry.digest[:12]} | {name: entry.record[name] for name in names}


def _layers(rows: Sequence[Row]) -> str:
    numbers = ", ".join(str(row["layer"]) for row in rows)
    return f"layer{'s' if len(rows) > 1 else ''} {numbers}"


def _verb(rows: Sequence[Row], one: str, many: str) -> str:
    return many if len(rows) > 1 else one


def _evidence(rows: Sequence[Row]) -> str:
    units = " and ".join(active(row) for row in rows)
    nats = " and ".join(_number(row["kl_nats"]) for row in rows)
    return f"active units {units}, KL {nats} nats"


def _information(row: Mapping[str, JSON]) -> str:
    """The estimate; ``= 7.60`` where it stands at its limit, which is then all that it says."""
    value = cast(float, row["information_nats"])
    at_limit = value > 0.99 * cast(float, row["information_limit_nats"])
    return f"{'= ' if at_limit else ''}{value:.2f}"


def _number(value: JSON, digits: int = 2) -> str:
    number = float(cast(float, value))
    if number and abs(number) < 0.5 * 10**-digits:
        return f"{number:.0e}"
    return f"{number:,.{digits}f}"

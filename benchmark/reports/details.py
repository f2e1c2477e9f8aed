"""What a row of the leaderboard opens: curves, densities, pictures, diagnostics, cost, keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.paths.shown_names import NamesOnly, shown_name
from oodbench.datasets.spec import is_plainly_registered
from oodbench.declare.layouts import METRICS
from oodbench.diagnosis import StoredDiagnoses
from oodbench.errors import StoreError
from oodbench.flow.resolved_job import subset_indices
from oodbench.flow.run_records import members_of, shown_notes
from oodbench.leaderboards.compared_images import Compared
from oodbench.leaderboards.paired_tests import PairedScores
from oodbench.leaderboards.rounding import as_shown, cleaned, percent
from oodbench.leaderboards.rows import Group
from oodbench.reports.curves import area, histogram, roc_curve, simplified
from oodbench.reports.maps import Maps, Shown
from oodbench.reports.steps import Steps
from oodbench.reports.thumbnails import Found, Thumbnails
from oodbench.store.store import Entry, Store

#: What a record says of all its scores, copied as it stands.
COPIED = ("pair", "detector", "category", "cite", "recipe", "scale", "variant", "layers",
          "configuration", "n", "available", "duplicates", "cost")  # fmt: skip

#: What is shown of a stored diagnosis, a value per layer.
DIAGNOSED = ("kl_nats", "active_units", "information_nats", "I_T_nats", "L_TS_nats", "G_T_nats",
             "fitted_G_T_nats")  # fmt: skip


class Details:
    """Makes the details of one group of runs after the other; `pictures` per set and end.

    Of imported runs only images of sets that are registered here, or `used` by a run of one's own.
    `maps` explains the scores of the pictures, None where that is not asked for.
    """

    def __init__(
        self, store: Store, thumbnails: Thumbnails, pictures: int, used: Collection[str] = (),
        maps: Maps | None = None,
    ) -> None:  # fmt: skip
        self.used, self.maps = used, maps
        self.store, self.thumbnails, self.pictures = store, thumbnails, pictures
        self.scores, self.steps = PairedScores(store), Steps(store)
        self.diagnoses = StoredDiagnoses(store)

    def of(self, group: Group, names: Sequence[str]) -> dict[str, JSON]:
        """Everything about a group that is not in the table, for the scores named."""
        record = group.first
        out = {name: record[name] for name in COPIED if name in record}
        out |= {
            "in_dist": shown_name(str(record["in_dist"])),
            "ood": shown_name(str(record["ood"])),
            "notes": cast("list[JSON]", shown_notes({**record, "duplicates": []})),
        }
        paths = NamesOnly([str(record["in_dist"]), str(record["ood"])])
        out |= {name: paths.of(out[name]) for name in ("notes", "duplicates") if name in out}
        out["runs"] = [
            {
                "seed": entry.record["seed"],
                "key": entry.digest,
                "created": entry.record["created"],
                "diagnostics": self._diagnostics(entry),
                "steps": cast("list[JSON]", self.steps.behind(entry)),
            }
            for entry in group.entries
        ]
        out["scores"] = {name: self._score(group, name) for name in names}
        return out

    def _diagnostics(self, run: Entry) -> dict[str, JSON]:
        """Those of the run's record, and beside them what `oodbench diagnose` found."""
        found = dict(cast("Mapping[str, JSON]", run.record["diagnostics"]))
        rows = self.diagnoses.of(run)
        if rows:
            found["diagnose"] = {name: [row[name] for row in rows] for name in DIAGNOSED}
        return found

    def _score(self, group: Group, name: str) -> dict[str, JSON]:
        records = [_score_record(entry, name) for entry in group.entries]
        out: dict[str, JSON] = {
            "metrics": [[_percent(metric, record) for metric in METRICS] for record in records],
            "oracle": records[0].get("oracle", ""),
            "distinct": [records[0]["distinct_id"], records[0]["distinct_ood"]],
            "n": records[0]["n_id"],
            "members": members_of(group.first, name),
        }
        try:
            found = [self.scores.compared(entry, name) for entry in group.entries]
            curves = [
                _checked_curve(*both, name) for both in zip(group.entries, found, strict=True)
            ]
        except StoreError as error:
            return out | {"problem": str(error)}
        column = str(records[0].get("oracle", name))  # an oracle choice is the score that it chose
        bins = histogram(found[0].id_scores, found[0].ood_scores)
        return out | {
            "members": found[0].members,
            "roc": [_thousandths(simplified(curve)) for curve in curves],
            "histogram": {
                "low": bins.low, "high": bins.high,
                "id": bins.id_counts.tolist(), "ood": bins.ood_counts.tolist(),
            },
            "pictures": self._pictures(group.entries[0], found[0], column),
        }  # fmt: skip

    # ------------------------------------------------------------------ pictures
    def _pictures(self, entry: Entry, scores: Compared, column: str) -> dict[str, JSON]:
        """The most and least OOD images of both sets by score, or why they are not shown.

        With their maps of the score `column`, where these are asked for.
        """
        if not self.pictures:
            return {}
        record = entry.record
        for name in (str(record["in_dist"]), str(record["ood"])):
            if entry.imported and name not in self.used and not is_plainly_registered(name):
                note: JSON = {
                    "note": "Not shown: an imported record names the images by a path or as drawn"
                    " ones, which nothing computed here has used."
                }
                return {"id": note, "ood": note}
        in_dist = self._images(entry, "id_scores", str(record["in_dist"]))
        ood = self._images(entry, "ood_scores", str(record["ood"]), in_dist, str(record["in_dist"]))
        out = {
            "id": self._extremes(entry, "id_scores", in_dist, scores.id_scores, scores.id_rows),
            "ood": self._extremes(entry, "ood_scores", ood, scores.ood_scores, scores.ood_rows),
        }
        maps = self._maps(entry, column, {"id": in_dist, "ood": ood}, out)
        return {**out, **({"maps": maps} if maps else {})}

    def _maps(
        self, entry: Entry, name: str, sets: Mapping[str, Found],
        extremes: Mapping[str, Mapping[str, JSON]],
    ) -> dict[str, JSON]:  # fmt: skip
        """What explains the pictures of both sides; {} where nothing is asked for or shown."""
        sides = {}
        for side, images in sets.items():
            if isinstance(images, str) or "note" in extremes[side]:
                continue
            ends = [cast("list[list[int]]", extremes[side][end]) for end in ("most", "least")]
            indices = [index for end in ends for index, _ in end]
            sides[side] = Shown(images, indices, self._measured(entry, f"{side}_scores"))
        return self.maps.of(entry, name, sides) if self.maps is not None and sides else {}

    def _images(
        self, entry: Entry, side: str, name: str, id_images: Found = "", beside: str = ""
    ) -> Found:
        """The images of a side; of an OOD side with the ID images and the ID set's name."""
        parts = self._measured(entry, side)
        if not parts:
            return "The measurement is not in the store any more; its images cannot be told."
        own = side == "id_scores"
        held = id_images if isinstance(id_images, ImageSet) else None
        like, count = (None, 0) if held is None else (held.shape, len(held))
        return self.thumbnails.find(
            name, str(parts["images"]), own=own, like=like, count=count, beside=beside
        )

    def _measured(self, entry: Entry, side: str) -> Mapping[str, JSON]:
        """The key's parts of the measurement behind a side's scores."""
        steps = self.steps.found
        score = cast("Mapping[str, JSON]", steps[str(entry.parts[side])]["parts"])
        return cast("Mapping[str, JSON]", steps[str(score["measure"])].get("parts", {}))

    def _extremes(
        self, entry: Entry, side: str, images: Found, scores: np.ndarray, rows: np.ndarray
    ) -> dict[str, JSON]:
        """[index, score] of the most and the least OOD images."""
        if isinstance(images, str):
            return {"note": images}
        subset = int(cast(int, self._measured(entry, side)["subset"]))
        measured = subset_indices(len(images), subset) if subset else np.arange(len(images))
        order = np.argsort(scores, kind="stable")[: self.pictures]
        ends = {"least": order, "most": np.argsort(-scores, kind="stable")[: self.pictures]}
        out: dict[str, JSON] = {"set": images.fingerprint[:12]}
        for end, chosen in ends.items():
            indices = measured[rows[chosen]].tolist()
            note = self.thumbnails.take(images, indices)
            if note:
                return {"note": note}
            out[end] = [[i, _short(scores[k])] for i, k in zip(indices, chosen, strict=True)]
        return out


def _score_record(entry: Entry, name: str) -> Mapping[str, JSON]:
    return cast("Mapping[str, Mapping[str, JSON]]", entry.record["scores"])[name]


def _checked_curve(entry: Entry, scores: Compared, name: str) -> np.ndarray:
    """The ROC curve (T, 2); StoreError where its area is not the AUROC of the record."""
    curve = roc_curve(scores.id_scores, scores.ood_scores)
    recorded = cast("Mapping[str, float]", _score_record(entry, name)["auroc"])["value"]
    if abs(area(curve) - recorded) > 1e-6:
        raise StoreError(
            f"the stored scores of run {entry.digest[:12]} give an AUROC of"
            f" {100 * area(curve):.2f}, its record says {100 * recorded:.2f}; nothing is drawn"
            " from them"
        )
    return curve


def _percent(metric: str, record: Mapping[str, JSON]) -> list[JSON]:
    """[value, low, high] in percent, as tables show them."""
    found = cast("Mapping[str, float]", record[metric])
    ends = (cleaned(100 * found[end]) for end in ("low", "high"))
    return [as_shown(number) for number in (percent(metric, record), *ends)]


def _thousandths(curve: np.ndarray) -> list[JSON]:
    """[x, y, x, y, …] of a polyline in the unit square, in thousandths."""
    return cast("list[JSON]", np.rint(1000 * curve).astype(int).reshape(-1).tolist())


def _short(value: float) -> float:
    return float(f"{value:.5g}")

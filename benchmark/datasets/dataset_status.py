"""Where each split of each registered data set was found on this machine; reads no image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.reading.contents import Wanted
from oodbench.datasets.sources.published import find_arrays, find_published
from oodbench.datasets.sources.raw_images import Found
from oodbench.datasets.sources.user_files import find_user_data
from oodbench.datasets.spec import catalogue
from oodbench.errors import OodbenchError


@dataclass(frozen=True)
class SplitStatus:
    """Whether a split can be loaded here; `state` is embedded, arrays, native or missing."""

    name: str
    split: str
    state: str
    where: str
    expected: int


def status(places: DataPlaces) -> list[SplitStatus]:
    """The state of every registered split; reads no image."""
    rows = []
    for spec in catalogue().values():
        for split, expected in spec.splits.items():
            if spec.source == "embedded":
                rows.append(SplitStatus(spec.name, split, "embedded", "scikit-learn", expected))
                continue
            try:
                found: Found | None
                if spec.source == "files":
                    found = find_user_data(Path(spec.options[split]), Wanted(split))
                else:
                    found = find_published(spec, split, places.folders)
            except OodbenchError as error:
                rows.append(SplitStatus(spec.name, split, "damaged", str(error), expected))
                continue
            if found is None:
                rows.append(SplitStatus(spec.name, split, "missing", "", expected))
            else:
                kind = (
                    "arrays"
                    if any(find_arrays(spec, split, f) for f in places.folders)
                    else "native"
                )
                rows.append(SplitStatus(spec.name, split, kind, found.where, expected))
    return rows

"""Where each split of each registered data set was found on this machine, and how many images.

Images are counted where a header says how many there are; none is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oodbench.datasets.formats.idx import idx_shape, is_idx_images
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.reading.contents import Wanted
from oodbench.datasets.sources.published import array_files, find_published
from oodbench.datasets.sources.raw_images import Found, open_npz
from oodbench.datasets.sources.user_files import find_user_data
from oodbench.datasets.spec import DatasetSpec, catalogue
from oodbench.errors import OodbenchError


@dataclass(frozen=True)
class SplitStatus:
    """Whether a split can be loaded here; `state` is embedded, arrays, native, damaged or missing.

    `expected` images are in the set as published, `held` in the files that are here: None where
    only reading them would tell.
    """

    name: str
    split: str
    state: str
    where: str
    expected: int
    held: int | None = None

    @property
    def count(self) -> str:
        """``10,000``; ``10,000 of 18,724`` where the files hold others than the published set.

        ``60,000 (not counted)`` where files are there and only reading them would tell.
        """
        if self.held is None and self.state == "native":
            return f"{self.expected:,} (not counted)"
        if self.held is None or self.held == self.expected:
            return f"{self.expected:,}"
        return f"{self.held:,} of {self.expected:,}"


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
                rows.append(_found(spec, split, places.folders, found))
    return rows


def _found(spec: DatasetSpec, split: str, folders: Sequence[Path], found: Found) -> SplitStatus:
    expected = spec.splits[split]
    stored = next(filter(None, (array_files(spec, split, folder) for folder in folders)), [])
    kind = "arrays" if stored else "native"
    try:
        held = sum(open_npz(path)["images"].shape[0] for path in stored) if stored else None
        if not stored and is_idx_images(Path(found.where).name):
            held = idx_shape(Path(found.where))[0]
    except KeyError:
        why = f"{stored[0]}: no array 'images'"
        return SplitStatus(spec.name, split, "damaged", why, expected)
    except OodbenchError as error:
        return SplitStatus(spec.name, split, "damaged", str(error), expected)
    return SplitStatus(spec.name, split, kind, found.where, expected, held)

"""Sets made of others: several splits of one set together, or the images that a list names.

A list stands in ``datasets/lists``: after its comments the pattern of the names, then numbers and
ranges of them.  Images are found by the names of their files, never by their place in a folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.sources.raw_images import Found, Raw
from oodbench.datasets.spec import DatasetSpec, get_spec
from oodbench.datasets.subsets import pick
from oodbench.errors import DataError

LISTS = Path(__file__).parents[1] / "lists"


def base_of(spec: DatasetSpec) -> DatasetSpec:
    """The set whose files hold the images: itself, but for a selection."""
    return get_spec(spec.options["of"]) if spec.source == "selection" else spec


def parts_of(spec: DatasetSpec) -> list[str]:
    """The splits of that set which a selection draws on."""
    return spec.options["parts"].split()


def select(spec: DatasetSpec, found: Sequence[Found]) -> Found:
    """The selection from the sources of its parts, one each; see `_read` for what it raises."""
    listed = spec.options.get("list", "")
    identity: JSON = {
        "parts": [one.identity for one in found],
        "list": digest(list(listed_names(listed))) if listed else "",
    }
    where = f"{' and '.join(one.where for one in found)} (as {spec.name})"
    changed = max(one.changed_ns for one in found)
    return Found(where, identity, lambda: _read(spec, found, listed), changed)


@cache
def listed_names(file: str) -> tuple[str, ...]:
    """The names in a list, in its order."""
    rows = (LISTS / file).read_text("utf-8").splitlines()
    pattern, *rest = (row for row in rows if not row.startswith("#"))
    spans = [re.fullmatch(r"(\d+)(?:-(\d+))?", word) for row in rest for word in row.split()]
    numbers = chain.from_iterable(
        range(int(span[1]), int(span[2] or span[1]) + 1) for span in spans if span
    )
    return tuple(pattern.removeprefix("names: ").format(number) for number in numbers)


def _read(spec: DatasetSpec, found: Sequence[Found], listed: str) -> Raw:
    """The images of all parts, or those of the list.

    DataError where images of a list are missing or have no names, or where the parts are not alike.
    """
    raw = _joined(spec, [one.read() for one in found])
    if not listed:
        return raw
    if raw.names is None:
        raise DataError(
            f"{spec.name} is a list of file names, and {found[0].where} holds images without names;"
            f" use the published files of {spec.options['of']}, or put those"
            f" {len(listed_names(listed)):,} images alone into {spec.name}-test.npz"
        )
    place = {Path(name).name: index for index, name in enumerate(raw.names)}
    lost = [name for name in listed_names(listed) if name not in place]
    if lost:
        raise DataError(
            f"{spec.name}: {len(lost):,} of its {len(listed_names(listed)):,} images are not in"
            f" {found[0].where}, the first {lost[0]}; fetch {spec.options['of']} again"
        )
    return pick(raw, np.sort([place[name] for name in listed_names(listed)]))


def _joined(spec: DatasetSpec, parts: Sequence[Raw]) -> Raw:
    """The images of several splits, one split after another."""
    if len(parts) == 1:
        return parts[0]
    if len({part.final for part in parts}) > 1:
        raise DataError(
            f"{spec.name}: some splits of {spec.options['of']} are prepared arrays here, others are"
            " not, so that they were not made alike; give all in one form"
        )
    arrays = [part.images for part in parts if isinstance(part.images, np.ndarray)]
    images: np.ndarray | Iterable[np.ndarray]
    if len(arrays) == len(parts) and len({array.shape[1:] for array in arrays}) == 1:
        images = np.concatenate(arrays)
    else:
        images = chain.from_iterable(part.images for part in parts)
    labels = [part.labels for part in parts if part.labels is not None]
    return Raw(
        images,
        sum(part.count for part in parts),
        np.concatenate(labels) if len(labels) == len(parts) else None,
        final=parts[0].final,
        note="; ".join(dict.fromkeys(note for part in parts if (note := part.notes()))),
        unlabelled=next((part.unlabelled for part in parts if part.unlabelled), ""),
    )

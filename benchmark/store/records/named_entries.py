"""Which other entries a key names: what an entry was made from stands in the parts of its key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from oodbench.canonical_json import JSON

#: The parts of a key that name entries, and their stage.
NAMED: Mapping[str, Mapping[str, str]] = {
    "run": {"id_scores": "score", "ood_scores": "score"},
    "score": {"measure": "measure", "reference": "measure", "validation": "measure"},
    "measure": {"fits": "fit"},
    "fit": {"models": "fit"},
    "diagnosis": {"fit": "fit"},
}


def named_in(stage: str, parts: Mapping[str, JSON]) -> Iterator[tuple[str, str]]:
    """(stage, digest) of every entry that the parts of a key of a stage name."""
    for part, other in NAMED.get(stage, {}).items():
        for digest in digests_in(parts.get(part)):
            yield other, digest


def digests_in(value: JSON) -> Iterator[str]:
    """Every digest in the parts of a key: of entries, and of images."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from digests_in(item)
    elif isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        yield value

"""One key, one result: what computes a number does not change under the revision in its key."""

from __future__ import annotations

import json

from record_sources import RECORDED, recorded


def test_nothing_computes_otherwise_under_the_same_revision() -> None:
    known, now = json.loads(RECORDED.read_text(encoding="utf-8")), recorded()
    changed = [
        name
        for name, (scheme, revision, source) in known.items()
        if name in now and now[name][:2] == [scheme, revision] and now[name][2] != source
    ]
    assert not changed, (
        f"the source of {changed} is another under the same revision: raise it where results may"
        " differ in any bit, or show that they do not; then run record_sources.py"
    )
    assert known == now, "other detectors, models or revisions: run record_sources.py"

"""Store keys stay bit for bit: a move of code makes nothing anew."""

from __future__ import annotations

import json

from record_keys import RECORDED, recorded


def test_keys_are_those_that_were_recorded() -> None:
    known, now = json.loads(RECORDED.read_text(encoding="utf-8")), recorded()
    moved = [name for name in known if now.get(name) != known[name]]
    assert not moved, f"{len(moved)} keys of another value, such as {moved[:5]}"
    assert list(now) == list(known), "new recipes or detectors: record their keys (record_keys.py)"

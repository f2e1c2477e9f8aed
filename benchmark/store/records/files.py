"""The file of a record: the record, its checksum, and beside them where an entry was imported from.

    {"record": {…}, "sha256": "…"}
    {"imported": {"from": "results.tar", "at": "…"}, "record": {…}, "sha256": "…"}

The checksum finds damage; whoever writes a record writes its checksum, so it says nothing about
who that was.  What was imported is therefore said outside of the record, by the store that did it:
no archive can claim otherwise.  Readers find it in the record under ``imported``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import cast

from oodbench.canonical_json import JSON, canonical_json, digest
from oodbench.store.ownership import RECORD, STAGES

SCHEMA = 1
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
#: Where a record says that it was imported; one of a store's own has no such field.
IMPORTED = "imported"


def pack_record(record: Mapping[str, JSON], origin: Mapping[str, JSON] | None = None) -> bytes:
    """The bytes of a record file; `origin`: where it was imported from, None for one's own."""
    body = {name: value for name, value in record.items() if name != IMPORTED}
    wrapped: dict[str, JSON] = {"record": body, "sha256": digest(body)}
    if origin:
        wrapped[IMPORTED] = dict(origin)
    return canonical_json(wrapped).encode()


def read_record(data: bytes) -> Mapping[str, JSON] | None:
    """The record in the bytes of a record file, or None where it does not match its checksum.

    A record is written in canonical form, so its checksum is that of the bytes as they stand;
    only where somebody has laid the file out anew is the canonical form made again.
    """
    try:
        wrapped = json.loads(data, parse_constant=_refuse)
        record, checksum = wrapped["record"], wrapped["sha256"]
        origin = wrapped.get(IMPORTED)
        beside = f'"{IMPORTED}":{canonical_json(origin)},' if origin is not None else ""
        head, tail = f'{{{beside}"record":'.encode(), f',"sha256":"{checksum}"}}'.encode()
        inner = data.removeprefix(head).removesuffix(tail)
        as_written = len(inner) == len(data) - len(head) - len(tail)
        sound = as_written and hashlib.sha256(inner).hexdigest() == checksum
        sound = sound or digest(record) == checksum
        sound = sound and (record["schema"] != SCHEMA or _is_complete(record))
        if not sound or not isinstance(record, dict):
            return None
        if origin is not None:
            return {**record, IMPORTED: {name: str(origin[name]) for name in ("from", "at")}}
        record.pop(IMPORTED, None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return cast("Mapping[str, JSON]", record)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _is_complete(record: Mapping[str, JSON]) -> bool:
    """Whether a record has what every record of this version has, and names no strange files."""
    files = cast("Mapping[str, Mapping[str, JSON]]", record["files"])
    return (
        record["stage"] in STAGES
        and isinstance(record["parts"], Mapping)
        and record["key"] == digest({k: record[k] for k in ("schema", "stage", "parts")})
        and all(
            FILE_NAME.fullmatch(name) and name != RECORD
            and re.fullmatch("[0-9a-f]{64}", str(file["sha256"])) and isinstance(file["bytes"], int)
            and not isinstance(file["bytes"], bool) and file["bytes"] >= 0
            for name, file in files.items()
        )
    )  # fmt: skip

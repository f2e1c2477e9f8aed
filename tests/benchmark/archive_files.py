"""Archives of a store taken apart and put together again, as whoever wants to deceive would."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from oodbench.canonical_json import canonical_json, digest


def members(archive: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(archive) as opened:
        return [(m.name, opened.extractfile(m).read()) for m in opened]  # type: ignore[union-attr]


def pack(archive: Path, content: list[tuple[str, bytes]]) -> None:
    with tarfile.open(archive, "w") as opened:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))


def resealed(data: bytes, **changes: object) -> bytes:
    """A record with other content under a checksum that fits."""
    record = json.loads(data)["record"] | changes
    return canonical_json({"record": record, "sha256": digest(record)}).encode()

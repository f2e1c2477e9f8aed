"""Reading members of published archives in memory, within bounds; nothing is ever extracted.

The bounds are far above what the published archives hold: they stop an archive that was made to
fill the memory, whatever its headers say.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from oodbench.datasets.sources.raw_images import short_reason
from oodbench.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_MEMBER = 1 << 22
MAX_TAR = 1 << 29
MAX_MEMBERS = 200_000


class Bounded(io.RawIOBase):
    """A stream that ends with an error after `limit` bytes."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, limit: int = MAX_TAR) -> None:
        self.file, self.left, self.limit = file, limit, limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"it unpacks to more than {self.limit:,} bytes")
        return data


def read_tar(path: Path, ending: str) -> dict[str, bytes]:
    """Regular members of a .tar.gz whose name has this ending; DataError where it is damaged."""
    found: dict[str, bytes] = {}
    try:
        with (
            gzip.open(path) as plain,
            tarfile.open(fileobj=Bounded(plain), mode="r|") as archive,
        ):
            for number, member in enumerate(archive):
                if number >= MAX_MEMBERS:
                    raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
                if not member.isfile() or not member.name.endswith(ending):
                    continue
                if member.size > MAX_MEMBER:
                    raise ValueError(f"{member.name} has {member.size:,} bytes")
                file = archive.extractfile(member)
                found[member.name] = b"" if file is None else file.read()
    except Exception as error:  # tarfile, gzip and zlib raise anything on a damaged file
        raise DataError(
            f"{path}: not the published archive ({short_reason(error)}); fetch it again"
        ) from error
    return found


def read_zip_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """The bytes of a member; DataError where it is damaged or larger than MAX_MEMBER."""
    try:
        if archive.getinfo(name).file_size > MAX_MEMBER:
            raise ValueError(f"{archive.getinfo(name).file_size:,} bytes")
        return archive.read(name)
    except Exception as error:  # zipfile and zlib raise anything on a damaged file
        raise DataError(f"{path}: {name} ({short_reason(error)}); fetch it again") from error


def decode(data: bytes, kind: str, where: str) -> Image.Image:
    """The image in the bytes of a file of format `kind`; DataError where there is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.width * image.height > MAX_MEMBER:
                raise ValueError(f"{image.width}×{image.height} pixels")
            image.load()
            return image
    except Exception as error:  # Pillow raises anything on damaged files
        raise DataError(f"{where} is not readable ({short_reason(error)})") from error

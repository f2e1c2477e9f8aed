"""Zip and tar archives of images, read in place within bounds; nothing is extracted.

One folder that holds everything, as most archives have it, counts for nothing.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from oodbench.datasets.formats.image_folder import contents_of, no_images
from oodbench.datasets.reading.contents import Contents
from oodbench.datasets.reading.image_decoding import Decoded, count_frames, decode, may_hold_several
from oodbench.datasets.reading.image_tree import ImageTree, Skipped, tree_of
from oodbench.datasets.reading.picture_images import PictureImages
from oodbench.datasets.reading.split_layout import recognise
from oodbench.datasets.sources.archives import Bounded
from oodbench.datasets.sources.raw_images import ALWAYS_UNPACKED, MAX_RATIO, short_reason
from oodbench.errors import DataError, OodbenchError

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
#: Bytes of one image file, packed or not.
MAX_FILE = 1 << 28
MAX_MEMBERS = 5_000_000


class Archive(Protocol):
    """The members of an archive, one after another."""

    @property
    def path(self) -> Path:
        """The archive itself."""

    def members(self) -> tuple[list[str], Skipped]:
        """The names of regular files, and of folders with "/" at the end; what is neither."""

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """The content of members."""


@dataclass(frozen=True)
class ZipArchive:
    """A zip, from which any member can be read."""

    path: Path

    def members(self) -> tuple[list[str], Skipped]:
        with zipfile.ZipFile(self.path) as archive:
            infos = archive.infolist()
        if sum(info.compress_size for info in infos) > self.path.stat().st_size:
            raise ValueError("its members overlap or are cut off")
        left = Skipped()
        for info in infos:
            if stat.S_ISLNK(info.external_attr >> 16):
                left.add("links", info.filename)
        return [i.filename for i in infos if not stat.S_ISLNK(i.external_attr >> 16)], left

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        with zipfile.ZipFile(self.path) as archive:
            for name in names:
                with archive.open(name) as file:
                    data = file.read(MAX_FILE + 1)
                if len(data) > MAX_FILE:
                    raise ValueError(f"{name} has more than {MAX_FILE:,} bytes")
                yield data


@dataclass(frozen=True)
class TarArchive:
    """A tar, packed or not, which is read from its beginning."""

    path: Path

    def _stream(self) -> IO[bytes]:
        name = self.path.name.lower()
        if name.endswith(("gz", "tgz")):
            return cast("IO[bytes]", gzip.open(self.path))
        if name.endswith(("bz2", "tbz2")):
            return cast("IO[bytes]", bz2.open(self.path))
        if name.endswith(("xz", "txz")):
            return cast("IO[bytes]", lzma.open(self.path))
        return self.path.open("rb")

    def _each(self) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
        limit = max(ALWAYS_UNPACKED, MAX_RATIO * self.path.stat().st_size)
        with (
            self._stream() as plain,
            tarfile.open(fileobj=Bounded(plain, limit), mode="r|") as archive,
        ):
            for number, member in enumerate(archive):
                if member.issparse():
                    raise ValueError(f"{member.name} is stored with holes; pack it without")
                if number >= MAX_MEMBERS:
                    raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
                yield member, archive

    def members(self) -> tuple[list[str], Skipped]:
        names, left = [], Skipped()
        for member, _ in self._each():
            if member.isfile() or member.isdir():
                names.append(f"{member.name}/" if member.isdir() else member.name)
            else:
                linked = member.issym() or member.islnk()
                left.add("links" if linked else "neither files nor folders", member.name)
        return names, left

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        # The stream gives members in its own order; those that are due later are kept, packed.
        kept: dict[str, bytes] = {}
        wanted, due = set(names), iter(names)
        following = next(due, None)
        for member, archive in self._each():
            if member.name not in wanted or not member.isfile() or member.name in kept:
                continue
            if member.size > MAX_FILE:
                raise ValueError(f"{member.name} has {member.size:,} bytes")
            file = archive.extractfile(member)
            kept[member.name] = b"" if file is None else file.read()
            while following in kept:
                yield kept[following]
                wanted.discard(following)
                kept.pop(following)
                following = next(due, None)
        if following is not None:
            raise ValueError(f"{following} is gone")


@dataclass(frozen=True)
class ArchiveFiles:
    """The image files of an archive; `member` is what each is called there."""

    archive: Archive
    names: Sequence[str]
    member: Mapping[str, str]

    def frames(self) -> Mapping[int, int]:
        """The number of images of every file that may hold several."""
        places = [p for p, name in enumerate(self.names) if may_hold_several(name)]
        return {
            place: count_frames(data, self._where(place))
            for place, data in zip(places, self._read(places), strict=True)
        }

    def decode(self, chosen: Sequence[int], expected: Mapping[int, int]) -> Iterator[Decoded]:
        """The files at `chosen`."""
        for place, data in zip(chosen, self._read(chosen), strict=True):
            yield decode(data, self._where(place), expected.get(place, 1))

    def _where(self, place: int) -> str:
        return f"{self.archive.path}: {self.names[place]}"

    def _read(self, places: Sequence[int]) -> Iterator[bytes]:
        names = [self.member[self.names[place]] for place in places]
        if not names:
            return
        try:
            yield from self.archive.read(names)
        except OodbenchError:
            raise
        except Exception as error:  # zipfile, tarfile and zlib raise anything on a damaged file
            raise _damaged(self.archive.path, error) from error


def is_archive(name: str) -> bool:
    """Whether a file of this name is an archive that is read."""
    return name.lower().endswith(ZIP + TAR)


def archive_contents(path: Path) -> Contents:
    """The images of an archive; DataError where there are none or it is damaged."""
    archive: Archive = ZipArchive(path) if path.name.lower().endswith(ZIP) else TarArchive(path)
    try:
        members, left = archive.members()
    except Exception as error:  # zipfile, tarfile and zlib raise anything on a damaged file
        raise _damaged(path, error) from error
    tree, member = tree_of(members, left)
    if not tree.files:
        raise no_images(path, tree.skipped)
    plain, prefix = _without_outer(tree)
    layout = recognise(plain.files, plain.folders, str(path))
    files = ArchiveFiles(
        archive, plain.files, {name: member[prefix + name] for name in plain.files}
    )
    return contents_of(plain, layout, PictureImages(files, layout.parts, str(path)), path)


def _without_outer(tree: ImageTree) -> tuple[ImageTree, str]:
    """The tree below folders that hold everything, and their path."""
    prefix = ""
    while True:
        firsts = {name.removeprefix(prefix).split("/")[0] for name in tree.files}
        inner = [name.removeprefix(prefix) for name in tree.files]
        if len(firsts) > 1 or not all("/" in name for name in inner):
            break
        prefix += f"{firsts.pop()}/"
    folders = [f.removeprefix(prefix) for f in tree.folders if f.startswith(prefix)]
    files = [name.removeprefix(prefix) for name in tree.files]
    return ImageTree(files, tree.skipped, [f for f in folders if f]), prefix


def _damaged(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path}: it cannot be read as an archive ({short_reason(error)})")

"""Parquet with a column of images, as Hugging Face lays sets out: one file, or a folder of shards.

A shard's name says its part: ``train-00000-of-00002.parquet``, ``data/test-…``, or the folder it
stands in, ``default/train/0000.parquet``.  The column of images holds the bytes of image files; a
label column has numbers, whose names the file may hold, or texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from oodbench.datasets.reading.contents import Contents, not_used, number_groups, undivided
from oodbench.datasets.reading.image_decoding import Decoded, decode
from oodbench.datasets.reading.image_tree import in_order, reason_against_folder
from oodbench.datasets.reading.labels import Labels, understand
from oodbench.datasets.reading.picture_images import PictureImages
from oodbench.datasets.reading.split_layout import part_named
from oodbench.datasets.sources.raw_images import short_reason
from oodbench.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("label", "labels", "target", "class", "y", "fine_label")
IMAGES = ("image", "img", "images", "picture", "png", "jpg", "jpeg")
SHARD = re.compile(r"(.+?)-([0-9]+)-of-([0-9]+)")
#: Rows that are decoded at once.
ROWS = 256


@dataclass(frozen=True)
class ShardFiles:
    """The images of shards, one after another; `first` is the place of each shard's first."""

    shards: Sequence[Path]
    column: str
    first: Sequence[int]

    @cached_property
    def names(self) -> Sequence[str]:
        """``shard[row]`` for every image."""
        return _Names(self)

    def frames(self) -> Mapping[int, int]:
        """Every image of a table is one."""
        return {}

    def decode(self, chosen: Sequence[int], expected: Mapping[int, int]) -> Iterator[Decoded]:
        """The images at `chosen`, which ascend."""
        import pyarrow.parquet as pq

        wanted = np.asarray(chosen)
        for number, shard in enumerate(self.shards):
            start, end = self.first[number], self.first[number + 1]
            rows = set((wanted[(wanted >= start) & (wanted < end)] - start).tolist())
            place = 0
            if not rows:
                continue
            with _shard_errors(shard), pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(ROWS, columns=[self.column]):
                    for value in batch.column(0):
                        if place in rows:
                            where = f"{shard}[{place}]"
                            yield decode(_bytes(value.as_py(), where), where)
                        place += 1


class _Names(Sequence[str]):
    """The name of every image, made when it is asked for."""

    def __init__(self, files: ShardFiles) -> None:
        self.files = files

    def __len__(self) -> int:
        return self.files.first[-1]

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        shard = int(np.searchsorted(self.files.first, place, side="right")) - 1
        return f"{self.files.shards[shard]}[{place - self.files.first[shard]}]"


def find_shards(folder: Path) -> list[Path]:
    """The Parquet files below a folder, in order; hidden ones are none."""
    names = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.parquet")
        if path.is_file() and not path.name.startswith((".", "_"))
        and not any(reason_against_folder(p) for p in path.relative_to(folder).parts[:-1])
    ]  # fmt: skip
    return [folder / name for name in in_order(names)]


def parquet_contents(shards: list[Path], where: Path) -> Contents:
    """The images of shards by their parts; DataError where there is no column of images."""
    by_part, notes = _parts(shards, where)
    _check_whole(by_part, where)
    roles, note = undivided(by_part, str(where))
    notes += [note] if note else []
    used = [shard for part in roles.values() for shard in by_part[part]]
    tables = [_columns(shard) for shard in used]
    column, label = _image_column(tables[0], used[0]), _label_column(tables[0])
    classes = _classes(tables[0])
    first = [0, *np.cumsum([_rows(shard) for shard in used]).tolist()]
    files = ShardFiles(used, column, first)
    parts, stored, grouped, place = {}, {}, {}, 0
    for role, part in roles.items():
        count = len(by_part[part])
        parts[role] = np.arange(first[place], first[place + count])
        if label:
            stored[role] = np.concatenate([_values(s, label) for s in by_part[part]])
        if "group" in tables[0].names:
            grouped[role] = np.concatenate([_values(s, "group") for s in by_part[part]])
        place += count
    unused = [name for name in tables[0].names if name not in (column, label, "group")]
    notes += [not_used("columns", unused)] if unused else []
    images = PictureImages(files, parts, str(where))
    labels = understand(stored, images.counts())
    if classes and not labels.classes and labels.values:
        labels = Labels(labels.values, classes)
    groups = number_groups(grouped, images.counts(), str(where))
    return Contents(str(where), images, labels, groups, tuple(notes))


def _parts(shards: list[Path], where: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The shards of every part, and what to say of a shard that is named alone."""
    by_part: dict[str, list[Path]] = {}
    for shard in shards if where.is_dir() else []:
        by_part.setdefault(_part(shard, where), []).append(shard)
    if by_part:
        return by_part, []
    found = SHARD.fullmatch(where.stem)
    if found is None or int(found[3]) < 2:
        return {"": shards}, []
    alone = f"shard {int(found[2]) + 1} of {int(found[3])} alone (name the folder for all)"
    return {"": shards}, [alone]


def _part(shard: Path, folder: Path) -> str:
    """The part that a shard's name, or the folder it stands in, speaks of."""
    found = SHARD.fullmatch(shard.stem)
    words = [found[1] if found else shard.stem, *reversed(shard.relative_to(folder).parts[:-1])]
    for word in words:
        part = part_named(word.removeprefix("partial-"))
        if part:
            return part
    return ""


def _check_whole(by_part: Mapping[str, list[Path]], where: Path) -> None:
    """DataError where a part lacks a shard, or where only some shards name their part."""
    if "" in by_part and len(by_part) > 1:
        raise DataError(
            f"{where}: {by_part[''][0].name} names no part, and others do; rename it or name one"
        )
    for shards in by_part.values():
        numbered = [found for s in shards if (found := SHARD.fullmatch(s.stem))]
        if where.is_dir() and numbered and len(numbered) != int(numbered[0][3]):
            raise DataError(
                f"{where}: {len(numbered)} of the {int(numbered[0][3])} shards {numbered[0][1]} are"
                " there"
            )


def _columns(shard: Path) -> pa.Schema:
    import pyarrow.parquet as pq

    with _shard_errors(shard):
        return pq.read_schema(shard)


def _rows(shard: Path) -> int:
    import pyarrow.parquet as pq

    with _shard_errors(shard):
        return int(pq.read_metadata(shard).num_rows)


def _values(shard: Path, column: str) -> np.ndarray:
    import pyarrow.parquet as pq

    with _shard_errors(shard):
        values = pq.read_table(shard, columns=[column]).column(0).to_numpy()
    if values.dtype.kind != "O" or any(value is None for value in values):
        return np.asarray(values)  # one that is missing is no label of its own
    return np.array([v.decode(errors="backslashreplace") if isinstance(v, bytes) else str(v)
                     for v in values])  # fmt: skip


def _features(schema: pa.Schema) -> Mapping[str, Mapping[str, object]]:
    """What Hugging Face's library says of the columns."""
    try:
        held = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return cast("Mapping[str, Mapping[str, object]]", held) if isinstance(held, dict) else {}


def _image_column(schema: pa.Schema, shard: Path) -> str:
    import pyarrow as pa

    told = [
        n for n, f in _features(schema).items() if isinstance(f, dict) and f.get("_type") == "Image"
    ]
    structs = [
        field.name for field in schema
        if pa.types.is_struct(field.type) and "bytes" in [inner.name for inner in field.type]
    ]  # fmt: skip
    binary = [
        field.name for field in schema
        if (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
        and field.name.lower() in IMAGES
    ]  # fmt: skip
    for name in (*told, *structs, *binary):
        if name in schema.names:
            return str(name)
    raise DataError(
        f"{shard}: no column of images (it has {', '.join(schema.names)}); expected a column"
        " 'image' that holds the bytes of image files"
    )


def _label_column(schema: pa.Schema) -> str:
    told = [
        n
        for n, f in _features(schema).items()
        if isinstance(f, dict) and f.get("_type") == "ClassLabel"
    ]
    return next((n for n in (*LABELS, *told) if n in schema.names), "")


def _classes(schema: pa.Schema) -> tuple[str, ...]:
    names = _features(schema).get(_label_column(schema), {}).get("names")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _bytes(value: object, where: str) -> bytes:
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise DataError(f"{where}: it holds no bytes of an image, only a path or nothing")
    return data


@contextmanager
def _shard_errors(shard: Path) -> Iterator[None]:
    """pyarrow's errors as DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pyarrow raises anything on a damaged file
        raise DataError(f"{shard}: not a readable Parquet file ({short_reason(error)})") from error

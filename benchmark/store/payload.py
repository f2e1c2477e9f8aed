"""The two payload formats of the store: safetensors for weights, Parquet for per-image tables.

Equal content gives equal bytes.  Neither format can carry code.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from oodbench.canonical_json import JSON

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from torch import Tensor


#: What a table may unpack to: so many bytes in any case, and so many times its own.
ALWAYS_UNPACKED, MAX_RATIO = 1 << 30, 200
#: Under this name a file of tensors says in which order they were given, where not by name.
ORDER = "oodbench.order"


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Serialise tensors with safetensors, in the order of their names; theirs is kept beside.

    Tensors that share memory are written one by one.
    """
    from safetensors.torch import save

    ready: dict[str, Tensor] = {}
    held: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        ready[name] = tensor.clone() if place in held else tensor
        held.add(place)
    names = list(tensors)
    return save(ready, None if names == sorted(names) else {ORDER: json.dumps(names)})


def unpack_tensors(data: bytes) -> dict[str, Tensor]:
    """Inverse of `pack_tensors`, order included; ValueError where the bytes are no such file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        found = load(data)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    kept = header.get("__metadata__", {}).get(ORDER)
    try:
        names = sorted(found) if kept is None else list(map(str, json.loads(kept)))
    except (TypeError, RecursionError) as error:
        raise ValueError("the order of its tensors is no list of names") from error
    if sorted(names) != sorted(found):
        raise ValueError("the order of its tensors names others")
    return {name: found[name] for name in names}


def pack_table(
    columns: Mapping[str, np.ndarray],
    metadata: Mapping[str, JSON] | None = None,
    *,
    split_bytes: bool = False,
) -> bytes:
    """Parquet with one column per (N,) array and one fixed-size-list column per (N, K) array.

    `split_bytes` lays out floats byte by byte, which packs rounded ones to about their bits.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays, names = [], []
    for name, values in columns.items():
        flat = _arrow(np.ascontiguousarray(values).reshape(-1))
        if values.ndim == 2:
            flat = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        elif values.ndim != 1:
            raise ValueError(f"column {name!r} has {values.ndim} dimensions; a table takes 1 or 2")
        arrays.append(flat)
        names.append(name)
    table = pa.table(arrays, names=names)
    if metadata:
        table = table.replace_schema_metadata({"oodbench": json.dumps(dict(metadata))})
    sink = io.BytesIO()
    layout = {"use_dictionary": False, "use_byte_stream_split": True} if split_bytes else {}
    pq.write_table(table, sink, compression="zstd", **layout)
    return sink.getvalue()


def _arrow(values: np.ndarray) -> pa.Array:
    """The array (N,) as Arrow's; numbers as they lie in memory, since `pa.array` imports pandas."""
    import pyarrow as pa

    if values.dtype.kind not in "fiu" or not values.dtype.isnative:
        return pa.array(values)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def unpack_table(
    data: bytes, columns: list[str] | None = None, rows: int | None = None
) -> dict[str, np.ndarray]:
    """Inverse of `pack_table`, of all columns or some; ValueError where it is not such a file.

    Nothing is unpacked of a file that holds another number of `rows` than it should, anything but
    numbers, or far more of them than its bytes can be (a column of one value packs to nothing).

    Read in this thread alone: a thread of Arrow's pools that still runs when Python exits aborts
    the process (apache/arrow#34314), and tables are small.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
            if missing := set(columns or ()) - set(file.schema_arrow.names):
                raise ValueError(f"no column {', '.join(sorted(missing))} in the table")
            _check_size(file, len(data), rows)
            table = file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a Parquet file: {error}") from error
    out = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            width = column.type.list_size
            out[name] = _numpy(column.flatten()).reshape(-1, width)
        else:
            out[name] = _numpy(column)
    return out


def _numpy(column: pa.Array) -> np.ndarray:
    """The inverse of `_arrow`; `to_numpy` imports pandas."""
    if column.null_count or column.type.bit_width % 8:
        found: np.ndarray = column.to_numpy(zero_copy_only=False)
        return found
    return np.from_dlpack(column)


def _check_size(file: pq.ParquetFile, packed: int, rows: int | None) -> None:
    """ValueError where a file would not unpack to what its bytes can reasonably hold."""
    import pyarrow as pa

    about = file.metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    count = sum(group.num_rows for group in groups)
    if rows is not None and count != rows:
        raise ValueError(f"a table of {count:,} rows where {rows:,} belong")
    wide = 0
    for field in file.schema_arrow:
        kind, width = field.type, 1
        if pa.types.is_fixed_size_list(kind):
            kind, width = kind.value_type, kind.list_size
        if not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        ):
            raise ValueError(f"a table with a column of {kind}")
        wide += width
    held = sum(g.column(number).num_values for g in groups for number in range(g.num_columns))
    if 8 * max(count * wide, held) > max(ALWAYS_UNPACKED, MAX_RATIO * packed):
        raise ValueError(f"a table of {count:,} rows in {packed:,} bytes")

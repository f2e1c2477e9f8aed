"""The store: atomic entries, checksums, locks, with real processes killed for real."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from oodbench.canonical_json import canonical_json
from oodbench.errors import StoreError
from oodbench.store.key_differences import MISSING, explain
from oodbench.store.payload import pack_table, pack_tensors, unpack_table, unpack_tensors
from oodbench.store.store import DamagedEntryError, Key, Store

KEY = Key("fit", {"model": "hvae", "seed": 0, "config": {"layers": [1, 2]}})
LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
PARTS = st.dictionaries(st.text(min_size=1, max_size=4), st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(min_size=1, max_size=3), inner, max_size=3), max_leaves=8), max_size=4)  # fmt: skip


def test_write_then_find(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(KEY) is None
    store.write(KEY, {"weights.safetensors": b"abc"}, {"seconds": 1.5})
    entry = store.find(KEY)
    assert entry is not None
    assert entry.read("weights.safetensors") == b"abc"
    assert entry.record["seconds"] == 1.5
    assert [e.digest for e in store.entries("fit")] == [KEY.digest]
    assert store.resolve(KEY.digest[:6]).digest == KEY.digest


@given(PARTS, PARTS)
def test_keys_are_equal_exactly_where_the_parts_are(a: dict, b: dict) -> None:  # type: ignore[type-arg]
    same = canonical_json(a) == canonical_json(b)
    assert (Key("fit", a).digest == Key("fit", b).digest) == same
    assert Key("fit", a).digest == Key("fit", dict(reversed(a.items()))).digest
    assert Key("fit", a).digest != Key("measure", a).digest
    assert bool(explain(a, b)) != same or same


def test_explain_names_what_differs() -> None:
    a = {"recipe": {"lr": 0.1, "layers": [1, 2]}, "seed": 0}
    b = {"recipe": {"lr": 0.2, "layers": [1, 3]}, "data": "x"}
    assert explain(a, b) == [
        ("data", MISSING, "x"),
        ("recipe.layers[1]", 2, 3),
        ("recipe.lr", 0.1, 0.2),
        ("seed", 0, MISSING),
    ]


@pytest.mark.parametrize("damage", [b"", b"<html>503</html>", None, "flip"])
@pytest.mark.parametrize("file", ["record.json", "data.bin"])
def test_damage_is_set_aside_and_the_entry_counts_as_absent(
    tmp_path: Path, damage: bytes | str | None, file: str
) -> None:
    store = Store(tmp_path)
    store.write(KEY, {"data.bin": b"payload" * 50})
    path = tmp_path / KEY.path / file
    if damage is None:
        path.unlink()
    elif damage == "flip":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    else:
        path.write_bytes(damage)  # type: ignore[arg-type]
    entry = store.find(KEY)
    if file == "data.bin":
        assert entry is not None
        with pytest.raises(DamagedEntryError):
            entry.read("data.bin")
    assert store.find(KEY) is None
    store.write(KEY, {"data.bin": b"new"})
    found = store.find(KEY)
    assert found is not None
    assert found.read("data.bin") == b"new"
    kept = [p for p in (tmp_path / KEY.path).parent.iterdir() if ".damaged-" in p.name]
    assert len(kept) == (0 if damage is None and file == "record.json" else 1)


def test_record_of_another_key_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    other = Key("fit", {"seed": 1})
    store.write(other, {})
    store.write(KEY, {})
    (tmp_path / KEY.path / "record.json").write_bytes(
        (tmp_path / other.path / "record.json").read_bytes()
    )
    assert store.find(KEY) is None


def spawn(code: str, folder: Path) -> subprocess.Popen[str]:
    prelude = (
        "import sys, time\nfrom oodbench.store import Key, Store\n"
        f"store = Store({str(folder)!r})\n"
        'key = Key("fit", {"model": "hvae", "seed": 0, "config": {"layers": [1, 2]}})\n'
    )
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code], stdout=subprocess.PIPE, text=True
    )


def test_a_writer_killed_before_the_record_leaves_no_entry(tmp_path: Path) -> None:
    code = (
        "write = store.storage.write\n"
        "def slow(path, data):\n"
        "    if path.endswith('record.json'):\n"
        "        print('payload written', flush=True); time.sleep(60)\n"
        "    write(path, data)\n"
        "store.storage.write = slow\n"
        "store.write(key, {'data.bin': b'x'})\n"
    )
    process = spawn(code, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "payload written"
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = Store(tmp_path)
    assert store.find(KEY) is None
    store.write(KEY, {"data.bin": b"y"})
    assert store.find(KEY) is not None


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    process = spawn(
        "with store.lock(key):\n    print('locked', flush=True)\n    time.sleep(60)\n", tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "locked"
    waits: list[str] = []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    started = time.monotonic()
    with Store(tmp_path).lock(KEY, waits.append):
        assert time.monotonic() - started < 5


def test_two_processes_hold_the_lock_in_turn(tmp_path: Path) -> None:
    code = (
        "with store.lock(key):\n"
        "    print(time.monotonic(), flush=True); time.sleep(0.4); print(time.monotonic())\n"
    )
    outputs = [p.communicate()[0].split() for p in [spawn(code, tmp_path) for _ in range(3)]]
    spans = sorted((float(a), float(b)) for a, b in outputs)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    mount = tmp_path / "tiny"
    mount.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True
    ).returncode:
        pytest.skip("a tiny tmpfs needs the right to mount")
    try:
        store = Store(mount)
        store.write(KEY, {"small.bin": b"x"})
        with pytest.raises(StoreError, match=rf"{os.strerror(errno.ENOSPC)}.*--store"):
            store.write(Key("fit", {"seed": 1}), {"big.bin": b"x" * 200_000})
        assert store.find(KEY) is not None
        assert not list(mount.rglob(".tmp-*"))
    finally:
        subprocess.run(["umount", str(mount)], check=False)


def test_a_url_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store("memory://oodbench-test")
    store.write(KEY, {"data.bin": b"far away"})
    with store.lock(KEY):
        entry = Store("memory://oodbench-test").find(KEY)
    assert entry is not None
    assert entry.read("data.bin") == b"far away"
    assert [e.digest for e in store.entries("fit")] == [KEY.digest]


def test_unknown_and_ambiguous_prefixes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError, match="no entry starts with"):
        store.resolve("abcdef")
    with pytest.raises(StoreError, match="too short"):
        store.resolve("abc")


# ---------------------------------------------------------------------- payloads
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_tables_round_trip(rows: int) -> None:
    generator = np.random.default_rng(0)
    columns = {
        "a": generator.normal(size=rows),
        "b": generator.normal(size=(rows, 3)).astype(np.float32),
        "index": np.arange(rows, dtype=np.int64),
    }
    data = pack_table(columns)
    assert data == pack_table(columns)
    back = unpack_table(data)
    assert list(back) == list(columns)
    for name, values in columns.items():
        assert back[name].dtype == values.dtype
        assert np.array_equal(back[name], values)


def test_some_columns_of_a_table() -> None:
    data = pack_table({"a": np.arange(3.0), "b": np.ones((3, 2)), "bc": np.zeros(3)})
    back = unpack_table(data, ["b"])
    assert list(back) == ["b"]
    assert back["b"].shape == (3, 2)
    with pytest.raises(ValueError, match="no column d"):
        unpack_table(data, ["a", "d"])
    with pytest.raises(ValueError, match="not a Parquet file"):
        unpack_table(data[:-9])


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_reading_a_table_leaves_no_thread_that_could_outlive_python() -> None:
    code = """
import os
import numpy as np
import pyarrow.parquet
from oodbench.store.payload import pack_table, unpack_table
data = pack_table({"a": np.arange(1000.0), "b": np.ones((1000, 3))})
before = set(os.listdir("/proc/self/task"))
unpack_table(data)
unpack_table(data, ["b"])
print(len(set(os.listdir("/proc/self/task")) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_tensors_round_trip_and_damage_is_a_value_error() -> None:
    tensors = {
        "w": torch.randn(3, 4).contiguous(memory_format=torch.contiguous_format),
        "flag": torch.tensor(True),
        "count": torch.tensor(3, dtype=torch.int64),
        "image": torch.randint(0, 255, (2, 2), dtype=torch.uint8),
    }
    data = pack_tensors(tensors)
    for name, value in unpack_tensors(data).items():
        assert torch.equal(value, tensors[name])
    with pytest.raises(ValueError, match="safetensors"):
        unpack_tensors(b"<html>")
    with pytest.raises(ValueError, match="Parquet"):
        unpack_table(b"<html>")


def test_tensors_come_back_in_their_order_whatever_they_share() -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    state = {"z": whole, "a": whole[1], "m": whole, "t": whole.T, "none": whole[:0], "b": whole[1:]}
    orders = [list(state), sorted(state), list(reversed(state))]
    for order in orders:
        back = unpack_tensors(pack_tensors({name: state[name] for name in order}))
        assert list(back) == order
        for name in order:
            assert torch.equal(back[name], state[name])
    assert len({pack_tensors({n: state[n] for n in order}) for order in orders}) == 3
    held = safetensors.torch.save({"a": whole}, {"oodbench.order": '["a", "b"]'})
    for bad in (held, safetensors.torch.save({"a": whole}, {"oodbench.order": "{" * 9})):
        with pytest.raises(ValueError, match=r"order of its tensors|Expecting"):
            unpack_tensors(bad)


def test_tables_are_written_and_read_bit_for_bit_and_without_pandas() -> None:
    code = """
import sys
import numpy as np
from oodbench.store.payload import pack_table, unpack_table
draw = np.random.default_rng(0)
given = {kind: draw.normal(0, 99, 7).astype(kind) for kind in "f2 f4 f8 i8 i4 u1".split()}
given |= {"odd": np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1.5]),
          "wide": draw.normal(size=(7, 3))[::-1], "turned": np.arange(7)[::-1]}
for split in (False, True):
    part = {n: v for n, v in given.items() if not split or v.dtype.kind == "f" and n != "f2"}
    read = unpack_table(pack_table(part, split_bytes=split))
    for name, values in part.items():
        assert read[name].dtype == values.dtype
        assert read[name].shape == values.shape
        assert read[name].tobytes() == values.tobytes(), name
assert "pandas" not in sys.modules
flags = {"flag": np.arange(7) % 2 == 0, "flags": np.eye(7, 2) > 0}
for name, values in unpack_table(pack_table(flags)).items():
    assert (values == flags[name]).all()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

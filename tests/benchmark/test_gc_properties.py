"""Whatever lies in a store, `gc` removes only what the store made and what no record may need.

The stores are drawn: chains of entries whose true needs the test knows, then damage, records of
other versions and of other users, parts that are gone, links, and files of other people in every
place.  What must stay is worked out from the chains, never from the records.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodbench.canonical_json import canonical_json, digest
from oodbench.errors import StoreError
from oodbench.store.garbage import collect, remove
from oodbench.store.maintenance import verify
from oodbench.store.ownership import MARKER
from oodbench.store.storage import LocalStorage, UnreadableFileError
from oodbench.store.store import RECORD, STAGES, Key, Store

OLD = time.time() - 400 * 86_400
PAYLOAD = {"run": (), "score": ("scores.parquet",), "measure": ("statistics.parquet",),
           "fit": ("weights.safetensors", "log.csv")}  # fmt: skip
HARMS = ("flip", "cut", "denied", "later version", "aside", "aside unread", "record gone", "gone")
PLACES = ("root", "stage", "prefix", "entry", "work", "scratch", "locks")


@dataclass
class World:
    """A store, whose entries rest on which others, and what belongs to somebody else."""

    home: Path
    behind: dict[str, list[str]] = field(default_factory=dict)
    foreign: list[Path] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.home / "store"

    def make(self, stage: str, parts: dict[str, object], behind: list[str]) -> Key:
        key = Key(stage, parts)  # type: ignore[arg-type]
        Store(self.root).write(key, dict.fromkeys(PAYLOAD[stage], b"bytes" * 9))
        self.behind[key.path] = behind
        return key

    def closure(self, path: str) -> set[str]:
        return {path}.union(*(self.closure(other) for other in self.behind[path]))

    def store(self) -> Store:
        """The store as this user sees it: some records are another user's."""
        store, denied = Store(self.root), self.denied

        class Seen(LocalStorage):
            def read(self, path: str) -> bytes | None:
                if path.removesuffix(f"/{RECORD}") in denied:
                    raise UnreadableFileError(path, "Permission denied", denied=True)
                return super().read(path)

        store.storage = Seen(self.root)
        return store


def chain(world: World, number: int, depth: int) -> None:
    """A fit and the measurement, scores and run made from it, as far as `depth` goes."""
    fit = world.make("fit", {"seed": number, "train": "0" * 64}, [])
    if depth > 0:
        measure = world.make("measure", {"fits": [fit.digest], "n": number}, [fit.path])
    if depth > 1:
        scores = [
            world.make("score", {"measure": measure.digest, "n": n}, [measure.path]) for n in (1, 2)
        ]
    if depth > 2:
        names = {"id_scores": scores[0].digest, "ood_scores": scores[1].digest}
        world.make("run", {**names}, [score.path for score in scores])


def harm(world: World, path: str, kind: str) -> None:
    folder = world.root / path
    record = folder / RECORD
    if not record.is_file():
        return
    data = bytearray(record.read_bytes())
    if kind == "flip":
        data[len(data) // 3] ^= 1
        record.write_bytes(bytes(data))
    elif kind == "cut":
        record.write_bytes(bytes(data[:20]))
    elif kind == "denied":
        world.denied.add(path)
    elif kind == "later version":
        body = {"schema": 9, "needs": "what this version cannot know"}
        record.write_text(canonical_json({"record": body, "sha256": digest(body)}))
    elif kind.startswith("aside"):
        if kind == "aside unread":
            record.write_bytes(b"<html>")
        folder.rename(folder.with_name(f"{folder.name}.damaged-17"))
    elif kind == "record gone":
        record.unlink()
    else:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def place_foreign(world: World, place: str, kind: str, path: str) -> None:
    """Somebody else's file, folder or link to the victim in one of the places of a store."""
    entry = world.root / path
    scratch = world.root / "work" / ("cd" * 32)
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "checkpoint.safetensors").write_bytes(b"x")
    folder = {
        "root": world.root, "stage": world.root / "run", "prefix": entry.parent, "entry": entry,
        "work": world.root / "work", "scratch": scratch, "locks": world.root / "work" / "locks",
    }[place]  # fmt: skip
    if not folder.is_dir():
        folder = world.root
    # The names that a store gives in that place are the ones that could be taken for its own.
    like = {"stage": "ab", "prefix": f"{entry.parent.name}{'e' * 62}", "work": "ef" * 32}
    name = like.get(place, "ab") if kind == "link" else f"theirs-{place}"
    target = folder / name
    if os.path.lexists(target):
        return
    if kind == "link":
        target.symlink_to(world.home / "victim")
    elif kind == "folder":
        (target / "exp").mkdir(parents=True)
        (target / "exp" / "model.pt").write_text("theirs")
        if place == "scratch":
            return  # a detector's own fit may make folders of files in its scratch
    else:
        target.write_text("theirs")
        if place == "scratch":
            return
    world.foreign.append(target)


def victim(world: World) -> None:
    """A folder that looks like part of a store and is none of this store's."""
    for name in (f"ab/ab{'0' * 62}/{RECORD}", f"{'ef' * 32}/thesis.tex", RECORD, "todo.txt"):
        path = world.home / "victim" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ten years")


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Kind, times and content of everything below a folder, links not followed."""
    return {str(p.relative_to(root)): _state(p) for p in _walk(root)}


def _walk(root: Path) -> Iterator[Path]:
    for above, folders, files in os.walk(root):
        yield from (Path(above, name) for name in [*folders, *files])


def _state(path: Path) -> tuple[object, ...]:
    about = path.lstat()
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    return (about.st_mode, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, content)


def age(root: Path) -> None:
    for path in [*_walk(root), root]:
        os.utime(path, (OLD, OLD), follow_symlinks=False)


def entry_of(world: World, path: str) -> list[Path]:
    """Where an entry may stand: in its place or set aside."""
    place = world.root / path
    return [place, place.with_name(f"{place.name}.damaged-17")]


@settings(max_examples=80, deadline=None)
@given(
    depths=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    harms=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(HARMS)), max_size=2),
    foreign=st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(("link", "folder", "file")),
                  st.integers(0, 99)), max_size=3),
    linked=st.sampled_from((None, "work", "fit", "run")),
    marked=st.booleans(),
)  # fmt: skip
def test_gc_removes_only_what_the_store_made_and_nothing_needs(
    depths: list[int], harms: list[tuple[int, str]], foreign: list[tuple[str, str, int]],
    linked: str | None, marked: bool,
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home))
        for number, depth in enumerate(depths):
            chain(world, number, depth)
        victim(world)
        made = sorted(world.behind)
        for pick, kind in harms:
            harm(world, made[pick % len(made)], kind)
        for place, kind, pick in foreign:
            place_foreign(world, place, kind, made[pick % len(made)])
        if not marked:
            (world.root / MARKER).unlink()
        if linked is not None and (world.root / linked).is_dir():
            (world.root / linked).rename(world.home / f"disk-{linked}")
            (world.root / linked).symlink_to(world.home / f"disk-{linked}")
        age(world.home)
        before, store = tree(world.home), world.store()

        try:
            found = collect(store, 7)
        except StoreError as error:
            assert "is no store" in str(error)  # noqa: PT017 - either answer is right
            assert not marked
            assert tree(world.home) == before
            return
        assert tree(world.home) == before  # what `--dry-run` does
        if found.damaged:
            assert found.waste == []
        remove(store, found.waste)
        after = tree(world.home)

        gone = before.keys() - after.keys()
        assert not [path for path in gone if path.startswith("victim")]
        assert not [path for path in world.foreign if not os.path.lexists(path)]
        assert not [path for path in gone if path.startswith("disk-")]  # behind a link
        # A run of which nothing is left asks for nothing.
        lost = {made[n % len(made)] for n, kind in harms if kind in ("gone", "record gone")}
        for run in (path for path in made if path.startswith("run/") and path not in lost):
            for path in world.closure(run):
                places = [p for p in entry_of(world, path) if relative(world, p) in before]
                assert all(os.path.lexists(place) for place in places), f"{run} needs {path}"


def relative(world: World, path: Path) -> str:
    return str(path.relative_to(world.home))


NAMES = (*STAGES, "work", "locks", "2024", "ab", "ab" * 32, "exp1", RECORD, "a.txt", ".tmp-abc")


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), min_size=1, max_size=6)
)
def test_a_folder_that_is_no_store_is_refused_and_left_as_it_is(names: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        root = Path(home, "project")
        root.mkdir()
        for parts in names:
            path = root.joinpath(*parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("mine")
            except OSError:  # a file is in the way: another tree
                continue
        age(root)
        before = tree(root)
        with pytest.raises(StoreError, match="is no store"):
            collect(Store(root), 0)
        assert tree(root) == before


def test_a_folder_in_which_a_store_was_made_keeps_everything_else(tmp_path: Path) -> None:
    """A store beside somebody's own `run`, `score` and `work`: the marker is no licence."""
    mine = [
        tmp_path / "run" / "2024" / "exp1" / "model.pt",
        tmp_path / "score" / "a" / "notes.txt",
        tmp_path / "work" / "thesis" / "main.tex",
        tmp_path / "fit" / "ab" / ("ab" * 32) / "diary.txt",
    ]
    for path in mine:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    Store(tmp_path).write(Key("fit", {"lonely": 1}), {"weights.safetensors": b"w"})
    age(tmp_path)
    found = collect(Store(tmp_path), 7)
    assert [waste.reason for waste in remove(Store(tmp_path), found.waste)] == ["no run needs it"]
    assert all(path.read_text() == "mine" for path in mine)
    assert any("diary.txt" in note for note in found.notes)


@pytest.mark.parametrize("stage", ["run", "score", "measure"])
def test_a_record_that_was_set_aside_keeps_what_it_may_need(tmp_path: Path, stage: str) -> None:
    """Also after `verify` has set it aside, until what it was is made again."""
    world = World(tmp_path)
    chain(world, 0, 3)
    broken = next(path for path in sorted(world.behind) if path.startswith(f"{stage}/"))
    sound = (world.root / broken / RECORD).read_bytes()
    harm(world, broken, "flip")
    age(world.root)
    assert collect(world.store(), 7).damaged
    assert verify(world.store()).damaged == [broken]
    age(world.root)
    assert remove(world.store(), collect(world.store(), 7).waste) == []
    (world.root / broken).mkdir()
    for name in PAYLOAD[stage]:
        (world.root / broken / name).write_bytes(b"bytes" * 9)
    (world.root / broken / RECORD).write_bytes(sound)
    age(world.root)
    gone = remove(world.store(), collect(world.store(), 7).waste)
    assert [waste.reason for waste in gone] == ["damaged"]
    assert len(list(Store(world.root).entries("fit"))) == 1


@pytest.mark.parametrize("place", ["run", "run/ab", "run/ab/entry"])
def test_nothing_behind_a_link_is_renamed(tmp_path: Path, place: str) -> None:
    """A damaged record that is reached through a link stays under its name."""
    key = Key("run", {"id_scores": "1" * 64})
    place = place.replace("ab/entry", key.path.partition("/")[2]).replace(
        "/ab", f"/{key.digest[:2]}"
    )
    store = Store(tmp_path / "store")
    store.write(Key("fit", {"x": 1}), {"weights.safetensors": b"w"})
    there = tmp_path / "victim" / key.path
    there.mkdir(parents=True)
    (there / RECORD).write_text("<html>")
    (store.storage.root / place).parent.mkdir(parents=True, exist_ok=True)  # type: ignore[attr-defined]
    (store.storage.root / place).symlink_to(tmp_path / "victim" / place)  # type: ignore[attr-defined]
    before = tree(tmp_path)
    assert store.find(key) is None
    assert list(store.entries("run")) == []
    assert tree(tmp_path) == before


@pytest.mark.parametrize("stage", ["score", "measure"])
@pytest.mark.parametrize("kind", ["gone", "record gone", "aside"])
def test_what_runs_rest_on_stays_where_what_is_between_is_gone(
    tmp_path: Path, stage: str, kind: str
) -> None:
    """A stage that was deleted for its size, or cut off in copying, costs no training."""
    world = World(tmp_path)
    chain(world, 0, 3)
    for path in [path for path in world.behind if path.startswith(f"{stage}/")]:
        harm(world, path, kind)
    age(world.root)
    assert remove(world.store(), collect(world.store(), 7).waste) == []
    assert list(Store(world.root).entries("fit"))

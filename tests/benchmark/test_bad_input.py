"""Malformed input of every kind: one clear line, status 2, nothing of the store touched."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import bad_input as table
import numpy as np
import pytest
from advice import quoted_in, refusal
from in_process import invoke

#: What a case may take beside what was there already; the bombs would take gigabytes.
MEMORY = 700 * 2**20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds a run, and a cache with its images."""
    import oodbench

    folder = tmp_path_factory.mktemp("shared")
    oodbench.run("digits-photos", ["mean-intensity"], store=str(folder / "store"), quiet=True)
    return folder


def contents(folder: Path) -> list[tuple[str, int, int]]:
    """Every file of the store but locks, with size and time."""
    found = [p for p in sorted((folder / "store").rglob("*")) if p.is_file()]
    return [
        (str(p), p.stat().st_size, p.stat().st_mtime_ns)
        for p in found
        if "work" not in p.relative_to(folder).parts
    ]


@pytest.fixture
def here(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OODBENCH_STORE", str(shared / "store"))
    monkeypatch.setenv("OODBENCH_CACHE", str(shared / "data"))
    monkeypatch.delenv("OODBENCH_DATA", raising=False)
    return tmp_path


def check(status: int, out: str, err: str, message: str) -> None:
    assert status == 2, (status, out, err)
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("oodbench: error: ")]
    assert len(lines) == 1, err
    assert lines[0] == err.splitlines()[-1]
    assert re.search(message, lines[0]), lines[0]
    for advised in quoted_in(lines[0]):
        assert refusal(advised) == "", lines[0]
    assert len(lines[0]) < 700 + 5000 * ("a" * 5000 in lines[0])


def test_there_are_enough_cases() -> None:
    assert len(table.CASES) + len(table.IMPORTS) >= 200


@pytest.mark.parametrize("name", list(table.CASES))
def test_bad_input_of_a_run(name: str, shared: Path, here: Path) -> None:
    from oodbench.detect.detector import DETECTORS

    make, arguments, message = table.CASES[name]
    make(here)
    before = contents(shared)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    known = dict(DETECTORS._objects)
    try:
        result = invoke(here, "run", "--device", "cpu", *arguments)
    finally:
        DETECTORS._objects.clear()
        DETECTORS._objects.update(known)
    check(*result, message)
    assert ["run", *arguments] not in list(quoted_in(result[2]))  # that has just been tried
    made = [row for row in contents(shared) if row not in before]
    assert all("/fit/" in row[0] or "/measure/" in row[0] for row in made)  # sound steps, kept
    assert [row for row in before if row not in contents(shared)] == []
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory
    assert grown < MEMORY, f"{grown / 2**20:.0f} MiB"


@pytest.mark.parametrize("name", list(table.IMPORTS))
def test_bad_archives_of_a_store(name: str, shared: Path, here: Path) -> None:
    make, message = table.IMPORTS[name]
    make(here)
    before = contents(shared)
    check(*invoke(here, "store", "import", "r.tar"), message)
    assert contents(shared) == before
    assert not (here.parent / "etc").exists()


@pytest.mark.parametrize("name", list(table.EXPORTED))
def test_bad_exported_detectors(name: str, here: Path) -> None:
    make, message = table.EXPORTED[name]
    make(here)
    table.image(here, table.encode(table.pixels(8, 8), "PNG"))
    check(*invoke(here, "score", "x", "bad"), message)


@pytest.mark.parametrize("name", list(table.EXPORTS))
def test_bad_input_of_an_export(name: str, shared: Path, here: Path) -> None:
    arguments, message = table.EXPORTS[name]
    before = contents(shared)
    text = [] if "--out" in arguments else ["--out", "new"]
    (here / "something").write_text("x")
    check(*invoke(here, "export", *arguments, *text), message)
    assert not (here / "new").exists()
    assert contents(shared) == before


@pytest.mark.parametrize(
    "name", ["with space", "quo'te\"s", "ünïcödé ☃", "x[bold]y[red", "-dash", "a;b&c|$HOME", "…"]
)
def test_odd_names_work(name: str, here: Path) -> None:
    from PIL import Image

    folder = here / name
    folder.mkdir()
    for index in range(6):
        Image.fromarray(table.pixels(8, 8)).save(folder / f"{name} {index}.png")
    np.savez(here / f"{name}.npz", images=table.pixels(30, 8, 8))
    arguments = ["run", "--in-dist", f"./{name}.npz", "--ood", f"./{name}"]
    status, out, err = invoke(here, *arguments, "--detector", "mean-intensity")
    assert (status, err.count("Traceback")) == (0, 0), err
    assert name in out
    assert "6 ID + 6 OOD" in out


def test_odd_images_are_read_as_they_look(tmp_path: Path) -> None:
    """Animated: refused as one image; CMYK and palettes: their colours; 16 bits: the high ones."""
    from PIL import Image

    from oodbench.datasets.sources.user_files import read_image

    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    from oodbench.errors import OodbenchError

    with pytest.raises(OodbenchError, match="it holds 2 images"):
        read_image(tmp_path / "a.gif")
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    red.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "cmyk.jpg")[4, 4].astype(int) - (255, 0, 0)).max() < 12
    red.convert("P").save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png")[0, 0].tolist() == [255, 0, 0]
    Image.fromarray(np.full((8, 8), 257 * 90, np.uint16)).save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png")[0, 0].tolist() == [90]
    Image.new("1", (8, 8), 1).save(tmp_path / "bits.png")
    assert read_image(tmp_path / "bits.png")[0, 0].tolist() == [255]
    Image.new("L", (1, 1), 7).save(tmp_path / "pixel.png")
    assert read_image(tmp_path / "pixel.png").tolist() == [[[7]]]


def test_arrays_of_one_pixel_and_of_many(here: Path) -> None:
    """1×1 and 10,000×10,000 images are images where a detector can take them."""
    import oodbench
    from oodbench.datasets.pairs import make_pair

    np.savez(here / "a.npz", images=table.pixels(30, 1, 1))
    np.savez(here / "b.npz", images=table.pixels(30, 1, 1))
    frame = oodbench.run(
        make_pair("a.npz", "b.npz"), ["mean-intensity"], store=str(here / "s"), quiet=True
    )
    assert len(frame) == 4
    np.savez(here / "large.npz", images=np.zeros((1, 10_000, 10_000), np.uint8))
    from oodbench.datasets.loading import DataPlaces, load

    large = load("large.npz", "test", DataPlaces((), here / "cache"))
    assert large.shape == (1, 10_000, 10_000)

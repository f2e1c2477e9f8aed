"""``oodbench score DIR -``: the images are named on standard input."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke
from PIL import Image

RNG = np.random.default_rng(2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported detector, and images, one of them with a name that is no UTF-8."""
    folder = tmp_path_factory.mktemp("input")
    assert invoke(folder, "export", "pixel-variance", "--pair", "digits-photos", "--out", "kept",
                  "--quiet")[0] == 0  # fmt: skip
    (folder / "new").mkdir()
    for name in ("a.png", "b c.png", "é.png"):
        Image.fromarray(RNG.integers(0, 256, (8, 8), np.uint8)).save(folder / "new" / name)
    with open(os.fsencode(folder) + b"/new/caf\xe9.png", "wb") as file:
        Image.fromarray(RNG.integers(0, 256, (8, 8), np.uint8)).save(file, "PNG")
    return folder


def scored(
    home: Path, data: bytes | None, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, list[dict[str, str]], str]:
    given = None if data is None else io.TextIOWrapper(io.BytesIO(data), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", given)
    status, out, err = invoke(home, "score", "kept", *arguments)
    return status, list(csv.DictReader(io.StringIO(out))), err


@pytest.mark.parametrize("data", [
    b"new/a.png\nnew/b c.png\nnew/\xc3\xa9.png\n", b"new/a.png\nnew/b c.png\nnew/\xc3\xa9.png",
    b"new/a.png\r\nnew/b c.png\r\n\r\nnew/\xc3\xa9.png\r\n",
    b"new/a.png\0new/b c.png\0new/\xc3\xa9.png\0",
])  # fmt: skip
def test_paths_are_those_that_would_be_arguments(
    data: bytes, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["new/a.png", "new/b c.png", "new/é.png"]
    status, rows, err = scored(home, data, monkeypatch, "-")
    assert status == 0, err
    assert [row["image"] for row in rows] == names
    assert rows == scored(home, b"", monkeypatch, *names)[1]


def test_they_stand_in_the_place_of_the_dash(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows, _ = scored(home, b"new/a.png\n", monkeypatch, "new/b c.png", "-", "new/a.png")
    assert [row["image"] for row in rows] == ["new/b c.png", "new/a.png", "new/a.png"]
    _, rows, _ = scored(home, b"new\n", monkeypatch, "-")
    assert len(rows) == 4  # a folder, whatever bytes its names are


def test_names_of_any_bytes_from_find(home: Path) -> None:
    """In a pipe of its own, as it is used; the name that is no UTF-8 is scored too."""
    text = (
        f"find new -name '*.png' -print0 | {sys.executable} -c 'from oodbench.cli import main;"
        " main()' score kept - --out scored.csv"
    )
    done = subprocess.run(["bash", "-o", "pipefail", "-c", text], cwd=home, capture_output=True)
    assert done.returncode == 0, done.stderr
    with (home / "scored.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert len({row["score"] for row in rows}) == 4


@pytest.mark.parametrize("data", [b"", b"\n\n", None])
def test_nothing_on_it_is_one_line(
    data: bytes | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, rows, err = scored(home, data, monkeypatch, "-")
    assert (status, rows) == (2, [])
    assert err == "oodbench: error: no path came on standard input; give one a line\n"


def test_a_path_that_is_not_there_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, rows, err = scored(home, b"new/a.png\nnew/none.png\n", monkeypatch, "-")
    assert (status, rows) == (2, [])
    assert "new/none.png" in err

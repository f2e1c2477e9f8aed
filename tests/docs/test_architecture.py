"""The walk of a command on the page of the architecture is the way that the command takes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

import pytest
from click.testing import CliRunner

import oodbench
from oodbench.cli import oodbench as command_line

ROOT = Path(__file__).parents[2]
HOME = str(Path(oodbench.__file__).parent)


def walk() -> list[str]:
    """The functions that the page lists, in its order."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = text.split("## The walk of one command")[1].split("\n## ")[0]
    return re.findall(r"^\|[^|]*\| `([\w.]+)` \|", section, re.M)


def test_the_walk_is_the_way_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first: dict[str, int] = {}

    def seen(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOME):
            module = frame.f_globals["__name__"].removeprefix("oodbench.")
            first.setdefault(f"{module}.{frame.f_code.co_qualname}", len(first))

    words = "run --pair china-flower --scale smoke --detector vanilla-hvae --device cpu --quiet"
    sys.setprofile(seen)
    try:
        done = CliRunner().invoke(command_line, words.split())
    finally:
        sys.setprofile(None)
    assert done.exit_code == 0, done.output
    listed = walk()
    assert len(listed) > 15
    assert [name for name in listed if name not in first] == []
    assert listed == sorted(listed, key=first.__getitem__)
    assert "store.store.Store.obtain" in first

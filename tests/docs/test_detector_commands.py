"""The command that stands on a detector's page runs as it is printed, and gives a row of it."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
from in_process import invoke

from oodbench.detect.detector import DETECTORS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> Mapping[str, str]:
    """The text of every generated page by its detector's name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs" / "hooks"))
        hook = importlib.import_module("site_detectors")
        made = cast("Mapping[str, str]", hook.detector_pages())
        sys.modules.pop("site_detectors", None)
    return {Path(name).stem: text for name, text in made.items()}


@pytest.mark.parametrize("name", DETECTORS.names())
def test_the_command_of_a_detectors_page_runs(
    name: str,
    pages: Mapping[str, str],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OODBENCH_STORE", str(trained))
    (command,) = re.findall(r"^\$ oodbench (run .*)$", pages[name], re.M)
    assert f"--detector {name}" in command
    status, out, notes = invoke(tmp_path, *command.split())
    assert status == 0, notes
    title = DETECTORS.get(name).title
    rows = [line for line in out.splitlines() if re.search(r"\d\.\d", line)]
    assert any(title.split()[0] in line for line in rows), out

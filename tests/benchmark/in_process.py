"""The command line in this process."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from oodbench.cli import main


def invoke(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """`oodbench …` in `folder`: exit status, standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["oodbench", *arguments])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, out.getvalue(), err.getvalue()

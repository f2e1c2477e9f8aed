"""A shell completes the names of pairs, detectors, data sets, suites, recipes and layouts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASKED = [
    ("oodbench lea", 1, {"leaderboard"}),
    ("oodbench run --detector informative-h", 3, {"informative-hvae"}),
    ("oodbench run --pair china-f", 3, {"china-flower"}),
    ("oodbench run --in-dist fashion", 3, {"fashionmnist"}),
    ("oodbench run --suite embed", 3, {"embedded"}),
    ("oodbench run --recipe glow-D", 3, {"glow-D"}),
    ("oodbench run --scale sm", 3, {"small", "smoke"}),
    ("oodbench leaderboard --layout table1", 3, {"table1", *(f"table1{i}" for i in range(7))}),
    ("oodbench sweep allocation --model informative-h", 4, {"informative-hvae"}),
    ("oodbench leaderboard --so", 2, {"--sort"}),
]


@pytest.mark.parametrize(("words", "at", "names"), ASKED)
def test_names_are_completed(words: str, at: int, names: set[str]) -> None:
    asked = {"_OODBENCH_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    code = "import sys; sys.argv = ['oodbench']; from oodbench.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | asked,
                          capture_output=True, text=True)  # fmt: skip
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == names, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(shell: str) -> None:
    code = "import sys; sys.argv = ['oodbench']; from oodbench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"_OODBENCH_COMPLETE": f"{shell}_source"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "_OODBENCH_COMPLETE" in done.stdout, done.stderr

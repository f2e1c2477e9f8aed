"""What tests need of the machine: installed by `.ci/run`, a failure in CI without, else a skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "test_tool.py": "from needs import lacking\ndef test_a(): lacking('no tool is installed')\n",
    "test_module.py": "from needs import needed_module\nneeded_module('nosuch', 'none')\n",
    "test_there.py": "from needs import needed_module\nassert needed_module('json', 'none').loads\n"
    "def test_b(): pass\n",
}


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", "1 passed, 2 skipped"), ("true", "1 failed, 1 passed, 1 error")]
)
def test_what_cannot_run_is_skipped_and_fails_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    environment = os.environ | {"CI": ci, "PYTHONPATH": str(ROOT / "tests" / "benchmark")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "--continue-on-collection-errors",
         "-p", "no:cacheprovider", *FILES],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert outcome in done.stdout.splitlines()[-1], done.stdout
    assert (done.returncode != 0) == bool(ci)
    assert "no tool is installed" in done.stdout


# ---------------------------------------------------------------------- .ci/run
@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the script alone, on a machine that has next to nothing."""
    (tmp_path / "checkout" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "checkout" / ".ci" / "run")
    (tmp_path / "bin").mkdir()
    for name in ("bash", "cat", "dirname", "env", "id", "mktemp", "rm", "tail"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    put(tmp_path, "python3", '/bin/mkdir -p "$3/bin" && echo > "$3/bin/activate"')
    put(tmp_path, "pip", "true")
    put(tmp_path, "sudo", 'shift; exec "$@"')
    made = 'case "$*" in *--notest*) exit;; esac\n'  # the environment, beside the programs
    put(tmp_path, "tox", made + 'echo "tox, CI=$CI, data=${OODBENCH_DATA:-none}"')
    return tmp_path / "checkout"


def put(folder: Path, name: str, script: str) -> None:
    """A command of that machine."""
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def ci_run(checkout: Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(checkout / ".ci" / "run")], cwd=checkout.parent,
        env={"PATH": str(checkout.parent / "bin")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_ci_installs_what_is_missing_and_hands_over_the_data(checkout: Path) -> None:
    put(checkout.parent, "apt-get", 'echo "$@" >> "$0.log"; /bin/cp "$0" "${0%/*}/chromium"')
    data = checkout.parent / "shared" / "data"
    data.mkdir(parents=True)
    status, said = ci_run(checkout)
    assert (status, said.splitlines()) == (0, [
        "installed: chromium texlive-latex-recommended texlive-latex-extra",
        f"tox, CI=true, data={data}",
    ])  # fmt: skip
    updated, installed = (checkout.parent / "bin" / "apt-get.log").read_text().splitlines()
    assert updated.split()[-1] == "update"
    assert installed.split()[-3:] == [
        "chromium",
        "texlive-latex-recommended",
        "texlive-latex-extra",
    ]
    put(checkout.parent, "lualatex", "true")
    assert ci_run(checkout) == (0, f"tox, CI=true, data={data}\n")


def test_ci_says_what_it_could_not_install_and_runs_the_tests(checkout: Path) -> None:
    status, said = ci_run(checkout)
    assert status == 0
    assert "there is no apt-get; install what takes the place of: chromium texlive" in said
    assert said.splitlines()[-1] == "tox, CI=true, data=none"
    put(checkout.parent, "apt-get", 'echo "mirror is away"; exit 100')
    status, said = ci_run(checkout)
    assert "mirror is away\ncould not be installed: chromium texlive" in said
    put(checkout.parent, "tox", "exit 3")
    assert ci_run(checkout)[0] == 3

"""Shared fixtures; tests run with one torch thread each, so that several workers do not fight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background: what is ignored here stays ignored in the processes we interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import torch

torch.set_num_threads(1)

# The same examples in every run; `pytest --hypothesis-profile=random` looks for others.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile("repeatable")


#: Files of minutes, which are begun first so that no worker is left alone with one at the end.
LONG = ("test_cluster.py", "test_snippets.py", "test_planned.py", "test_conformance.py",
        "test_detector_commands.py", "test_faults.py", "test_fake_gpu.py")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files in front, the others as they were found."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's own data folders or store."""
    for name in ("OODBENCH_STORE", "OODBENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real image arrays; the test is skipped where there is none."""
    folder = os.environ.get("OODBENCH_DATA", "").split(os.pathsep)[0]
    if not folder or not (Path(folder) / "fashionmnist-test.npz").is_file():
        pytest.skip("OODBENCH_DATA names no folder with fashionmnist-test.npz")
    return Path(folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the tests that ask what smoke models find, so that none is trained twice.

    All workers of a run share it: what one of them trains, the others wait for.
    """
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `oodbench …` as a real process in an empty folder; one torch thread."""

    def run(*arguments: str, timeout: float = 300, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OODBENCH")}
        return subprocess.run(
            [sys.executable, "-c", "from oodbench.cli import main; main()", *arguments],
            cwd=tmp_path,
            env=environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"} | more,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run

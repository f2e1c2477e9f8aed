"""`oodbench new detector`: what it writes works at once, and what it refuses writes nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oodbench.declare.registry import load_plugin
from oodbench.detect.detector import DETECTORS
from oodbench.errors import OodbenchError
from oodbench.templates.skeleton import check_name, write_detector
from oodbench.testing import check_detector

ROOT = Path(__file__).parents[2]


@pytest.fixture
def _registry() -> Iterator[None]:
    known = dict(DETECTORS._objects)
    yield
    for module in [name for name in sys.modules if name.startswith("my_own")]:
        del sys.modules[module]
    DETECTORS._objects.clear()
    DETECTORS._objects.update(known)


@pytest.mark.usefixtures("_registry")
def test_the_package_conforms_and_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_detector("my-own", tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "my-own"
    target = project["entry-points"]["oodbench.detectors"]["my-own"]
    assert target == "my_own.detector:MyOwnDetector"
    assert "LICENSE" in (folder / "README.md").read_text()
    assert not list(folder.glob("LICEN*"))

    monkeypatch.syspath_prepend(str(folder / "src"))
    load_plugin("my_own.detector")
    assert DETECTORS.get("my-own").__name__ == "MyOwnDetector"
    results = {result.check.name: result.status for result in check_detector("my-own")}
    assert set(results.values()) == {"passed", "not applicable"}
    assert [name for name in results if results[name] != "passed"] == ["revision"]

    test: dict[str, object] = {}
    exec((folder / "tests" / "test_my_own.py").read_text(), test)
    test["test_the_error_is_that_of_another_library"](tmp_path)  # type: ignore[operator]


def test_every_template_is_package_data() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["package-data"]["oodbench.templates"] == ["*/*.j2"]
    written = (ROOT / "benchmark" / "templates").glob("*/*")
    found = [path for path in written if path.parent.name != "__pycache__"]
    assert found
    assert all(path.match("templates/*/*.j2") for path in found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Mine", "'Mine' cannot name .* e.g. mine$"),
        ("my_own", "e.g. my-own$"),
        ("3d", "a letter first, e.g. d$"),
        ("with space", "e.g. with-space$"),
        ("../up", "e.g. up$"),
        ("-", "cannot name a detector and its package"),
        ("", "cannot name a detector and its package"),
        ("{{7*7}}", "cannot name a detector"),
        ("glow", "there is a detector 'glow' already"),
        ("class", "'class' is a word of Python"),
        ("json", "a module 'json' is installed already"),
        ("torch", "a module 'torch' is installed already.* e.g. torch-ood"),
    ],
)
def test_names_that_are_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OodbenchError, match=message):
        write_detector(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_name_becomes_a_module() -> None:
    assert check_name("mine") == "mine"
    assert check_name("k-nearest-2") == "k_nearest_2"


def test_the_command(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = command("new", "detector", "mine", "--into", "plugins")
    assert done.returncode == 0, done.stderr
    assert "no LICENSE" in done.stdout
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        f"plugins/mine/{name}"
        for name in ("README.md", "pyproject.toml", "src/mine/__init__.py", "src/mine/detector.py",
                     "tests/test_mine.py")
    ]  # fmt: skip
    text = (tmp_path / "plugins/mine/src/mine/detector.py").read_text()
    again = command("new", "detector", "mine", "--into", "plugins")
    assert again.returncode == 2
    assert "plugins/mine exists already" in again.stderr
    assert again.stderr.count("\n") == 1
    assert (tmp_path / "plugins/mine/src/mine/detector.py").read_text() == text
    for path in (tmp_path / "plugins").rglob("*.py"):
        subprocess.run([sys.executable, "-m", "py_compile", str(path)], check=True)

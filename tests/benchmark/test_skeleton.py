"""`oodbench new detector`: what it writes works at once, and what it refuses writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oodbench.declare.registry import load_plugin
from oodbench.detect.detector import DETECTORS
from oodbench.errors import OodbenchError
from oodbench.templates.skeleton import check_name, write_detector, write_package
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


# ---------------------------------------------------------------------- a whole package
BUILD = "import setuptools.build_meta as b; print(b.build_wheel({!r}))"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package("my-whole", tmp_path_factory.mktemp("new"))


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel, installed: a pure wheel is unpacked where modules are looked for."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-c", BUILD.format(str(folder))], cwd=package,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = folder.glob("my_whole-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "modules")
    return folder / "modules"


def run(folder: Path, modules: Path, *arguments: str) -> str:
    """`oodbench …` where `modules` are installed; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "oodbench", *arguments], cwd=folder, capture_output=True, text=True,
        timeout=300, env={**os.environ, "PYTHONPATH": str(modules), "COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_a_new_package_is_built_installed_and_runs_with_its_recipe_and_suite(
    installed: Path, tmp_path: Path
) -> None:
    assert {p.name for p in installed.rglob("*.yaml")} == {"my-whole-D.yaml", "my-whole.yaml"}
    out = run(tmp_path, installed, "run", "--suite", "my-whole", "--quiet")
    for title in ("My whole", "My whole model", "Typicality (My whole model)", "Pixel variance"):
        assert f"{title} " in out
    board = run(tmp_path, installed, "leaderboard", "--suite", "my-whole", "--format", "latex")
    assert "\\label{tab:my-whole}" in board
    listed = run(tmp_path, installed, "list", "recipes")
    assert "my-whole-D" in listed


@pytest.mark.slow
def test_a_wheel_without_its_recipes_is_told_what_it_lacks(installed: Path, tmp_path: Path) -> None:
    bare = tmp_path / "modules"
    for path in [p for p in installed.rglob("*") if p.is_file() and p.suffix != ".yaml"]:
        target = bare / path.relative_to(installed)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    with pytest.raises(AssertionError, match="no recipe has the variant 'my-whole-model'"):
        run(tmp_path, bare, "run", "--pair", "digits-photos", "--detector", "my-whole-model",
            "--dry-run")  # fmt: skip


@pytest.mark.slow
def test_a_new_package_passes_its_own_tests(package: Path, installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], cwd=package,
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]

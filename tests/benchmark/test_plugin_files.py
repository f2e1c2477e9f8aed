"""Plug-in files and their neighbours: each finds its own, however it imports them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from oodbench.declare import declarations
from oodbench.declare.registry import load_plugin
from oodbench.errors import PluginError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(declarations, "_added", dict(declarations._added))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def loaded(source: str) -> ModuleType:
    """The module that a file became."""
    before = set(sys.modules)
    load_plugin(source)
    file = Path(source).resolve()
    (found,) = (
        module
        for name, module in list(sys.modules.items())
        if name not in before and Path(str(getattr(module, "__file__", ""))).resolve() == file
    )
    return found


@pytest.mark.parametrize(
    ("statement", "used"),
    [
        ("from helper import K", "K"),
        ("import helper", "helper.K"),
        ("import helper as h", "h.K"),
        ("import json, helper", "helper.K"),
        ("import deep.helper", "deep.helper.K"),
        ("import deep.helper as h", "h.K"),
        ("from deep import helper", "helper.K"),
        ("from deep.helper import K as L", "L"),
        ("from .helper import K", "K"),
        ("from . import helper", "helper.K"),
    ],
)
def test_two_files_of_one_name_have_helpers_of_their_own(statement: str, used: str) -> None:
    for folder in ("one", "two"):
        write({
            f"{folder}/detector.py": f"{statement}\nvalue = {used}\n"
                                     f"def late():\n    {statement}\n    return {used}\n",
            f"{folder}/helper.py": "from other import K\n",
            f"{folder}/other.py": f"K = {folder!r}\n",
            f"{folder}/deep/__init__.py": "",
            f"{folder}/deep/helper.py": "from .inner import K\n",
            f"{folder}/deep/inner.py": f"K = {folder!r}\n",
        })  # fmt: skip
    one, two = loaded("one/detector.py"), loaded("two/detector.py")
    assert (one.value, two.value) == ("one", "two")
    assert (one.late(), two.late()) == ("one", "two")
    assert "helper" not in sys.modules
    assert "other" not in sys.modules
    assert "late" in inspect.getsource(two.late)


def test_a_file_of_a_package_is_a_module_of_it() -> None:
    for folder in ("one", "two"):
        write({
            f"{folder}/pkg/__init__.py": f"NAME = {folder!r}\n",
            f"{folder}/pkg/helper.py": "from pkg import NAME\nfrom . import NAME as SAME\n",
            f"{folder}/pkg/sub/__init__.py": "",
            f"{folder}/pkg/sub/det.py": "from ..helper import NAME, SAME\nimport pkg.helper\n"
                                        "again = pkg.helper.NAME\n",
        })  # fmt: skip
    for folder in ("one", "two"):
        module = loaded(f"{folder}/pkg/sub/det.py")
        assert (module.NAME, module.SAME, module.again) == (folder,) * 3
    assert "pkg" not in sys.modules


def test_a_package_that_python_finds_is_imported_under_its_own_name() -> None:
    write(
        {"pkg/__init__.py": "", "pkg/helper.py": "K = 1\n", "pkg/det.py": "from .helper import K"}
    )
    sys.path.insert(0, str(Path.cwd()))
    assert loaded("pkg/det.py").__name__ == "pkg.det"


def test_a_module_is_looked_for_in_the_working_folder_last() -> None:
    write({"pkg_here/__init__.py": "", "pkg_here/det.py": "K = 1\n", "click.py": "K = 2\n"})
    assert loaded_module("pkg_here.det").K == 1
    assert str(loaded_module("click").__file__).endswith("click/__init__.py")


def loaded_module(name: str) -> ModuleType:
    load_plugin(name)
    return sys.modules[name]


def test_neighbours_never_hide_python_s_modules_nor_oodbench() -> None:
    write({"det.py": "import random\nimport oodbench\nfrom oodbench import Detector\n"})
    write({"random.py": "raise SystemExit(1)\n", "oodbench.py": "raise SystemExit(1)\n"})
    module = loaded("det.py")
    assert module.random is sys.modules["random"]
    assert module.oodbench is sys.modules["oodbench"]


def test_an_edit_is_seen_at_once_in_the_file_and_its_neighbours() -> None:
    write({"det.py": "from helper import K\n", "helper.py": "K = 1\n"})
    assert loaded("det.py").K == 1
    write({"helper.py": "K = 2\n"})
    load_plugin("det.py")
    assert sys.modules["oodbench_plugin_det"].K == 2
    assert not list(Path().rglob("*.pyc"))


def test_a_file_that_fails_leaves_nothing_and_says_where() -> None:
    write({"det.py": "from helper import gone\n", "helper.py": "K = 1\n"})
    with pytest.raises(PluginError, match="cannot import name 'gone'"):
        load_plugin("det.py")
    assert "oodbench_plugin_det" not in sys.modules
    write({"det.py": "def broken(:\n"})
    with pytest.raises(PluginError, match="SyntaxError"):
        load_plugin("det.py")
    with pytest.raises(PluginError, match="there is no such file"):
        load_plugin("gone.py")

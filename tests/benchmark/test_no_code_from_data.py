"""No file that is read can bring code with it: held against every line of the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmark", "baselines", "models")
SOURCES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
FORBIDDEN_MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "copyreg",
    "telnetlib", "xmlrpc", "jsonpickle",
}  # fmt: skip
#: Calls that run what they are given, or write where an archive says.
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "execfile", "__import__", "os.system", "os.popen", "extract",
    "extractall", "unpack_archive", "yaml.load", "unsafe_load", "full_load", "load_all",
    "unsafe_load_all", "full_load_all", "torch.load", "torch.jit.load", "torch.hub.load",
    "np.fromstring", "np.memmap", "loadtxt", "genfromtxt", "read_pickle", "mktemp",
}  # fmt: skip


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Dotted name and node of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def forbidden(name: str) -> bool:
    builtin = {"eval", "exec", "compile"}  # as methods they are something else: model.eval()
    return name in FORBIDDEN_CALLS or any(
        name.endswith(f".{bad}") for bad in FORBIDDEN_CALLS - builtin
    )


def keyword(node: ast.Call, name: str) -> str | None:
    return next((ast.unparse(k.value) for k in node.keywords if k.arg == name), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_in_the_source_runs_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] not in FORBIDDEN_MODULES, f"{path}: imports {name}"
    for name, node in calls(tree):
        where = f"{path}:{node.lineno}: {ast.unparse(node)[:80]}"
        assert not forbidden(name), where
        if name in ("np.load", "numpy.load"):
            assert keyword(node, "allow_pickle") == "False", where
        if name.endswith("read_array"):
            assert keyword(node, "allow_pickle") == "False", where
        if name == "np.save":
            assert keyword(node, "allow_pickle") == "False", where
        if name == "yaml.parse":
            assert keyword(node, "Loader") in ("_Base", "yaml.SafeLoader"), where
        if name.startswith("subprocess."):
            assert keyword(node, "shell") in (None, "False"), where
            assert isinstance(node.args[0], ast.List), where
        if name.endswith("Image.open"):
            assert keyword(node, "formats") is not None, where
        if name.endswith("pooch.retrieve"):
            assert len(node.args) >= 2, where
            assert ast.unparse(node.args[1]) != "None", where
        if name == "tarfile.open":
            assert keyword(node, "mode") in ("'r:'", "'r|'", "'w'"), where


def test_the_yaml_loader_is_the_safe_one() -> None:
    from oodbench.declare.yaml_files import _Loader

    safe = (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert issubclass(_Loader, safe)
    assert not any("python" in str(tag) for tag in _Loader.yaml_constructors)


def test_what_is_downloaded_comes_over_https_and_is_hashed() -> None:
    """Ours; torchvision's own downloads carry MD5 sums, some of them over HTTP."""
    from torchvision import datasets

    from oodbench.datasets import catalogue
    from oodbench.datasets.sources.norb import NORB_MD5, NORB_STEM, NORB_URL

    assert NORB_URL.startswith("https://")
    assert len(NORB_MD5) == 2 * len(NORB_STEM)
    for spec in catalogue().values():
        if "hash" in spec.options:
            assert spec.options["url"].startswith("https://"), spec.name
            assert re.fullmatch("(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", spec.options["hash"])
        if spec.source == "torchvision":
            source = Path(str(datasets.__file__)).parent
            cls = getattr(datasets, spec.options["class"])
            text = (source / f"{cls.__module__.rsplit('.', 1)[1]}.py").read_text()
            assert "md5" in text.lower(), spec.name


def test_the_scan_finds_what_it_should() -> None:
    """The rules above on lines that break them."""
    bad = "numpy.load(f)\narchive.extractall()\neval(x)\ntorch.load(f)\nyaml.full_load(f)\n"
    found = [name for name, _ in calls(ast.parse(bad)) if forbidden(name)]
    assert found == ["archive.extractall", "eval", "torch.load", "yaml.full_load"]

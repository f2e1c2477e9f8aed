"""Fingerprints of source: silent on moves and words, not on a formula, a constant or a default."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from source_example import CONSTANTS, FILES, HELPER

from oodbench.declare.recipes import MODELS
from oodbench.declare.registry import load_plugin
from oodbench.detect.detector import DETECTORS
from oodbench.detect.source import modules
from oodbench.detect.source_fingerprints import (
    detector_source,
    fingerprint,
    model_source,
)

ROOT = Path(__file__).parents[2]

Edit = Callable[[dict[str, str]], dict[str, str]]


@pytest.fixture(autouse=True)
def registers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is registered or imported here is forgotten afterwards."""
    for registry in (DETECTORS, MODELS):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("mine", "helper", "constants", "other", "pack"):
            del sys.modules[name]


def loaded(folder: Path, files: Mapping[str, str], name: str = "mine", cls: str = "First") -> type:
    """A class of files in a folder of their own, imported as Python imports them."""
    folder.mkdir()
    for path, text in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    DETECTORS._objects.clear()
    held = {
        m for m in sys.modules if m.partition(".")[0] in ("mine", "helper", "constants", "pack")
    }
    for module in held:
        del sys.modules[module]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        found: type = getattr(importlib.import_module(name), cls)
    finally:
        sys.path.remove(str(folder))
    return found


def put(file: str, *changes: tuple[str, str]) -> Edit:
    """An edit of one file; every text must be there."""

    def edit(files: dict[str, str]) -> dict[str, str]:
        text = files[file]
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        return files | {file: text}

    return edit


def _in_a_package(files: Mapping[str, str]) -> dict[str, str]:
    found = {"pack/__init__.py": ""}
    for path, text in files.items():
        inside = path.replace("mine.py", "deep.py")
        found[f"pack/{inside}"] = re.sub(r"^from (helper|constants)", r"from .\1", text, flags=re.M)
    return found


def _moved_helper(files: dict[str, str]) -> dict[str, str]:
    start, end = HELPER.index("def _centred"), HELPER.index("def unused")
    elsewhere = f"import torch\n\n\n{HELPER[start:end]}"
    rest = HELPER.replace(HELPER[start:end], "").replace(
        "import torch\n", "from other import _centred as centre\n"
    )
    return files | {
        "other.py": elsewhere,
        "helper.py": rest.replace("_centred(image)", "centre(image)"),
    }


SILENT: dict[str, Edit] = {
    "comments": put("mine.py", ("    power = 2", "    # a power\n\n    power = 2  # of two")),
    "docstrings": put(
        "helper.py", ("The mean, scaled.", "Another."), ("What detectors share.", "Helpers.")
    ),
    "no docstring": put("mine.py", ('    """The first."""\n\n', "")),
    "annotations": put(
        "mine.py",
        ("images: torch.Tensor, samples: int = 3", "images, samples=3"),
        (" -> Mapping[str, torch.Tensor]", ""),
        ("count: int =", "count ="),
        ("power = 2", "power: float = 2"),
    ),
    "words of errors": put("mine.py", ("images must have four axes", "give me four axes")),
    "citation, title, cost": put(
        "mine.py",
        ("somebody, 2020", "somebody, 2021"),
        ('title="First"', 'title="The first"'),
        ('cost = "0"', 'cost = "1 f"'),
    ),
    "another detector": put("mine.py", ("flatten(1).amax(1)", "flatten(1).amin(1)")),
    "what is not used": put(
        "helper.py", ("UNUSED = 7", "UNUSED = 8"), ("    return image\n", "    return -image\n")
    ),
    "another constant": put("constants.py", ("OTHER = 4.0", "OTHER = 5.0")),
    "import inside": put(
        "mine.py",
        ("from helper import scaled\n", ""),
        ("        if images.n", "        from helper import scaled\n\n        if images.n"),
    ),
    "import of the module": put(
        "mine.py", ("from helper import scaled", "import helper as h"), ("scaled(", "h.scaled(")
    ),
    "import of a library": put(
        "mine.py",
        ("import torch.nn.functional as F", "from torch import nn"),
        ("F.softplus", "nn.functional.softplus"),
    ),
    "import of oodbench": put(
        "mine.py",
        ("from oodbench import D", "import oodbench.detect.detector as d\nfrom oodbench import D"),
        ("(Detector)", "(d.Detector)"),
    ),
    "earlier name of a module": put(
        "mine.py", ("from oodbench import Det", "from oodbench.detect.detector import Det")
    ),
    "order": put(
        "helper.py",
        ("UNUSED = 7\n", ""),
        ("    return image\n", "    return image\n\nUNUSED = 7\n"),
    ),
    "names": put("helper.py", ("_centred", "_around_zero")),
    "a moved helper": _moved_helper,
    "type checkers": put("mine.py", ("collections.abc import Mapping", "typing import Mapping")),
    "a cast": put(
        "mine.py",
        ("import TYPE_CHECKING", "import TYPE_CHECKING, cast"),
        ("len(values)", 'cast("int", len(values))'),
    ),
}
NOTICED: dict[str, Edit] = {
    "formula": put("mine.py", ("/ (samples + count)", "/ (samples - count)")),
    "default": put("mine.py", ("samples: int = 3", "samples: int = 4")),
    "attribute": put("mine.py", ("power = 2", "power = 3")),
    "function of a library": put("mine.py", ("F.softplus", "F.softsign")),
    "condition": put("mine.py", ("images.ndim != 4", "images.ndim != 3")),
    "base class": put("mine.py", ('* WEIGHTS["a"]', '+ WEIGHTS["a"]')),
    "table": put("mine.py", ('{"a": 0.5}', '{"a": 0.6}')),
    "table, later": put("mine.py", ('WEIGHTS["b"] = 2.0', 'WEIGHTS["a"] = 2.0')),
    "method": put("mine.py", ("    power = 2", "    power = 2\n\n    def learns(self): ...")),
    "a setting of a library": put(
        "mine.py", ("\n\nclass Base", "\ntorch.set_default_dtype(torch.float32)\n\n\nclass Base")
    ),
    "category": put("mine.py", ('title="First"', 'title="First", category="prior"')),
    "helper's formula": put("helper.py", (".mean() *", ".sum() *")),
    "helper's default": put("helper.py", ("offset=1.0", "offset=1.5")),
    "helper's helper": put("helper.py", ("image - torch.mean", "image + torch.mean")),
    "helper's constant": put("constants.py", ("SCALE = 3.0", "SCALE = 3.5")),
    "another of the same name": put("helper.py", ("import SCALE", "import OTHER as SCALE")),
}


@pytest.mark.parametrize("edit", SILENT.values(), ids=SILENT)
def test_moves_and_words_are_silent(tmp_path: Path, edit: Edit) -> None:
    before = fingerprint(loaded(tmp_path / "before", FILES))
    assert before is not None
    assert fingerprint(loaded(tmp_path / "after", edit(dict(FILES)))) == before


@pytest.mark.parametrize("edit", NOTICED.values(), ids=NOTICED)
def test_what_can_change_a_number_is_noticed(tmp_path: Path, edit: Edit) -> None:
    before = fingerprint(loaded(tmp_path / "before", FILES))
    after = fingerprint(loaded(tmp_path / "after", edit(dict(FILES))))
    assert None not in (before, after)
    assert after != before


def test_a_file_a_renamed_file_and_a_package_are_the_same(tmp_path: Path) -> None:
    before = fingerprint(loaded(tmp_path / "before", FILES))
    renamed = {("pack.py" if k == "mine.py" else k): v for k, v in FILES.items()}
    assert fingerprint(loaded(tmp_path / "renamed", renamed, "pack")) == before
    package = _in_a_package(dict(FILES))
    assert fingerprint(loaded(tmp_path / "package", package, "pack.deep")) == before
    assert fingerprint(loaded(tmp_path / "b", FILES, cls="Second")) != before
    changed = {k: v.replace("SCALE = 3.0", "SCALE = 3.5") for k, v in package.items()}
    assert fingerprint(loaded(tmp_path / "changed", changed, "pack.deep")) != before


def test_plug_in_files_are_followed_to_their_neighbours(tmp_path: Path) -> None:
    def of(folder: str, files: Mapping[str, str], file: str, name: str = "first") -> str | None:
        for path, text in files.items():
            (tmp_path / folder / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / path).write_text(text)
        DETECTORS._objects.pop("first", None)
        DETECTORS._objects.pop("second", None)
        load_plugin(str(tmp_path / folder / file))
        return fingerprint(DETECTORS.get(name))

    changed = FILES | {"constants.py": CONSTANTS.replace("SCALE = 3.0", "SCALE = 3.5")}
    through = {"entry.py": "from mine import First, Second\n"}
    first = of("a", FILES, "mine.py")
    assert first is not None
    assert of("b", _in_a_package(FILES), "pack/deep.py") == first
    assert of("c", FILES | through, "entry.py") == first
    for folder, files, file in (
        ("d", changed, "mine.py"),
        ("e", _in_a_package(changed), "pack/deep.py"),
        ("f", changed | through, "entry.py"),
    ):
        assert of(folder, files, file) not in (None, first)


SHADOWS = """\
from constants import OTHER, SCALE

class First:
    limit = 1

    def measure(self, SCALE, *values, key=None):
        inner = [OTHER for OTHER in values]
        return SCALE, inner, (lambda limit: limit)(values), {OTHER: 1 for OTHER, _ in inner}
"""


def test_names_that_a_function_binds_itself_are_not_followed(tmp_path: Path) -> None:
    files = {"mine.py": SHADOWS, "constants.py": CONSTANTS}
    before = fingerprint(loaded(tmp_path / "before", files))
    edited = files | {"constants.py": "SCALE = 9\nOTHER = 9\n"}
    assert fingerprint(loaded(tmp_path / "silent", edited)) == before
    used = {"mine.py": SHADOWS.replace("return SCALE, inner", "return SCALE, inner, OTHER")}
    a = fingerprint(loaded(tmp_path / "a", files | used))
    assert a != fingerprint(loaded(tmp_path / "b", edited | used))


# ---------------------------------------------------------------------- the built-in ones
def all_of(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *edits: tuple[str, str, str],
    moved: tuple[str, str] | None = None,
) -> dict[str, str | None]:
    """Fingerprints of all detectors and models, read from a copy with texts replaced, a file moved.

    An edit names the files by a pattern, the old and the new text.
    """
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("baselines", "models"):
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    for pattern, old, new in edits:
        for path in folder.glob(pattern):
            path.write_text(path.read_text().replace(old, new))
    if moved is not None:
        (folder / moved[0]).rename(folder / moved[1])
    homes = {f"oodbench.{name}": folder / name for name in ("baselines", "models")}
    monkeypatch.setattr(modules, "_home", ({"oodbench": ROOT / "benchmark"} | homes).get)
    found = {name: detector_source(DETECTORS.get(name)) for name in built_in()}
    return found | {f"model {name}": model_source(MODELS.get(name)) for name in MODELS.names()}


def built_in() -> list[str]:
    return [n for n in DETECTORS.names() if DETECTORS.get(n).__module__.startswith("oodbench.")]


def test_every_detector_and_model_has_its_own_fingerprint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = {name: detector_source(DETECTORS.get(name)) for name in built_in()}
    here |= {f"model {name}": model_source(MODELS.get(name)) for name in MODELS.names()}
    assert None not in here.values()
    assert len(set(here.values())) == len(here)
    assert all_of(monkeypatch, tmp_path) == here


def test_a_module_of_the_models_under_another_name_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = all_of(monkeypatch, tmp_path / "before")
    after = all_of(
        monkeypatch,
        tmp_path / "after",
        ("**/*.py", "oodbench.models.layers.likelihoods", "oodbench.models.vae.of_pixels"),
        moved=("models/layers/likelihoods.py", "models/vae/of_pixels.py"),
    )
    assert after == before


def test_an_edit_is_noticed_by_what_uses_it_and_by_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = all_of(monkeypatch, tmp_path / "before")
    glow = "models/flows/glow.py"
    text = (ROOT / glow).read_text()
    (line,) = re.findall(r"class Glow\b[^\n]*\n", text)
    after = all_of(monkeypatch, tmp_path / "after", (glow, line, f"{line}    more = 1\n"))
    changed = {name for name in before if before[name] != after[name]}
    assert "model glow" in changed
    assert not {n for n in changed if n.startswith("model ")} - {"model glow"}
    assert not changed & {"hvk", "png-length", "pixelcnn", "max-softmax", "vae", "hvae"}


def test_reading_sources_imports_no_torch() -> None:
    code = (
        "import sys; from oodbench.detect.detector import DETECTORS;"
        "from oodbench.detect.source_fingerprints import detector_source;"
        "assert all(detector_source(DETECTORS.get(n)) for n in DETECTORS.names());"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""What is said of results whose source changed: in notebooks, files, and of imported results."""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_example import CONSTANTS, HELPER, MINE

import oodbench
from oodbench.declare.registry import load_plugin
from oodbench.detect.detector import DETECTORS
from oodbench.detect.source_fingerprints import SCHEME, changed_sources, detector_source
from oodbench.share.transfer import import_store
from oodbench.store.maintenance import verify
from oodbench.store.store import Key, Store

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def registers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is registered or imported here is forgotten afterwards."""
    monkeypatch.setattr(DETECTORS, "_objects", dict(DETECTORS._objects))
    yield
    for name in ("helper", "constants", "oodbench_plugin_mine"):
        sys.modules.pop(name, None)


# ---------------------------------------------------------------------- notebooks
def cell(number: int, text: str, notebook: types.ModuleType) -> None:
    """Run a cell as IPython does: its text is kept for tracebacks, its names in one module."""
    file = f"<ipython-input-{number}-0>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), vars(notebook))


def test_what_is_defined_in_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = types.ModuleType("the_notebook")
    monkeypatch.setitem(sys.modules, "the_notebook", notebook)
    detector = (
        "class Mine(Detector):\n    def measure(self, images):\n"
        "        return {'value': helped(images) * FACTOR}\n"
    )
    cell(1, "import torch\nfrom oodbench import Detector\nFACTOR = 2\n", notebook)
    cell(2, "def helped(images):\n    return torch.mean(images, (1, 2, 3))\n", notebook)
    cell(3, detector, notebook)
    first = detector_source(notebook.Mine)
    assert first is not None
    cell(4, f"# again\n{detector}", notebook)
    assert detector_source(notebook.Mine) == first
    seen = {first}
    for number, text in enumerate((
        detector.replace("* FACTOR", "+ FACTOR"),
        "FACTOR = 3\n",
        "def helped(images):\n    return torch.amax(images, (1, 2, 3))\n",
    )):  # fmt: skip
        cell(5 + number, text, notebook)
        seen.add(detector_source(notebook.Mine))
    assert len(seen) == 4


def test_a_class_without_any_source_has_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("typed_in")
    monkeypatch.setitem(sys.modules, "typed_in", module)
    text = (
        "from oodbench import Detector\nclass Mine(Detector):\n    def score(self, s): return s\n"
    )
    exec(compile(text, "<stdin>", "exec"), vars(module))
    assert detector_source(module.Mine) is None


# ---------------------------------------------------------------------- what is said
def test_a_changed_source_is_reported_until_its_revision_changes(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def notes(text: str) -> list[str]:
        (tmp_path / "mine.py").write_text(text)
        (tmp_path / "helper.py").write_text(HELPER)
        (tmp_path / "constants.py").write_text(CONSTANTS)
        DETECTORS._objects.pop("second", None)
        DETECTORS._objects.pop("first", None)
        sys.modules.pop("oodbench_plugin_mine", None)
        sys.path.insert(0, str(tmp_path))
        try:
            load_plugin(str(tmp_path / "mine.py"))
        finally:
            sys.path.remove(str(tmp_path))
        return changed_sources(store.entries("run"))

    assert notes(MINE) == []
    oodbench.run("digits-photos", ["second"], store=str(tmp_path / "store"), quiet=True)
    assert notes(MINE.replace('"""What two detectors share."""', "# shared")) == []
    changed = MINE.replace("amax(1)", "amin(1)")
    (note,) = notes(changed)
    assert "source of detector 'second' is not that of" in note
    assert "revision is still 1" in note
    with pytest.warns(UserWarning, match="source of detector 'second'"):
        oodbench.run("digits-photos", ["second"], store=str(tmp_path / "store"), quiet=True)
    assert (
        notes(changed.replace("class Second(Base):", "class Second(Base):\n    revision = 2")) == []
    )


def test_fingerprints_of_another_scheme_say_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    part = {"name": "png-length", "revision": 1, "sha256": "0" * 64}
    for number, scheme in enumerate(({}, {"scheme": 1}, {"scheme": SCHEME})):
        source = {"detector": part | scheme}
        store.write(Key("run", {"number": number}), {}, {"source": source})
        assert len(changed_sources(store.entries("run"))) == (number == 2)


@pytest.mark.parametrize("bundle", sorted((ROOT / "results" / "published").glob("*/*.tar")),
                         ids=lambda path: path.stem)  # fmt: skip
def test_our_published_results_are_imported_without_a_note(bundle: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert import_store(store, bundle).written > 0
    verdict = verify(store)
    assert verdict.damaged == []
    assert changed_sources(verdict.sound) == []

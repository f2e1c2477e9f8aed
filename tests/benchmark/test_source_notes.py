"""What is said of results whose source changed: in notebooks, files, and of imported results."""

from __future__ import annotations

import linecache
import shutil
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_example import CONSTANTS, HELPER, MINE

import oodbench
from oodbench import Detector
from oodbench.declare.registry import load_plugin
from oodbench.detect.detector import DETECTORS
from oodbench.detect.source_fingerprints import (
    COMPILED,
    SCHEME,
    changed_sources,
    detector_source,
    scheme_and_fingerprint,
)
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


# ---------------------------------------------------------------------- made by calling `type`
SCORES = """\
from oodbench import score_function

FACTOR = 2.0

@score_function("kl-factor", on="informative-hvae", cite="somebody")
def kl_factor(statistics):
    return FACTOR * statistics["kl_0"].sum(1)
"""


def test_score_functions_and_estimators_by_name(tmp_path: Path) -> None:
    base = DETECTORS.get("informative-hvae")

    def score(name: str, text: str) -> str | None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.py").write_text(text)
        DETECTORS._objects.pop("kl-factor", None)
        load_plugin(str(tmp_path / name / "scores.py"))
        return detector_source(DETECTORS.get("kl-factor"))

    first = score("a", SCORES)
    assert first not in (None, detector_source(base))
    assert score("b", SCORES.replace('cite="somebody"', 'cite="them"')) == first
    assert score("c", SCORES.replace("FACTOR = 2.0", "FACTOR = 3.0")) != first
    assert score("d", SCORES.replace("informative-hvae", "vanilla-hvae")) != first
    estimators = ("sklearn.PCA", "sklearn.PCA,pca=3", "sklearn.LocalOutlierFactor,max_images=9")
    found = [detector_source(DETECTORS.get(name)) for name in estimators]
    assert None not in found
    assert len(set(found)) == 3

    def made(q: float) -> type:
        return type("Made", (base,), {"q": q, "__module__": __name__})

    assert detector_source(made(0.5)) == detector_source(made(0.5)) != detector_source(made(0.9))


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


TYPED = """\
from oodbench import Detector, register

FACTOR = 2

def weight(images):
    return images.double().flatten(1).mean(1)

@register("typed", cite="none", title="Typed")
class Typed(Detector):
    revision = 1
    kinds = {"a", "b"}
    def measure(self, images):
        "Mean."
        return {"v": FACTOR * weight(images)}
    def score(self, s):
        return s["v"]
"""


def typed_in(text: str) -> dict[str, object]:
    """Run a text that nobody keeps, as a shell or `exec` does."""
    module = types.ModuleType("typed_in_too")
    sys.modules["typed_in_too"] = module
    DETECTORS._objects.pop("typed", None)
    exec(compile(text, "<string>", "exec"), vars(module))
    return vars(module)


def test_a_class_that_was_typed_in_is_told_apart_by_its_code(tmp_path: Path) -> None:
    first = scheme_and_fingerprint(typed_in(TYPED)["Typed"])  # type: ignore[arg-type]
    assert first[0] == COMPILED
    same = (TYPED, TYPED.replace('"Mean."', '"The mean of all pixels."'),
            TYPED.replace("none", "somebody"))  # fmt: skip
    for text in same:
        assert scheme_and_fingerprint(typed_in(text)["Typed"]) == first  # type: ignore[arg-type]
    others = [("FACTOR = 2", "FACTOR = 3"), (".mean(1)", ".std(1)"), ("FACTOR *", "FACTOR +"),
              ('{"a", "b"}', '{"a", "c"}'), ('s["v"]', '-s["v"]')]  # fmt: skip
    found = [scheme_and_fingerprint(typed_in(TYPED.replace(*pair))["Typed"])  # type: ignore[arg-type]
             for pair in others]  # fmt: skip
    assert len({first, *found}) == 1 + len(others)
    sys.modules.pop("typed_in_too")


def measured(folder: Path, name: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        oodbench.run("digits-photos", name, store=str(folder / "store"), quiet=True)
    return [str(one.message) for one in caught if one.category is UserWarning]


def test_an_edit_of_what_was_typed_in_is_said_at_once(tmp_path: Path) -> None:
    for text, notes in ((TYPED, 0), (TYPED, 0), (TYPED.replace(".mean(1)", ".std(1)"), 1),
                        (TYPED, 0)):  # fmt: skip
        typed_in(text)
        said = measured(tmp_path, "typed")
        assert len(said) == notes
        assert all("its revision is still 1" in one for one in said)
    sys.modules.pop("typed_in_too")


def test_a_class_takes_values_from_the_function_that_it_is_defined_in(tmp_path: Path) -> None:
    def make(sign: int) -> type[Detector]:
        class Signed(Detector):
            def measure(self, images: object) -> dict[str, object]:
                return {"v": sign * images.double().flatten(1).mean(1)}  # type: ignore[attr-defined]

            def score(self, statistics: dict[str, object]) -> object:
                return statistics["v"]

        return Signed

    assert detector_source(make(1)) == detector_source(make(1)) != detector_source(make(-1))
    for sign, notes in ((1, 0), (1, 0), (-1, 1)):
        DETECTORS._objects.pop("signed", None)
        oodbench.register("signed", cite="none", title="Signed")(make(sign))
        assert len(measured(tmp_path, "signed")) == notes


# ---------------------------------------------------------------------- what is said
def loaded(folder: Path, text: str) -> None:
    """Load the plug-in anew, as an editing user does."""
    for name, content in {"mine": text, "helper": HELPER, "constants": CONSTANTS}.items():
        (folder / f"{name}.py").write_text(content)
    for name in ("first", "second"):
        DETECTORS._objects.pop(name, None)
    sys.path.insert(0, str(folder))
    try:
        load_plugin(str(folder / "mine.py"))
    finally:
        sys.path.remove(str(folder))


def ran(folder: Path) -> list[str]:
    """Run the second detector; the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        oodbench.run("digits-photos", ["second"], store=str(folder / "store"), quiet=True)
    return [str(one.message) for one in caught if one.category is UserWarning]


def test_a_changed_source_is_reported_until_its_revision_changes(tmp_path: Path) -> None:
    changed = MINE.replace("amax(1)", "amin(1)")
    for text, notes in (
        (MINE, 0),
        (MINE.replace('"""What two detectors share."""', "# shared"), 0),
        (changed, 1),
        (changed.replace("class Second(Base):", "class Second(Base):\n    revision = 2"), 0),
    ):
        loaded(tmp_path, text)
        said = ran(tmp_path)
        assert len(said) == notes
        assert len(changed_sources(Store(tmp_path / "store").entries("run"))) == notes
        if said:
            assert "source of detector 'second' is not that of" in said[0]
            assert "revision is still 1" in said[0]


def test_measurements_of_an_earlier_source_are_named_by_the_run_that_uses_them(
    tmp_path: Path,
) -> None:
    loaded(tmp_path, MINE)
    assert ran(tmp_path) == []
    for stage in ("run", "score"):  # as if it had been stopped after measuring
        shutil.rmtree(tmp_path / "store" / stage)
    loaded(tmp_path, MINE.replace("amax(1)", "amin(1)"))
    (note,) = ran(tmp_path)
    assert "source of detector 'second' is not that of 2 stored results" in note


def test_fingerprints_of_another_scheme_say_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    part = {"name": "png-length", "revision": 1, "sha256": "0" * 64}
    for number, scheme in enumerate(({}, {"scheme": 1}, {"scheme": SCHEME})):
        source = {"detector": part | scheme}
        entry = store.write(Key("run", {"number": number}), {}, {"source": source})
        assert len(changed_sources([entry])) == (number == 2)


def test_our_published_results_are_imported_without_a_note(tmp_path: Path) -> None:
    for bundle in (ROOT / "results" / "published").glob("*/*.tar"):
        store = Store(tmp_path / bundle.stem)
        assert import_store(store, bundle).written > 0
        verdict = verify(store)
        assert verdict.damaged == []
        assert changed_sources(verdict.sound) == []

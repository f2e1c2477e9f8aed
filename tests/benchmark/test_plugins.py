"""Plug-ins: the examples of docs/plugins.md at work, names, breakages, and a suite without any."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import invoke
from plugin_examples import examples, write_examples

import oodbench
from oodbench.datasets.pairs import get_pair, pair_declarations, registered_pairs
from oodbench.declare import declarations
from oodbench.declare.recipes import MODELS, recipe_files, register_model
from oodbench.declare.registry import load_plugin
from oodbench.detect.detector import DETECTORS, Detector, register
from oodbench.detect.score_functions import score_function
from oodbench.detect.source_fingerprints import detector_source, model_source
from oodbench.errors import ConfigError, OodbenchError, PluginError, UnknownNameError
from oodbench.flow.default_recipe import default_recipe
from oodbench.flow.plan import parse_detector
from oodbench.store.store import Store

ROOT = Path(__file__).parents[2]
FILES = [name for name in examples() if not name.startswith(("oodbench-project", "example"))]


@pytest.fixture(autouse=True, scope="module")
def registries() -> Iterator[None]:
    """Whatever is registered here is forgotten afterwards."""
    held = [(r, dict(r._objects), dict(r._origins)) for r in (DETECTORS, MODELS)]
    added, modules = dict(declarations._added), set(sys.modules)
    yield
    for registry, objects, origins in held:
        registry._objects, registry._origins = objects, origins  # type: ignore[attr-defined]
    declarations._added.clear()
    declarations._added.update(added)
    for name in set(sys.modules) - modules:
        if name.startswith("oodbench_plugin_"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every example, loaded."""
    found = tmp_path_factory.mktemp("plugins")
    write_examples(found, *FILES)
    for name in FILES:
        if name.endswith(".py"):
            load_plugin(str(found / name))
    return found


def run(folder: Path, *detectors: str) -> dict[tuple[str, str], float]:
    """AUROC by detector and score."""
    store = str(folder / "store")
    oodbench.run("digits-photos", list(detectors), scale="smoke", store=store, quiet=True,
                 device="cpu")  # fmt: skip
    return {
        (str(entry.record["detector"]), score): metrics["auroc"]["value"]
        for entry in Store(store).entries("run")
        for score, metrics in entry.record["scores"].items()  # type: ignore[union-attr]
        if entry.record["detector"] in detectors
    }


# ---------------------------------------------------------------------- three levels
def test_a_score_function_stands_on_the_measurements_of_its_detector(folder: Path) -> None:
    run(folder, "informative-hvae")
    store = Store(str(folder / "store"))
    before = {stage: len(list(store.entries(stage))) for stage in ("fit", "measure", "score")}
    found = run(folder, "kl-share")
    after = {stage: len(list(store.entries(stage))) for stage in ("fit", "measure", "score")}
    assert after == {**before, "score": before["score"] + 2}
    (value,) = found.values()
    assert 0 <= value <= 1
    runs = {str(e.record["detector"]): e.record["source"] for e in store.entries("run")}
    hashes = {name: part["detector"]["sha256"] for name, part in runs.items()}  # type: ignore[call-overload, index]
    assert len(set(hashes.values())) == 2
    assert None not in hashes.values()


def test_a_score_function_gets_training_statistics_where_it_asks(folder: Path) -> None:
    seen: list[tuple[int, int]] = []

    @score_function("far-from-mean", on="distance-to-mean")
    def far(statistics: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> np.ndarray:
        seen.append((len(statistics["distance"]), len(reference["distance"])))
        return np.asarray(abs(statistics["distance"] - reference["distance"].mean()))

    found = run(folder, "distance-to-mean", "far-from-mean")
    assert set(found) == {("distance-to-mean", "score"), ("far-from-mean", "score")}
    assert sorted(seen) == [(500, 1297), (500, 1297)]  # all training images of the digits
    assert len([e for e in Store(str(folder / "store")).entries("fit")
                if e.parts.get("detector") == "distance-to-mean"]) == 1  # fmt: skip


def test_score_functions_that_cannot_be(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="nearest: informative-hvae"):
        score_function("x", on="informativ-hvae")(lambda statistics: statistics)
    with pytest.raises(PluginError, match=r"\(statistics\) or \(statistics, reference\)"):
        score_function("x", on="glow")(lambda a, b, c: a)
    score_function("short", on="mean-intensity")(lambda statistics: statistics["value"][:3])
    with pytest.raises(PluginError, match=r"short: score '' has shape \(3,\)"):
        run(folder, "short")


def test_a_detector_with_its_own_fit(folder: Path) -> None:
    assert run(folder, "distance-to-mean")["distance-to-mean", "score"] > 0.8


def test_a_model_gets_its_generic_scores(folder: Path) -> None:
    names = ["histogram", "typicality-histogram", "input-complexity-histogram", "waic-histogram"]
    found = run(folder, *names)
    assert {name for name, _ in found} == set(names)
    assert found["histogram", "L"] > 0.9
    assert found["waic-histogram", "-WAIC"] > 0.9
    fits = [e for e in Store(str(folder / "store")).entries("fit") if "model" in e.parts
            and e.parts["model"] == "histogram"]  # fmt: skip
    assert sorted(int(str(fit.parts["seed"])) for fit in fits) == [0, 1, 2, 3, 4]
    assert model_source(MODELS.get("histogram")) is not None
    # Independent: the score is that of the log-probabilities, written out.
    network = MODELS.get("histogram")(bins=8).build((1, 2, 2))  # type: ignore[call-arg]
    network.logits.data.normal_(generator=torch.Generator().manual_seed(0))
    image = torch.tensor([[[[0, 31], [32, 255]]]], dtype=torch.uint8)
    p = network.logits.softmax(-1)[0] / 32
    expected = p[0, 0, 0] * p[0, 1, 0] * p[1, 0, 1] * p[1, 1, 7]
    assert network.log_prob(image).exp().item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_module_with_log_prob(folder: Path) -> None:
    assert run(folder, "gaussian")["gaussian", "L"] > 0.9


def test_what_a_model_raises_is_one_line(folder: Path) -> None:
    text = examples()["histogram.py"].replace('"histogram"', '"crooked"')
    (folder / "crooked.py").write_text(text.replace("log_softmax(-1)", "log_softmax(-1)[7:9, 0]"))
    recipe = examples()["recipes/histogram-D.yaml"].replace("histogram", "crooked")
    (folder / "recipes/crooked-D.yaml").write_text(recipe)
    load_plugin(str(folder / "crooked.py"))
    declarations._added.clear()  # read the folder anew
    declarations.add_source(folder, "plug-in again")
    with pytest.raises(PluginError, match=r"model 'crooked': training raised .*\(crooked.py, line"):
        run(folder, "crooked@" + str(folder / "recipes/crooked-D.yaml"))


# ---------------------------------------------------------------------- names
def test_a_subclass_that_measures_otherwise_does_not_share_measurements() -> None:
    base = DETECTORS.get("mean-intensity")
    same = register("same-mean")(type("Same", (base,), {"score": lambda self, s: -s["value"]}))
    other = register("other-mean")(type("Other", (base,), {"measure": lambda self, x: {}}))
    for cls in (same, other):
        assert cls.__module__ == __name__ or cls.__module__ == "abc"
    assert same.measure_name == "mean-intensity"
    assert other.measure_name == "other-mean"
    assert (same.name, same.title) == ("same-mean", "same-mean")


def test_two_objects_of_one_name(folder: Path, tmp_path: Path) -> None:
    text = examples()["distance.py"]
    (tmp_path / "second.py").write_text(text)
    with pytest.raises(PluginError, match=r"(?s)two detectors.*distance\.py and .*second\.py"):
        load_plugin(str(tmp_path / "second.py"))
    (tmp_path / "third.py").write_text(text.replace("distance-to-mean", "vanilla-hvae"))
    with pytest.raises(PluginError, match=r"oodbench\.baselines\.hvae:VanillaHVAE.*third\.py"):
        load_plugin(str(tmp_path / "third.py"))
    (tmp_path / "distance.py").write_text(text)
    with pytest.raises(PluginError, match="two detectors are named 'distance-to-mean'"):
        load_plugin(str(tmp_path / "distance.py"))


def test_a_model_needs_a_name_and_a_build() -> None:
    with pytest.raises(PluginError, match="not a configuration class"):
        register_model(type("Nothing", (), {"name": "nothing"}))
    with pytest.raises(PluginError, match="needs name = 'x'"):
        MODELS._adopt("x", MODELS.get("glow"))


# ---------------------------------------------------------------------- declarations
def declare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_examples(folder, *(n for n in examples() if n.startswith("oodbench-project")))
    home = folder / "oodbench-project"
    np.savez(home / "stripes.npz", images=np.zeros((200, 8, 8), dtype=np.uint8))
    monkeypatch.setenv("OODBENCH_PROJECT", str(home))
    return home


def test_a_project_declares_pairs_suites_and_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oodbench.datasets.dataset_status import status
    from oodbench.datasets.loading import find_places, load
    from oodbench.flow.suites import find_suite

    declare(tmp_path, monkeypatch)
    assert get_pair("digits-stripes").ood == "stripes"
    assert get_pair("digits-stripes").reading == "Digits against vertical stripes."
    assert find_suite("mine").pairs == ("digits-photos", "digits-stripes")
    places = find_places((), str(tmp_path / "store"))
    assert load("stripes", "test", places).images.shape == (200, 1, 8, 8)
    assert {s.state for s in status(places) if s.name == "stripes"} == {"native"}
    monkeypatch.setenv("OODBENCH_PROJECT", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="there is no such folder"):
        registered_pairs()
    monkeypatch.delenv("OODBENCH_PROJECT")
    assert "digits-stripes" not in registered_pairs()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("pairs.yaml", "a: 3", "pair 'a'.*must be a mapping"),
        ("pairs.yaml", "a: {in_dist: digits}", "'ood' is missing"),
        ("pairs.yaml", "a: {in_dist: digits, odd: photos, ood: photos}", "unknown key.*'odd'.*ood"),
        ("pairs.yaml", "a: {in_dist: [1], ood: photos}", "'in_dist' must be str"),
        ("pairs.yaml", "digits-photos: {in_dist: digits, ood: photos}",
         r"two pairs are named 'digits-photos'.*\(oodbench\).*project"),
        ("datasets.yaml", "a: {title: A, shape: [8, 8], splits: {test: 3}}", "three whole numbers"),
        ("datasets.yaml", "a: {title: A, shape: [1, 8, 8], splits: {val: 3}}", "train and test"),
        ("datasets.yaml", "a: {title: A, shape: [1, 8, 8], splits: {test: 3}, files: {train: x}}",
         "'files' must name .* test"),
        ("recipes/F3.yaml", "name: F3", "two recipes are named 'F3'"),
        ("recipes/mine.yaml", "name: mine", "the key 'shape' is missing"),
        ("recipes/mine.yaml", "name: other\nshape: [1, 8, 8]\nmodel: hvae\nscales: {smoke: {}}",
         "name the file after it"),
        ("suites/mine.yaml", "pairs: [a]", "'detectors' must be a list"),
        ("layouts/mine.yaml", "x: 1", "unknown key 'x'"),
    ],
)  # fmt: skip
def test_bad_declarations_of_a_project_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, message: str
) -> None:
    from oodbench.datasets.spec import catalogue
    from oodbench.declare.layout_files import layout_declarations
    from oodbench.flow.suites import suites

    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    monkeypatch.setenv("OODBENCH_PROJECT", str(tmp_path))
    read = {"pairs": registered_pairs, "datasets": catalogue, "recipes": recipe_files,
            "suites": suites, "layouts": lambda: layout_declarations().all()}  # fmt: skip
    with pytest.raises(OodbenchError, match=message):
        read[file.replace("/", ".").split(".")[0]]()  # type: ignore[operator]


def test_an_installed_package_that_is_broken_disables_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/bad.yaml").write_text("name: bad")
    (tmp_path / "recipes/F3.yaml").write_text("name: F3")
    (tmp_path / "pairs.yaml").write_text("[")
    source = declarations.Source(tmp_path, "package bad", asked=False)
    monkeypatch.setattr(declarations, "_installed", lambda: (source,))
    from oodbench.declare.recipes import find_recipe, recipe_declarations

    assert {"F3", "D2"} <= set(recipe_files())
    assert set(recipe_declarations().problems) == {"bad", "F3"}
    assert default_recipe("fashionmnist", (1, 28, 28), "vanilla", "small").name == "F3"
    for name in ("bad", "F3"):
        with pytest.raises(PluginError, match="package bad"):
            find_recipe(name)
    assert "digits-photos" in registered_pairs()
    assert any("package bad" in reason for reason in pair_declarations().problems.values())


def test_a_plug_in_recipe_is_not_chosen_before_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "benchmark/declare/recipes/D2.yaml").read_text().replace("name: D2", "name: A0")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/A0.yaml").write_text(text)
    monkeypatch.setenv("OODBENCH_PROJECT", str(tmp_path))
    assert "A0" in recipe_files()
    assert default_recipe("digits", (1, 8, 8), "vanilla", "smoke").name == "D2"


# ---------------------------------------------------------------------- installed packages
GLASS = {
    "glass/__init__.py": "",
    "glass/good.py": examples()["distance.py"].replace("distance-to-mean", "glass"),
    "glass/bad.py": "import no_such_module\n",
    "glass/pairs.yaml": "glass-pair: {in_dist: digits, ood: photos@invert}\n",
    "glass-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: glass\nVersion: 1\n",
    "glass-1.dist-info/entry_points.txt": (
        "[oodbench.detectors]\nglass = glass.good\nshards = glass.bad:Shards\n"
        "glow = glass.good\n[oodbench.resources]\nglass = glass\n"
    ),
}


def cli(path: Path, *arguments: str, check: str = "") -> subprocess.CompletedProcess[str]:
    """`oodbench …` with `path` before everything else, in that folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OODBENCH")}
    code = f"{check}\nfrom oodbench.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=path, capture_output=True, text=True,
        env=environment | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def glass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed package with a sound, a broken and a colliding detector."""
    folder = tmp_path_factory.mktemp("glass")
    for name, text in GLASS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_list_detectors_names_what_is_broken(glass: Path) -> None:
    done = cli(glass, "list", "detectors")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"glass", "vanilla-hvae", "sklearn.CLASS[,KEY=VALUE…]"} <= set(listed)
    assert not {"shards", "glow"} & set(listed)
    broken = [line for line in done.stderr.splitlines() if line.startswith("broken: ")]
    assert any("shards" in line and "no_such_module" in line for line in broken)
    assert any("two detectors are named 'glow'" in line and "glass" in line for line in broken)
    assert len(broken) == 2


@pytest.mark.parametrize("what", ["detectors", "pairs", "suites", "recipes", "datasets"])
def test_a_list_is_whole_beside_a_plug_in_that_is_broken(what: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    whole = invoke(tmp_path, "list", what)[1]
    status, out, err = invoke(tmp_path, "list", what, "--plugin", "broken.py")
    assert status == 2
    assert out == whole
    assert "no_such_module" in err
    assert err.count("error") == 1


@pytest.mark.parametrize("raised", ["BaseException('no')", "SystemExit(3)", "GeneratorExit()"])
def test_a_package_that_breaks_disables_itself_alone(tmp_path: Path, raised: str) -> None:
    """Whatever it raises, and though it names ``__main__``, which is no package."""
    written = {
        "boom/__init__.py": f"raise {raised}\n",
        "boom-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: boom\nVersion: 1\n",
        "boom-1.dist-info/entry_points.txt": (
            "[oodbench.detectors]\nboom = boom:Boom\nmain = __main__:Main\n"
            "[oodbench.resources]\nboom = __main__\nmore = boom.__main__\n"
        ),
    }
    for name, text in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = cli(tmp_path, "list", "detectors")
    assert done.returncode == 0, done.stderr
    assert "vanilla-hvae" in done.stdout
    broken = [line for line in done.stderr.splitlines() if line.startswith("broken: ")]
    assert {line.split("'")[1] for line in broken} == {"boom", "main"}
    done = cli(tmp_path, "run", "--pair", "china-flower", "--detector", "png-length", "--quiet")
    assert done.returncode == 0, done.stderr
    done = cli(tmp_path, "run", "--pair", "china-flower", "--detector", "boom", "--quiet")
    assert done.returncode == 2
    assert "detector 'boom' (boom:Boom) cannot be loaded" in done.stderr


def test_asking_for_what_is_broken_ends_with_2(glass: Path) -> None:
    done = cli(glass, "run", "--pair", "digits-photos", "--detector", "shards", "--quiet")
    assert done.returncode == 2
    assert done.stderr.startswith("oodbench: error: detector 'shards' (glass.bad:Shards) cannot be")


def test_nothing_of_a_package_is_imported_before_it_is_asked_for(glass: Path) -> None:
    check = ("import atexit, sys\natexit.register(lambda: print(sorted("
             "{'glass', 'torch', 'sklearn'} & set(sys.modules)), file=sys.stderr))")  # fmt: skip
    done = cli(glass, "list", "pairs", check=check)
    assert "glass-pair" in done.stdout
    assert done.stderr.strip() == "[]"


# ---------------------------------------------------------------------- stores without the plug-in
def test_results_of_a_plug_in_stay_readable_without_it(folder: Path, tmp_path: Path) -> None:
    run(folder, "kl-share", "informative-hvae", "distance-to-mean")
    shutil.copytree(folder / "store", tmp_path / "store")
    a, b = [e.digest[:10] for e in Store(str(tmp_path / "store")).entries("run")
            if e.record["detector"] in ("kl-share", "distance-to-mean")][:2]  # fmt: skip
    script = """
import sys
from oodbench.cli import main
for line in sys.argv[1:]:
    sys.argv = ["oodbench", *line.split()]
    try:
        main()
    except SystemExit as stop:
        print(line, stop.code, file=sys.stderr)
        raise
"""
    lines = [
        "leaderboard --store store --format csv",
        "leaderboard --store store --detector kl-share --columns cost",
        "compare kl-share distance-to-mean --pair digits-photos --store store",
        "figure roc --pair digits-photos --detector kl-share --store store --out roc.svg",
        "report --out page.html --store store --no-significance",
        "store verify --store store",
        f"why {a} {b} --store store",
        f"show {a} --store store",
    ]
    done = subprocess.run([sys.executable, "-c", script, *lines], cwd=tmp_path, text=True,
                          capture_output=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kl-share" in done.stdout
    assert "roc.svg" in done.stdout


# ---------------------------------------------------------------------- no baselines
def test_a_suite_without_any_detector_of_its_own_runs_a_plug_in(tmp_path: Path) -> None:
    package = tmp_path / "oodbench"
    skip = shutil.ignore_patterns("__pycache__")
    for source, target in (
        ("benchmark", ""),
        ("models", "models"),
        ("results/reference", "reference"),
    ):
        shutil.copytree(ROOT / source, package / target, ignore=skip, dirs_exist_ok=True)
    entries = (ROOT / "pyproject.toml").read_text()
    models = entries.split('entry-points."oodbench.models"]')[1].split("[")[0].replace('"', "")
    info = tmp_path / "oodbench-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oodbench\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[oodbench.models]{models}")
    write_examples(tmp_path, "distance.py")
    check = f"import oodbench; assert oodbench.__file__.startswith({str(tmp_path)!r})"
    listed = cli(tmp_path, "list", "detectors", check=check)
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 1), listed.stderr
    none = cli(tmp_path, "run", "--quiet")
    assert none.returncode == 2
    assert "no detector is registered" in none.stderr
    done = cli(tmp_path, "run", "--pair", "digits-photos", "--plugin", "distance.py",
               "--detector", "distance-to-mean", "--quiet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Distance to the mean" in done.stdout


def test_source_hashes_of_plug_ins(folder: Path) -> None:
    assert detector_source(DETECTORS.get("kl-share")) != detector_source(
        DETECTORS.get("informative-hvae")
    )
    assert detector_source(DETECTORS.get("waic-histogram")) is not None
    assert parse_detector("sklearn.PCA,n_components=3").name == "sklearn.PCA,n_components=3"
    assert issubclass(DETECTORS.get("kl-share"), Detector)

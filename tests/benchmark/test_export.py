"""Exported detectors: the scores of the benchmark bit for bit, p-values, seals, refusals."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import invoke
from PIL import Image

import oodbench
from oodbench.canonical_json import digest
from oodbench.datasets.loading import find_places
from oodbench.datasets.pairs import get_pair
from oodbench.declare.registry import load_plugin
from oodbench.deploy.exporting import (
    MANIFEST,
    conformal_place,
    export_detector,
    held_share,
    threshold_at,
)
from oodbench.deploy.scoring import TrainedDetector
from oodbench.detect.detector import DETECTORS
from oodbench.errors import ConfigError, DataError, OodbenchError, PluginError, StoreError
from oodbench.flow.bench import Bench
from oodbench.flow.perform import perform
from oodbench.flow.plan import Job, parse_detector
from oodbench.flow.resolved_job import subset_indices
from oodbench.progress import Progress
from oodbench.store.payload import unpack_table
from oodbench.store.store import Store

PAIR = get_pair("digits-photos")
RNG = np.random.default_rng(0)
PLUGIN = """\
import torch
from oodbench import Detector, register


@register("distance-to-mean-here")
class DistanceToMean(Detector):
    def fit(self, train, context):
        self.mean = torch.from_numpy(train.images.mean(0))

    def measure(self, images, noise):
        drawn = noise.normal("z", tuple(images.shape[1:]))
        return {"distance": ((images.double() - self.mean) ** 2 + drawn).flatten(1).sum(1)}

    def score(self, statistics):
        return statistics["distance"]

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]
"""

GROUPED = """\
    groups = {"b=20": 20}

    def score_names(self):
        return ["one", *self.groups]

    def scores(self, statistics):
        from oodbench.rank.metrics import group_members

        out = {"one": statistics["distance"]}
        for name, size in self.groups.items():
            group_members(len(out["one"]), size)
            out[name] = out["one"]
        return out

"""
ENSEMBLE = """\
from oodbench import register
from oodbench.baselines.hvae import VanillaHVAE


@register("two-and-a-companion-here")
class Two(VanillaHVAE):
    members = 2
    companions = ("hvk",)
    measure_name = "two-and-a-companion-here"

    def attach(self, models):
        self.models = models

    def measure(self, images, noise):
        out = {}
        for index, self.model in enumerate(self.models):
            out[f"m{index}"] = super().measure(images, noise.scope(f"m{index}"))["elbo"]
        return out

    def scores(self, statistics):
        return {"sum": statistics["m2"] - statistics["m0"] - statistics["m1"]}

    def score_names(self):
        return ["sum"]

    def diagnose(self, statistics, totals, shape):
        return {}
"""
RECIPE = """\
name: tiny
shape: [1, 8, 8]
model: hvae
scales:
  smoke:
    model:
      likelihood: {kind: logistic}
      layers:
        - {stage: {kind: mlp}, latent: d4}
        - {stage: {kind: mlp}, latent: d2}
    training: {epochs: 1, batch_size: 200}
    variants: {vanilla: {}, hvk: {measure: {max_images: 120}}}
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("export")
    (folder / "tiny.yaml").write_text(RECIPE)
    for name, source in (("p", PLUGIN), ("e", ENSEMBLE)):
        (folder / f"{name}.py").write_text(source)
        load_plugin(str(folder / f"{name}.py"))
    store = str(folder / "store")
    return Bench(Store(store), find_places([], store), Progress("quiet"), "cpu")


def job(name: str) -> Job:
    return Job(parse_detector(name), PAIR.in_dist, (PAIR,), "smoke", 0)


def with_recipe(bench: Bench, name: str) -> str:
    """The detector on the tiny recipe, where it takes one; classifiers have small ones."""
    detector, _, score = name.partition(":")
    cls = DETECTORS.get(detector)
    if not cls.recipe_variant or cls.category in ("labels", "prior"):
        return name
    tiny = Path(bench.store.storage.location).parent / "tiny.yaml"
    return f"{detector}@{tiny}:{score}"


def benchmark_scores(bench: Bench, name: str) -> list[np.ndarray]:
    """The scores of the ID and the OOD test images as the store keeps them."""
    outcome = perform(bench, job(name))
    assert not outcome.failures
    found = []
    for side in ("id_scores", "ood_scores"):
        entry = bench.store.get("score", str(outcome.entries[0].parts[side]))
        assert entry is not None
        table = entry.parse("scores.parquet", unpack_table)
        column = name.partition(":")[2] or "score"
        found.append(table[column])
    return found


@pytest.fixture(scope="module")
def exported(bench: Bench) -> Path:
    folder = Path(bench.store.storage.location).parent / "mean"
    return export_detector(bench, job("mean-intensity"), folder, 90.0)


def images_of(bench: Bench) -> oodbench.LoadedPair:
    return oodbench.load_pair(PAIR, store=bench.store.storage.location)


# ---------------------------------------------------------------------- equality
@pytest.mark.parametrize(
    "name",
    [
        "mean-intensity",
        "distance-to-mean-here",  # learns by itself, draws at random
        "vanilla-hvae:LLR>1",
        "dose-hvae:DoSE-SVM",  # compares with training images
        "typicality-hvae:typicality",
        "two-and-a-companion-here:sum",
        "knn",
        "vim",  # compares with training images, and needs the last layer
        "react",
        "odin-validated:ODIN",  # chooses a point on another OOD set
        "mahalanobis-validated:MD",  # and weights
    ],
)
def test_scores_are_those_of_the_benchmark(bench: Bench, name: str, tmp_path: Path) -> None:
    name = with_recipe(bench, name)
    expected = benchmark_scores(bench, name)
    fits = sorted(bench.store.entries("fit"), key=lambda entry: entry.digest)
    folder = export_detector(bench, job(name), tmp_path / "x")
    assert [f.digest for f in fits] == sorted(f.digest for f in bench.store.entries("fit"))
    detector = oodbench.load_detector(folder, device="cpu")
    pair = images_of(bench)
    np.testing.assert_array_equal(detector.scores_of(pair.id_test.images), expected[0])
    for images, scores in zip((pair.id_test, pair.ood_test), expected, strict=True):
        np.testing.assert_array_equal(detector.scores_of(images.images, "position"), scores)
    np.testing.assert_array_equal(detector.id_scores, np.sort(expected[0]))


def test_what_was_chosen_on_another_set_needs_that_set_no_more(
    bench: Bench, tmp_path: Path
) -> None:
    folder = export_detector(bench, job("mahalanobis-validated:MD"), tmp_path / "x")
    held = {path.name for path in folder.iterdir()}
    assert {"inside.parquet", "outside.parquet"} < held
    assert "reference.parquet" not in held
    (folder / "outside.parquet").unlink()
    with pytest.raises(StoreError, match=rf"outside\.parquet: {os.strerror(errno.ENOENT)}"):
        oodbench.load_detector(folder)


def test_a_measured_subset_keeps_its_draws(bench: Bench, tmp_path: Path) -> None:
    """Where a recipe measures some of the images, each has the draws of its place in the split."""
    name = with_recipe(bench, "hvae:LLR>1")
    expected = benchmark_scores(bench, name)[0]
    detector = oodbench.load_detector(export_detector(bench, job(name), tmp_path / "x"))
    images = images_of(bench).id_test.images
    chosen = subset_indices(len(images), 120)
    np.testing.assert_array_equal(detector.scores_of(images[chosen]), expected)


def test_single_images_of_a_detector_that_also_judges_groups(bench: Bench, tmp_path: Path) -> None:
    """Fewer images than a group: the scores of groups are left out, not refused."""
    head, body = PLUGIN.split("    def score(")
    source = (
        head.replace("distance-to-mean-here", "grouped-here") + GROUPED + "    def score(" + body
    )
    (tmp_path / "g.py").write_text(source)
    load_plugin(str(tmp_path / "g.py"))
    with pytest.raises(OodbenchError, match=r"judges 20 images together.*--score: one"):
        export_detector(bench, job("grouped-here:b=20"), tmp_path / "x")
    with pytest.raises(OodbenchError, match=r"several scores; choose one with --score: one$"):
        export_detector(bench, job("grouped-here"), tmp_path / "x")
    folder = export_detector(bench, job("grouped-here:one"), tmp_path / "x")
    images = images_of(bench).ood_test.images
    assert len(oodbench.load_detector(folder, device="cpu").scores_of(images[:1])) == 1


def test_a_new_images_score_depends_on_no_other(bench: Bench, tmp_path: Path) -> None:
    folder = export_detector(bench, job("distance-to-mean-here"), tmp_path / "x")
    detector = oodbench.load_detector(folder, device="cpu")
    images = images_of(bench).ood_test.images[:20]
    together = detector.scores_of(images)
    np.testing.assert_array_equal(detector.scores_of(images[::-1])[::-1], together)
    np.testing.assert_allclose([detector.scores_of(i[None])[0] for i in images], together)
    assert not np.array_equal(detector.scores_of(images, "position"), together)


# ---------------------------------------------------------------------- numbers
@pytest.mark.parametrize("count", [19, 20, 40, 57, 500])
@pytest.mark.parametrize("percent", [50, 80, 90, 95])
def test_what_exceeds_the_threshold_has_a_p_value_up_to_alpha(count: int, percent: int) -> None:
    for scores in (RNG.normal(size=count), RNG.integers(0, 9, count).astype(float)):
        chosen, alpha = threshold_at(scores, percent), Fraction(100 - percent, 100)
        for s in np.concatenate([scores, scores + 0.5, scores - 1e-9, [chosen]]):
            p = Fraction(1 + int((scores >= s).sum()), count + 1)
            assert (s > chosen) == (p <= alpha)


def test_the_false_alarm_holds_on_few_images_and_is_refused_on_fewer() -> None:
    # Of n + 1 exchangeable scores each is as likely the new one: those above the threshold that
    # the others give are counted, by leaving every one out.
    for count in (19, 25, 40):
        scores = RNG.normal(size=count + 1)
        alarms = [scores[i] > threshold_at(np.delete(scores, i), 95) for i in range(count + 1)]
        assert 0 < np.mean(alarms) <= 0.05
    for count, percent in ((18, 95), (2, 95), (98, 99), (500, 100)):
        with pytest.raises(ConfigError, match=f"{count} ID test images cannot hold a false alarm"):
            threshold_at(RNG.normal(size=count), percent)
    with pytest.raises(ConfigError, match=r"give 99 ID test images or more, or accept 98.99 % at"):
        threshold_at(RNG.normal(size=98), 99)


def test_where_nothing_is_asked_few_images_hold_what_they_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert held_share(19, None) == held_share(500, None) == 95
    assert not caplog.records
    for count, share in ((9, 90.0), (16, 94.11), (18, 94.73)):
        assert held_share(count, None) == share
        assert conformal_place(count, share) == count
        assert f"{count} ID test images hold a false alarm" in caplog.records[-1].message
    for few, asked in ((8, None), (2, None), (16, 95.0)):
        with pytest.raises(ConfigError, match=f"{few} ID test images cannot hold"):
            held_share(few, asked)


def test_a_threshold_of_before_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(exported, folder)
    body = json.loads((folder / MANIFEST).read_text())["export"]
    body["threshold"]["value"] -= 1.0
    (folder / MANIFEST).write_text(json.dumps({"export": body, "sha256": digest(body)}))
    with pytest.raises(ConfigError, match=r"lets through more false alarms than 10 %.* export it"):
        oodbench.load_detector(folder, device="cpu")


def test_an_edited_plug_in_is_not_served_under_the_old_threshold(
    bench: Bench, tmp_path: Path
) -> None:
    file, folder = tmp_path / "edited.py", tmp_path / "x"
    source = PLUGIN.replace("distance-to-mean-here", "edited-here")
    file.write_text(source)
    load_plugin(str(file))
    export_detector(bench, job("edited-here"), folder)
    oodbench.load_detector(folder, plugins=[str(file)], device="cpu")
    file.write_text(source.replace("** 2", "** 4"))
    with pytest.raises(ConfigError, match="the code of 'edited-here' is not the one that was exp"):
        oodbench.load_detector(folder, plugins=[str(file)], device="cpu")
    file.write_text(f"# a remark\n{source}")
    oodbench.load_detector(folder, plugins=[str(file)], device="cpu")


def test_threads_wait_for_each_other(exported: Path, bench: Bench) -> None:
    """A measurement that switches its model's gradients off meanwhile, as refitting does."""
    detector = oodbench.load_detector(exported, device="cpu")
    weight, own = torch.nn.Parameter(torch.ones(())), detector.detector.measure

    def refitting(images: torch.Tensor) -> object:
        assert weight.requires_grad
        weight.requires_grad_(False)
        time.sleep(0.01)
        weight.requires_grad_(True)
        return own(images)  # type: ignore[call-arg]

    vars(detector.detector)["measure"] = refitting
    images = images_of(bench).ood_test.images[:8]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: detector.scores_of(images[i : i + 1])[0], range(8)))
    np.testing.assert_array_equal(found, detector.scores_of(images))


def test_p_values_count_id_scores(exported: Path, bench: Bench) -> None:
    detector = oodbench.load_detector(exported, device="cpu")
    scores = np.concatenate([detector.id_scores[[0, 7, -1]], [-1e9, 1e9, 101.5]])
    expected = [
        (1 + sum(bool(t >= s) for t in detector.id_scores)) / (len(detector.id_scores) + 1)
        for s in scores
    ]
    np.testing.assert_allclose(detector.p_values(scores), expected, rtol=1e-15)
    frame = detector.score(images_of(bench).id_test.images)
    assert list(frame.columns) == ["image", "score", "p_value", "decision"]
    assert (frame["decision"] == "in").mean() >= 0.9
    assert ((frame["score"] <= detector.threshold) == (frame["decision"] == "in")).all()


# ---------------------------------------------------------------------- sources
def picture(path: Path, *shape: int) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(values).save(path)
    return values


def test_files_folders_and_arrays(exported: Path, tmp_path: Path) -> None:
    detector = oodbench.load_detector(exported, device="cpu")
    one = picture(tmp_path / "one.png", 8, 8)
    deep = picture(tmp_path / "folder" / "b" / "deep.png", 8, 8)
    flat = picture(tmp_path / "folder" / "a.png", 8, 8)
    np.savez(tmp_path / "more.npz", images=np.stack([one, flat]))
    frame = detector.score([tmp_path / "one.png", tmp_path / "folder", tmp_path / "more.npz"])
    assert [Path(name).name for name in frame["image"]] == [
        "one.png", "a.png", "deep.png", "more.npz[0]", "more.npz[1]",
    ]  # fmt: skip
    expected = [image.mean() for image in (one, flat, deep, one, flat)]
    np.testing.assert_allclose(frame["score"], expected)
    alone = detector.score(str(tmp_path / "one.png"))
    assert alone["score"].tolist() == frame["score"].tolist()[:1]


def test_conversion_only_where_it_is_asked_for(exported: Path, tmp_path: Path) -> None:
    detector = oodbench.load_detector(exported, device="cpu")
    colour = picture(tmp_path / "c.png", 12, 16, 3)
    with pytest.raises(DataError, match=r"1 of 1 images .* 1×8×8 .*c\.png with 3×12×16; give"
                       r" --grey --resize \(or --crop, --nearest\)"):  # fmt: skip
        detector.score(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"give --resize"):
        detector.score(tmp_path / "c.png", convert=["grey"])
    frame = detector.score(tmp_path / "c.png", convert=["resize", "grey"])
    grey = Image.fromarray(colour).convert("L").crop((2, 0, 14, 12))
    expected = np.asarray(grey.resize((8, 8), Image.Resampling.BILINEAR)).mean()
    assert frame["score"][0] == pytest.approx(expected)
    with pytest.raises(DataError, match="--grey and --rgb exclude each other"):
        detector.score(tmp_path / "c.png", convert=["rgb", "grey"])
    with pytest.raises(DataError, match="unknown conversion 'blur'"):
        detector.score(tmp_path / "c.png", convert=["blur"])
    with pytest.raises(DataError, match=r"takes 1×8×8 .*; give convert=\['resize'\]"):
        detector.score(np.zeros((4, 9, 9), np.uint8))


def test_unreadable_images_are_all_listed(exported: Path, tmp_path: Path) -> None:
    detector = oodbench.load_detector(exported, device="cpu")
    good = picture(tmp_path / "d" / "good.png", 8, 8)
    for name in ("torn.png", "empty.jpg"):
        (tmp_path / "d" / name).write_bytes(b"x" if name == "torn.png" else b"")
    with pytest.raises(DataError, match=r"2 of 3 images cannot be read.*empty\.jpg.*torn\.png"):
        detector.score(tmp_path / "d")
    frame = detector.score(tmp_path / "d", skip_unreadable=True)
    assert frame["decision"].tolist()[1:] == ["unreadable"] * 2
    assert frame["score"][0] == pytest.approx(good.mean())
    assert frame["score"].isna().tolist() == [False, True, True]


# ---------------------------------------------------------------------- the seal
@pytest.mark.parametrize("name", ["detector.json", "id_scores.parquet", "id_images.bin"])
def test_a_changed_file_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(exported, tmp_path / "x")
    path = tmp_path / "x" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=f"{name} does not match its checksum"):
        oodbench.load_detector(tmp_path / "x")
    path.unlink()
    with pytest.raises(StoreError, match=f"({name}|no {MANIFEST})"):
        oodbench.load_detector(tmp_path / "x")


def resealed(folder: Path, **changes: object) -> Path:
    """The export with another manifest under a checksum that fits."""
    body = json.loads((folder / MANIFEST).read_text())["export"] | changes
    (folder / MANIFEST).write_text(json.dumps({"export": body, "sha256": digest(body)}))
    return folder


def test_exports_of_something_else(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "x")
    held = json.loads((exported / MANIFEST).read_text())["export"]
    for change, kind, message in (
        ({"schema": 99}, StoreError, "another version"),
        ({"detector": {**held["detector"], "name": "theirs"}}, PluginError, "with --plugin"),
        ({"detector": {**held["detector"], "revision": 7}}, OodbenchError, "revision 7 and has 1"),
        ({"files": {"../a": {}}}, StoreError, "outside its folder"),
        ({"files": {}}, StoreError, "not a whole export"),
    ):
        with pytest.raises(kind, match=message):
            oodbench.load_detector(resealed(tmp_path / "x", **(held | change)))
    with pytest.raises(StoreError, match=r"no detector\.json in it"):
        oodbench.load_detector(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", [MANIFEST, "id_scores.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_does_not_end_is_not_read(
    exported: Path, tmp_path: Path, name: str, kind: str
) -> None:
    shutil.copytree(exported, tmp_path / "x")
    (tmp_path / "x" / name).unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / "x" / name)
    else:
        (tmp_path / "x" / name).symlink_to("/dev/zero")
    with pytest.raises(StoreError, match=rf"{name}: it is no plain file"):
        oodbench.load_detector(tmp_path / "x")


@pytest.mark.parametrize("change", ["many layers", "wide layers"])
def test_a_network_far_beyond_its_weights_is_not_built(
    bench: Bench, tmp_path: Path, change: str
) -> None:
    folder = export_detector(bench, job(with_recipe(bench, "vanilla-hvae:L")), tmp_path / "x")
    held = json.loads((folder / MANIFEST).read_text())["export"]
    layers = held["recipes"][0]["config"]["layers"]
    if change == "many layers":
        held["recipes"][0]["config"]["layers"] = layers[:1] * 20_000 + layers[1:]
    else:
        text = json.dumps(layers)
        assert '"dim": 4' in text
        held["recipes"][0]["config"]["layers"] = json.loads(
            text.replace('"dim": 4', '"dim": 4000000')
        )
    started = time.monotonic()
    with pytest.raises(StoreError, match="far beyond its weights"):
        oodbench.load_detector(resealed(folder, **held), device="cpu")
    assert time.monotonic() - started < 60


def test_an_export_with_other_random_numbers_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Its threshold and p-values are of draws that are made no more."""
    folder = export_detector(bench, job("distance-to-mean-here"), tmp_path / "x")
    held = json.loads((folder / MANIFEST).read_text())["export"]
    assert held.pop("noise") > 1
    (folder / MANIFEST).write_text(json.dumps({"export": held, "sha256": digest(held)}))
    with pytest.raises(
        ConfigError, match=r"random draws .* \(revision 1, not \d\); export it again"
    ):
        oodbench.load_detector(folder)


def test_the_detector_of_a_plug_in_needs_it(bench: Bench, tmp_path: Path) -> None:
    folder = export_detector(bench, job("distance-to-mean-here"), tmp_path / "x")
    (tmp_path / "p.py").write_text(PLUGIN)
    known = DETECTORS._objects.pop("distance-to-mean-here")
    try:
        with pytest.raises(PluginError, match=r"of the plug-in oodbench_plugin_p.*--plugin"):
            oodbench.load_detector(folder, device="cpu")
        loaded = oodbench.load_detector(folder, plugins=[str(tmp_path / "p.py")], device="cpu")
        assert isinstance(loaded, TrainedDetector)
    finally:
        DETECTORS._objects["distance-to-mean-here"] = known


# ---------------------------------------------------------------------- the command line
def test_export_and_score_on_the_command_line(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODBENCH_STORE", bench.store.storage.location)
    out = str(tmp_path / "x")
    status, text, err = invoke(
        tmp_path, "export", "mean-intensity", "--pair", "digits-photos", "--tpr", "80",
        "--out", out,
    )  # fmt: skip
    assert status == 0, err
    assert "of 500 ID test images (asked: 80 %); no OOD image was used" in text
    picture(tmp_path / "d" / "good.png", 8, 8)
    (tmp_path / "d" / "torn.png").write_bytes(b"x")
    csv = str(tmp_path / "scores.csv")
    status, _, err = invoke(tmp_path, "score", out, str(tmp_path / "d"), "--out", csv)
    assert (status, Path(csv).exists()) == (2, False)
    assert "torn.png" in err
    status, _, err = invoke(
        tmp_path, "score", out, str(tmp_path / "d"), "--out", csv, "--skip-unreadable"
    )
    assert (status, err) == (0, "oodbench: 1 images cannot be read; they stand last\n")
    lines = Path(csv).read_text().splitlines()
    assert lines[0] == "image,score,p_value,decision"
    assert lines[2].endswith("torn.png,,,unreadable")

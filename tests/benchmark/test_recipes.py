"""Recipes, suites and pairs: the declarations that ship, and clear errors about a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from oodbench.datasets.pairs import get_pair, make_pair, registered_pairs
from oodbench.declare.recipes import (
    find_recipe,
    read_recipe,
    recipe_files,
    resolve,
)
from oodbench.detect.detector import DETECTORS
from oodbench.errors import ConfigError, OodbenchError, UnknownNameError
from oodbench.flow.default_recipe import default_recipe
from oodbench.flow.plan import DetectorRequest, parse_detector, plan_jobs, select_scores
from oodbench.flow.selection import choose
from oodbench.flow.suites import read_suite, suites
from oodbench.models.hierarchical.config import HierarchicalConfig

ALL = [
    (name, scale, variant)
    for name, recipe in recipe_files().items()
    for scale, body in recipe.scales.items()
    for variant in dict(body["variants"])  # type: ignore[arg-type, call-overload]
]


@pytest.mark.parametrize(("name", "scale", "variant"), ALL)
def test_every_recipe_that_ships_resolves(name: str, scale: str, variant: str) -> None:
    recipe = resolve(find_recipe(name), scale, variant)
    assert recipe.fit_parts()["model"] == find_recipe(name).model
    assert recipe.build(find_recipe(name).shape) is not None
    if not isinstance(recipe.config, HierarchicalConfig):
        return
    objective = recipe.config.objective
    assert objective.kind == ("informative" if variant.startswith("informative") else "elbo")
    warmed = ("hvk", "hvk-published", "lvae", "biva")
    assert (objective.free_bits is not None) == (variant in warmed)


# LLRada paper, Tables 6, 7, 12 and 16: latent dimensions from shallow to deep.
@pytest.mark.parametrize(
    ("name", "dims"),
    [("F3", [16, 8, 4]), ("F5", [32, 24, 16, 8, 4]), ("C3", [128, 64, 32]),
     ("C5", [128, 64, 32, 28, 24]), ("N3", [64, 32, 16]), ("lvae-F3", [16, 8, 4]),
     ("lvae-C3", [128, 64, 32]), ("biva-F3", [16, 8, 4]), ("biva-C3", [128, 64, 32]),
     ("lvae-F5", [32, 24, 16, 8, 4]), ("biva-F5", [32, 24, 16, 8, 4]), ("lvae-N3", [64, 32, 16]),
     ("biva-N3", [64, 32, 16])],
)  # fmt: skip
def test_published_latents(name: str, dims: list[int]) -> None:
    recipe = resolve(find_recipe(name), "paper", find_recipe(name).variants[0])
    assert isinstance(recipe.config, HierarchicalConfig)
    assert [layer.latent.dim for layer in recipe.config.layers] == dims
    assert recipe.training.epochs == 1000
    assert (recipe.training.lr, recipe.training.optimiser) == (3e-4, "adam")


@pytest.mark.parametrize(
    ("in_dist", "shape", "scale", "name"),
    [
        ("fashionmnist", (1, 28, 28), "small", "F3"),
        ("cifar10", (3, 32, 32), "small", "C3"),
        ("tiny-imagenet", (3, 32, 32), "paper", "N3"),
        ("lfwpeople@resize", (3, 32, 32), "paper", "N3"),
        ("digits", (1, 8, 8), "small", "D2"),
        ("china", (1, 16, 16), "small", "E3"),
    ],
)
def test_default_recipe(in_dist: str, shape: tuple[int, int, int], scale: str, name: str) -> None:
    assert default_recipe(in_dist, shape, "vanilla", scale).name == name
    for model in ("lvae", "biva"):
        for variant in (model, f"informative-{model}"):
            assert default_recipe(in_dist, shape, variant, scale).name == f"{model}-{name}"


def test_no_recipe_of_a_variant_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r'no recipe has the variant "nobody\'s"; give --recipe'):
        default_recipe("photos", (3, 64, 64), "nobody's", "small")


def write(folder: Path, **changes: object) -> Path:
    body: dict[str, object] = {
        "name": "mine", "shape": [1, 8, 8], "model": "hvae",
        "scales": {"small": {
            "model": {"likelihood": {"kind": "logistic"}, "layers": [
                {"stage": {"kind": "mlp", "hidden": [16]}, "latent": "d4"}]},
            "training": {"epochs": 1},
            "variants": {"vanilla": {}, "informative": {"model": {
                "objective": {"kind": "informative"}}}},
        }},
    }  # fmt: skip
    body |= changes
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def scales(**changes: object) -> dict[str, object]:
    model = {"likelihood": {"kind": "logistic"},
             "layers": [{"stage": {"kind": "mlp"}, "latent": "d4"}]}  # fmt: skip
    return {"small": {"model": model, "training": {"epochs": 1},
                      "variants": {"vanilla": {}}, **changes}}  # fmt: skip


def test_a_users_recipe(tmp_path: Path) -> None:
    recipe = resolve(find_recipe(str(write(tmp_path))), "small", "informative")
    assert recipe.label == "mine-small"
    changed = resolve(find_recipe(str(write(tmp_path))), "small", "informative",
                      {"training": {"lr": 0.5}})  # fmt: skip
    assert changed.training.lr == 0.5
    assert changed.fit_parts() != recipe.fit_parts()


def test_only_fits_whose_settings_changed_their_meaning_have_another_key() -> None:
    """Free bits once cut the KL off at 0, a penalty once escaped the clip: these and no others."""
    revised = {
        (name, variant)
        for name, file in recipe_files().items()
        for scale in file.scales
        for variant in file.scales[scale].get("variants", {"": {}})  # type: ignore[union-attr]
        if "settings_revision" in resolve(file, scale, variant).fit_parts()
    }
    assert {("F3", "hvk"), ("lvae-C3", "lvae"), ("biva-D2", "biva"), ("F3-hvk", "hvk")} <= revised
    assert {("lr-pixelcnn-F", "lr-pixelcnn-m0.1-l10")} <= revised
    for name, variant in revised:
        recipe = resolve(find_recipe(name), "smoke", variant)
        objective = getattr(recipe.config, "objective", None)
        penalised = recipe.training.kernel_decay is not None
        assert penalised or (objective is not None and objective.free_bits is not None)
    paper = resolve(find_recipe("lr-pixelcnn-F"), "paper", "lr-pixelcnn-m0.1-l10")
    assert paper.training.clip is None
    assert "settings_revision" not in paper.fit_parts()


@pytest.mark.parametrize("name", ["F3", "F5", "C3", "C5", "N3"])
def test_baselines_have_the_importance_samples_of_the_paper(name: str) -> None:
    """Li et al., Appendix F: 1,000 for HVAE, LVAE and BIVA, none for their own model."""
    variants = {"hvk": "", "lvae": "lvae-", "biva": "biva-"} if name != "C5" else {"hvk": ""}
    for variant, prefix in variants.items():
        found = resolve(find_recipe(f"{prefix}{name}"), "paper", variant)
        assert found.measure.importance_samples == 1000
        informative = f"informative-{variant}" if prefix else "informative"
        found = resolve(find_recipe(f"{prefix}{name}"), "paper", informative)
        assert found.measure.importance_samples == 1


def test_a_variant_may_have_a_note_of_its_own(tmp_path: Path) -> None:
    biva = find_recipe("biva-C3")
    for scale in biva.scales:
        assert "10 layers in the paper" in resolve(biva, scale, "hvk-published").note
        assert resolve(biva, scale, "biva").note == ""
    body = scales(variants={"vanilla": {"note": "own"}, "hvk": {"note": 3}})
    recipe = read_recipe(write(tmp_path, note="all", scales=body))
    assert resolve(recipe, "small", "vanilla").note == "all own"
    with pytest.raises(ConfigError, match="'note' must be a text, not 3"):
        resolve(recipe, "small", "hvk")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modell": "hvae"}, "unknown key 'modell'; nearest: model"),
        ({"scales": {"smal": {}}}, "unknown key 'smal'; nearest: small"),
        ({"scales": scales(trainin={})}, "unknown key 'trainin'; nearest: training"),
        ({"scales": scales(training={"epoch": 3})}, "unknown key 'epoch'; nearest: epochs"),
        ({"scales": scales(training={"epochs": 0})}, "training: epochs: must be at least 1, not 0"),
        ({"scales": scales(measure={"lower": "mean"})}, "measure: lower: .*'mode' or 'sample'"),
        ({"scales": scales(model={"likelihood": {"kind": "logistic"}, "layers": [
            {"stage": {"kind": "mlp"}, "latent": "x4"}]})}, "a latent is written c16"),
        ({"scales": scales(model={"likelihood": {"kind": "logistic"}, "layers": [
            {"stage": {"kind": "mlp"}, "latent": "c4"}]})}, "a conv latent needs a conv stage"),
        ({"scales": scales(model={"likelihood": {"kind": "logistic", "tails": "exact"}})},
         r"unknown key 'likelihood\.tails'; nearest: tail"),
        ({"model": "hvea"}, "unknown model 'hvea'; nearest: hvae"),
        ({"note": ["one", "two"]}, "'note' must be a text"),
        ({"shape": [28, 28]}, r"'shape' must be three whole numbers \[C, H, W\]"),
        ({"scales": {}}, "'scales' must map"),
    ],
)  # fmt: skip
def test_a_misspelt_recipe_is_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(OodbenchError, match=message) as caught:
        resolve(read_recipe(write(tmp_path, **changes)), "small", "vanilla")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [1", "- a\n- b", "a: 1\na: 2", "a: !!python/object:os.x {}"])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="unknown recipe 'F4'; nearest: F"):
        find_recipe("F4")
    with pytest.raises(UnknownNameError, match="unknown scale of recipe F3 'tiny'"):
        resolve(find_recipe("F3"), "tiny", "vanilla")
    with pytest.raises(UnknownNameError, match="variant of recipe F3 'vanila'; nearest: vanilla"):
        resolve(find_recipe("F3"), "small", "vanila")


# ---------------------------------------------------------------------- suites and pairs
def test_suites_name_what_is_registered() -> None:
    for suite in suites().values():
        for pair in suite.pairs:
            assert pair in registered_pairs()
        for name in suite.detectors:
            assert parse_detector(name).detector in map(DETECTORS.get, DETECTORS.names())


def test_a_bad_suite_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("pairs: [a]\ndetektors: [b]\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key 'detektors'"):
        read_suite(path)
    path.write_text("pairs: [a]\ndetectors: b\n")
    with pytest.raises(ConfigError, match="'detectors' must be a list"):
        read_suite(path)
    path.write_text("pairs: [a]\ndetectors: [glow, hvk]\nfirst: glow\n")
    with pytest.raises(ConfigError, match="'first' must be a list"):
        read_suite(path)
    path.write_text("pairs: [a]\ndetectors: [glow, hvk]\nfirst: [gloe]\n")
    with pytest.raises(ConfigError, match=r"'first' names 'gloe'.*nearest: glow"):
        read_suite(path)


def test_a_suite_says_what_is_started_first() -> None:
    jobs = choose(suite="table1").jobs([0])
    started = [job.request.label for job in sorted(jobs, key=lambda job: job.rank)]
    assert started[:3] == ["informative-hvae@C5", "hvk", "hvk"]
    assert jobs[0].request.label == "max-softmax"  # the order of the table
    everything = choose(pairs=["digits-photos"], detectors=["mean-intensity", "hvk"]).jobs([0])
    assert {job.rank for job in everything} == {0}


def test_any_two_data_sets_make_a_pair() -> None:
    assert get_pair("cifar10-svhn").tables
    assert get_pair("svhn-tiny-imagenet").in_dist == "svhn"
    made = get_pair("tiny-imagenet-celeba@resize")
    assert (made.in_dist, made.ood) == ("tiny-imagenet", "celeba@resize")
    assert make_pair("cifar10", "svhn") is get_pair("cifar10-svhn")
    assert get_pair("cifar10-svhn").reversed().name == "svhn-cifar10"
    with pytest.raises(UnknownNameError, match="nearest: cifar10-svhn"):
        get_pair("cifar10-shvn")


def test_scores_are_found_however_they_are_typed() -> None:
    names = ["L", "LLR>1", "LLR_ada", "LLR_ada_eq11"]
    for typed in ("llr-ada", "LLR_ada", "LLRada"):
        assert select_scores(DetectorRequest("x", "", (typed,)), names) == ["LLR_ada"]
    assert select_scores(DetectorRequest("x"), names) == names
    for typed, name in (("kl>1", "KL>1"), ("KL<=1", "KL<=1"), ("kl2", "KL<=2")):
        assert select_scores(DetectorRequest("x", "", (typed,)), ["KL<=1", "KL<=2", "KL>1"]) == [
            name
        ]
    with pytest.raises(UnknownNameError, match="'kl1'; nearest: KL"):
        select_scores(DetectorRequest("x", "", ("kl1",)), ["KL<=1", "KL>1"])
    with pytest.raises(UnknownNameError, match="score of x 'llr_adda'; nearest: LLR_ada"):
        select_scores(DetectorRequest("x", "", ("llr_adda",)), names)
    with pytest.raises(ConfigError, match="has no recipes"):
        parse_detector("mean-intensity@F3")


def test_jobs() -> None:
    requests = [parse_detector(n) for n in ("vanilla-hvae:L", "vanilla-hvae:llr1", "png-length")]
    pairs = [get_pair(n) for n in ("cifar10-svhn", "cifar10-celeba", "svhn-cifar10")]
    jobs = plan_jobs(requests, pairs, scale="small", seeds=[0, 1])
    # 2 ID sets × (2 seeds of the model, 1 of the detector that has no randomness)
    assert len(jobs) == 6
    assert [len(job.pairs) for job in jobs] == [2, 2, 2, 1, 1, 1]
    assert jobs[0].request.scores == ("L", "llr1")

"""Images of a shape that no recipe is made for: one is derived, by one rule, for every model."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import invoke
from PIL import Image

import oodbench
from oodbench.declare.derived_recipes import halvings, nearest, parse_derived, pixel_share
from oodbench.declare.recipes import SCALES, derive, find_recipe, recipe_files, resolve
from oodbench.detect.detector import DETECTORS
from oodbench.flow.default_recipe import default_recipe
from oodbench.models.hierarchical.config import ConvStage

SHAPES = [(3, 64, 64), (3, 28, 28), (1, 21, 33), (3, 128, 128)]
EXTREME = [(1, 5, 5), (3, 9, 40), (1, 200, 150)]


def learned() -> dict[str, str]:
    """Every detector that stands on a recipe, and its variant."""
    names = [name for name in DETECTORS.names() if name not in DETECTORS.broken()]
    found = {name: DETECTORS.get(name).recipe_variant for name in names}
    return {name: variant for name, variant in found.items() if variant}


def test_the_rule_in_numbers() -> None:
    assert [halvings((3, 32, 32), s) for s in SHAPES] == [1, 0, 0, 2]
    assert pixel_share((3, 32, 32), (3, 64, 64)) == 0.25
    assert pixel_share((3, 32, 32), (3, 8, 8)) == 1
    shapes = [("grey", (1, 28, 28)), ("small", (3, 8, 8)), ("colour", (3, 32, 32))]
    assert nearest(shapes, (3, 30, 30)) == "colour"
    assert nearest(shapes, (1, 64, 64)) == "grey"
    assert nearest(shapes, (3, 8, 9)) == "small"
    assert parse_derived("C3-3x64x64") == ("C3", (3, 64, 64))
    assert parse_derived("C3") is None
    assert parse_derived("C3-2x64x64") is None


def test_a_shape_that_a_recipe_is_made_for_takes_that_recipe() -> None:
    for file in recipe_files().values():
        if file.in_dist:
            continue
        for variant in file.variants:
            for scale in file.scales:
                taken = default_recipe("mine.npz", file.shape, variant, scale)
                assert taken.made_for is None, (file.name, variant, scale)


@pytest.mark.parametrize("shape", [*SHAPES, *EXTREME])
def test_every_variant_resolves_at_every_scale_under_a_name_that_finds_it(
    shape: tuple[int, int, int],
) -> None:
    for variant in sorted(set(learned().values())):
        for scale in SCALES:
            file = default_recipe("mine.npz", shape, variant, scale)
            assert file.shape == shape
            recipe = resolve(file, scale, variant)
            assert resolve(find_recipe(file.name), scale, variant) == recipe
            assert recipe.derived
            assert recipe.training.batch_size >= min(8, resolve(
                find_recipe(file.name.rpartition("-")[0]), scale, variant
            ).training.batch_size)  # fmt: skip
            assert "derived from" in recipe.note


def test_no_stage_passes_over_pixels_and_the_budget_is_that_of_the_base() -> None:
    for shape in SHAPES:
        base, file = find_recipe("C3"), derive(find_recipe("C3"), shape)
        own, found = (resolve(f, "small", "vanilla") for f in (base, file))
        strides = [layer.stage.stride for layer in found.config.layers]  # type: ignore[attr-defined]
        before = [layer.stage.stride for layer in own.config.layers]  # type: ignore[attr-defined]
        assert math.prod(strides) == math.prod(before) * 2 ** halvings(base.shape, shape)
        for layer in found.config.layers:  # type: ignore[attr-defined]
            assert isinstance(layer.stage, ConvStage)
            assert layer.stage.kernel >= layer.stage.stride
        pixels = [
            r.training.epochs * r.training.epoch_images * s[1] * s[2]
            for r, s in ((own, base.shape), (found, shape))
        ]
        assert pixels[1] == pytest.approx(min(pixels[0], pixels[1]), rel=0.02)
    paper = resolve(derive(find_recipe("C3"), (3, 64, 64)), "paper", "hvk")
    assert paper.training.epochs == resolve(find_recipe("C3"), "paper", "hvk").training.epochs // 4


@pytest.mark.parametrize("shape", [*SHAPES, *EXTREME])
def test_every_network_is_built_and_its_loss_has_a_gradient(shape: tuple[int, int, int]) -> None:
    """A pass forwards and back, once for every configuration."""
    seen = set()
    for name, variant in learned().items():
        recipe = resolve(default_recipe("mine.npz", shape, variant, "smoke"), "smoke", variant)
        key = recipe.config.model_dump_json()  # type: ignore[attr-defined]
        if key in seen or "witness" in key:
            continue
        seen.add(key)
        model = recipe.build(shape).train()
        images = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
        given = {}
        if getattr(recipe.config, "needs_labels", False):
            given["labels"] = torch.tensor([0, 1])
        if getattr(recipe.config, "needs_outliers", False):
            given["outliers"] = images.flip(0)
        model.initialise(images)  # type: ignore[operator]
        loss = model.loss(images, 1, **given)["loss"]  # type: ignore[operator]
        loss.backward()
        assert torch.isfinite(loss), name


def folders(where: Path, shape: tuple[int, int, int]) -> None:
    """An ID and an OOD folder of two classes."""
    draw = np.random.default_rng(0)
    for name, low in (("id", 0), ("ood", 80)):
        for label in ("a", "b"):
            (where / name / label).mkdir(parents=True)
            for i in range(50):
                pixels = draw.integers(low, low + 150, (*shape[1:], shape[0])).astype(np.uint8)
                if shape[0] == 3:
                    pixels[0, 0] = (200, 10, 90)  # no grey images
                Image.fromarray(pixels.squeeze()).save(where / name / label / f"{i:02}.png")


def cost(name: str) -> tuple[int, str]:
    """Members, companions and grids first of all make a detector slow to measure."""
    cls = DETECTORS.get(name)
    return cls.members + len(cls.companions) + 10 * (len(cls.cost) > 12), name


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_every_learned_detector_runs_without_naming_a_recipe(
    shape: tuple[int, int, int], tmp_path: Path
) -> None:
    folders(tmp_path, shape)
    short = {"measure.max_images": 20, "training.epochs": 1, "training.epoch_images": 16,
             "training.max_images": 40, "training.batch_size": 8}  # fmt: skip
    names = learned()
    # Of every kind of model the one that is measured fastest; `tests/stress` runs all at any shape.
    if math.prod(shape) > 1 << 10:
        kinds = {}
        for name, variant in sorted(names.items(), key=lambda item: cost(item[0])):
            kinds.setdefault(default_recipe("mine.npz", shape, variant, "smoke").model, name)
        names = {name: names[name] for name in kinds.values()}
    frame = oodbench.run(
        in_dist=tmp_path / "id", ood=tmp_path / "ood", detectors=list(names), scale="smoke",
        overrides=short, store=tmp_path / "store", quiet=True,
    )  # fmt: skip
    titles = {DETECTORS.get(name).title for name in names}
    ran = " ".join(set(frame.detector))
    assert not [title for title in titles if title.partition("(")[0].strip() not in ran]
    assert frame.value.notna().all()


def test_the_note_and_the_list_say_what_is_derived(tmp_path: Path) -> None:
    folders(tmp_path, (1, 21, 33))
    status, out, _ = invoke(tmp_path, "list", "recipes", "--for", "id", "--scale", "smoke")
    assert status == 0
    assert re.search(r"^F3-1x21x33 +1×28×28 +derived from F3.*vanilla-hvae", out, re.M)
    status, out, err = invoke(tmp_path, "run", "--in-dist", "id", "--ood", "ood", "--detector",
                              "vanilla-hvae", "--scale", "smoke", "--dry-run")  # fmt: skip
    assert re.search(r"^fit vanilla-hvae on id, seed 0 \(512 images, about \d+ min, \d+ MB\)", out,
                     re.M), out  # fmt: skip
    status, out, err = invoke(tmp_path, "run", "--in-dist", "id", "--ood", "ood", "--detector",
                              "vanilla-hvae", "--scale", "smoke")  # fmt: skip
    assert status == 0
    said = next(i for i, line in enumerate(err.splitlines()) if "derived from F3" in line)
    assert "images to train on, about" in err.splitlines()[said]
    assert any(line.startswith("train: ") for line in err.splitlines()[said:])
    assert "F3-1x21x33: derived from F3, which is made for 1×28×28" in " ".join(out.split())
    _, board, _ = invoke(tmp_path, "leaderboard", "--format", "csv")
    assert ",F3-1x21x33,smoke," in board
    named = ("run", "--in-dist", "id", "--ood", "ood", "--detector", "vanilla-hvae@F3-1x21x33")
    status, out, _ = invoke(tmp_path, *named, "--scale", "smoke", "--dry-run")
    assert (status, out) == (0, "nothing is missing\n")


def test_settings_by_hand_stand_on_the_derived_recipe() -> None:
    file = derive(find_recipe("C3"), (3, 64, 64))
    own = resolve(file, "smoke", "vanilla")
    found = resolve(file, "smoke", "vanilla", {"training": {"epochs": 1}})
    assert found.config == own.config
    assert found.overrides == ("training.epochs=1",)


@pytest.mark.parametrize("size", [(21, 33), (6, 6)])
def test_a_padded_flow_bounds_the_density(size: tuple[int, int]) -> None:
    """What it says of all images of one grey value together is at most 1, and samples fit."""
    from oodbench.models.flows.config import GlowConfig

    torch.manual_seed(0)
    model = GlowConfig(levels=2, steps=1, hidden=4).build((1, *size))
    images = torch.randint(0, 256, (4, 1, *size), dtype=torch.uint8)
    model.initialise(images)  # type: ignore[operator]
    log_prob = model.log_prob(images)  # type: ignore[operator]
    assert log_prob.shape == (4,)
    assert torch.isfinite(log_prob).all()
    assert model.sample(3).shape == (3, 1, *size)  # type: ignore[operator]
    padded = model.observe(images, oodbench_noise(4))  # type: ignore[operator]
    assert padded.shape[2:] == tuple(-(-side // 4) * 4 for side in size)


def oodbench_noise(count: int) -> object:
    """Draws of their own."""
    from oodbench.models.layers.noise import FreshNoise

    return FreshNoise(count, torch.device("cpu"))

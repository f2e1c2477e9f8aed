"""The training loop: schedules, exact resume, errors; and measuring, whatever the batch."""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from oodbench.baselines.hvae import VanillaHVAE
from oodbench.canonical_json import JSON
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.declare.settings import Training
from oodbench.detect.detector import Detector
from oodbench.errors import PluginError, TrainingError
from oodbench.flow.measuring.blocks import Measured, measure, measure_now
from oodbench.models.autoregressive.config import PixelCNNConfig
from oodbench.models.flows.config import GlowConfig
from oodbench.progress import Progress
from oodbench.seeding import derive_seed
from oodbench.train.optimisation import kernels, learning_rate, make_optimiser
from oodbench.train.training import Runtime, _Loop, log_csv, train

QUIET = Progress("quiet")
SHAPE = (1, 8, 8)


def pixels(n: int, seed: int = 0) -> np.ndarray:
    """Images with structure: a bright square whose place and level vary."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 40, (n, *SHAPE), dtype=np.uint8)
    for image in images:
        top, left = generator.integers(0, 5, 2)
        image[0, top : top + 3, left : left + 3] += np.uint8(generator.integers(100, 200))
    return images


def recipe(variant: str = "vanilla", **training: object):  # type: ignore[no-untyped-def]
    overrides = {"training": training} if training else None
    return resolve(find_recipe("D2"), "smoke", variant, overrides)  # type: ignore[arg-type]


def fit(folder: Path, seed: int = 0, **training: object):  # type: ignore[no-untyped-def]
    chosen = recipe(**training)
    return train(
        lambda: chosen.config.build(SHAPE), pixels(200), chosen.training, seed=seed,
        scratch=folder, runtime=Runtime(), progress=QUIET,
    )  # fmt: skip


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("optimiser", ["adam", "adamax"])
def test_a_run_cut_off_and_resumed_gives_the_same_bits(tmp_path: Path, optimiser: str) -> None:
    options: dict[str, object] = {
        "optimiser": optimiser, "ema": 0.9, "schedule": "cosine", "lr_warmup_steps": 3,
    }  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected, run = fit(whole, **options)
    chosen = recipe(**options)
    loop = _Loop(
        lambda: chosen.config.build(SHAPE), pixels(200), chosen.training, 0, cut, Runtime()
    )
    loop.resume()
    loop.model.train()
    for step in range(5):
        loop._one_step(step)
        loop.state.step += 1
    loop.save()
    resumed, again = fit(cut, **options)
    assert again.resumed == 1
    assert torch.equal(weights(expected), weights(resumed))
    assert log_csv(again.rows) == log_csv(run.rows)


def test_a_resumed_run_has_the_teacher_of_its_first_start(tmp_path: Path) -> None:
    """What `prepare` fits is in the checkpoint, and depends on the seed alone."""
    small: JSON = {"components": 4, "pca": 6, "restarts": 1}
    overrides: dict[str, JSON] = {
        "model": {"objective": {"witness": {"teacher": small}}}, "training": {"epochs": 1},
    }  # fmt: skip
    chosen = resolve(find_recipe("rst-D"), "smoke", "rst", overrides)
    parts = (lambda: chosen.config.build(SHAPE), pixels(200), chosen.training)
    for name in "ab":
        (tmp_path / name).mkdir()

    def whole(folder: Path) -> dict[str, torch.Tensor]:
        runtime = Runtime()
        model, _ = train(*parts, seed=0, scratch=folder, runtime=runtime, progress=QUIET)
        return model.state_dict()

    loop = _Loop(*parts, 0, tmp_path / "a", Runtime())
    loop.resume()
    loop._one_step(0)
    loop.state.step = 1
    loop.save()
    resumed, expected = whole(tmp_path / "a"), whole(tmp_path / "b")
    assert float(expected["witness.teacher.axes"].abs().sum()) > 0
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


def test_a_damaged_checkpoint_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    model, run = fit(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    assert torch.equal(weights(model), weights(fit(other)[0]))
    assert run.resumed == 0


def test_seeds_differ_and_repeat(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    first, same, other = (fit(tmp_path / n, seed=s)[0] for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


def test_every_image_is_seen_once_a_pass(tmp_path: Path) -> None:
    """Batches of 32 over 200 images: the first 200 drawn are a permutation, and so the next."""
    chosen = recipe()
    loop = _Loop(
        lambda: chosen.config.build(SHAPE), np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1)
        .repeat(8, 2).repeat(8, 3), chosen.training, 0, tmp_path, Runtime(),
    )  # fmt: skip
    drawn = torch.cat([loop.feed.batch(step)[:, 0, 0, 0] for step in range(13)])[:400]
    assert sorted(drawn[:200].tolist()) == sorted(drawn[200:].tolist()) == list(range(200))
    assert drawn[:200].tolist() != drawn[200:].tolist()


def test_the_loss_falls_and_is_logged(tmp_path: Path) -> None:
    _, run = fit(tmp_path, epochs=8)
    rows = list(csv.DictReader(io.StringIO(log_csv(run.rows).decode())))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(1, 9)]
    assert {"loss", "bits_per_dim", "nll_0", "kl_1", "kl_2", "lr"} <= set(rows[0])
    assert float(rows[-1]["bits_per_dim"]) < float(rows[0]["bits_per_dim"])


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss became .* in epoch \d, step \d+ of 16; lower"):
        fit(tmp_path, lr=1e30, clip=None)


def test_learning_rate() -> None:
    constant = Training(epochs=1, lr=0.1, lr_warmup_steps=4)
    assert [learning_rate(s, 10, constant) for s in (0, 1, 3, 9)] == pytest.approx(
        [0.025, 0.05, 0.1, 0.1]
    )
    cosine = Training(epochs=1, lr=0.1, schedule="cosine", final_lr=0.1)
    assert learning_rate(5, 10, cosine) == pytest.approx(0.1 * (0.1 + 0.9 * 0.5))
    assert learning_rate(10, 10, cosine) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("optimiser", "kind", "more"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.95)}),
        ("adamax", torch.optim.Adamax, {"betas": (0.8, 0.95)}),
        ("rmsprop", torch.optim.RMSprop, {}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_a_step_is_torchs_own(
    optimiser: str, kind: type[torch.optim.Optimizer], more: dict[str, object]
) -> None:
    """Bit for bit; and what is kept of the one serves the other."""
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    given = {"lr": 0.1, "weight_decay": 0.2, **more}
    known = {name: value for name, value in given.items() if name != "nesterov"}
    settings = Training.model_validate({"epochs": 1, "optimiser": optimiser, **known})
    torch.manual_seed(1)
    ours = torch.nn.Linear(3, 2)
    theirs = copy.deepcopy(ours)
    pairs = [(ours, make_optimiser(ours, settings)),
             (theirs, kind(theirs.parameters(), **given))]  # type: ignore[arg-type]  # fmt: skip

    def steps(count: int) -> None:
        for layer, stepping in pairs:
            for _ in range(count):
                stepping.zero_grad()
                layer(x).square().sum().backward()
                stepping.step()
        assert torch.equal(weights(ours), weights(theirs))
        assert all(p.is_leaf for p in ours.parameters())

    steps(3)
    kept = [copy.deepcopy(stepping.state_dict()) for _, stepping in pairs]
    steps(2)
    for (_, stepping), other in zip(pairs, reversed(kept), strict=True):
        stepping.load_state_dict(other)
    steps(2)


def test_training_needs_no_compiler(tmp_path: Path) -> None:
    """Its import takes as long as that of torch."""
    code = """
import sys
from oodbench import run
run("digits-photos", ["vanilla-hvae", "glow"], scale="smoke", store="store", quiet=True)
print("torch" in sys.modules, "torch._dynamo" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.mark.parametrize("optimiser", ["adam", "adamax", "rmsprop", "sgd"])
def test_kernel_decay_is_a_penalty_on_kernels_alone(optimiser: str) -> None:
    settings = Training(epochs=1, optimiser=optimiser, lr=0.1, kernel_decay=3.0, weight_decay=0.5)  # type: ignore[arg-type]
    plain = Training(epochs=1, optimiser=optimiser, lr=0.1)  # type: ignore[arg-type]
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for chosen, by_hand in ((settings, False), (plain, True)):
        torch.manual_seed(1)
        layer = torch.nn.Linear(3, 2)
        stepping = make_optimiser(layer, chosen)
        for _ in range(3):
            loss = layer(x).square().sum()
            if by_hand:
                loss = loss + 3.0 * layer.weight.square().sum()
                loss = loss + 0.25 * sum(p.square().sum() for p in layer.parameters())
            stepping.zero_grad()
            loss.backward()
            stepping.step()
        found.append(weights(layer))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("optimiser", ["adam", "adamax", "rmsprop", "sgd"])
@pytest.mark.parametrize("clip", [1e-3, 1.0, 1e6])
def test_clipping_leaves_the_penalty_its_weight_beside_the_loss(
    optimiser: str, clip: float
) -> None:
    """The gradient of loss + λ Σ w² by autograd, its norm bounded as a whole."""
    settings = Training(epochs=1, optimiser=optimiser, lr=0.1, kernel_decay=3.0, clip=clip)  # type: ignore[arg-type]
    plain = Training(epochs=1, optimiser=optimiser, lr=0.1)  # type: ignore[arg-type]
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for chosen, by_hand in ((settings, False), (plain, True)):
        torch.manual_seed(1)
        layer = torch.nn.Linear(3, 2)
        stepping = make_optimiser(layer, chosen)
        for _ in range(3):
            loss = layer(x).square().sum()
            if by_hand:
                loss = loss + 3.0 * layer.weight.square().sum()
            stepping.zero_grad()
            loss.backward()
            if by_hand:
                grads = [p.grad for p in layer.parameters() if p.grad is not None]
                norm = math.sqrt(sum(float(g.square().sum()) for g in grads))
                for grad in grads:
                    grad.mul_(min(1.0, clip / norm))
            stepping.step()
        found.append(weights(layer))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_a_heavily_clipped_fit_still_ends_where_its_penalty_says() -> None:
    """min ½ Σ (w − 100)² + λ w²: the minimum 100 / (1 + 2λ) does not depend on the clip."""
    for clip in (None, 1.0):
        layer = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(layer.weight, 30.0)
        settings = Training(epochs=1, optimiser="sgd", lr=0.1, kernel_decay=1.0, clip=clip)
        stepping = make_optimiser(layer, settings)
        for _ in range(400):
            stepping.zero_grad()
            (0.5 * (layer.weight - 100.0).square().sum()).backward()
            stepping.step()
        assert layer.weight.item() == pytest.approx(100.0 / 3.0, abs=0.1)


def test_kernels_are_the_arrays_of_linear_maps() -> None:
    """Not ActNorm's scale and shift, Glow's top prior or the g of weight normalisation."""
    glow = GlowConfig(levels=2, steps=1, hidden=4).build((1, 8, 8))
    cnn = PixelCNNConfig(filters=4, blocks=1, resolutions=1, components=1).build((1, 8, 8))
    plain = cnn.config.model_copy(update={"weight_norm": False}).build((1, 8, 8))
    for model, leaf in ((glow, "weight"), (cnn, "v"), (plain, "v")):
        found = set(map(id, kernels(model)))
        names = {name for name, p in model.named_parameters() if id(p) in found}
        wanted = {n for n, p in model.named_parameters() if n.endswith(f".{leaf}") and p.ndim == 4}
        assert names == wanted
    assert len(kernels(glow)) == 2 * 3 + 1


# ---------------------------------------------------------------------- measuring
class Watching(Detector):
    """Keeps whether a GPU might round the factors of products while it measures."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bool] = set()

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        self.seen |= {torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32}
        return {"mean": images.float().mean((1, 2, 3))}


def test_measuring_multiplies_in_full_float32(tmp_path: Path) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert before[1], "torch lets convolutions round by default: the test would see nothing"
    one, other = Watching(), Watching()
    measured(tmp_path / "blocks", one, np.arange(8), batch=4)
    measure_now(other, pixels(8), np.arange(8), seed=3, device="cpu", batch_size=4)
    assert one.seen == other.seen == {False}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def measured(
    folder: Path, detector: Detector, indices: np.ndarray, batch: int, save: float = 1e9
) -> Measured:
    folder.mkdir(exist_ok=True)
    return measure(
        detector, pixels(640, seed=5), indices, seed=3, device="cpu", batch_size=batch,
        scratch=folder, progress=QUIET, label="measure", save_seconds=save,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> VanillaHVAE:
    detector = VanillaHVAE()
    detector.recipe = recipe(epochs=4)
    model, _ = fit(tmp_path_factory.mktemp("fit"), epochs=4)
    detector.attach([model])
    return detector


def test_scores_depend_neither_on_the_batch_nor_on_the_other_images(
    trained: VanillaHVAE, tmp_path: Path
) -> None:
    every = np.arange(640)
    whole = measured(tmp_path / "a", trained, every, 100)
    small = measured(tmp_path / "b", trained, every, 7)
    some = measured(tmp_path / "c", trained, every[::13], 100)
    for name, score in trained.scores(whole.statistics).items():
        # Rounding of a different blocking only: the draws are the very same.
        np.testing.assert_allclose(
            trained.scores(small.statistics)[name], score, rtol=1e-5, atol=1e-3
        )
        np.testing.assert_allclose(
            trained.scores(some.statistics)[name], score[::13], rtol=1e-5, atol=1e-3
        )
    assert whole.statistics["nll"].dtype == np.float64


def test_a_measurement_goes_on_from_its_blocks(trained: VanillaHVAE, tmp_path: Path) -> None:
    every = np.arange(640)
    expected = measured(tmp_path / "a", trained, every, 100)
    measured(tmp_path / "b", trained, every, 100, save=0.0)
    blocks = sorted((tmp_path / "b").glob("block-*"))
    assert len(blocks) == 2
    blocks[1].unlink()
    blocks[0].with_name("block-000000500.safetensors").write_bytes(b"damaged")
    again = measured(tmp_path / "b", trained, every, 100)
    for name, values in expected.statistics.items():
        assert np.array_equal(values, again.statistics[name])
    for name, values in expected.totals.items():
        assert np.array_equal(values, again.totals[name])


class Broken(Detector):
    name = "broken"

    def __init__(self, value: object) -> None:
        self.value = value

    def measure(self, images: torch.Tensor, noise: object = None) -> dict[str, torch.Tensor]:
        return {"x": self.value(images)}  # type: ignore[operator]


def test_a_statistic_that_is_not_finite_names_its_image(tmp_path: Path) -> None:
    def value(images: torch.Tensor) -> torch.Tensor:
        out = images.double().mean((1, 2, 3))
        out[3] = torch.inf
        return out

    with pytest.raises(TrainingError, match=r"'x' of image 63 is not finite"):
        measured(tmp_path, Broken(value), np.arange(60, 80), 100)
    with pytest.raises(PluginError, match=r"has shape \(1,\); expected \(20,\)"):
        measured(tmp_path, Broken(lambda i: i.double().mean().view(1)), np.arange(20), 100)


# ---------------------------------------------------------------------- seeds
def test_seeds_come_from_names_not_from_pythons_hash() -> None:
    digest = hashlib.sha256(b"0/order/1").digest()
    assert derive_seed(0, "order", 1) == int.from_bytes(digest[:8], "big") // 2
    assert derive_seed(0, "order", 1) != derive_seed(0, "order", 2) != derive_seed(1, "order", 2)

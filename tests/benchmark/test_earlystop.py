"""Early stopping: what is held out, when it stops, and that a resumed run stops there too."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from oodbench.declare.recipes import find_recipe, resolve
from oodbench.declare.settings import EarlyStop, Training
from oodbench.errors import ConfigError
from oodbench.progress import Progress
from oodbench.train.batches import Feed, Supervision
from oodbench.train.early_stopping import Watch, held_out
from oodbench.train.training import Runtime, TrainingRun, _Loop, log_csv, train

SHAPE = (1, 8, 8)
QUIET = Progress("quiet")
STOPPING = {"epochs": 60, "epoch_images": 64, "lr": 0.1, "ema": 0.5,
            "early_stop": {"patience": 1, "images": 40}}  # fmt: skip


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def parts(**training: object):  # type: ignore[no-untyped-def]
    recipe = resolve(find_recipe("D2"), "smoke", "vanilla", {"training": training})  # type: ignore[dict-item]
    return lambda: recipe.config.build(SHAPE), pixels(160), recipe.training


def run(folder: Path, **training: object) -> tuple[torch.nn.Module, TrainingRun]:
    folder.mkdir(exist_ok=True)
    return train(*parts(**training), seed=0, scratch=folder, runtime=Runtime(), progress=QUIET)


def test_images_are_trained_on_or_held_out() -> None:
    kept, out = held_out(50, EarlyStop(patience=1, images=12))
    assert (len(kept), len(out)) == (38, 12)
    assert sorted([*kept, *out]) == list(range(50))
    assert np.array_equal(out, held_out(50, EarlyStop(patience=9, images=12))[1])
    with pytest.raises(ConfigError, match="holds out 50 of 50 training images; hold out fewer"):
        held_out(50, EarlyStop(patience=1, images=50))


def test_labels_are_held_out_with_their_images() -> None:
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    settings = Training.model_validate({"early_stop": {"patience": 1, "images": 12}, "epochs": 1,
                                        "batch_size": 4})  # fmt: skip
    supervision = Supervision(np.arange(50, dtype=np.uint8))
    feed = Feed(images, settings, 0, torch.device("cpu"), supervision)
    for held, labels in ((feed.images, feed.labels), feed.held_out):
        assert torch.equal(held.flatten().long(), labels)
    assert len(feed.held_out[0]) == 12


def test_patience_counts_epochs_since_the_best() -> None:
    watch = Watch(EarlyStop(patience=2, images=1), (torch.zeros(1, *SHAPE), None), 1, 0)
    state = TrainingRun()
    seen = []
    for loss in (5.0, 4.0, 4.5, math.nan, 3.0, 3.0, 3.1, 3.2):
        watch.note(loss, state)
        seen.append((state.best, state.waited, watch.over(state)))
    assert seen[3] == (4.0, 2, False)
    assert seen[4] == (3.0, 0, False)
    assert seen[-1] == (3.0, 3, True)


def test_noise_is_learned_by_heart_and_the_run_stops(tmp_path: Path) -> None:
    """Where it stops the last epochs were no better; weights are those of a run that short."""
    model, found = run(tmp_path / "a", **STOPPING)
    losses = [row["held_out"] for row in found.rows]
    assert 3 <= len(losses) < 60
    assert min(losses) == losses[-3] == found.best
    assert len(found.rows) == found.step * 32 // 64
    # The held-out loss is of the average that is kept, and leaves no trace in training.
    patient = dict(STOPPING, epochs=len(losses), early_stop={"patience": 100, "images": 40})
    other, _ = run(tmp_path / "b", **patient)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    loop = _Loop(*parts(**STOPPING), 0, tmp_path, Runtime())
    assert loop.watch is not None
    again = loop.watch.loss(model, None, len(losses))
    assert again == pytest.approx(losses[-1], rel=1e-6)


class Warming(torch.nn.Module):
    """−ELBO (w − 10)² + 50, of which 50 β are asked for in epoch e, β = min(1, e/40)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(()))

    def initialise(self, images: torch.Tensor) -> None:
        """Nothing depends on the data."""

    def loss(self, images: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        return {"loss": (self.w - 10.0) ** 2 + 50.0 * min(1.0, epoch / 40)}


def test_a_run_whose_bound_still_falls_goes_on_while_its_objective_warms_up(
    tmp_path: Path,
) -> None:
    """Losses of two epochs are compared by what is minimised in the end."""
    settings = Training.model_validate({
        "epochs": 60, "epoch_images": 64, "batch_size": 32, "optimiser": "sgd", "lr": 0.01,
        "early_stop": {"patience": 3, "images": 40},
    })  # fmt: skip
    model, found = train(
        Warming, pixels(160), settings, seed=0, scratch=tmp_path, runtime=Runtime(), progress=QUIET
    )
    losses = [row["held_out"] for row in found.rows]
    assert len(losses) == 60
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(float((model.w.detach() - 10.0) ** 2 + 50.0))


def test_only_fits_that_watched_a_changing_objective_have_another_key() -> None:
    stopping = {"training": {"early_stop": {"patience": 1, "images": 40}}}
    for variant, changed in (("vanilla", 0), ("informative", 0), ("warmup", 1), ("hvk", 1)):
        with_it = resolve(find_recipe("D2"), "smoke", variant, stopping)  # type: ignore[arg-type]
        without = resolve(find_recipe("D2"), "smoke", variant)
        assert with_it.settings_revision == without.settings_revision + changed
    plain = resolve(find_recipe("dvp-M"), "paper", "dvp")
    assert plain.training.early_stop is not None
    assert plain.settings_revision == 0


def test_a_resumed_run_stops_at_the_same_step(tmp_path: Path) -> None:
    expected, whole = run(tmp_path / "whole", **STOPPING)
    cut = tmp_path / "cut"
    cut.mkdir()
    loop = _Loop(*parts(**STOPPING), 0, cut, Runtime())
    loop.resume()
    loop.model.train()
    for step in range(5):
        loop._one_step(step)
        loop.state.step = step + 1
        if loop.state.step % loop.steps_per_epoch == 0:
            loop._close_epoch()
    loop.save()
    resumed, again = run(cut, **STOPPING)
    assert (again.resumed, again.step) == (1, whole.step)
    assert log_csv(again.rows) == log_csv(whole.rows)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_a_recipe_without_it_keeps_its_key() -> None:
    assert "early_stop" not in Training(epochs=1).model_dump(mode="json")
    with_it = Training(epochs=1, early_stop=EarlyStop(patience=3))
    assert with_it.model_dump(mode="json")["early_stop"] == {"patience": 3, "images": 5000}

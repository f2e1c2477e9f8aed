"""What a training step is given: changes of the images, labels, outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from oodbench.declare.settings import Augmentation, Outliers, Training
from oodbench.errors import ConfigError
from oodbench.models.classifiers.config import ClassifierConfig
from oodbench.progress import Progress
from oodbench.train.batches import Feed, Supervision, augmented
from oodbench.train.training import Runtime, train

SHAPE = (1, 8, 8)
CPU = torch.device("cpu")


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def test_a_shift_is_a_crop_of_the_padded_image_and_a_flip_a_mirror() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (400, 2, 5, 4), np.uint8))
    torch.manual_seed(0)
    found = augmented(images, Augmentation(flip=True, shift=1))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = set()
    for index, image in enumerate(found.numpy()):
        ways = {
            (top, left, step): padded[index, :, top : top + 5, left : left + 4][..., ::step]
            for top in range(3)
            for left in range(3)
            for step in (1, -1)
        }
        matches = [way for way, crop in ways.items() if np.array_equal(crop, image)]
        assert matches, index
        seen.update(matches)
    assert len(seen) == 18
    assert torch.equal(augmented(images, Augmentation()), images)


def settings(**more: object) -> Training:
    return Training(epochs=2, batch_size=10, epoch_images=40, lr=0.01, **more)  # type: ignore[arg-type]


def test_labels_go_with_their_images_and_outliers_come_from_the_declared_set() -> None:
    images, outliers = pixels(30), pixels(7, seed=1)
    labels = images[:, 0, 0, 0].astype(np.int64)
    declared = Outliers(kind="set", name="anything", ratio=2)
    feed = Feed(
        images, settings(max_images=20, outliers=declared), 0, CPU, Supervision(labels, outliers)
    )
    known = {image.tobytes() for image in outliers}
    torch.manual_seed(0)
    for step in range(6):
        batch, given = feed.step(step)
        assert torch.equal(given["labels"], batch[:, 0, 0, 0].long())
        assert len(given["outliers"]) == 20
        assert {image.numpy().tobytes() for image in given["outliers"]} <= known
    assert sum(len(batch) for batch, _ in feed.each_once()) == 20


def test_nothing_is_given_that_was_not_handed_over() -> None:
    _, given = Feed(pixels(30), settings(), 0, CPU).step(0)
    assert given == {}


def test_outliers_need_a_name_where_they_are_a_set() -> None:
    for wrong in (
        {"kind": "set"},
        {"kind": "mutated", "name": "svhn"},
        {"kind": "mutated", "ratio": 2},
    ):
        with pytest.raises(ValueError, match="outliers"):
            Outliers(**wrong)  # type: ignore[arg-type]


def fit(folder: Path, labels: np.ndarray):  # type: ignore[no-untyped-def]
    network = {"kind": "conv", "channels": (4,), "hidden": 8}
    config = ClassifierConfig(network=network, exposure="uniform")  # type: ignore[arg-type]
    chosen = settings(
        optimiser="sgd",
        momentum=0.9,
        weight_decay=1e-4,
        augment={"flip": True, "shift": 1},
        outliers={"kind": "set", "name": "anything"},
    )
    return train(
        lambda: config.build(SHAPE),
        pixels(40),
        chosen,
        seed=0,
        scratch=folder,
        runtime=Runtime(),
        progress=Progress("quiet"),
        supervision=Supervision(labels, pixels(9, 1)),
    )


def test_a_run_with_labels_and_outliers_cut_off_and_resumed_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(40) % 10
    whole, _ = fit(tmp_path / "whole", labels)
    import oodbench.train.training as training

    done = []
    original = training._Loop._one_step

    def stop_at_five(self: training._Loop, step: int) -> None:
        if step == 5 and not done:
            self.save()
            done.append(step)
            raise KeyboardInterrupt
        original(self, step)

    monkeypatch.setattr(training._Loop, "_one_step", stop_at_five)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", labels)
    resumed, run = fit(tmp_path / "cut", labels)
    assert run.resumed == 1
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert float(whole.stage_gaussians()[-1].precision.abs().sum()) > 0


def test_labels_without_a_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"from 0 to 39, .* has 10 classes; set model.classes to 40"
    ):
        fit(tmp_path, np.arange(40))

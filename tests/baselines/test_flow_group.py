"""Flow + group: distances against scipy, augmentation, groups of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest

from oodbench.baselines.flow_group import (
    COPIES,
    DIRECTIONS,
    GROUPS,
    FlowGroup,
    augmented,
    one_sample,
    two_sample,
)
from oodbench.models.flows.config import GlowConfig
from oodbench.rank.metrics import group_members
from oodbench.seeding import KeyedNoise


def test_one_sample_distance_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.2, (4, 7, 3))
    expected = [
        np.mean([kstest(values[g, :, d], "norm").statistic for d in range(3)]) for g in range(4)
    ]
    np.testing.assert_allclose(one_sample(values), expected, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_two_sample_distance_is_that_of_scipy(ties: bool) -> None:
    generator = np.random.default_rng(1)
    values, reference = generator.normal(0.2, 1, (5, 6, 2)), generator.normal(size=(40, 2))
    if ties:
        values, reference = np.round(values, 1), np.round(reference, 1)
    expected = [
        np.mean([ks_2samp(values[g, :, d], reference[:, d]).statistic for d in range(2)])
        for g in range(5)
    ]
    found = two_sample(values, np.sort(reference, axis=0))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_augmented_copies_stay_near_and_do_not_depend_on_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 8, 8), generator=generator, dtype=torch.uint8)
    copies = augmented(images, KeyedNoise(0, np.arange(6)))
    assert copies.shape == images.shape
    assert copies.dtype == torch.uint8
    alone = augmented(images[4:5], KeyedNoise(0, np.arange(4, 5)))
    torch.testing.assert_close(copies[4:5], alone)
    # A constant image shows the noise alone: its mean stays and its spread is 2.
    flat = torch.full((50, 1, 16, 16), 100, dtype=torch.uint8)
    values = augmented(flat, KeyedNoise(0, np.arange(50))).double()
    assert float(values.mean()) == pytest.approx(100, abs=0.1)
    assert float(values.std()) == pytest.approx(2.02, abs=0.1)


def test_shifts_move_by_two_pixels_at_most() -> None:
    image = torch.zeros(40, 1, 9, 9, dtype=torch.uint8)
    image[:, :, 4, 4] = 255
    copies = augmented(image, KeyedNoise(0, np.arange(40)))
    peaks = [divmod(int(copy.flatten().argmax()), 9) for copy in copies]
    offsets = {row - 4 for row, _ in peaks} | {column - 4 for _, column in peaks}
    assert offsets == {-2, -1, 0, 1, 2}


def test_groups_partition_the_images() -> None:
    members = group_members(103, 10)
    assert members.shape == (10, 10)
    assert len(set(members.flatten().tolist())) == 100


def test_projections_of_the_flow_and_what_scores_find() -> None:
    torch.manual_seed(0)
    detector = FlowGroup()
    model = GlowConfig(levels=1, steps=1, hidden=4).build((1, 4, 4)).eval()
    model.initialise(torch.randint(0, 256, (64, 1, 4, 4), dtype=torch.uint8))
    detector.attach([model])
    images = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8)
    with torch.no_grad():
        out = detector.measure(images, KeyedNoise(0, np.arange(40)))["projections"]
    assert out.shape == (40, COPIES * DIRECTIONS)
    # The first copy is the image itself: its projections are those of its standardised latents.
    directions = detector._directions(images.device)
    torch.testing.assert_close(torch.linalg.vector_norm(directions, dim=0), torch.ones(DIRECTIONS))
    with torch.no_grad():
        x = model.observe(images, KeyedNoise(0, np.arange(40)).scope("copy0"))
        (z,), _, _ = model.transform(x)
    torch.testing.assert_close(out[:, :DIRECTIONS], z.flatten(1) @ directions)
    generator = np.random.default_rng(0)
    detector.calibrate({"projections": generator.normal(size=(200, COPIES * DIRECTIONS))})
    typical = {"projections": generator.normal(size=(60, COPIES * DIRECTIONS))}
    shifted = {"projections": generator.normal(1.5, 0.3, size=(60, COPIES * DIRECTIONS))}
    low, high = detector.scores(typical), detector.scores(shifted)
    assert list(low) == detector.score_names()
    for name, values in low.items():
        assert values.shape == (60,)
        assert values.mean() < high[name].mean(), name
    for size in GROUPS:
        grouped = low[f"GOD2KS b={size}"][group_members(60, size)]
        assert (grouped == grouped[:, :1]).all()

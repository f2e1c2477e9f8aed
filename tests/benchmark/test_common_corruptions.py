"""The corruptions of Hendrycks and Dietterich against their formulas, computed by other means."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from oodbench.datasets import common_corruptions as common
from oodbench.datasets.corruptions import corrupt
from oodbench.datasets.loading import find_places, load
from oodbench.datasets.naming import COMMON
from oodbench.datasets.sources import frost
from oodbench.errors import DataError, UnknownNameError

ICE = np.random.default_rng(5).integers(0, 256, (60, 70, 3), np.uint8)


def image(*shape: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some detail, (H, W, C) uint8."""
    small = torch.from_numpy(np.random.default_rng(seed).random((1, shape[2], 6, 6)))
    large = F.interpolate(small, shape[:2], mode="bicubic", align_corners=False)[0].clamp(0, 1)
    return (255 * large).to(torch.uint8).numpy().transpose(1, 2, 0)


def once(step: str, x: np.ndarray, index: int = 0) -> np.ndarray:
    return corrupt(x, step, index, "test", lambda: [ICE])


@pytest.mark.parametrize("name", COMMON)
def test_every_one_at_every_severity_shape_and_colour(name: str) -> None:
    for shape in ((32, 32, 3), (28, 28, 1), (21, 33, 3), (8, 8, 1)):
        x = image(*shape)
        for severity in range(1, 6):
            done = once(f"{name}({severity})", x)
            assert done.shape == x.shape
            assert done.dtype == np.uint8
            np.testing.assert_array_equal(done, once(f"{name}({severity})", x))
    apart = [
        np.abs(once(f"{name}({s})", image(32, 32, 3, seed=i), i).astype(float)
               - image(32, 32, 3, seed=i)).mean()
        for s in (1, 5) for i in range(8)
    ]  # fmt: skip
    assert np.mean(apart[:8]) > 0
    if name != "elastic_transform":  # its affine part shrinks while its displacements grow
        assert np.mean(apart[:8]) < np.mean(apart[8:])


def test_brightness_raises_v_of_hsv() -> None:
    x = image(9, 11, 3)
    x[0, 0] = 0
    for severity, raised in enumerate((0.05, 0.1, 0.15, 0.2, 0.3), 1):
        expected = np.empty(x.shape)
        for place in np.ndindex(x.shape[:2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*(x[place] / 255))
            expected[place] = colorsys.hsv_to_rgb(hue, saturation, min(1, value + raised))
        found = once(f"brightness({severity})", x)
        assert np.abs(found - np.floor(255 * expected)).max() <= 1
    # V raised is not the same amount in every channel: saturated colours stay saturated.
    assert once("brightness(5)", np.array([[[200, 0, 0]]], np.uint8)).ravel().tolist() == [
        255,
        0,
        0,
    ]


def test_contrast_about_the_mean_of_each_channel() -> None:
    x = image(9, 11, 3)
    for severity, factor in enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1):
        for channel in range(3):
            values = [int(v) for v in x[..., channel].ravel()]
            mean = sum(values) / len(values)
            expected = [math.floor(mean + factor * (v - mean) + 1e-9) for v in values]
            found = once(f"contrast({severity})", x)[..., channel].ravel()
            assert np.abs(found - np.array(expected)).max() <= 1


def test_noises_have_the_published_moments() -> None:
    flat = np.full((300, 300, 3), 100, np.uint8)
    for severity, sigma in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1):
        drawn = once(f"gaussian_noise({severity})", flat).astype(float)
        assert abs(drawn.std() / 255 - sigma) < 0.002
        assert abs(np.corrcoef(drawn[..., 0].ravel(), drawn[..., 1].ravel())[0, 1]) < 0.02
    for severity, photons in enumerate((500, 250, 100, 75, 50), 1):
        drawn = once(f"shot_noise({severity})", flat) / 255
        assert abs(drawn.std() - math.sqrt(100 / 255 / photons)) < 0.002
    for severity, share in enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1):
        drawn = once(f"impulse_noise({severity})", flat)
        for value in (0, 255):
            assert abs((drawn == value).mean() - share / 2) < 0.002
        alone = (drawn != 100).sum(axis=2)
        assert (alone == 1).sum() > 10 * (alone == 3).sum()  # values are hit, not pixels


def test_defocus_is_a_correlation_with_a_smoothed_disk() -> None:
    x = image(32, 32, 3)
    for severity, (radius, sigma) in enumerate(
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)), 1
    ):
        disk = torch.tensor(
            [[float(a * a + b * b <= radius * radius) for a in range(-8, 9)] for b in range(-8, 9)],
            dtype=torch.float64,
        )
        kernel = tv.gaussian_blur((disk / disk.sum())[None], [3, 3], [sigma, sigma])
        padded = F.pad(
            torch.from_numpy(x / 255).permute(2, 0, 1)[:, None], (8,) * 4, mode="reflect"
        )
        expected = F.conv2d(padded, kernel[None]).squeeze(1).permute(1, 2, 0).numpy()
        found = once(f"defocus_blur({severity})", x)
        assert np.abs(found - np.floor(255 * expected + 1e-9)).max() <= 1


def test_motion_is_a_one_sided_gaussian_along_its_line() -> None:
    point = np.zeros((41, 41, 1))
    point[20, 20] = 1
    weights = np.exp(-(np.arange(13.0) ** 2) / (2 * 2.0**2))
    weights /= weights.sum()
    along = common.move(point, 6, 2.0, 0.0)[20, 8:21, 0][::-1]  # seen by those to its left
    np.testing.assert_allclose(along, weights, atol=1 / 255)
    up = common.move(point, 6, 2.0, 90.0)[8:21, 20, 0][::-1]
    np.testing.assert_allclose(up, weights, atol=1 / 255)
    flat = np.full((9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(once("motion_blur(3)", flat), flat)


def test_zoom_is_the_mean_of_magnified_centres() -> None:
    x = image(32, 32, 3)
    tensor = torch.from_numpy(x / 255).permute(2, 0, 1)[None]
    for severity, last in enumerate((1.06, 1.11, 1.16, 1.21, 1.26), 1):
        total, count = tensor.clone(), 1
        for factor in np.arange(1, last, 0.01):
            side = math.ceil(32 / factor)
            start = (32 - side) // 2
            part = tensor[..., start : start + side, start : start + side]
            size = round(side * float(factor))
            large = F.interpolate(part, (size, size), mode="bilinear", align_corners=True)
            start = (size - 32) // 2
            total += large[..., start : start + 32, start : start + 32]
            count += 1
        expected = (255 * total[0] / count).permute(1, 2, 0).numpy()
        assert np.abs(once(f"zoom_blur({severity})", x) - np.floor(expected + 1e-4)).max() <= 1


def test_glass_takes_values_of_neighbours() -> None:
    rows, columns = np.indices((32, 32))
    x = np.stack([8 * rows, 8 * columns, 0 * rows], axis=2).astype(np.uint8)
    moved = np.abs(once("glass_blur(1)", x).astype(int) - x)  # σ = 0.05 blurs nothing
    assert set(np.unique(moved[..., :2])) <= {0, 7, 8, 9}
    assert 0.2 < (moved[..., 0] > 4).mean() < 0.8


def test_plasma_by_loops_over_points() -> None:
    """The diamond-square algorithm as it is taught, a point at a time, with the same draws."""
    side, decay = 16, 2.5
    draws, found = np.random.default_rng(3), common.plasma(16, 2.5, np.random.default_rng(3))
    heights = {(0, 0): 0.0}
    step, wobble = side, 100.0
    while step >= 2:
        half, grid = step // 2, range(0, side, step)
        square = [(-half, -half), (-half, half), (half, -half), (half, half)]
        diamond = [(-half, 0), (half, 0), (0, -half), (0, half)]
        for near, down, right in ((square, half, half), (diamond, 0, half), (diamond, half, 0)):
            drawn = draws.uniform(-wobble, wobble, (len(grid), len(grid)))
            for i, row in enumerate(grid):
                for j, column in enumerate(grid):
                    r, c = row + down, column + right
                    mean = sum(heights[(r + a) % side, (c + b) % side] for a, b in near) / 4
                    heights[r, c] = mean + wobble * drawn[i, j]
        step, wobble = half, wobble / decay
    values = np.array([[heights[r, c] for c in range(side)] for r in range(side)])
    expected = (values - values.min()) / (values.max() - values.min())
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_fog_keeps_the_maximum_and_black_stays_black() -> None:
    x = image(32, 32, 3)
    for severity in range(1, 6):
        assert once(f"fog({severity})", x).max() <= x.max()
        assert once(f"fog({severity})", 0 * x).max() == 0


def test_the_affine_map_takes_the_points_where_they_were_moved() -> None:
    rows, columns = np.indices((40, 40), dtype=float)
    ramp = np.stack([columns, rows], axis=2)  # linear: interpolation is exact
    before, after = common._three_points((40, 40), 2.0, np.random.default_rng(1))
    moved = common._warped(ramp, before, after)
    for (x, y), target in zip(before, np.rint(after).astype(int), strict=True):
        slack = np.abs(after[(before == (x, y)).all(axis=1)][0] - target)
        assert np.abs(moved[target[1], target[0]] - (x, y)).max() <= 2 * slack.sum() + 1e-9


def test_pixelate_and_jpeg_are_pillows() -> None:
    x = image(32, 32, 3)
    for severity, (share, quality) in enumerate(
        ((0.95, 80), (0.9, 65), (0.85, 58), (0.75, 50), (0.65, 40)), 1
    ):
        np.testing.assert_array_equal(
            once(f"jpeg_compression({severity})", x), once(f"jpeg({quality})", x)
        )
        side = int(32 * share)
        distinct = np.unique(once(f"pixelate({severity})", x).reshape(-1, 3), axis=0)
        assert len(distinct) <= side * side + (32 - side) * 2 * 32


def test_frost_lays_a_photograph_over_the_image() -> None:
    x, ice = image(32, 32, 3), np.full((50, 50, 3), 200, np.uint8)
    for severity, (kept, laid) in enumerate(
        ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)), 1
    ):
        found = corrupt(x, f"frost({severity})", 0, "test", lambda: [ice])
        expected = np.minimum(255, kept * x + laid * 200)
        assert np.abs(found - np.floor(expected)).max() <= 1
    with pytest.raises(DataError, match=r"60×70; images of 64×64 are larger: @resize\(32\)"):
        once("frost(1)", image(64, 64, 3))
    with pytest.raises(DataError, match="takes photographs from a folder of --data"):
        corrupt(x, "frost(1)", 0, "test")


def test_the_photographs_of_frost_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    places = find_places((), str(tmp_path / "store"))
    with pytest.raises(DataError, match="run `oodbench data fetch frost`"):
        load("digits@frost(2)", "test", places)
    folder = places.folders[-1] / "frost"
    folder.mkdir(parents=True)
    for name in frost.PHOTOGRAPHS:
        Image.fromarray(np.tile(ICE, (5, 5, 1))).save(folder / name)
    with pytest.raises(DataError, match=r"frost1\.png is not the published photograph"):
        load("digits@frost(2)", "test", places)
    known = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in frost.PHOTOGRAPHS}
    monkeypatch.setattr(frost, "PHOTOGRAPHS", known)
    assert load("digits@frost(2)", "test", places).images.shape[1:] == (1, 8, 8)
    np.testing.assert_array_equal(
        frost.read_photographs(places.folders)[0], np.tile(ICE, (5, 5, 1))[2::5, 2::5]
    )


def test_severities_are_five_whole_numbers() -> None:
    places = find_places((), "store")
    for step in ("fog(0)", "fog(6)", "fog(2.5)"):
        with pytest.raises(DataError, match="the severity must be a whole number from 1 to 5"):
            load(f"digits@{step}", "test", places)
    with pytest.raises(DataError, match=r"of your own: contrast_factor\(0.5\)"):
        load("digits@contrast(0.5)", "test", places)
    with pytest.raises(DataError, match=r"of your own: brightness_shift\(0.2\)"):
        load("digits@brightness(-0.2)", "test", places)
    with pytest.raises(UnknownNameError, match="defocus_blur"):
        load("digits@defocus(2)", "test", places)

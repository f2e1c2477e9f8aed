"""The real image sets, where OODBENCH_DATA names a folder that holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import oodbench
from oodbench.datasets.loading import DataPlaces, load


# Mean and standard deviation of the training images / 255, as everybody normalises with them.
@pytest.mark.parametrize(
    ("name", "mean", "sd"),
    [
        ("fashionmnist", [0.2860], [0.3530]),
        ("mnist", [0.1307], [0.3081]),
        ("cifar10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    ],
)
def test_training_images_are_the_well_known_ones(
    name: str, mean: list[float], sd: list[float], shared_data: Path, tmp_path: Path
) -> None:
    images = load(name, "train", DataPlaces((shared_data,), tmp_path)).images
    values = np.arange(256) / 255.0
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].reshape(-1), minlength=256)
        average = (counts * values).sum() / counts.sum()
        spread = np.sqrt((counts * (values - average) ** 2).sum() / counts.sum())
        assert (average, spread) == pytest.approx((mean[channel], sd[channel]), abs=6e-5)


def test_brightness_alone_tells_fashionmnist_from_mnist_reversed(
    shared_data: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    board = oodbench.run(
        "fashionmnist-mnist", ["mean-intensity"], data=[shared_data], store=store, quiet=True
    )
    pair = oodbench.load_pair("fashionmnist-mnist", [shared_data], store)
    means = [side.images.mean((1, 2, 3)) for side in (pair.id_test, pair.ood_test)]
    expected = 100 * roc_auc_score([0] * 10_000 + [1] * 10_000, np.concatenate(means))
    (found,) = board[board.metric == "auroc"]["value"]
    assert found == pytest.approx(expected, abs=1e-9)
    assert found < 20


def test_a_smaller_test_set_cuts_the_other_side(shared_data: Path, tmp_path: Path) -> None:
    board = oodbench.run(
        "fashionmnist-omniglot", ["mean-intensity"], data=[_as_omniglot(shared_data, tmp_path)],
        store=str(tmp_path / "store"), quiet=True,
    )  # fmt: skip
    assert set(board["n_per_side"]) == {4840}


def _as_omniglot(shared_data: Path, tmp_path: Path) -> Path:
    """The small Omniglot array under the name that the catalogue looks for."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("fashionmnist-train", "fashionmnist-test"):
        (folder / f"{name}.npz").symlink_to(shared_data / f"{name}.npz")
    with np.load(shared_data / "omniglot-small-28.npz") as archive:
        np.savez(folder / "omniglot-test.npz", images=archive["images"])
    return folder

"""Why an image was flagged: maps that sum to the score, pictures, and what has none."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke
from PIL import Image

SHORT = ("--set", "training.epoch_images=64", "--set", "training.epochs=1", "--scale", "smoke",
         "--pair", "digits-photos", "--quiet")  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images, and exports whose scores are sums over pixels."""
    folder = tmp_path_factory.mktemp("explain")
    draw = np.random.default_rng(0)
    (folder / "new").mkdir()
    for i in range(5):
        pixels = draw.integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "new" / f"{i} é.png")
    for name in ("vanilla-hvae:L", "vanilla-hvae:LLR>1", "vanilla-lvae:L", "pixelcnn:L"):
        out = name.replace(":", "-").replace(">", "")
        status, _, err = invoke(folder, "export", name, *SHORT, "--out", out)
        assert status == 0, err
    return folder


def explained(home: Path, export: str) -> list[dict[str, str]]:
    status, _, err = invoke(home, "score", export, "new", "--explain", f"why-{export}", "--out",
                            f"{export}.csv")  # fmt: skip
    assert status == 0, err
    assert "5 pictures and explained.csv" in err
    with (home / f"why-{export}" / "explained.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (home / f"{export}.csv").open(encoding="utf-8") as file:
        scored = list(csv.DictReader(file))
    assert [(r["image"], r["score"], r["decision"]) for r in rows] == [
        (r["image"], r["score"], r["decision"]) for r in scored
    ]
    for row in rows:
        with Image.open(home / f"why-{export}" / row["picture"]) as picture:
            assert picture.format == "PNG"
    return rows


@pytest.mark.parametrize("export", ["vanilla-hvae-L", "vanilla-lvae-L"])
def test_the_bits_of_the_pixels_and_the_kl_of_the_layers_are_the_score(
    home: Path, export: str
) -> None:
    for row in explained(home, export):
        kl = [float(value) for name, value in row.items() if name.startswith("kl_")]
        assert len(kl) == 2
        nats = float(row["map_sum"]) * math.log(2) + sum(kl)
        assert nats == pytest.approx(float(row["score"]), rel=1e-4)


def test_the_bits_of_pixelcnn_are_the_score(home: Path) -> None:
    for row in explained(home, "pixelcnn-L"):
        assert float(row["map_sum"]) * math.log(2) == pytest.approx(float(row["score"]), rel=1e-5)


def test_a_ratio_has_the_difference_of_two_reconstructions(home: Path) -> None:
    whole = [float(r["map_sum"]) for r in explained(home, "vanilla-hvae-L")]
    ratio = [float(r["map_sum"]) for r in explained(home, "vanilla-hvae-LLR1")]
    assert all(abs(one) < other for one, other in zip(ratio, whole, strict=True))


def test_a_detector_without_a_map_is_refused_before_anything_is_written(home: Path) -> None:
    assert invoke(home, "export", "pixel-variance", "--pair", "digits-photos", "--out", "plain",
                  "--quiet")[0] == 0  # fmt: skip
    status, out, err = invoke(home, "score", "plain", "new", "--explain", "none")
    assert (status, out) == (2, "")
    assert "pixel-variance has no map of an image; those that have: hierarchical-vae" in err
    assert not (home / "none").exists()

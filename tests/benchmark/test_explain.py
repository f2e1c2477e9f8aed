"""Why an image was flagged: maps that sum to the score, pictures, and what has none."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke
from PIL import Image

from oodbench.errors import StoreError

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
    for name in (
        "vanilla-hvae:L",
        "vanilla-hvae:LLR>1",
        "vanilla-lvae:L",
        "pixelcnn:L",
        "vanilla-hvae:L>1",
    ):
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


@pytest.mark.parametrize("export", ["vanilla-hvae-L", "vanilla-lvae-L", "vanilla-hvae-L1"])
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


# ---------------------------------------------------------------------- in the report
def pictures(page: Path) -> dict[str, dict[str, dict[str, object]]]:
    """`pictures` of every score of every row of a report."""
    found = {}
    for text in re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>',
                           page.read_text(encoding="utf-8"), re.S):  # fmt: skip
        held = json.loads(text)
        if isinstance(held, dict) and "scores" in held:
            found[held["detector"]] = {n: s["pictures"] for n, s in held["scores"].items()}
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped")
    status, _, err = invoke(folder, "run", *SHORT, "--detector", "vanilla-hvae", "--detector",
                            "pixel-variance")  # fmt: skip
    assert status == 0, err
    return folder


def test_the_report_shows_maps_that_sum_to_the_scores(ran: Path) -> None:
    status, _, err = invoke(ran, "report", "--explain", "--all-scores", "--pictures", "3")
    assert status == 0, err
    found = pictures(ran / "report/index.html")
    assert all("maps" not in one for one in found["pixel-variance"].values())
    assert {score: one["maps"]["what"] for score, one in found["vanilla-hvae"].items()} == {
        "L": "bits: −log2 p(x | z)", "L>1": "bits: −log2 p(x | z>1)",
        **dict.fromkeys(("LLR>1", "LLR_ada", "LLR_ada_eq11", "LLR_optk"), "bits: NLL_1 − NLL_0"),
        **dict.fromkeys(("KL<=1", "KL<=2"), "bits: −log2 p(x | z), no part of this score"),
    }  # fmt: skip
    for score in ("L", "L>1", "KL<=2"):
        shown = found["vanilla-hvae"][score]
        for side in ("id", "ood"):
            for end in ("most", "least"):
                for index, value in shown[side][end]:
                    picture, bits, *kl = shown["maps"][side][str(index)]
                    nats = sum(kl) + (0 if score == "KL<=2" else bits * math.log(2))
                    assert nats == pytest.approx(value, rel=2e-4)
                    with Image.open(io.BytesIO(base64.b64decode(picture))) as drawn:
                        assert drawn.size == (8, 8)
    plain = found["vanilla-hvae"]["L"]["id"]
    assert invoke(ran, "report", "--all-scores", "--pictures", "3")[0] == 0
    again = pictures(ran / "report/index.html")["vanilla-hvae"]["L"]
    assert again == {"id": plain, "ood": again["ood"]}  # nothing unasked


def test_maps_that_cannot_be_drawn_say_why(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oodbench.reports import maps

    def gone(*_: object) -> None:
        raise StoreError("the weights 0123 are not in the store any more")

    monkeypatch.setattr(maps.Maps, "_build", gone)
    assert invoke(ran, "report", "--explain", "--pictures", "1")[0] == 0
    shown = pictures(ran / "report/index.html")["vanilla-hvae"]["L"]
    assert shown["maps"] == {"note": "No map: the weights 0123 are not in the store any more"}
    assert shown["id"]["most"]

"""Groups of dependent images: how they are declared, cut, kept, and what intervals make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from oodbench.datasets.loading import DataPlaces, load
from oodbench.errors import DataError
from oodbench.leaderboards.paired_tests import PairedScores
from oodbench.rank.dependent_images import METHOD, drawn, over_groups
from oodbench.rank.metrics import evaluate
from oodbench.rank.seeds_and_images import difference_of_areas
from oodbench.rank.significance import paired_delong

RNG = np.random.default_rng(5)


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    return DataPlaces((), tmp_path / "cache")


def test_groups_of_an_npz_are_cut_whole(tmp_path: Path, places: DataPlaces) -> None:
    images = RNG.integers(0, 256, (60, 5, 5), dtype=np.uint8)
    videos = np.repeat(np.array([f"video{v}" for v in range(12)]), 5)
    np.savez(tmp_path / "x.npz", images=images, groups=videos, labels=np.arange(60) % 3)
    parts = {s: load(str(tmp_path / "x.npz"), s, places, divide=True) for s in ("train", "test")}
    sides = {}
    for split, part in parts.items():
        assert part.groups is not None
        sides[split] = set(part.groups.tolist())
        held = [int(np.flatnonzero((images == image[0]).all((1, 2)))[0]) for image in part.images]
        np.testing.assert_array_equal(part.groups, np.array(held) // 5 * 0 + part.groups)
        assert len(
            {(videos[i], g) for i, g in zip(held, part.groups.tolist(), strict=True)}
        ) == len(sides[split])
    assert not sides["train"] & sides["test"]
    assert len(parts["train"]) + len(parts["test"]) == 60
    assert "share of 12 groups of 60 images" in parts["test"].note
    some = load(f"{tmp_path}/x.npz[1]", "test", places)
    assert some.groups is not None
    assert some.groups.tolist() == np.unique(videos, return_inverse=True)[1][1::3].tolist()
    # The pixels alone make the fingerprint.
    np.savez(tmp_path / "y.npz", images=images)
    whole = [load(f"{tmp_path}/{n}.npz", "test", places).fingerprint for n in "xy"]
    assert whole[0] == whole[1]


def test_groups_of_a_folder(tmp_path: Path, places: DataPlaces) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for index in range(6):
        image = RNG.integers(0, 256, (5, 5), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{index}.png")
    rows = "".join(f"{index}.png,crop{index // 2}\n" for index in range(6))
    (folder / "groups.csv").write_text("file,group\n" + rows)
    found = load(str(folder), "test", places)
    assert found.groups is not None
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2]
    (folder / "groups.csv").write_text("file,group\n" + rows[: -len("5.png,crop2\n")])
    with pytest.raises(DataError, match=r"1 images have no group, the first 5\.png"):
        load(str(folder), "test", places)
    (folder / "groups.csv").write_text("name,video\n")
    with pytest.raises(DataError, match="must have the columns file and group"):
        load(str(folder), "test", places)


def by_other_means(false: np.ndarray, true: np.ndarray) -> dict[str, float]:
    truth = np.concatenate([np.zeros(len(false)), np.ones(len(true))])
    scores = np.concatenate([false, true])
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(truth, scores),
        "auprc": average_precision_score(truth, scores),
        "fpr80": fpr[np.argmax(tpr >= 0.8 - 1e-12)],
        "fpr95": fpr[np.argmax(tpr >= 0.95 - 1e-12)],
    }


def test_a_draw_is_the_metrics_of_the_images_of_the_groups_drawn() -> None:
    """Against scikit-learn, on the images written out one by one; scores have ties."""
    a, b = RNG.integers(0, 9, 40).astype(float), RNG.integers(3, 12, 30).astype(float)
    groups = np.repeat(np.arange(8), 5), np.repeat(np.arange(6), 5)
    found = drawn(a, b, groups, resamples=20, seed=3)
    from oodbench.seeding import derive_seed

    generator = np.random.default_rng(derive_seed("bootstrap over groups", 3))
    for row in range(20):
        chosen = [generator.integers(count, size=count) for count in (8, 6)]
        sides = [
            np.concatenate([scores[member == g] for g in drawn_groups])
            for scores, member, drawn_groups in zip((a, b), groups, chosen, strict=True)
        ]
        for name, value in by_other_means(*sides).items():
            assert found[name][row] == pytest.approx(value, abs=1e-12), name


def test_copies_of_an_image_are_one_observation() -> None:
    """Twenty copies of each image: the interval is as wide as that of the images without copies."""
    a, b = RNG.normal(0, 1, 60), RNG.normal(1, 1, 60)
    plain, many = evaluate(a, b), evaluate(np.repeat(a, 20), np.repeat(b, 20))
    groups = np.repeat(np.arange(60), 20)
    found = over_groups(many, np.repeat(a, 20), np.repeat(b, 20), (groups, groups))
    width = [m.auroc.high - m.auroc.low for m in (plain, many, found)]
    assert width[1] < 0.35 * width[0]
    assert width[2] == pytest.approx(width[0], rel=0.2)
    assert (found.auroc.value, found.auroc.method) == (many.auroc.value, METHOD)
    one_side = over_groups(many, np.repeat(a, 20), np.repeat(b, 20), (groups, None))
    assert width[1] < one_side.auroc.high - one_side.auroc.low < width[2]


def test_groups_that_are_apart_have_intervals_of_some_width() -> None:
    """As of 12 images a side that are apart, however many images a group holds."""
    groups = np.repeat(np.arange(12), 10)
    low, high = np.arange(120.0), np.arange(120.0) + 200
    found = over_groups(evaluate(low, high), low, high, (groups, groups))
    alone = evaluate(low[:12], high[:12])
    for name in ("auroc", "auprc", "fpr80", "fpr95"):
        one, other = getattr(found, name), getattr(alone, name)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-9), name
        assert one.high - one.low > 0.1


def test_a_paired_test_counts_groups_and_not_their_copies() -> None:
    """Of copies of every image the tests find what they find of the images alone, exactly."""
    seeds = [
        tuple(RNG.normal(mean, 1, 40) for mean in (0.0, 0.5, 0.0, 0.8)) for _ in range(3)
    ]  # fmt: skip
    copied = [tuple(np.repeat(scores, 15) for scores in matched) for matched in seeds]
    groups = np.repeat(np.arange(40), 15)
    once, twice = (paired_delong(*seeds[0]), paired_delong(*copied[0], (groups, groups)))
    assert twice.difference == pytest.approx(once.difference, abs=1e-12)
    assert twice.standard_error == pytest.approx(once.standard_error, rel=1e-9)
    assert paired_delong(*copied[0]).standard_error < 0.4 * once.standard_error
    both = difference_of_areas(seeds), difference_of_areas(copied, (groups, groups))
    assert both[1].error == pytest.approx(both[0].error, rel=1e-9)
    assert both[1].p_value == pytest.approx(both[0].p_value, rel=1e-6)
    alone = paired_delong(*copied[0], (np.zeros(600), np.zeros(600)))  # one group says nothing
    assert alone.p_value == 1


def test_dependent_images_make_no_difference_significant() -> None:
    """Two detectors equal but for noise that a group shares: 5 % of tests say otherwise."""
    rng, counts = np.random.default_rng(8), np.zeros(2)
    groups = np.repeat(np.arange(30), 10)
    for _ in range(300):
        sides = [rng.normal(mean, 1, 30) for mean in (0, 1)]
        matched = [np.repeat(s + rng.normal(0, 1, 30), 10) for _ in range(2) for s in sides]
        counts += [
            paired_delong(*matched, (groups, groups)).p_value < 0.05,
            paired_delong(*matched).p_value < 0.05,
        ]
    assert counts[0] / 300 < 0.1
    assert counts[1] / 300 > 0.4


def test_a_run_takes_its_intervals_over_groups(tmp_path: Path) -> None:
    import oodbench
    from oodbench.datasets.pairs import make_pair
    from oodbench.store.payload import unpack_table
    from oodbench.store.store import Store

    def frames(bright: int) -> np.ndarray:
        videos = RNG.integers(0, 100, (12, 1, 6, 6))
        return (bright + np.repeat(videos, 10, axis=1)).reshape(-1, 6, 6).astype(np.uint8)

    left, right = frames(0), frames(20)
    groups = np.repeat(np.arange(12), 10)
    np.savez(tmp_path / "id.npz", train=left, test=left, test_groups=groups, train_groups=groups)
    np.savez(tmp_path / "ood.npz", images=right, groups=groups)
    np.savez(tmp_path / "plain.npz", images=right)
    np.savez(tmp_path / "plain_id.npz", train=left, test=left)
    store = tmp_path / "s"
    pairs = [make_pair(f"{tmp_path}/id.npz", f"{tmp_path}/ood.npz"),
             make_pair(f"{tmp_path}/plain_id.npz", f"{tmp_path}/plain.npz")]  # fmt: skip
    for pair in pairs:
        oodbench.run(pair, ["mean-intensity", "pixel-variance"], store=str(store), quiet=True)
    entries = list(Store(store).entries("run"))
    runs = {str(e.record["pair"]): e for e in entries if e.record["detector"] == "mean-intensity"}
    assert len(runs) == 2
    grouped, plain = (runs[pair.name] for pair in pairs)
    scores = [r.record["scores"]["score"]["auroc"] for r in (grouped, plain)]  # type: ignore[index, call-overload]
    assert scores[0]["value"] == scores[1]["value"]
    assert scores[0]["method"] == METHOD
    assert scores[0]["high"] - scores[0]["low"] > 2 * (scores[1]["high"] - scores[1]["low"])
    assert "12 groups of dependent images" in str(grouped.record["notes"])
    held = unpack_table(grouped.read("groups.parquet"))
    assert held["ood"].tolist() == groups.tolist()
    assert "groups" in grouped.parts
    assert "groups" not in plain.parts
    scores_of = PairedScores(Store(store))
    others = {str(e.record["pair"]): e for e in entries if e.record["detector"] != "mean-intensity"}
    error = [
        scores_of.compare(runs[p.name], "score", others[p.name], "score").standard_error
        for p in pairs
    ]
    assert error[0] > 2 * error[1] > 0

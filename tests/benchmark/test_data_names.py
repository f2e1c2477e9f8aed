"""Names of data sets: classes, steps with a parameter, generated sets; each against its formula."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodbench.datasets import parse_name
from oodbench.datasets.corruptions import STEPS, corrupt
from oodbench.datasets.duplicates import count_copies, image_hashes
from oodbench.datasets.loading import DataPlaces, check_compatible, load
from oodbench.datasets.naming import COMMON, CORRUPTIONS
from oodbench.datasets.pairs import get_pair, make_pair
from oodbench.datasets.spec import catalogue
from oodbench.errors import DataError, OodbenchError, UnknownNameError
from oodbench.flow.default_recipe import default_recipe

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    folder = tmp_path / "given"
    folder.mkdir()
    return DataPlaces((folder,), tmp_path / "cache")


# ---------------------------------------------------------------------- the grammar
@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("mnist[ 0-4 ,7]", "mnist[0-4,7]"),
        ("cifar10[Cat,dog,cat]", "cifar10[cat,dog]"),
        ("cifar10[cat]@blur(2.50)@rgb", "cifar10[cat]@blur(2.5)@rgb"),
        ("cifar10@rotate(-90.0)", "cifar10@rotate(-90)"),
        ("digits@inversion", "digits@invert"),
        ("celeba@crop@resize(64)", "celeba@resize(64)"),
        ("uniform(500)@blur(1)", "uniform(500)@blur(1)"),
        ("constant(9,3x8x8)", "constant(9,3x8x8)"),
        ("./x.npz[1]@crop(16)", "./x.npz[1]@crop(16)"),
    ],
)
def test_names_have_one_form_that_reads_as_itself(text: str, canonical: str) -> None:
    assert str(parse_name(text)) == canonical
    assert parse_name(canonical) == parse_name(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cifar10@blurr(2)", "unknown variant of cifar10 'blurr'; nearest: blur"),
        ("cifar10@blur", r"takes a number in brackets, σ in pixels; write 'cifar10@blur\(2\)'"),
        ("cifar10@blur()", "σ in pixels must be a number from 0 to 100"),
        ("cifar10@blur(x)", "must be a number"),
        ("cifar10@blur(nan)", "must be a number"),
        ("cifar10@blur(-1)", "from 0 to 100"),
        ("cifar10@jpeg(2.5)", "the quality must be a whole number from 1 to 95"),
        ("cifar10@noise(2)", "from 0 to 1, as in"),
        ("cifar10@shuffle(3)", "shuffle takes no number; write cifar10@shuffle"),
        ("cifar10@resize(0)", "the side in pixels must be a whole number"),
        ("cifar10@blur(2", "unknown variant"),
        ("cifar10[catt]", "unknown class of cifar10 'catt'; nearest: cat"),
        ("mnist[8-10]", "no class 10; mnist has the classes 0 to 9"),
        ("mnist[4-2]", "the range 4-2 is empty"),
        ("mnist[]", "name classes between the brackets"),
        ("mnist[1,,2]", "name classes between the brackets"),
        ("mnist[0-4", "unknown data set"),
        ("uniform(0)", r"write the number of images, 'uniform\(5000\)'"),
        ("uniform(9,2x8x8)", "a shape"),
        ("uniform[3]", "has no classes"),
        ("unifrm", "nearest: uniform"),
    ],
)
def test_bad_names_say_what_to_write(text: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message) as caught:
        parse_name(text)
    assert "\n" not in str(caught.value)


def test_existing_files_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_name("mnist[0-4]").classes == ("0-4",)
    for name in ("mnist[0-4]", "a@b", "a(2)@blur(1)"):
        (tmp_path / name).mkdir()
        found = parse_name(f"{name}@grey")
        assert (found.base, found.is_path, found.variants) == (name, True, ("grey",))
        assert parse_name(str(found)) == found
    np.savez(tmp_path / "x[1].npz", images=pixels(6, 8, 8))
    assert parse_name("x[1].npz@rgb").base == "x[1].npz"
    assert parse_name("x[1].npz[2]").classes == ("2",)
    assert parse_name("y[1].npz").base == "y[1].npz"
    (tmp_path / "digits").mkdir()
    assert not parse_name("digits").is_path


def test_pairs_and_recipes_know_such_names() -> None:
    assert get_pair("mnist[0-4]-mnist[5-9]") == make_pair("mnist[0-4]", "mnist[5-9]")
    pair = get_pair("cifar10@rotate(-90)-uniform(20)")
    assert (pair.in_dist, pair.ood) == ("cifar10@rotate(-90)", "uniform(20)")
    assert make_pair("digits", "./x/y.npz[1]@blur(2)").name == "digits-y[1]@blur(2)"
    whole = default_recipe("mnist", (1, 28, 28), "vanilla", "smoke")
    assert default_recipe("mnist[0-4]", (1, 28, 28), "vanilla", "smoke") == whole


def test_declared_classes_are_those_of_torchvision() -> None:
    from torchvision import datasets

    def plain(name: str) -> str:
        return re.sub("[^a-z0-9]", "", name.lower().split("/")[0].split(" - ")[0])

    for name, known in (("mnist", datasets.MNIST), ("fashionmnist", datasets.FashionMNIST),
                        ("kmnist", datasets.KMNIST)):  # fmt: skip
        assert list(map(plain, catalogue()[name].classes)) == list(map(plain, known.classes))
    assert len(catalogue()["cifar100"].classes) == 100


# ---------------------------------------------------------------------- classes
def test_classes_of_a_registered_set(places: DataPlaces) -> None:
    for split in ("train", "test"):
        whole, some = load("digits", split, places), load("digits[0-2,7]", split, places)
        assert whole.labels is not None
        assert some.labels is not None
        chosen = [label in (0, 1, 2, 7) for label in whole.labels.tolist()]
        np.testing.assert_array_equal(some.images, whole.images[chosen])
        np.testing.assert_array_equal(some.labels, whole.labels[chosen])
    everything = load("digits[0-9]", "test", places)
    np.testing.assert_array_equal(everything.images, load("digits", "test", places).images)
    assert everything.fingerprint != load("digits", "test", places).fingerprint


def test_class_names_of_a_prepared_array(places: DataPlaces) -> None:
    images = pixels(6, 32, 32, 3)
    np.savez(places.folders[0] / "cifar10-test.npz", images=images, labels=[3, 0, 5, 3, 9, 5])
    found = load("cifar10[dog,cat]", "test", places)
    np.testing.assert_array_equal(found.images, images[[0, 2, 3, 5]].transpose(0, 3, 1, 2))
    with pytest.raises(DataError, match="no image has the label 1; the labels here are 0, 3, 5, 9"):
        load("cifar10[automobile]", "test", places)


def test_classes_of_own_data(tmp_path: Path, places: DataPlaces) -> None:
    images, labels = pixels(40, 8, 8), np.arange(40) % 4
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    found = load(f"{tmp_path}/mine.npz[1,3]", "test", places)
    np.testing.assert_array_equal(found.images[:, 0], images[labels % 2 == 1])
    with pytest.raises(DataError, match="its classes have no names here; write their numbers"):
        load(f"{tmp_path}/mine.npz[cat]", "test", places)
    np.savez(tmp_path / "plain.npz", images=images)
    with pytest.raises(DataError, match=r"come without labels.*array 'labels'"):
        load(f"{tmp_path}/plain.npz[1]", "test", places)
    np.savez(tmp_path / "two.npz", train=images, test=images[::-1], test_labels=labels)
    np.testing.assert_array_equal(
        load(f"{tmp_path}/two.npz[0]", "test", places).images[:, 0], images[::-1][labels == 0]
    )
    parts = [load(f"{tmp_path}/mine.npz[2]", s, places, divide=True) for s in ("train", "test")]
    assert sum(map(len, parts)) == 10


def test_folders_of_class_folders(tmp_path: Path, places: DataPlaces) -> None:
    kept = {}
    for split in ("train", "test"):
        for name in ("owl", "cat", "dog"):
            if (split, name) == ("test", "cat"):
                continue  # its number must not go to another class
            folder = tmp_path / "mine" / split / name
            folder.mkdir(parents=True)
            for index in range(2):
                kept[split, name] = pixels(8, 8)
                Image.fromarray(kept[split, name]).save(folder / f"{index}.png")
    whole = load(f"{tmp_path}/mine", "test", places)
    assert whole.labels is not None
    assert whole.labels.tolist() == [1, 1, 2, 2]
    owls = load(f"{tmp_path}/mine[Owl]", "test", places)
    np.testing.assert_array_equal(owls.images[1, 0], kept["test", "owl"])
    with pytest.raises(UnknownNameError, match=r"unknown class of .*mine 'cow'; nearest: "):
        load(f"{tmp_path}/mine[cow]", "test", places)


# ---------------------------------------------------------------------- corruptions
def once(step: str, image: np.ndarray, index: int = 0, split: str = "test") -> np.ndarray:
    return corrupt(image, step, index, split)


def test_every_corruption_keeps_shape_and_type_and_follows_from_its_key() -> None:
    assert {*STEPS, *COMMON} == set(CORRUPTIONS)
    for name in STEPS:
        parameter = CORRUPTIONS[name]
        step = f"{name}({parameter.example})" if parameter else name
        for image in (pixels(12, 10, 1), pixels(12, 10, 3)):
            out = once(step, image)
            assert (out.shape, out.dtype) == (image.shape, np.uint8), step
            np.testing.assert_array_equal(out, once(step, image))


def test_blur_is_a_sum_over_neighbours() -> None:
    image, sigma = pixels(9, 7, 3), 1.5
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(image.astype(float), ((reach,) * 2, (reach,) * 2, (0, 0)), mode="symmetric")
    expected = np.zeros(image.shape)
    for row in range(9):
        for column in range(7):
            window = padded[row : row + len(weights), column : column + len(weights)]
            expected[row, column] = (kernel[..., None] * window).sum((0, 1))
    assert np.abs(once("blur(1.5)", image) - expected).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(once("blur(0)", image), image)


def test_noise_has_its_standard_deviation_and_other_draws_for_every_image() -> None:
    grey = np.full((200, 200, 1), 128, np.uint8)
    added = once("noise(0.1)", grey).astype(float) - 128
    assert added.std() == pytest.approx(25.5, rel=0.02)
    assert abs(added.mean()) < 0.5
    keys = [(0, "test"), (1, "test"), (0, "train")]
    assert len({once("noise(0.1)", grey, *key).tobytes() for key in keys}) == 3
    np.testing.assert_array_equal(once("noise(0)", grey), grey)


def test_salt_and_pepper_shares() -> None:
    grey = np.full((200, 200, 3), 100, np.uint8)
    out = once("saltpepper(0.3)", grey)
    assert np.array_equal(out[..., 0], out[..., 2])
    shares = [(out[..., 0] == value).mean() for value in (0, 255, 100)]
    np.testing.assert_allclose(shares, [0.15, 0.15, 0.7], atol=0.01)


def test_contrast_brightness_and_posterize() -> None:
    import torch
    from torchvision.transforms.v2 import functional as F

    image = pixels(8, 9, 3)
    for channel in range(3):
        values = [int(v) for v in image[..., channel].ravel()]
        mean = sum(values) / len(values)
        expected = [min(255, max(0, round(mean + 2.5 * (v - mean)))) for v in values]
        assert once("contrast_factor(2.5)", image)[..., channel].ravel().tolist() == expected
    np.testing.assert_array_equal(
        once("brightness_shift(0.2)", image), np.minimum(image.astype(int) + 51, 255)
    )
    np.testing.assert_array_equal(once("brightness_shift(-1)", image), 0 * image)
    tensor = torch.from_numpy(image.transpose(2, 0, 1))
    np.testing.assert_array_equal(
        once("posterize(3)", image), F.posterize(tensor, 3).numpy().transpose(1, 2, 0)
    )


def test_rotations_and_mirrors() -> None:
    image = pixels(8, 8, 3)
    for turns, step in ((1, "rotate(90)"), (2, "rotate(180)"), (3, "rotate(-90)")):
        np.testing.assert_array_equal(once(step, image), np.rot90(image, turns))
    np.testing.assert_array_equal(once("hflip", image), np.fliplr(image))
    np.testing.assert_array_equal(once("vflip", image), np.flipud(image))
    lone = np.zeros((41, 41, 1), np.uint8)
    lone[20, 32] = 255  # to the right of the centre: after 30° it lies above
    row, column = np.unravel_index(once("rotate(30)", lone)[..., 0].argmax(), (41, 41))
    assert abs(row - (20 - 12 * np.sin(np.pi / 6))) <= 1
    assert abs(column - (20 + 12 * np.cos(np.pi / 6))) <= 1
    assert once("rotate(45)", np.full((9, 9, 1), 200, np.uint8))[0, 0] == 0


def test_shuffle_permutes_whole_pixels() -> None:
    image = np.arange(6 * 7 * 3, dtype=np.uint8).reshape(6, 7, 3)
    out = once("shuffle", image)
    assert sorted(map(tuple, out.reshape(-1, 3))) == sorted(map(tuple, image.reshape(-1, 3)))
    assert len({once("shuffle", image, index).tobytes() for index in range(20)}) == 20


def test_jpeg_is_what_another_reader_reads() -> None:
    import torch
    from torchvision.io import decode_jpeg

    image = pixels(16, 16, 3)
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=20)
    tensor = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    expected = decode_jpeg(tensor).numpy().transpose(1, 2, 0).astype(int)
    assert np.abs(once("jpeg(20)", image) - expected).max() <= 2  # inverse DCTs may differ by 1
    assert (
        np.abs(once("jpeg(95)", image) - image.astype(int)).mean()
        < np.abs(once("jpeg(5)", image) - image.astype(int)).mean()
    )


def test_an_image_is_corrupted_alike_in_a_subset(places: DataPlaces) -> None:
    whole = load("digits@noise(0.2)", "test", places)
    some = load("digits[3-5]@noise(0.2)", "test", places)
    plain = load("digits", "test", places)
    assert plain.labels is not None
    chosen = np.isin(plain.labels, [3, 4, 5])
    np.testing.assert_array_equal(some.images, whole.images[chosen])
    assert not np.array_equal(whole.images, plain.images)
    names = ("digits", "digits@noise(0.2)", "digits@noise(0.1)", "digits@shuffle")
    assert len({load(name, "test", places).fingerprint for name in names}) == 4


def test_steps_apply_in_their_order(places: DataPlaces) -> None:
    raw = load("digits", "test", places).images[:1].transpose(0, 2, 3, 1)[0]
    for steps in (["invert", "brightness_shift(0.3)"], ["brightness_shift(0.3)", "invert"]):
        name, expected = "@".join(["digits", *steps]), raw
        for step in steps:
            expected = 255 - expected if step == "invert" else once(step, expected)
        np.testing.assert_array_equal(load(name, "test", places).images[0, 0], expected[..., 0])
    np.savez(places.folders[0] / "omniglot-test.npz", images=(held := pixels(5, 28, 28)))
    # The array went through the default variant, `invert`; `plain` undoes it first.
    found = load("omniglot@plain@brightness_shift(0.2)@invert", "test", places).images[:, 0]
    np.testing.assert_array_equal(found, 255 - np.minimum(255 - held.astype(int) + 51, 255))
    found = load("omniglot@plain@brightness_shift(0.2)", "test", places).images[:, 0]
    np.testing.assert_array_equal(found, np.minimum(255 - held.astype(int) + 51, 255))
    with pytest.raises(DataError, match="'plain' and 'plain' are two variants"):
        load("omniglot@plain@blur(1)@plain", "test", places)
    plain = load("omniglot@plain", "test", places).images[:, 0]
    np.testing.assert_array_equal(plain, 255 - held)


# ---------------------------------------------------------------------- sizes
def test_a_size_of_its_own(tmp_path: Path, places: DataPlaces) -> None:
    (tmp_path / "mixed").mkdir()
    for index, shape in enumerate([(20, 30), (40, 24), (18, 18), (18, 18), (18, 18)]):
        Image.fromarray(pixels(*shape)).save(tmp_path / "mixed" / f"{index}.png")
    with pytest.raises(
        DataError, match=r"mixed@resize\(16\) or .*mixed@crop\(16\); recipes are made"
    ):
        load(f"{tmp_path}/mixed", "train", places, divide=True)
    with pytest.raises(DataError, match=r"name the size, as in '.*mixed@resize\(32\)'"):
        load(f"{tmp_path}/mixed@resize", "train", places, divide=True)
    found = load(f"{tmp_path}/mixed@resize(16)", "train", places, divide=True)
    assert found.shape == (1, 16, 16)
    assert load("digits@resize(16)", "test", places, like=(1, 8, 8)).shape == (1, 16, 16)
    np.savez(places.folders[0] / "celeba-test.npz", images=pixels(5, 32, 32, 3))
    with pytest.raises(DataError, match=r"'resize\(64\)' needs the native images"):
        load("celeba@resize(64)", "test", places)


# ---------------------------------------------------------------------- generated sets
def test_generated_sets_follow_their_distributions(places: DataPlaces) -> None:
    like, count = (3, 16, 16), 60
    found = {n: load(n, "test", places, like=like, count=count).images
             for n in ("uniform", "gaussian", "constant")}  # fmt: skip
    for images in found.values():
        assert (images.shape, images.dtype) == ((60, 3, 16, 16), np.uint8)
    uniform = np.bincount(found["uniform"].ravel(), minlength=256) / found["uniform"].size
    assert np.abs(uniform * 256 - 1).max() < 0.35  # 180 expected of each value
    from scipy.stats import norm

    gaussian = found["gaussian"]
    assert (gaussian == 0).mean() == pytest.approx(norm.cdf(0.5 / 255 - 0.5), abs=0.01)
    assert (gaussian <= 63).mean() == pytest.approx(norm.cdf(63.5 / 255 - 0.5), abs=0.01)
    constant = found["constant"]
    assert np.array_equal(constant, np.broadcast_to(constant[:, :, :1, :1], constant.shape))
    assert len(np.unique(constant[:, :, 0, 0], axis=0)) == 60


def test_generated_sets_are_prefixes_and_take_their_own_size(places: DataPlaces) -> None:
    short = load("uniform", "test", places, like=(1, 8, 8), count=5)
    long = load("uniform(9)", "test", places, like=(1, 8, 8), count=5)
    np.testing.assert_array_equal(long.images[:5], short.images)
    own = load("constant(7,3x4x5)", "train", places)
    assert own.images.shape == (7, 3, 4, 5)
    assert not np.array_equal(own.images, load("constant(7,3x4x5)", "test", places).images)
    with pytest.raises(DataError, match=r"needs both, as in 'uniform\(5000,1x28x28\)'"):
        load("uniform", "test", places)
    with pytest.raises(DataError, match=r"use constant\(7\)$"):
        check_compatible(short, load("constant(7,3x4x5)", "test", places))


# ---------------------------------------------------------------------- duplicates
def test_copies_are_counted_as_a_search_counts_them(tmp_path: Path, places: DataPlaces) -> None:
    train = pixels(50, 1, 4, 4)
    test = np.concatenate([train[[3, 3, 7]], pixels(10, 1, 4, 4)])
    expected = sum(any(np.array_equal(a, b) for b in train) for a in test)
    assert expected == 3
    assert count_copies(image_hashes(test), image_hashes(train)) == 3
    np.savez(tmp_path / "mine.npz", images=train[:, 0])
    loaded = load(str(tmp_path / "mine.npz"), "test", places)
    assert loaded.hashes() == image_hashes(train)
    (stored,) = places.cache.glob("*.hashes")
    stored.write_bytes(bytes(len(stored.read_bytes())))  # damaged: made again
    assert loaded.hashes() == image_hashes(train)
    assert stored.read_bytes().startswith(image_hashes(train))


def test_duplicates_stand_in_record_and_caption(tmp_path: Path) -> None:
    import oodbench
    from oodbench.leaderboards.rows import group_runs, make_rows
    from oodbench.store.store import Store
    from oodbench.tables.after_run import caption

    train, test, other = pixels(30, 8, 8), pixels(12, 8, 8), pixels(12, 8, 8)
    test[:2], other[5] = train[4], train[9]
    np.savez(tmp_path / "id.npz", train=train, test=test)
    np.savez(tmp_path / "ood.npz", images=other)
    (tmp_path / "d.py").write_text(
        "from oodbench import Detector, register\n"
        "@register('learns-nothing-much')\nclass D(Detector):\n"
        "    def fit(self, train, context):\n        pass\n"
        "    def measure(self, images):\n        return {'a': images.double().flatten(1).sum(1)}\n"
        "    def score(self, statistics):\n        return statistics['a']\n"
    )
    from oodbench.declare.registry import load_plugin

    load_plugin(str(tmp_path / "d.py"))
    pair = make_pair(f"{tmp_path}/id.npz", f"{tmp_path}/ood.npz")
    names = ["learns-nothing-much", "mean-intensity"]
    oodbench.run(pair, names, store=str(tmp_path / "s"), quiet=True)
    groups = group_runs(Store(tmp_path / "s").entries("run"))
    found = {str(g.first["detector"]): g.first["duplicates"] for g in groups}
    assert found["mean-intensity"] == []
    lines = found["learns-nothing-much"]
    assert isinstance(lines, list)
    assert [str(line)[:20] for line in lines] == ["2 of 12 test images ", "1 of 12 test images "]
    rows = [row for group in groups for row in make_rows(group)]
    assert "exact copies of training images" in caption(rows)

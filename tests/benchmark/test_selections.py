"""Sets made of others: OpenOOD's, from real layouts of the sets that they draw on."""

from __future__ import annotations

import importlib
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fake_roots import MAKERS, draw, jpeg

from oodbench.datasets import catalogue
from oodbench.datasets.dataset_status import status
from oodbench.datasets.loading import DataPlaces, load
from oodbench.datasets.sources import selections
from oodbench.datasets.sources.by_hand import described, downloads
from oodbench.datasets.sources.fetching import fetch_published
from oodbench.datasets.sources.selections import base_of, listed_names
from oodbench.datasets.spec import get_spec
from oodbench.datasets.transforms import apply
from oodbench.errors import DataError
from oodbench.flow.suites import find_suite
from oodbench.leaderboards.set_means import OPENOOD

SELECTIONS = [spec for spec in catalogue().values() if spec.source == "selection"]
LISTED = [spec for spec in SELECTIONS if "list" in spec.options]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataPlaces:
    for name in ("places365", "mnist"):
        module = importlib.import_module(f"torchvision.datasets.{name}")
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: os.path.isfile(path))
    folder = tmp_path / "given"
    folder.mkdir()
    return DataPlaces((folder,), tmp_path / "cache")


def short_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, numbers: str) -> None:
    """A list of few numbers in place of the one that ships, with its pattern."""
    file = str(get_spec(name).options["list"])
    pattern = next(
        row for row in (selections.LISTS / file).read_text().splitlines() if row.startswith("names")
    )
    folder = tmp_path / "lists"
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(f"# a short one\n{pattern}\n{numbers}\n")
    monkeypatch.setattr(selections, "LISTS", folder)
    listed_names.cache_clear()


@pytest.fixture(autouse=True)
def _no_list_is_kept() -> None:
    listed_names.cache_clear()


# ------------------------------------------------------------------ the lists that ship
@pytest.mark.parametrize("spec", LISTED, ids=lambda spec: spec.name)
def test_a_list_names_as_many_images_as_the_set_has(spec: object) -> None:
    found = get_spec(spec.name)  # type: ignore[attr-defined]
    names = listed_names(found.options["list"])
    assert len(set(names)) == len(names) == found.splits["test"]
    most = base_of(found).splits[found.options["parts"]]
    numbers = [int(number) for name in names for number in re.findall(r"\d+(?=\.)", name)]
    assert len(numbers) == len(names)
    first = 1 if "places" in found.name else 0
    assert min(numbers) >= first
    assert max(numbers) < most + first


def test_names_are_written_as_the_archives_write_them() -> None:
    assert listed_names("tiny-imagenet-openood.txt")[:3] == (
        "val_0.JPEG", "val_1.JPEG", "val_3.JPEG"
    )  # fmt: skip
    assert listed_names("places365-openood.txt")[33] == "Places365_val_00000035.jpg"


def test_counts_are_those_that_openood_prints() -> None:
    """Yang et al. 2022 and Zhang et al. 2023: the sizes of the OOD sets of CIFAR-10."""
    assert {spec.name: spec.splits["test"] for spec in SELECTIONS} == {
        "mnist-openood": 70_000,
        "textures-openood": 5_640,
        "tiny-imagenet-openood": 7_793,
        "places365-openood": 35_195,
    }


def test_the_suite_has_the_sets_of_the_means() -> None:
    suite = find_suite("openood-cifar10")
    pairs = {suite.pair(name).ood for name in suite.pairs}
    assert pairs == {*OPENOOD["cifar10"]["near"], *OPENOOD["cifar10"]["far"]}


# ------------------------------------------------------------------ from the sets' own files
def test_both_splits_one_after_another(places: DataPlaces) -> None:
    both = [MAKERS["mnist"](places.folders[0], split) for split in ("train", "test")]
    found = load("mnist-openood", "test", places)
    np.testing.assert_array_equal(
        found.images, np.concatenate([images for images, _ in both]).transpose(0, 3, 1, 2)
    )
    assert found.labels is not None
    assert found.labels.tolist() == [label for _, labels in both for label in labels]
    (row,) = (s for s in status(places) if s.name == "mnist-openood")
    assert (row.state, row.count) == ("native", "70,000 (not counted)")
    assert load("mnist-openood@rgb@resize", "test", places, like=(3, 32, 32)).shape == (3, 32, 32)


def test_pictures_of_three_splits(places: DataPlaces) -> None:
    parts = [MAKERS["textures"](places.folders[0], split)[0] for split in ("train", "val", "test")]
    found = load("textures-openood", "test", places)
    for index, image in enumerate(np.concatenate(parts)):
        expected = apply(image, ("resize",), (32, 32), index, "test")
        np.testing.assert_array_equal(found.images[index], expected.transpose(2, 0, 1))


def test_images_are_found_by_name_whatever_their_order(
    places: DataPlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the archive val_10 stands before val_2."""
    pictures = [draw(300 + i, 64, 64, 3) for i in range(12)]
    with zipfile.ZipFile(places.folders[0] / "tiny-imagenet-200.zip", "w") as archive:
        for number, picture in enumerate(pictures):
            archive.writestr(f"tiny-imagenet-200/val/images/val_{number}.JPEG", jpeg(picture))
        rows = "".join(f"val_{i}.JPEG\tn{i % 2}\t0\t0\t1\t1\n" for i in range(12))
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", rows)
    short_list(tmp_path, monkeypatch, "tiny-imagenet-openood", "0 2-3\n10")
    found = load("tiny-imagenet-openood", "test", places)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 0, 1]  # 0, 10, 2, 3
    whole = load("tiny-imagenet", "test", places)
    in_order = sorted(range(12), key=str)
    for index, number in enumerate((0, 10, 2, 3)):
        np.testing.assert_array_equal(found.images[index], whole.images[in_order.index(number)])
    assert found.fingerprint != whole.fingerprint
    short_list(tmp_path, monkeypatch, "tiny-imagenet-openood", "0 2-3")
    assert len(load("tiny-imagenet-openood", "test", places).images) == 3


def test_places_by_their_numbers(
    places: DataPlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = MAKERS["places365"](places.folders[0], "test")  # numbers 2, 1, 3
    short_list(tmp_path, monkeypatch, "places365-openood", "1-2")
    found = load("places365-openood", "test", places)
    assert found.labels is not None
    assert found.labels.tolist() == labels[:2]
    for index in range(2):
        expected = apply(images[index], ("resize",), (32, 32), index, "test")
        np.testing.assert_array_equal(found.images[index], expected.transpose(2, 0, 1))
    short_list(tmp_path, monkeypatch, "places365-openood", "2-5")
    with pytest.raises(DataError, match=r"2 of its 4 images are not in .*Places365_val_00000004"):
        load("places365-openood", "test", places)


# ------------------------------------------------------------------ from prepared arrays
def test_a_list_is_not_guessed_from_an_array_without_names(places: DataPlaces) -> None:
    folder = places.folders[0]
    array = draw(1, 12, 32, 32, 3)
    np.savez(folder / "tiny-imagenet-test.npz", images=array)
    with pytest.raises(DataError, match="holds images without names"):
        load("tiny-imagenet-openood", "test", places)
    np.savez(folder / "tiny-imagenet-openood-test.npz", images=array[:5])
    found = load("tiny-imagenet-openood", "test", places)
    np.testing.assert_array_equal(found.images, array[:5].transpose(0, 3, 1, 2))
    (row,) = (s for s in status(places) if s.name == "tiny-imagenet-openood")
    assert (row.state, row.count) == ("arrays", "5 of 7,793")


def test_parts_of_two_forms_are_not_mixed(places: DataPlaces) -> None:
    folder = places.folders[0]
    MAKERS["textures"](folder, "test")
    np.savez(folder / "textures-train.npz", images=draw(1, 4, 32, 32, 3))
    with pytest.raises(DataError, match="some splits of textures are prepared arrays"):
        load("textures-openood", "test", places)
    for split in ("val", "test"):
        np.savez(folder / f"textures-{split}.npz", images=draw(2, 3, 32, 32, 3))
    assert len(load("textures-openood", "test", places).images) == 10


def test_what_is_missing_is_named(places: DataPlaces) -> None:
    MAKERS["mnist"](places.folders[0], "train")
    with pytest.raises(DataError) as raised:
        load("mnist-openood", "test", places)
    with pytest.raises(DataError, match=r"drawn from: tiny-imagenet-200\.zip not found"):
        load("tiny-imagenet-openood", "test", places)  # whose list an array could not serve
    for part in ("mnist-openood-test.npz", "mnist-test.npz", "t10k", "data fetch mnist-openood"):
        assert part in str(raised.value)


# ------------------------------------------------------------------ fetching
def test_it_is_fetched_by_the_files_of_the_set_that_it_draws_on(tmp_path: Path) -> None:
    for spec in SELECTIONS:
        assert downloads(spec) == downloads(base_of(spec)) != []
        assert f"drawn from {base_of(spec).name}" in str(described(spec, "DATA"))
    with pytest.raises(DataError, match="tiny-imagenet: cannot download"):
        fetch_published(get_spec("tiny-imagenet-openood"), tmp_path / "fetched")

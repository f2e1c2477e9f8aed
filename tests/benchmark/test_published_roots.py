"""Every published set from a root in its real layout: images, order, labels, splits."""

from __future__ import annotations

import importlib
import os
import random
from pathlib import Path

import numpy as np
import pytest
from fake_roots import MAKERS, draw, idx, mnist_like, norb, smallnorb, svhn, write
from PIL import Image

from oodbench.datasets import catalogue
from oodbench.datasets.dataset_status import status
from oodbench.datasets.loading import DataPlaces, check_compatible, load
from oodbench.datasets.pairs import make_pair
from oodbench.datasets.sources.fetching import fetch_published
from oodbench.datasets.sources.norb import NORB_STEM
from oodbench.datasets.spec import get_spec
from oodbench.datasets.transforms import apply
from oodbench.errors import DataError

MODULES = ("cifar", "svhn", "celeba", "places365", "flowers102", "lfw", "omniglot")
EVERY = [(name, split) for name, spec in catalogue().items() for split in spec.splits
         if name in MAKERS]  # fmt: skip


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    folder = tmp_path / "given"
    folder.mkdir()
    return DataPlaces((folder,), tmp_path / "cache")


@pytest.fixture
def any_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision takes a file that is there for the published one."""
    for name in MODULES:
        module = importlib.import_module(f"torchvision.datasets.{name}")
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: os.path.isfile(path))


def test_every_published_set_has_a_root_here() -> None:
    others = ("embedded", "selection")  # a selection has the files of another set
    made = {name for name, spec in catalogue().items() if spec.source not in others}
    assert made == set(MAKERS)


@pytest.mark.parametrize(("name", "split"), EVERY, ids=lambda v: v)
def test_a_set_is_read_from_its_real_layout(
    name: str, split: str, places: DataPlaces, any_hash: None
) -> None:
    spec = get_spec(name)
    images, labels = MAKERS[name](places.folders[0], split)
    found = load(name, split, places)
    assert found.labels is not None
    assert found.labels.tolist() == labels
    assert found.shape == spec.shape
    steps = spec.variants.get(spec.default_variant, ())
    for index, image in enumerate(images):
        expected = apply(image, steps, spec.shape[1:], index, split)
        np.testing.assert_array_equal(found.images[index], expected.transpose(2, 0, 1))
    states = {(s.name, s.split): s.state for s in status(places)}
    assert states[name, split] == "native"
    (count,) = (s.count for s in status(places) if (s.name, s.split) == (name, split))
    assert "(not counted)" in count or count.startswith(f"{len(images)} of ")


def test_the_order_of_omniglot_is_that_of_the_names(
    places: DataPlaces, any_hash: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, labels = MAKERS["omniglot"](places.folders[0], "train")
    listed = os.listdir
    keys = set()
    for seed in range(4):

        def shuffled(path: str = ".", seed: int = seed) -> list[str]:
            names = sorted(listed(path))
            random.Random(seed).shuffle(names)
            return names

        monkeypatch.setattr(os, "listdir", shuffled)
        found = load("omniglot", "train", DataPlaces(places.folders, places.cache / str(seed)))
        assert found.labels is not None
        assert found.labels.tolist() == labels
        keys.add(found.fingerprint)
    assert len(keys) == 1


# ---------------------------------------------------------------------- files, part by part
def test_both_files_of_small_norb_are_looked_for(places: DataPlaces) -> None:
    root = places.folders[0]
    _, labels = smallnorb(root, "test")
    stem = NORB_STEM["test"]
    write(root / "smallnorb" / f"{stem}-dat.mat.gz", (root / f"{stem}-dat.mat.gz").read_bytes())
    found = load("smallnorb", "test", places)
    assert found.labels is not None
    assert found.labels.tolist() == labels
    (root / f"{stem}-cat.mat.gz").unlink()
    with pytest.raises(DataError, match="not found"):
        load("smallnorb", "test", places)
    write(root / "smallnorb" / f"{stem}-cat.mat.gz", norb(np.array([1, 1, 3], "<i4"), 0x1E3D4C54))
    assert load("smallnorb", "test", places).images.shape == (6, 1, 28, 28)


@pytest.mark.parametrize("name", ["mnist", "svhn", "food101", "lfwpeople", "places365", "omniglot"])
def test_a_root_with_one_split_hides_no_other_root(
    name: str, tmp_path: Path, any_hash: None
) -> None:
    spec = get_spec(name)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    MAKERS[name](first, "train")
    _, labels = MAKERS[name](second, "test")
    for folder, split in ((first, "test"), (second, "train")):
        from oodbench.datasets.sources.torchvision_roots import needed_files

        other = needed_files(spec, "train" if split == "test" else "test")
        for file in set(needed_files(spec, split)) - set(other):
            if (folder / file).is_file():
                (folder / file).unlink()
    places = DataPlaces((first, second), tmp_path / "cache")
    found = load(name, "test", places)
    assert found.labels is not None
    assert found.labels.tolist() == labels
    assert len(load(name, "train", places)) > 0
    alone = DataPlaces((first,), tmp_path / "cache")
    states = {(s.name, s.split): s.state for s in status(alone)}
    assert (states[name, "train"], states[name, "test"]) == ("native", "missing")


def test_status_and_message_name_the_split_that_is_missing(
    places: DataPlaces, any_hash: None
) -> None:
    svhn(places.folders[0], "test")
    states = {(s.name, s.split): s.state for s in status(places)}
    assert [states["svhn", s] for s in ("train", "test", "extra")] == [
        "missing", "native", "missing",
    ]  # fmt: skip
    mnist_like("MNIST")(places.folders[0], "train")
    (places.folders[0] / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"has not MNIST/raw/train-labels-idx1-ubyte"):
        load("mnist", "train", places)


def test_a_replaced_split_of_places_is_read_again(places: DataPlaces, any_hash: None) -> None:
    MAKERS["places365"](places.folders[0], "train")
    MAKERS["places365"](places.folders[0], "test")
    before = load("places365", "train", places).fingerprint
    listing = places.folders[0] / "places365_train_standard.txt"
    listing.write_text("".join(reversed(listing.read_text().splitlines(keepends=True))))
    assert load("places365", "train", places).fingerprint != before


# ---------------------------------------------------------------------- prepared arrays
@pytest.mark.parametrize(
    ("file", "shape", "message"),
    [
        ("mnist-test", (10_001, 2, 2), "10,001 images, and MNIST has 10,000 test images"),
        ("mnist-test", (4, 64, 64), r"its images are 1×64×64 .*those of MNIST 1×28×28"),
        ("mnist-test", (4, 28, 28, 3), "its images are 3×28×28"),
        ("cifar10-train", (4, 64, 64, 3), "its images are 3×64×64"),
        ("celeba-test", (4, 48, 48), "its images are 1×48×48"),
    ],
)
def test_arrays_of_another_set_do_not_pass(
    file: str, shape: tuple[int, ...], message: str, places: DataPlaces
) -> None:
    np.savez(places.folders[0] / f"{file}.npz", images=draw(0, *shape))
    with pytest.raises(DataError, match=message):
        load(*file.split("-"), places)


def test_native_arrays_go_through_the_default_variant(places: DataPlaces) -> None:
    held = draw(0, 3, 105, 105)
    np.savez(places.folders[0] / "omniglot-test.npz", images=held)
    found = load("omniglot", "test", places).images[:, 0]
    small = [
        np.asarray(Image.fromarray(i).resize((28, 28), Image.Resampling.NEAREST)) for i in held
    ]
    np.testing.assert_array_equal(found, 255 - np.stack(small))


# ---------------------------------------------------------------------- what is there is checked
def test_fetch_checks_idx_files_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip
    import hashlib

    from torchvision import datasets

    from oodbench.datasets.sources import fetching

    for split in ("train", "test"):
        mnist_like("MNIST")(tmp_path, split)
    with pytest.raises(DataError, match="train-images-idx3-ubyte is not as published"):
        fetch_published(get_spec("mnist"), tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    known = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in raw.iterdir()}
    monkeypatch.setitem(fetching.UNPACKED_MD5, "MNIST", known)
    assert all(
        "found right by MD5" in line for line in fetch_published(get_spec("mnist"), tmp_path)
    )

    for split in ("train", "test"):
        mnist_like("KMNIST")(tmp_path, split)
    lines = fetch_published(get_spec("kmnist"), tmp_path)
    assert all("NOT verified: no hash of the unpacked" in line for line in lines)
    raw, packed = tmp_path / "KMNIST" / "raw", []
    for path in sorted(raw.iterdir()):
        data = gzip.compress(path.read_bytes())
        (raw / f"{path.name}.gz").write_bytes(data)
        packed.append((f"{path.name}.gz", hashlib.md5(data).hexdigest()))
    monkeypatch.setattr(datasets.KMNIST, "resources", packed)
    lines = fetch_published(get_spec("kmnist"), tmp_path)
    assert all("found right by MD5" in line for line in lines)
    write(raw / "t10k-images-idx3-ubyte", idx(draw(9, 6, 28, 28)))  # not what the .gz holds
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is not as published"):
        fetch_published(get_spec("kmnist"), tmp_path)


def test_fetch_of_sets_that_are_there(
    tmp_path: Path, any_hash: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "test"):
        MAKERS["lfwpeople"](tmp_path, split)
    MAKERS["food101"](tmp_path, "train")
    assert all("there already" in line for line in fetch_published(get_spec("lfwpeople"), tmp_path))
    lines = fetch_published(get_spec("food101"), tmp_path)
    assert lines[0].endswith("NOT verified: no archive; all 3 unpacked images are there")
    (tmp_path / "food-101" / "images" / "waffles" / "9.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images are missing, the first .*9\.jpg"):
        fetch_published(get_spec("food101"), tmp_path)
    write(tmp_path / "food-101.tar.gz", b"torn")
    with pytest.raises(DataError, match="is not as published"):
        fetch_published(get_spec("food101"), tmp_path)


def test_fetch_of_what_is_not_offered_any_more(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not offered for download any more; put lfw-funneled"):
        fetch_published(get_spec("lfwpeople"), tmp_path)


def test_the_published_hash_of_notmnist_is_known() -> None:
    assert get_spec("notmnist").options["hash"] == "md5:c9890a473a9769fda4bdf314aaf500dd"


# ---------------------------------------------------------------------- sizes that are written
def test_a_size_that_is_written_goes_to_the_id_images(places: DataPlaces, any_hash: None) -> None:
    MAKERS["tiny-imagenet"](places.folders[0], "test")
    celebs, _ = MAKERS["celeba"](places.folders[0], "test")
    like = (3, 48, 48)
    for name in ("tiny-imagenet@resize", "tiny-imagenet@crop", "celeba@crop", "celeba@resize"):
        assert load(name, "test", places, like=like).shape == like, name
    found = load("celeba@crop", "test", places, like=like).images
    for index, image in enumerate(celebs):
        expected = apply(image, ["crop"], (48, 48), index, "test").transpose(2, 0, 1)
        np.testing.assert_array_equal(found[index], expected)
    # The bare name has the registered size, and beside such ID images both are one set.
    assert load("celeba", "test", places, like=like).shape == (3, 32, 32)
    same = [load(n, "test", places, like=(3, 32, 32)) for n in ("celeba", "celeba@crop")]
    assert same[0].fingerprint == same[1].fingerprint
    np.savez(places.folders[0] / "id.npz", images=draw(1, 5, 48, 48, 3))
    id_test = load(str(places.folders[0] / "id.npz"), "test", places)
    for name, fitting in (
        ("tiny-imagenet", r"use tiny-imagenet@resize \(or @crop"),
        ("celeba@resize(16)", r"use celeba@resize \(or @crop"),
        ("celeba@hflip@crop(16)", r"use celeba@hflip@resize \(or @crop"),
    ):
        with pytest.raises(DataError, match=fitting):
            check_compatible(id_test, load(name, "test", places, like=like))


def test_the_pair_of_a_written_default_is_the_registered_one() -> None:
    for in_dist, ood in (("cifar10", "celeba@crop"), ("cifar10", "celeba")):
        assert make_pair(in_dist, ood).name == "cifar10-celeba"
    assert make_pair("tiny-imagenet@resize", "svhn").name == "tiny-imagenet-svhn"
    assert make_pair("cifar10@resize(48)", "celeba@crop").ood == "celeba@crop"
    assert make_pair("./x.npz", "tiny-imagenet@resize").ood == "tiny-imagenet@resize"
    assert make_pair("cifar10", "celeba@resize").ood == "celeba@resize"

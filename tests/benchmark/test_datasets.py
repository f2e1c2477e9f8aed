"""Data sets: catalogue, sources as real files, transforms, fingerprints, and clear errors."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodbench.datasets import catalogue, parse_name
from oodbench.datasets.dataset_status import status
from oodbench.datasets.imageset import fingerprint
from oodbench.datasets.loading import DataPlaces, check_compatible, find_places, load
from oodbench.datasets.pairs import registered_pairs
from oodbench.datasets.sources.embedded import BLOCKS, FIRST_ROW, is_test_block, read_embedded
from oodbench.datasets.sources.fetching import download as _download
from oodbench.datasets.sources.norb import NORB_STEM
from oodbench.datasets.sources.published import find_published
from oodbench.datasets.spec import check_catalogue, get_spec
from oodbench.datasets.transforms import apply, image_hash
from oodbench.errors import DataError, UnknownNameError

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    folder = tmp_path / "given"
    folder.mkdir()
    return DataPlaces((folder,), tmp_path / "cache")


# ---------------------------------------------------------------------- the catalogue
def test_every_declaration_is_sound() -> None:
    for spec in catalogue().values():
        check_catalogue(spec)
        assert spec.cite, spec.name
        assert spec.licence, spec.name
        assert "test" in spec.splits, spec.name
    for pair in registered_pairs().values():
        left, right = parse_name(pair.in_dist), parse_name(pair.ood)
        shape = get_spec(right.base).shape
        if "@rgb" in pair.ood:
            shape = (3, *shape[1:])
        if "@resize" in pair.ood:  # to the size of the ID images
            shape = (shape[0], *get_spec(left.base).shape[1:])
        assert get_spec(left.base).shape == shape, pair.name
        assert "train" in get_spec(left.base).splits, pair.name


def test_torchvision_has_every_class_named() -> None:
    from torchvision import datasets

    for spec in catalogue().values():
        if spec.source == "torchvision":
            assert hasattr(datasets, spec.options["class"]), spec.name


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="nearest: cifar10"):
        parse_name("cifr10")
    with pytest.raises(UnknownNameError, match="variant of omniglot 'inverted'; nearest: invert"):
        parse_name("omniglot@inverted")


# ---------------------------------------------------------------------- embedded
@pytest.mark.parametrize("name", ["digits", "photos", "china", "flower", "china-rgb", "flower-rgb"])
def test_embedded_sets_are_as_declared_and_their_splits_disjoint(
    name: str, places: DataPlaces
) -> None:
    spec = get_spec(name)
    seen = {}
    for split, count in spec.splits.items():
        found = load(name, split, places)
        assert (len(found), found.shape) == (count, spec.shape)
        seen[split] = {image_hash(image) for image in found.images}
    assert len(seen["test"]) > 0.9 * spec.splits["test"]
    assert not seen["train"] & seen["test"]


def test_test_patches_are_disjoint() -> None:
    """Counted on photographs in which every pixel has a value of its own."""
    from oodbench.datasets.sources import embedded

    for side, first_row in ((16, 0), (16, 2), (8, 0)):
        numbered = np.arange(427 * 640).reshape(427, 640, 1)
        test = embedded._patches(numbered, side, "test", first_row)
        assert len(np.unique(test)) == test.size
        assert not np.intersect1d(test, embedded._patches(numbered, side, "train", first_row)).size


def test_no_pixel_of_a_test_block_is_in_a_training_patch() -> None:
    # Patches never leave their block, so it is enough that each block belongs to one split.
    marks = [[is_test_block(r, c) for c in range(BLOCKS[1])] for r in range(BLOCKS[0])]
    assert np.mean(marks) == pytest.approx(0.25)
    train, test = read_embedded("china", "train"), read_embedded("china", "test")
    blocks = (BLOCKS[0] - FIRST_ROW["china"]) * BLOCKS[1]
    assert train.count % (blocks * 3 // 4) == 0
    assert test.count % (blocks // 4) == 0


# ---------------------------------------------------------------------- prepared arrays
def test_arrays_and_parts_are_one_memory_mapped_split(places: DataPlaces) -> None:
    first, second = pixels(7, 32, 32, 3), pixels(5, 32, 32, 3)
    np.savez(places.folders[0] / "svhn-test-1.npz", images=first, labels=np.arange(7))
    np.savez(places.folders[0] / "svhn-test-2.npz", images=second, labels=np.arange(5))
    loaded = load("svhn", "test", places)
    expected = np.concatenate([first, second]).transpose(0, 3, 1, 2)
    assert isinstance(loaded.images, np.memmap)
    np.testing.assert_array_equal(loaded.images, expected)
    assert loaded.labels is not None
    assert loaded.labels.tolist() == [*range(7), *range(5)]
    assert loaded.without_labels().labels is None
    assert loaded.note == "12 of 26,032 images"
    assert loaded.fingerprint == fingerprint(expected, ())
    assert loaded.fingerprint != fingerprint(expected, ("invert",))
    assert load("svhn", "test", places).fingerprint == loaded.fingerprint

    # Replaced images give another fingerprint, not the cached one.
    np.savez(places.folders[0] / "svhn-test-2.npz", images=255 - second, labels=np.arange(5))
    assert load("svhn", "test", places).fingerprint != loaded.fingerprint


def test_a_damaged_cache_is_made_again(places: DataPlaces) -> None:
    np.savez(places.folders[0] / "mnist-test.npz", images=pixels(9, 28, 28))
    before = load("mnist", "test", places)
    (array,) = places.cache.glob("mnist-test-*.npy")
    data = bytearray(array.read_bytes())
    data[-1] ^= 1
    array.write_bytes(bytes(data))
    after = load("mnist", "test", places)
    assert after.fingerprint == before.fingerprint
    assert fingerprint(after.images, ()) == after.fingerprint


def test_a_missing_part_or_file_is_named(places: DataPlaces) -> None:
    with pytest.raises(
        DataError, match=r"svhn-test\.npz or torchvision's SVHN root \(test_32x32\.mat\) not found"
    ):
        load("svhn", "test", places)
    np.savez(places.folders[0] / "svhn-test-2.npz", images=pixels(5, 32, 32, 3))
    with pytest.raises(DataError, match=r"svhn-test-1\.npz is missing"):
        load("svhn", "test", places)
    with pytest.raises(DataError, match="no such folder"):
        find_places([places.cache / "nowhere"], "results/store")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 8, 8), np.nan), "image 0 holds nan"),
        (3 * RNG.random((4, 8, 8)), "no rule says what black and white are"),
        (np.full((4, 8, 8), -300), "values run from -300 to -300"),
        (np.full((4, 8, 8), 70_000), r"name them, as in '.*mine\.npz@range\("),
        (pixels(4, 8, 8, 2), r"shape \(4, 8, 8, 2\)"),
        (pixels(64), "expected"),
        (np.zeros((0, 8, 8), np.uint8), "no images"),
        (np.array([["a", "b"]]), "store them as uint8"),
        (np.array([{"x": 1}], dtype=object), "Python objects"),
    ],
)
def test_arrays_that_are_no_images(
    array: np.ndarray, message: str, tmp_path: Path, places: DataPlaces
) -> None:
    np.savez(tmp_path / "mine.npz", images=array)
    with pytest.raises(DataError, match=message) as caught:
        load(str(tmp_path / "mine.npz"), "test", places)
    assert "mine.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path, places: DataPlaces) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match="cannot be read"):
        load(str(broken), "test", places)
    np.savez(tmp_path / "other.npz", pictures=pixels(4, 8, 8))
    with pytest.raises(DataError, match="it holds pictures"):
        load(str(tmp_path / "other.npz"), "test", places)
    with pytest.raises(DataError, match="no such file"):
        load(str(tmp_path / "absent.npz"), "test", places)


def test_one_npz_serves_as_training_and_test_set(tmp_path: Path, places: DataPlaces) -> None:
    images = pixels(50, 8, 8)
    np.savez(tmp_path / "mine.npz", images=images)
    train = load(str(tmp_path / "mine.npz"), "train", places, divide=True)
    test = load(str(tmp_path / "mine.npz"), "test", places, divide=True)
    assert (len(train), len(test)) == (40, 10)
    assert not {image_hash(i) for i in train.images} & {image_hash(i) for i in test.images}
    assert "seeded 20 % share" in test.note
    whole = load(str(tmp_path / "mine.npz"), "test", places)
    np.testing.assert_array_equal(whole.images[:, 0], images)


# ---------------------------------------------------------------------- folders of images
def write_png(path: Path, array: np.ndarray, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **more)  # type: ignore[arg-type]


def test_a_folder_of_images(tmp_path: Path, places: DataPlaces) -> None:
    folder = tmp_path / "shots"
    grey = [pixels(10, 10) for _ in range(3)]
    for index, image in enumerate(grey):
        write_png(folder / f"sub{index % 2}" / f"{index}.png", image)
    rgb = np.repeat(grey[0][..., None], 3, axis=2)
    write_png(folder / "zz.png", rgb)  # colour file, but grey in every pixel
    loaded = load(str(folder), "test", places)
    assert loaded.shape == (1, 10, 10)
    np.testing.assert_array_equal(loaded.images[-1, 0], grey[0])

    write_png(folder / "zzz.png", pixels(10, 10, 3))
    coloured = load(str(folder), "test", places)
    assert (len(coloured), coloured.shape) == (5, (3, 10, 10))
    assert load(f"{folder}@grey", "test", places).shape == (1, 10, 10)
    assert load(f"{folder}@resize", "test", places, like=(3, 4, 4)).shape == (3, 4, 4)


def test_odd_images_are_read_as_they_look(tmp_path: Path, places: DataPlaces) -> None:
    folder = tmp_path / "odd"
    turned = np.zeros((4, 4, 3), np.uint8)
    turned[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise
    write_png(folder / "a.png", turned, exif=exif)
    alpha = np.zeros((4, 4, 4), np.uint8)  # fully transparent: the page behind is white
    write_png(folder / "b.png", alpha)
    wide = np.full((4, 4), 257 * 100, np.uint16)
    write_png(folder / "c.png", wide)
    images = load(str(folder), "test", places).images
    assert images[0, 0, :, -1].tolist() == [255] * 4
    assert images[0, 0, :, 0].tolist() == [0] * 4
    assert images[1].min() == 255
    assert images[2].min() == images[2].max() == 100


def test_folders_that_hold_no_usable_images(tmp_path: Path, places: DataPlaces) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no images in it"):
        load(str(empty), "test", places)
    write_png(tmp_path / "sizes" / "a.png", pixels(8, 8))
    write_png(tmp_path / "sizes" / "b.png", pixels(9, 8))
    with pytest.raises(DataError, match=r"image 1 is 9×8, image 0 is 8×8; use .*@resize"):
        load(str(tmp_path / "sizes"), "test", places)
    torn = tmp_path / "torn"
    write_png(torn / "a.png", pixels(40, 40))
    (torn / "a.png").write_bytes((torn / "a.png").read_bytes()[:300])
    with pytest.raises(DataError, match=r"a\.png: not a readable image"):
        load(str(torn), "test", places)


def test_shapes_that_differ_say_how_to_mend_it(tmp_path: Path, places: DataPlaces) -> None:
    np.savez(tmp_path / "big.npz", images=pixels(4, 40, 40, 3))
    big = load(str(tmp_path / "big.npz"), "test", places)
    with pytest.raises(DataError, match=r"3×40×40.*1×8×8.*big\.npz@grey@resize"):
        check_compatible(load("digits", "test", places), big)
    for mended in (f"{tmp_path / 'big.npz'}@grey@resize", "china-rgb@grey@crop", "flower@resize"):
        loaded = load(mended, "test", places, like=(1, 8, 8))
        check_compatible(load("digits", "test", places), loaded)


def test_a_prepared_array_cannot_be_made_larger(places: DataPlaces) -> None:
    np.savez(places.folders[0] / "celeba-test.npz", images=pixels(5, 32, 32, 3))
    assert load("celeba", "test", places).shape == (3, 32, 32)
    with pytest.raises(DataError, match="already went through 'crop'; 'resize' needs the native"):
        load("celeba@resize", "test", places, like=(3, 64, 64))


def test_a_prepared_array_of_the_right_size_is_resized_already_and_a_note_says_so(
    places: DataPlaces,
) -> None:
    images = pixels(5, 32, 32, 3)
    np.savez(places.folders[0] / "lfwpeople-test.npz", images=images)
    asked = load("lfwpeople@resize", "test", places)
    np.testing.assert_array_equal(asked.images, images.transpose(0, 3, 1, 2))
    assert "resized or cropped is not known" in asked.note
    assert "not known" not in load("lfwpeople", "test", places).note


# ---------------------------------------------------------------------- archives of ours
def png_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def test_notmnist_archive(places: DataPlaces) -> None:
    letters = {letter: pixels(28, 28) for letter in "BAJ"}
    path = places.folders[0] / "notMNIST_small.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for letter, image in letters.items():
            add(archive, f"notMNIST_small/{letter}/x.png", png_bytes(image))
        unreadable = "notMNIST_small/F/Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png"
        add(archive, unreadable, b"")
    loaded = load("notmnist", "test", places)
    assert loaded.labels is not None
    assert loaded.labels.tolist() == [0, 1, 9]
    np.testing.assert_array_equal(loaded.images[:, 0], [letters[c] for c in "ABJ"])
    assert loaded.note == "skipped 1 unreadable files of the archive"
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "notMNIST_small/A/other.png", b"torn")
    with pytest.raises(DataError, match=r"other\.png is not readable"):
        load("notmnist", "test", places)


def norb(values: np.ndarray, magic: int) -> bytes:
    sizes = [*values.shape] + [1] * max(0, 3 - values.ndim)
    head = np.array([magic, values.ndim, *sizes], "<u4").tobytes()
    return gzip.compress(head + values.tobytes())


def test_small_norb_files(places: DataPlaces) -> None:
    images = pixels(4, 2, 96, 96)
    stem = places.folders[0] / NORB_STEM["test"]
    Path(f"{stem}-dat.mat.gz").write_bytes(norb(images, 0x1E3D4C55))
    assert find_published(get_spec("smallnorb"), "test", places.folders) is None
    labels = np.array([3, 0, 4, 1], "<i4")
    Path(f"{stem}-cat.mat.gz").write_bytes(norb(labels, 0x1E3D4C54))
    loaded = load("smallnorb", "test", places)
    assert (len(loaded), loaded.shape) == (8, (1, 28, 28))
    assert loaded.labels is not None
    assert loaded.labels.tolist() == [3, 3, 0, 0, 4, 4, 1, 1]
    expected = Image.fromarray(images[1, 0]).resize((28, 28), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(loaded.images[2, 0], np.asarray(expected))
    inverted = load("smallnorb@invert", "test", places)
    np.testing.assert_array_equal(inverted.images, 255 - loaded.images)
    Path(f"{stem}-dat.mat.gz").write_bytes(b"torn")
    with pytest.raises(DataError, match="not a matrix in NORB's format"):
        load("smallnorb", "test", places)


def test_tiny_imagenet_archive(places: DataPlaces) -> None:
    path = places.folders[0] / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index, word in enumerate(["n02", "n01", "n02"]):
            file = io.BytesIO()
            Image.fromarray(np.full((64, 64, 3), 60 * index + 20, np.uint8)).save(file, "JPEG")
            archive.writestr(f"tiny/val/images/val_{index}.JPEG", file.getvalue())
            archive.writestr(f"tiny/train/{word}/images/{word}_{index}.JPEG", file.getvalue())
        rows = [f"val_{i}.JPEG\t{word}\t0" for i, word in enumerate(["n02", "n01", "n02"])]
        archive.writestr("tiny/val/val_annotations.txt", "\n".join(rows) + "\n")
    test, train = (load("tiny-imagenet", split, places) for split in ("test", "train"))
    assert test.shape == train.shape == (3, 32, 32)
    assert test.labels is not None
    assert test.labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(test.images.mean((1, 2, 3)), [20, 80, 140], atol=2)
    np.testing.assert_allclose(train.images.mean((1, 2, 3)), [80, 20, 140], atol=2)


def test_torchvision_root(places: DataPlaces) -> None:
    root = places.folders[0] / "FashionMNIST" / "raw"
    root.mkdir(parents=True)
    images, labels = pixels(6, 28, 28), np.arange(6, dtype=np.uint8)
    for prefix in ("train", "t10k"):
        head = np.array([0x803, 6, 28, 28], ">u4").tobytes()
        (root / f"{prefix}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = np.array([0x801, 6], ">u4").tobytes()
        (root / f"{prefix}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    loaded = load("fashionmnist", "test", places)
    np.testing.assert_array_equal(loaded.images[:, 0], images)
    assert loaded.labels is not None
    assert loaded.labels.tolist() == list(range(6))
    states = {(s.name, s.split): s.state for s in status(places)}
    counts = {(s.name, s.split): s.count for s in status(places)}
    assert states["fashionmnist", "test"] == "native"
    assert counts["fashionmnist", "test"] == "6 of 10,000"
    assert states["mnist", "test"] == "missing"
    assert states["digits", "train"] == "embedded"


def test_status_counts_what_the_files_hold(places: DataPlaces) -> None:
    folder = places.folders[0]
    np.savez(folder / "notmnist-test.npz", images=np.zeros((7, 28, 28), np.uint8))
    for part, count in ((1, 3), (2, 4)):
        images = np.zeros((count, 32, 32, 3), np.uint8)
        np.savez(folder / f"cifar10-train-{part}.npz", images=images)
    np.savez(folder / "mnist-test.npz", pictures=np.zeros((2, 28, 28), np.uint8))
    (folder / "mnist-train.npz").write_bytes(b"no archive")
    found = {(s.name, s.split): s for s in status(places)}
    assert found["notmnist", "test"].count == "7 of 18,724"
    assert found["cifar10", "train"].count == "7 of 50,000"
    assert found["digits", "test"].count == "500"
    for split in ("train", "test"):
        assert found["mnist", split].state == "damaged"
        assert f"mnist-{split}.npz" in found["mnist", split].where


@pytest.fixture
def served(tmp_path: Path) -> tuple[str, Path]:
    """A real HTTP server over a folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/", folder


def test_downloads_are_verified_by_hash(served: tuple[str, Path], tmp_path: Path) -> None:
    import hashlib

    url, folder = served
    (folder / "a.bin").write_bytes(b"as published")
    into = tmp_path / "into"
    good = hashlib.md5(b"as published").hexdigest()
    _download("a", url + "a.bin", f"md5:{good}", into, "a.bin")
    assert (into / "a.bin").read_bytes() == b"as published"
    with pytest.raises(DataError, match="by hand") as caught:
        _download("a", url + "a.bin", "md5:" + "0" * 32, into, "b.bin")
    assert not (into / "b.bin").exists()
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot download"):
        _download("a", url + "absent.bin", f"md5:{good}", into, "c.bin")


# ---------------------------------------------------------------------- transforms
def test_transforms() -> None:
    image = pixels(20, 30, 3)
    assert apply(image, ["resize"], (10, 10), 0).shape == (10, 10, 3)
    assert apply(image, ["nearest"], (10, 15), 0).shape == (10, 15, 3)
    np.testing.assert_array_equal(apply(image, ["nearest"], (10, 15), 0), image[1::2, 1::2])
    np.testing.assert_array_equal(apply(image, ["invert", "invert"], (0, 0), 0), image)
    grey = apply(image, ["grey"], (0, 0), 0)
    luma = image @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[..., 0], luma, atol=1)
    back = apply(grey, ["rgb"], (0, 0), 0)
    assert back.shape == (20, 30, 3)
    np.testing.assert_array_equal(apply(back, ["grey"], (0, 0), 0), grey)


def test_resize_takes_the_centre_square() -> None:
    image = np.zeros((10, 30, 1), np.uint8)
    image[:, 10:20] = 200
    assert np.all(apply(image, ["resize"], (5, 5), 0) == 200)


def test_crops_are_keyed_by_the_images_index() -> None:
    image = pixels(40, 60, 3)
    crops: Callable[[int], np.ndarray] = lambda i: apply(image, ["crop"], (16, 16), i)  # noqa: E731
    assert crops(3).shape == (16, 16, 3)
    np.testing.assert_array_equal(crops(3), crops(3))
    assert len({crops(i).tobytes() for i in range(20)}) > 10

"""The layouts in which torchvision keeps data sets: which files a split needs, and how it is read.

A root counts for a split where all files of that split are there.  torchvision's classes read the
files after their MD5 sums were found right, but for MNIST and its kin, whose idx files are read
here (torchvision asks for both splits to read one).  Where they list folders, the order is made
that of the names: a file system gives any.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.formats.idx import read_idx
from oodbench.datasets.reading.file_identity import file_identity
from oodbench.datasets.sources.raw_images import Found, Raw, short_reason
from oodbench.datasets.spec import DatasetSpec
from oodbench.errors import DataError, listed

#: Files of each class and split, relative to the root; "*" stands for every split.
FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "CIFAR10": {"*": tuple(
        f"cifar-10-batches-py/{name}"
        for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta")
    )},
    "CIFAR100": {"*": tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta"))},
    "SVHN": {split: (f"{split}_32x32.mat",) for split in ("train", "test", "extra")},
    "CelebA": {"*": (
        "celeba/img_align_celeba", "celeba/list_eval_partition.txt", "celeba/identity_CelebA.txt",
        "celeba/list_attr_celeba.txt", "celeba/list_bbox_celeba.txt",
        "celeba/list_landmarks_align_celeba.txt",
    )},
    "Places365": {
        "train": ("data_256_standard", "categories_places365.txt", "places365_train_standard.txt"),
        "test": ("val_256", "categories_places365.txt", "places365_val.txt"),
    },
    "Flowers102": {"*": tuple(
        f"flowers-102/{name}" for name in ("jpg", "imagelabels.mat", "setid.mat")
    )},
    "LFWPeople": {
        split: ("lfw-py/lfw_funneled", "lfw-py/lfw-funneled.tgz", "lfw-py/lfw-names.txt",
                f"lfw-py/peopleDev{split.capitalize()}.txt")
        for split in ("train", "test")
    },
    "Food101": {split: ("food-101/images", f"food-101/meta/{split}.json")
                for split in ("train", "test")},
    "DTD": {split: ("dtd/dtd/images", f"dtd/dtd/labels/{split}1.txt")
            for split in ("train", "val", "test")},
    "Omniglot": {
        "train": ("omniglot-py/images_background", "omniglot-py/images_background.zip"),
        "test": ("omniglot-py/images_evaluation", "omniglot-py/images_evaluation.zip"),
    },
}  # fmt: skip
#: Levels of folders below the folder of images, by class.
LEVELS = {"LFWPeople": 1, "Food101": 1, "DTD": 1, "Omniglot": 2, "Places365": 3}
IDX = ("MNIST", "FashionMNIST", "KMNIST")


def needed_files(spec: DatasetSpec, split: str) -> tuple[str, ...]:
    """The files that a split needs, relative to a root."""
    name = spec.options["class"]
    if name in IDX:
        stem = f"{name}/raw/{'train' if split == 'train' else 't10k'}"
        return (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
    return FILES[name].get(split) or FILES[name]["*"]


def find_root(spec: DatasetSpec, split: str, folder: Path) -> Found | None:
    """The split in a root, None where one of its files is not there."""
    name = spec.options["class"]
    present = [_present(folder / file, packed=name in IDX) for file in needed_files(spec, split)]
    paths = [path for path in present if path is not None]
    if len(paths) < len(present):
        return None
    identity: JSON = {
        "torchvision": name,
        "files": [_identity(path, LEVELS.get(name, 0)) for path in paths],
        "split": split,
    }
    if name in IDX:
        return Found(str(paths[0]), identity, lambda: _read_idx(spec, paths[0], paths[1]))
    return Found(f"{folder} ({name})", identity, lambda: read_root(spec, split, folder))


def _present(path: Path, packed: bool) -> Path | None:
    if path.exists():
        return path
    gzipped = path.with_name(f"{path.name}.gz")
    return gzipped if packed and gzipped.is_file() else None


def _identity(path: Path, levels: int) -> JSON:
    """Of a folder its own times, and those of the folders some levels below it."""
    if path.is_file():
        return file_identity(path)
    rows: list[JSON] = []
    for folder in _folders(path, levels):
        stat = folder.stat()
        rows.append([str(folder), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino])
    return {"folder": str(path.absolute()), "listing": digest(rows)}


def _folders(path: Path, levels: int) -> Iterator[Path]:
    yield path
    if levels:
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if entry.is_dir():
                yield from _folders(Path(entry.path), levels - 1)


def _read_idx(spec: DatasetSpec, images: Path, labels: Path) -> Raw:
    again = f"remove it and run `oodbench data fetch {spec.name}`"
    try:
        pixels, marks = read_idx(images), read_idx(labels)
    except DataError as error:
        raise DataError(f"{error}; {again}") from error
    if pixels.ndim != 3 or marks.shape != pixels.shape[:1]:
        raise DataError(f"{images}: not images with the labels of {labels.name}; {again}")
    return Raw(pixels[..., None], len(pixels), marks.astype(np.int64))


def read_root(spec: DatasetSpec, split: str, folder: Path, *, download: bool = False) -> Raw:
    """A split by torchvision's class; DataError where it finds the files damaged."""
    name = spec.options["class"]
    try:
        return _from_class(open_root(spec, split, folder, download=download), name, str(folder))
    except DataError:
        raise
    except Exception as error:  # torchvision's readers raise anything on damaged files
        raise DataError(
            f"{spec.name} {split}: torchvision's {name} in {folder} failed"
            f" ({short_reason(error)}); run `oodbench data fetch {spec.name}` where there is a"
            f" network, or see {spec.homepage}"
        ) from error


def open_root(spec: DatasetSpec, split: str, folder: Path, *, download: bool = False) -> Any:
    """torchvision's object for a split."""
    from torchvision import datasets

    name = spec.options["class"]
    arguments: dict[str, object] = {"root": str(folder), "download": download}
    if name == "Omniglot":
        arguments["background"] = split == "train"
    elif name == "Places365":
        arguments |= {"split": "train-standard" if split == "train" else "val", "small": True}
    elif name in ("SVHN", "CelebA", "Flowers102", "LFWPeople", "Food101", "DTD"):
        arguments["split"] = split
    else:
        arguments["train"] = split == "train"
    if name == "CelebA":
        arguments["target_type"] = "identity"
    return getattr(datasets, name)(**arguments)


def _from_class(data: Any, name: str, where: str) -> Raw:
    """The array where the class holds one, else its images one after another."""
    if name == "Omniglot":
        return _omniglot(data, where)
    labels = _labels(data, name)
    pixels = getattr(data, "data", None)
    if hasattr(pixels, "__array__"):
        array = np.asarray(pixels)
        if name == "SVHN":  # (N, C, H, W)
            array = array.transpose(0, 2, 3, 1)
        return Raw(array, len(array), labels)
    names = [path for path, _ in data.imgs] if name == "Places365" else None
    images = _each(lambda index: data[index][0], len(data), name, where)
    return Raw(images, len(data), labels, names=names)


def _labels(data: Any, name: str) -> np.ndarray | None:
    """One number an image; of CelebA the person."""
    held = data.identity[:, 0] if name == "CelebA" else next(
        (getattr(data, n) for n in ("targets", "labels", "_labels") if hasattr(data, n)), None
    )  # fmt: skip
    return None if held is None else np.asarray(held, dtype=np.int64)


def _omniglot(data: Any, where: str) -> Raw:
    """By alphabet, character and file; the label is the character's place among all."""
    from PIL import Image

    files: list[tuple[str, ...]] = sorted(
        (*Path(data._characters[character]).parts, image)
        for image, character in data._flat_character_images
    )
    characters = sorted({file[:-1] for file in files})
    number = {character: index for index, character in enumerate(characters)}

    def open_image(index: int) -> Image.Image:
        return Image.open(Path(data.target_folder, *files[index]), formats=("PNG",))

    labels = np.array([number[file[:-1]] for file in files], dtype=np.int64)
    return Raw(_each(open_image, len(files), "Omniglot", where), len(files), labels)


def _each(open_image: Any, count: int, name: str, where: str) -> Iterator[np.ndarray]:
    grey = name == "Omniglot"
    for index in range(count):
        try:
            pixels = np.asarray(open_image(index).convert("L" if grey else "RGB"))
        except Exception as error:  # Pillow raises anything on damaged files
            reason = short_reason(error)
            raise DataError(f"{where}: image {index} of {name} ({reason})") from error
        yield pixels[..., None] if grey else pixels


def missing_files(spec: DatasetSpec, split: str, folders: Sequence[Path]) -> str:
    """Where some files of a split are there and others not: which are missing, else ""."""
    for folder in folders:
        names = needed_files(spec, split)
        there = [_present(folder / n, packed=spec.options["class"] in IDX) for n in names]
        if any(there) and not all(there):
            lost = [n for n, path in zip(names, there, strict=True) if path is None]
            return f" ({folder} has not {listed(lost, 3)})"
    return ""

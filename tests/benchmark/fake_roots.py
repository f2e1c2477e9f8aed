"""Roots of published data sets in their real layouts, with a few made-up images each.

Every function writes a split of a set below a folder and returns the images (N, H, W, C), before
any transform, and their labels, in the order in which a reader has to give them.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Split = tuple[np.ndarray, list[int]]
Make = Callable[[Path, str], Split]
COUNT = 6


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def seed_of(split: str) -> int:
    return {"train": 1, "test": 2, "extra": 3}[split]


def as_jpeg(image: np.ndarray) -> np.ndarray:
    """What a JPEG of an image holds."""
    return np.asarray(Image.open(io.BytesIO(jpeg(image))).convert("RGB"))


def jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=90)
    return file.getvalue()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return head + values.tobytes()


def mnist_like(name: str, packed: bool = False) -> Make:
    def make(root: Path, split: str) -> Split:
        images, labels = draw(seed_of(split), COUNT, 28, 28), np.arange(COUNT, dtype=np.uint8)
        start = "train" if split == "train" else "t10k"
        for part, values in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx(values)
            path = root / name / "raw" / f"{start}-{part}-ubyte"
            write(path.with_name(f"{path.name}.gz") if packed else path,
                  gzip.compress(data) if packed else data)  # fmt: skip
        return images[..., None], labels.tolist()

    return make


def cifar(folder: str, key: str) -> Make:
    """Both splits: torchvision asks for all files to read one."""

    def make(root: Path, split: str) -> Split:
        names = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
        if key == "fine_labels":
            names = {"train": ["train"], "test": ["test"]}
        held: dict[str, Split] = {}
        for part, files in names.items():
            images, labels = [], list[int]()
            for number, file in enumerate(files):
                stored = draw(10 * seed_of(part) + number, 2, 3072)
                marks = [number, number + 1]
                write(root / folder / file, pickle.dumps({"data": stored, key: marks}))
                images.append(stored.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
                labels += marks
            held[part] = np.concatenate(images), labels
        meta = "meta" if key == "fine_labels" else "batches.meta"
        names_key = "fine_label_names" if key == "fine_labels" else "label_names"
        write(root / folder / meta, pickle.dumps({names_key: ["a", "b"]}))
        return held[split]

    return make


def svhn(root: Path, split: str) -> Split:
    from scipy.io import savemat

    images, labels = draw(seed_of(split), COUNT, 32, 32, 3), [1, 2, 10, 4, 10, 9]
    held = {"X": images.transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]}
    savemat(root / f"{split}_32x32.mat", held)
    return images, [label % 10 for label in labels]


def celeba(root: Path, split: str) -> Split:
    folder, names = root / "celeba", [f"{i:06}.jpg" for i in range(1, 9)]
    partition = [0, 2, 0, 1, 2, 0, 2, 1]
    pictures = [draw(40 + i, 218, 178, 3) for i in range(8)]
    for name, picture in zip(names, pictures, strict=True):
        write(folder / "img_align_celeba" / name, jpeg(picture))
    people = [20, 10, 20, 5, 30, 7, 10, 1]

    def table(file: str, rows: list[str], head: str = "") -> None:
        text = f"{len(rows)}\n{head}\n" if head else ""
        write(folder / file, (text + "\n".join(rows) + "\n").encode())

    table("list_eval_partition.txt", [f"{n} {p}" for n, p in zip(names, partition, strict=True)])
    table("identity_CelebA.txt", [f"{n} {p}" for n, p in zip(names, people, strict=True)])
    table("list_attr_celeba.txt", [f"{n} 1 -1" for n in names], "Smiling Young")
    table("list_bbox_celeba.txt", [f"{n} 1 2 3 4" for n in names], "image_id x y w h")
    table("list_landmarks_align_celeba.txt", [f"{n} 1 2" for n in names], "lefteye_x lefteye_y")
    chosen = [i for i, p in enumerate(partition) if p == {"train": 0, "test": 2}[split]]
    return np.stack([as_jpeg(pictures[i]) for i in chosen]), [people[i] for i in chosen]


def places365(root: Path, split: str) -> Split:
    write(root / "categories_places365.txt", b"/a/airfield 0\n/b/beach 1\n")
    pictures = [draw(60 + i + 10 * seed_of(split), 256, 256, 3) for i in range(3)]
    labels = [1, 0, 1]
    if split == "train":
        names = ["/b/beach/1.jpg", "/a/airfield/2.jpg", "/b/beach/0.jpg"]
        folder, listing = root / "data_256_standard", "places365_train_standard.txt"
    else:
        names = [f"Places365_val_0000000{i}.jpg" for i in (2, 1, 3)]
        folder, listing = root / "val_256", "places365_val.txt"
    write(
        root / listing, "".join(f"{n} {k}\n" for n, k in zip(names, labels, strict=True)).encode()
    )
    for name, picture in zip(names, pictures, strict=True):
        write(folder / name.lstrip("/"), jpeg(picture))
    return np.stack(list(map(as_jpeg, pictures))), labels


def flowers(root: Path, split: str) -> Split:
    from scipy.io import savemat

    folder = root / "flowers-102"
    pictures = [draw(80 + i, 50 + i, 60, 3) for i in range(6)]
    for number, picture in enumerate(pictures, 1):
        write(folder / "jpg" / f"image_{number:05}.jpg", jpeg(picture))
    parts = {"trnid": [5, 2], "valid": [1], "tstid": [3, 6, 4]}
    savemat(folder / "setid.mat", {name: np.array([ids]) for name, ids in parts.items()})
    savemat(folder / "imagelabels.mat", {"labels": np.array([[77, 1, 102, 5, 9, 40]])})
    chosen = parts["trnid" if split == "train" else "tstid"]
    labels = [[76, 0, 101, 4, 8, 39][i - 1] for i in chosen]
    found = np.empty(len(chosen), object)  # they differ in height
    found[:] = [as_jpeg(pictures[i - 1]) for i in chosen]
    return found, labels


def lfw(root: Path, split: str) -> Split:
    folder = root / "lfw-py"
    people = {"train": [("Ann_B", 2), ("Cid_D", 1)], "test": [("Eve_F", 2)]}
    images, labels, every = [], list[int](), [p for part in people.values() for p, _ in part]
    for part, held in people.items():
        rows = [str(len(held)), *(f"{person}\t{count}" for person, count in held)]
        write(folder / f"peopleDev{part.capitalize()}.txt", "\n".join(rows).encode())
        for person, count in held:
            for number in range(1, count + 1):
                picture = draw(100 + len(person) + number + 7 * every.index(person), 250, 250, 3)
                write(folder / "lfw_funneled" / person / f"{person}_{number:04}.jpg", jpeg(picture))
                if part == split:
                    images.append(as_jpeg(picture))
                    labels.append(every.index(person))
    write(folder / "lfw-names.txt", "".join(f"{person}\t2\n" for person in every).encode())
    write(folder / "lfw-funneled.tgz", b"not read")
    return np.stack(images), labels


def food(root: Path, split: str) -> Split:
    folder, images, labels = root / "food-101", [], list[int]()
    held = {"train": {"waffles": ["waffles/9", "waffles/1"], "apple_pie": ["apple_pie/3"]},
            "test": {"apple_pie": ["apple_pie/7"], "waffles": ["waffles/2"]}}  # fmt: skip
    for part, classes in held.items():
        write(folder / "meta" / f"{part}.json", json.dumps(classes).encode())
        for name, files in classes.items():
            for file in files:
                picture = draw(120 + int(file[-1]), 64, 64, 3)
                write(folder / "images" / f"{file}.jpg", jpeg(picture))
                if part == split:
                    images.append(as_jpeg(picture))
                    labels.append(["apple_pie", "waffles"].index(name))
    return np.stack(images), labels


def textures(root: Path, split: str) -> Split:
    folder, images, labels = root / "dtd" / "dtd", [], list[int]()
    held = {"train": ["woven/woven_2", "banded/banded_1"],
            "val": ["woven/woven_3", "banded/banded_6"],
            "test": ["woven/woven_5", "banded/banded_4"]}  # fmt: skip
    for part, files in held.items():
        write(folder / "labels" / f"{part}1.txt", "".join(f"{f}.jpg\n" for f in files).encode())
        for file in files:
            picture = draw(170 + int(file[-1]), 64, 64, 3)
            write(folder / "images" / f"{file}.jpg", jpeg(picture))
            if part == split:
                images.append(as_jpeg(picture))
                labels.append(["banded", "woven"].index(file.split("/")[0]))
    return np.stack(images), labels


def omniglot(root: Path, split: str) -> Split:
    """Written in an order that is not that of the names."""
    name = "images_background" if split == "train" else "images_evaluation"
    files = [
        ("Tagalog", "character02", "0001_02.png"),
        ("Arcadian", "character10", "0002_01.png"),
        ("Tagalog", "character01", "0003_07.png"),
        ("Arcadian", "character10", "0002_20.png"),
        ("Arcadian", "character02", "0004_01.png"),
    ]
    pictures = {}
    for number, file in enumerate(files):
        pictures[file] = draw(140 + number, 105, 105)
        out = io.BytesIO()
        Image.fromarray(pictures[file]).save(out, format="PNG")
        write(root.joinpath("omniglot-py", name, *file), out.getvalue())
    write(root / "omniglot-py" / f"{name}.zip", b"not read")
    ordered = sorted(files)
    characters = sorted({file[:2] for file in files})
    labels = [characters.index(file[:2]) for file in ordered]
    return np.stack([pictures[file] for file in ordered])[..., None], labels


def norb(values: np.ndarray, magic: int) -> bytes:
    sizes = [*values.shape] + [1] * max(0, 3 - values.ndim)
    head = np.array([magic, values.ndim, *sizes], "<u4").tobytes()
    return gzip.compress(head + values.tobytes())


def smallnorb(root: Path, split: str) -> Split:
    from oodbench.datasets.sources.norb import NORB_STEM

    images, labels = draw(seed_of(split), 3, 2, 96, 96), np.array([4, 0, 2], "<i4")
    write(root / f"{NORB_STEM[split]}-dat.mat.gz", norb(images, 0x1E3D4C55))
    write(root / f"{NORB_STEM[split]}-cat.mat.gz", norb(labels, 0x1E3D4C54))
    return images.reshape(6, 96, 96, 1), [4, 4, 0, 0, 2, 2]


def notmnist(root: Path, split: str) -> Split:
    pictures = {letter: draw(ord(letter), 28, 28) for letter in "CAJ"}
    with tarfile.open(root / "notMNIST_small.tar.gz", "w:gz") as archive:
        for letter, picture in pictures.items():
            out = io.BytesIO()
            Image.fromarray(picture).save(out, format="PNG")
            info = tarfile.TarInfo(f"notMNIST_small/{letter}/x.png")
            info.size = len(out.getvalue())
            archive.addfile(info, io.BytesIO(out.getvalue()))
    return np.stack([pictures[c] for c in "ACJ"])[..., None], [0, 2, 9]


def tiny_imagenet(root: Path, split: str) -> Split:
    pictures = [draw(160 + i, 64, 64, 3) for i in range(3)]
    words = ["n02", "n01", "n02"]
    with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w") as archive:
        for number, (word, picture) in enumerate(zip(words, pictures, strict=True)):
            archive.writestr(f"tiny-imagenet-200/val/images/val_{number}.JPEG", jpeg(picture))
            archive.writestr(f"tiny-imagenet-200/train/{word}/images/{word}_{number}.JPEG",
                             jpeg(picture))  # fmt: skip
        rows = "".join(f"val_{i}.JPEG\t{word}\t0\t0\t1\t1\n" for i, word in enumerate(words))
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", rows)
    stacked = np.stack(list(map(as_jpeg, pictures)))
    order = [1, 0, 2] if split == "train" else [0, 1, 2]
    return stacked[order], [[1, 0, 1][i] for i in order]


MAKERS: dict[str, Make] = {
    "mnist": mnist_like("MNIST"),
    "fashionmnist": mnist_like("FashionMNIST", packed=True),
    "kmnist": mnist_like("KMNIST"),
    "notmnist": notmnist,
    "omniglot": omniglot,
    "smallnorb": smallnorb,
    "cifar10": cifar("cifar-10-batches-py", "labels"),
    "cifar100": cifar("cifar-100-python", "fine_labels"),
    "svhn": svhn,
    "celeba": celeba,
    "places365": places365,
    "flower102": flowers,
    "lfwpeople": lfw,
    "food101": food,
    "textures": textures,
    "tiny-imagenet": tiny_imagenet,
}

"""The archives of notMNIST and Tiny ImageNet, as published; read in place."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from oodbench.datasets.sources.archives import decode, read_tar, read_zip_member
from oodbench.datasets.sources.raw_images import Raw
from oodbench.errors import DataError

#: Two files of the archive are not images; every public loader skips them.
NOTMNIST_UNREADABLE = {
    "RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png",
    "Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png",
}
NOTMNIST_FOLDERS = "ABCDEFGHIJ"


def read_notmnist(path: Path, split: str) -> Raw:
    images, labels, skipped = [], [], []
    for member, data in sorted(read_tar(path, ".png").items()):
        folder, name = ["", *member.split("/")][-2:]
        if len(folder) != 1 or folder not in NOTMNIST_FOLDERS:
            raise DataError(f"{path}: {member} is not in a folder A to J; fetch it again")
        if name in NOTMNIST_UNREADABLE:
            skipped.append(name)
            continue
        pixels = np.asarray(decode(data, "PNG", f"{path}: {member}").convert("L"))
        if pixels.shape != (28, 28):
            raise DataError(f"{path}: {member} is not an image of 28×28 pixels; fetch it again")
        images.append(pixels)
        labels.append(NOTMNIST_FOLDERS.index(folder))
    if not images:
        raise DataError(f"{path}: no images in it; expected folders A to J of PNG files")
    note = f"skipped {len(skipped)} unreadable files of the archive" if skipped else ""
    stack = np.stack(images)[..., None]
    return Raw(stack, len(stack), np.asarray(labels, dtype=np.int64), note=note)


def read_tiny_imagenet(path: Path, split: str) -> Raw:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.endswith(".JPEG"))
            wanted = "/train/" if split == "train" else "/val/"
            names = [n for n in names if wanted in f"/{n}"]
            words = [n.split("/")[-3] for n in names]
            if split != "train":
                text = next(n for n in archive.namelist() if n.endswith("val_annotations.txt"))
                rows = read_zip_member(archive, text, path).decode().splitlines()
                annotations = {row.split("\t")[0]: row.split("\t")[1] for row in rows if row}
                words = [annotations[n.split("/")[-1]] for n in names]
    except (zipfile.BadZipFile, OSError, StopIteration, LookupError, ValueError) as error:
        raise DataError(f"{path}: not the Tiny ImageNet archive; fetch it again") from error
    if not names:
        raise DataError(f"{path}: no images of the {split} split in it")
    classes = {word: index for index, word in enumerate(sorted(set(words)))}

    def read() -> Iterator[np.ndarray]:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                data = read_zip_member(archive, name, path)
                yield np.asarray(decode(data, "JPEG", f"{path}: {name}").convert("RGB"))

    labels = np.asarray([classes[w] for w in words], dtype=np.int64)
    return Raw(read(), len(names), labels, names=names)

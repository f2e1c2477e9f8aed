"""Published data sets on disk: prepared arrays, torchvision's classes, and three loaders of ours.

Every finder looks through the data folders and returns a `Found`, or None with nothing imported
that is not needed; `fetch_published` downloads into a folder, verified by hash.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.sources.archives import decode, read_tar, read_zip_member
from oodbench.datasets.sources.raw_images import (
    Found,
    Raw,
    as_images,
    as_labels,
    file_identity,
    read_npz,
    short_reason,
)
from oodbench.datasets.spec import DatasetSpec
from oodbench.errors import DataError

NORB_URL = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/"
NORB_STEM = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
#: MD5 as published in the loader of the HVK code (JakobHavtorn/hvae-oodd).
NORB_MD5 = {
    "train-dat": "66054832f9accfe74a0f4c36a75bc0a2",
    "train-cat": "23c8b86101fbf0904a000b43d3ed2fd9",
    "test-dat": "e4ad715691ed5a3a5f138751a4ceb071",
    "test-cat": "5aa791cd7e6016cf957ce9bdb93b8603",
}
NORB_MAGIC: dict[int, np.dtype[np.uint8] | np.dtype[np.int32]] = {
    0x1E3D4C55: np.dtype(np.uint8),
    0x1E3D4C54: np.dtype(np.int32).newbyteorder("<"),
}
#: The largest file, unpacked: 24,300 pairs of 96×96 images behind a header.
NORB_BYTES = 24_300 * 2 * 96 * 96 + 64
#: Two files of the archive are not images; every public loader skips them.
NOTMNIST_UNREADABLE = {
    "RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png",
    "Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png",
}


NOTMNIST_FOLDERS = "ABCDEFGHIJ"


def find_published(spec: DatasetSpec, split: str, folders: Sequence[Path]) -> Found | None:
    """The first source of a split in the folders: prepared arrays first, then native files."""
    for folder in folders:
        found = find_arrays(spec, split, folder) or _find_native(spec, split, folder)
        if found is not None:
            return found
    return None


def expected_files(spec: DatasetSpec, split: str) -> str:
    """What was looked for, in words."""
    if spec.source == "arrays":
        return f"{spec.name}-{split}.npz"
    native = {
        "torchvision": f"torchvision's {spec.options.get('class')} root",
        "smallnorb": f"{NORB_STEM.get(split, 'smallnorb')}-dat.mat.gz",
    }.get(spec.source, spec.options.get("file", ""))
    return f"{spec.name}-{split}.npz or {native}"


# ---------------------------------------------------------------------- prepared arrays
def find_arrays(spec: DatasetSpec, split: str, folder: Path) -> Found | None:
    """``<dataset>-<split>.npz``, or its parts ``-1``, ``-2``, … in order."""
    stem = f"{spec.name}-{split}"
    whole = folder / f"{stem}.npz"
    if whole.is_file():
        paths = [whole]
    else:
        numbers = sorted(
            int(p.stem.removeprefix(f"{stem}-"))
            for p in folder.glob(f"{stem}-*.npz")
            if p.stem.removeprefix(f"{stem}-").isdigit()
        )
        if not numbers:
            return None
        if numbers != list(range(1, len(numbers) + 1)):
            missing = next(i for i in range(1, numbers[-1]) if i not in numbers)
            raise DataError(
                f"{folder}: {stem}-{missing}.npz is missing ({len(numbers)} parts found)"
            )
        paths = [folder / f"{stem}-{number}.npz" for number in numbers]
    identity: JSON = {"arrays": [file_identity(p) for p in paths]}
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} … {paths[-1].name}"
    return Found(where, identity, lambda: _read_arrays(spec, split, paths))


def _read_arrays(spec: DatasetSpec, split: str, paths: list[Path]) -> Raw:
    images, labels = [], []
    for path in paths:
        arrays = read_npz(path)
        if "images" not in arrays:
            held = ", ".join(arrays) or "nothing"
            raise DataError(f"{path}: no array 'images' (it holds {held}); name the array 'images'")
        images.append(as_images(arrays["images"], str(path)))
        if "labels" in arrays:
            labels.append(as_labels(arrays["labels"], len(images[-1]), str(path)))
    if len({image.shape[1:] for image in images}) > 1:
        raise DataError(f"{paths[0]}: the parts hold images of different shapes")
    whole = np.concatenate(images) if len(images) > 1 else images[0]
    channels, height, width = spec.shape
    final = whole.shape[1:] == (height, width, channels)
    expected = spec.splits.get(split, 0)
    note = f"{len(whole):,} of {expected:,} images" if 0 < len(whole) < expected else ""
    joined = np.concatenate(labels) if len(labels) == len(images) else None
    return Raw(whole, len(whole), joined, final=final, note=note)


# ---------------------------------------------------------------------- native files
def _find_native(spec: DatasetSpec, split: str, folder: Path) -> Found | None:
    if spec.source == "arrays":
        return None
    if spec.source == "torchvision":
        return _find_torchvision(spec, split, folder)
    if spec.source == "smallnorb":
        names = [f"{NORB_STEM[split]}-{part}.mat.gz" for part in ("dat", "cat")]
        paths = [
            p for name in names for p in (folder / "smallnorb" / name, folder / name) if p.is_file()
        ]
        if len(paths) < 2:
            return None
        identity: JSON = {"files": [file_identity(p) for p in paths]}
        return Found(str(paths[0]), identity, lambda: _read_norb(paths[0], paths[1]))
    path = folder / spec.options["file"]
    if not path.is_file():
        return None
    reader = _read_notmnist if spec.source == "notmnist" else _read_tiny_imagenet
    return Found(str(path), {"files": [file_identity(path)]}, lambda: reader(path, split))


def _find_torchvision(spec: DatasetSpec, split: str, folder: Path) -> Found | None:
    pattern = spec.options["files"]
    present = sorted(folder.glob(pattern)) if "*" in pattern else [folder / pattern]
    if not present or not present[0].exists():
        return None
    stats = [file_identity(p) for p in present]
    if present[0].is_dir():
        stats += [file_identity(p) for p in sorted(present[0].iterdir())[:64]]
    identity: JSON = {"torchvision": spec.options["class"], "files": stats, "split": split}
    return Found(
        f"{folder} ({spec.options['class']})",
        identity,
        lambda: _read_torchvision(spec, split, folder, download=False),
    )


def _read_torchvision(spec: DatasetSpec, split: str, folder: Path, *, download: bool) -> Raw:
    from torchvision import datasets

    name = spec.options["class"]
    arguments: dict[str, object] = {"root": str(folder), "download": download}
    if name == "Omniglot":
        arguments["background"] = split == "train"
    elif name == "Places365":
        arguments |= {"split": "train-standard" if split == "train" else "val", "small": True}
        arguments["download"] = download and not (folder / "val_256").exists()
    elif name in ("SVHN", "CelebA", "Flowers102", "LFWPeople", "Food101"):
        arguments["split"] = split
    else:
        arguments["train"] = split == "train"
    try:
        data = getattr(datasets, name)(**arguments)
        return _from_torchvision(data, name, str(folder))
    except DataError:
        raise
    except Exception as error:  # torchvision's readers raise anything on damaged files
        raise DataError(
            f"{spec.name} {split}: torchvision's {name} in {folder} failed"
            f" ({short_reason(error)}); run `oodbench data fetch {spec.name}` where there is a"
            f" network, or see {spec.homepage}"
        ) from error


def _from_torchvision(data: object, name: str, where: str) -> Raw:
    """The array where the class holds one, else its images one after another."""
    pixels, labels = (
        getattr(data, "data", None),
        getattr(data, "targets", getattr(data, "labels", None)),
    )
    if pixels is not None and name != "Omniglot":
        array = np.asarray(pixels)
        if name == "SVHN":  # (N, C, H, W)
            array = array.transpose(0, 2, 3, 1)
        marks = None if labels is None else np.asarray(labels, dtype=np.int64)
        images = as_images(array, name)
        return Raw(images, len(images), marks)
    count = len(data)  # type: ignore[arg-type]

    def read() -> Iterator[np.ndarray]:
        for index in range(count):
            grey = name == "Omniglot"
            try:
                image = data[index][0]  # type: ignore[index]
                pixel = np.asarray(image.convert("L" if grey else "RGB"))
            except Exception as error:  # Pillow raises anything on damaged files
                reason = short_reason(error)
                raise DataError(f"{where}: image {index} of {name} ({reason})") from error
            yield pixel[..., None] if grey else pixel

    return Raw(read(), count)


def _read_norb(dat: Path, cat: Path) -> Raw:
    images = read_norb_matrix(dat)
    labels = read_norb_matrix(cat).reshape(-1).astype(np.int64)
    if images.ndim != 4 or images.dtype != np.uint8 or len(labels) < len(images):
        raise DataError(f"{dat}: not images with the labels of {cat.name}; fetch both again")
    count, cameras = images.shape[:2]
    flat = images.reshape(count * cameras, *images.shape[2:])[..., None]
    return Raw(flat, len(flat), np.repeat(labels[:count], cameras))


def read_norb_matrix(path: Path) -> np.ndarray:
    """A matrix in NORB's binary format: magic, number of dimensions, at least three sizes, data."""
    try:
        with gzip.open(path) as file:
            data = file.read(NORB_BYTES + 1)
        if len(data) > NORB_BYTES:
            raise ValueError(f"more than {NORB_BYTES} bytes")
        magic, dims = np.frombuffer(data, "<u4", 2)
        stored = max(3, int(dims))
        sizes = np.frombuffer(data, "<u4", stored, 8)[: int(dims)].astype(int)
        kind = NORB_MAGIC[int(magic)]
        values: np.ndarray = np.frombuffer(data, kind, int(np.prod(sizes)), 8 + 4 * stored)
        return values.reshape(sizes)
    except (OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error) as error:
        raise DataError(f"{path}: not a matrix in NORB's format; fetch it again") from error


def _read_notmnist(path: Path, split: str) -> Raw:
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


def _read_tiny_imagenet(path: Path, split: str) -> Raw:
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

    return Raw(read(), len(names), np.asarray([classes[w] for w in words], dtype=np.int64))


# ---------------------------------------------------------------------- download
def fetch_published(spec: DatasetSpec, folder: Path) -> list[str]:
    """Download every split into `folder`, verified by hash; what was fetched, in words.

    DataError in one line where there is no network or no published hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if spec.source == "torchvision":
        splits = [s for s in spec.splits if not (spec.name == "places365" and s == "train")]
        for split in splits:
            _read_torchvision(spec, split, folder, download=True)
        return [f"{spec.name} {', '.join(splits)} by torchvision into {folder}"]
    if spec.source == "smallnorb":
        out = []
        for split, stem in NORB_STEM.items():
            for part in ("dat", "cat"):
                name = f"{stem}-{part}.mat.gz"
                _download(spec, NORB_URL + name, f"md5:{NORB_MD5[f'{split}-{part}']}", folder, name)
                out.append(str(folder / name))
        return out
    if spec.source == "embedded":
        return [f"{spec.name} ships with scikit-learn; there is nothing to fetch"]
    if spec.source in ("arrays", "files"):
        raise DataError(f"{spec.name} is declared by a plug-in or project; put its files there")
    if "hash" not in spec.options:
        raise DataError(
            f"{spec.name}: no hash of {spec.options['file']} is published, so it is not downloaded"
            f" for you; get {spec.options['url']} by hand and put it into {folder}"
        )
    _download(spec, spec.options["url"], spec.options["hash"], folder, spec.options["file"])
    return [str(folder / spec.options["file"])]


def _download(spec: DatasetSpec, url: str, known_hash: str, folder: Path, name: str) -> None:
    import pooch

    try:
        pooch.retrieve(url, known_hash, fname=name, path=folder, progressbar=False)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0][:120]
        raise DataError(
            f"{spec.name}: cannot download {url} ({type(error).__name__}: {first}); get it by hand"
            f" and put it into {folder}"
        ) from error

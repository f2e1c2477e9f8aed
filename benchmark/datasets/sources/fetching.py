"""`oodbench data fetch`: downloads, and what vouches for files that are there already.

Every download is checked by a published hash.  Files that are there are checked alike; where no
hash of them is published, that is said, with what was counted instead.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, cast

from oodbench.datasets.sources.norb import NORB_MD5, NORB_STEM, NORB_URL, norb_file
from oodbench.datasets.sources.selections import base_of
from oodbench.datasets.sources.torchvision_roots import IDX, find_root, open_root
from oodbench.datasets.spec import DatasetSpec
from oodbench.errors import DataError

#: MD5 of the unpacked idx files, whose archives' MD5 torchvision knows.
UNPACKED_MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
#: What of a root its class checks by hash when it opens it, in words.
CHECKED = {
    "CIFAR10": "its files were found right by MD5",
    "CIFAR100": "its files were found right by MD5",
    "SVHN": "its file was found right by MD5",
    "CelebA": "its lists were found right by MD5; the images have no published hash",
    "Places365": "its lists were found right by MD5; the unpacked images have no published hash",
    "Flowers102": "its lists were found right by MD5; the unpacked images have no published hash",
    "DTD": "its archive was found right by MD5 when it came; the unpacked files have no hash",
    "LFWPeople": "its archive and lists were found right by MD5",
    "Omniglot": "its archive was found right by MD5",
}


def fetch_published(spec: DatasetSpec, folder: Path) -> list[str]:
    """Download what is missing of every split into `folder`; what was done, in words.

    DataError in one line where there is no network, or where a file is not as published.
    """
    spec = base_of(spec)
    folder.mkdir(parents=True, exist_ok=True)
    if spec.source == "torchvision":
        return [_fetch_root(spec, split, folder) for split in spec.splits]
    if spec.source == "smallnorb":
        out = []
        for split, stem in NORB_STEM.items():
            for part in ("dat", "cat"):
                there = norb_file(folder, split, part)
                name = f"{stem}-{part}.mat.gz"
                known = f"md5:{NORB_MD5[f'{split}-{part}']}"
                home, hint = there.parent if there else folder, f" ({_info(spec)})"
                download(spec.name, NORB_URL + name, known, home, name, hint)
                out.append(str(there or folder / name))
        return out
    if spec.source == "embedded":
        return [f"{spec.name} ships with scikit-learn; there is nothing to fetch"]
    if spec.source in ("arrays", "files"):
        raise DataError(f"{spec.name} is declared by a plug-in or project; put its files there")
    url, known, name = (spec.options[part] for part in ("url", "hash", "file"))
    download(spec.name, url, known, folder, name, f" ({_info(spec)})")
    return [str(folder / spec.options["file"])]


def _fetch_root(spec: DatasetSpec, split: str, folder: Path) -> str:
    name = spec.options["class"]
    where = f"{spec.name} {split}"
    if find_root(spec, split, folder) is not None:
        return f"{where}: there already; {verify_root(spec, split, folder)}"
    if name == "LFWPeople":
        raise DataError(
            f"{where}: it is not offered for download any more; put lfw-funneled.tgz (unpacked"
            f" there too), lfw-names.txt and peopleDev{split.capitalize()}.txt into"
            f" {folder / 'lfw-py'} by hand ({_info(spec)})"
        )
    if spec.name == "places365" and split == "train":
        return f"{where}: 24 GB, not downloaded for you; {_info(spec)} says how to get it by hand"
    try:
        open_root(spec, split, folder, download=True)
    except Exception as error:  # torchvision's downloads raise anything
        first = (str(error).strip().splitlines() or [""])[0][:120]
        raise DataError(
            f"{where}: torchvision could not download it ({type(error).__name__}: {first}); get it"
            f" by hand and put it into {folder} ({_info(spec)} says which files)"
        ) from error
    return f"{where}: downloaded by torchvision into {folder}; {verify_root(spec, split, folder)}"


def verify_root(spec: DatasetSpec, split: str, folder: Path) -> str:
    """What vouches for the files of a split; DataError where one is not as published."""
    name = spec.options["class"]
    if name in IDX:
        return _verify_idx(spec, split, folder / name / "raw")
    if name == "Food101":
        return _verify_food(spec, split, folder)
    try:
        open_root(spec, split, folder)
    except Exception as error:
        raise _wrong(spec, folder) from error
    return CHECKED[name]


def _verify_idx(spec: DatasetSpec, split: str, raw: Path) -> str:
    """Packed and unpacked files by their MD5, an unpacked one else by the packed one beside it."""
    from torchvision import datasets

    name = spec.options["class"]
    packed = dict(cast("list[tuple[str, str]]", getattr(datasets, name).resources))
    unknown, start = [], "train" if split == "train" else "t10k"
    for file in (f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"):
        plain, archive = raw / file, raw / f"{file}.gz"
        known = UNPACKED_MD5.get(name, {}).get(file)
        if archive.is_file() and _md5(archive) != packed[archive.name]:
            raise _wrong(spec, archive)
        if not plain.is_file():
            continue
        if known is None and archive.is_file():
            known = _md5(archive, unpacked=True)
        if known is None:
            unknown.append(file)
        elif _md5(plain) != known:
            raise _wrong(spec, plain)
    if unknown:
        return (
            f"NOT verified: no hash of the unpacked {' and '.join(unknown)} is published; put the"
            " .gz files beside them"
        )
    return "its files were found right by MD5"


def _verify_food(spec: DatasetSpec, split: str, folder: Path) -> str:
    """The archive by its MD5; the unpacked images, without a published hash, by their number."""
    from torchvision.datasets import Food101

    archive = folder / "food-101.tar.gz"
    packed = archive.is_file()
    if packed and _md5(archive) != Food101._MD5:
        raise _wrong(spec, archive)
    text = (folder / "food-101" / "meta" / f"{split}.json").read_text()
    lists = cast("Mapping[str, list[str]]", json.loads(text))
    images = folder / "food-101" / "images"
    wanted = [images / f"{name}.jpg" for names in lists.values() for name in names]
    missing = [path for path in wanted if not path.is_file()]
    if missing:
        raise DataError(
            f"{spec.name} {split}: {len(missing):,} of {len(wanted):,} images are missing, the"
            f" first {missing[0]}; unpack food-101.tar.gz again"
        )
    said = "its archive was found right by MD5" if packed else "NOT verified: no archive"
    return f"{said}; all {len(wanted):,} unpacked images are there"


def _wrong(spec: DatasetSpec, path: Path) -> DataError:
    return DataError(
        f"{spec.name}: {path} is not as published (by its MD5 sum); remove it and fetch it again"
        f" ({_info(spec)} has the sums)"
    )


def _info(spec: DatasetSpec) -> str:
    return f"`oodbench data info {spec.name}`"


def _md5(path: Path, *, unpacked: bool = False) -> str:
    hasher = hashlib.md5(usedforsecurity=False)
    with gzip.open(path) if unpacked else path.open("rb") as file:
        for block in _blocks(file):
            hasher.update(block)
    return hasher.hexdigest()


def _blocks(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    while block := file.read(1 << 20):
        yield block


def download(what: str, url: str, known_hash: str, folder: Path, name: str, hint: str = "") -> None:
    """A file of `what` into a folder, unless it is there as its hash says.

    `hint` stands behind the advice to get it by hand.
    """
    import pooch

    try:
        pooch.retrieve(url, known_hash, fname=name, path=folder, progressbar=False)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0][:120]
        raise DataError(
            f"{what}: cannot download {url} ({type(error).__name__}: {first}); get it by hand, with"
            f" {known_hash}, and put it into {folder}{hint}"
        ) from error

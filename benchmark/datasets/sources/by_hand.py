"""How a published data set is had by hand: where from, what to check, where the files go.

`oodbench data info` prints it, and the site has a page of it for every set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oodbench.datasets.sources.norb import NORB_MD5, NORB_STEM, NORB_URL
from oodbench.datasets.sources.selections import base_of, parts_of
from oodbench.datasets.sources.torchvision_roots import IDX, needed_files
from oodbench.datasets.spec import DatasetSpec


@dataclass(frozen=True)
class Download:
    """A file as it is published; `folder` is where it goes, below a data folder.

    `then`: what is done with it there, "" where it is read as it is.
    """

    url: str
    md5: str
    folder: str
    then: str = ""

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2]


#: What stands in place of a link where a file is not offered any more.
GONE = {"LFWPeople": "not offered for download any more; ask whoever has a copy"}
BIG = {"Places365": "the training images are 24 GB and the validation images 0.5 GB"}


def downloads(spec: DatasetSpec) -> list[Download]:
    """The files of a published set with their MD5 sums; none for an embedded or declared one."""
    spec = base_of(spec)
    if spec.source == "torchvision":
        return _of_torchvision(spec)
    if spec.source == "smallnorb":
        return [
            Download(f"{NORB_URL}{stem}-{part}.mat.gz", NORB_MD5[f"{split}-{part}"], "smallnorb")
            for split, stem in NORB_STEM.items() for part in ("dat", "cat")
        ]  # fmt: skip
    if "url" in spec.options:
        return [Download(spec.options["url"], spec.options["hash"].removeprefix("md5:"), ".")]
    return []


def _of_torchvision(spec: DatasetSpec) -> list[Download]:
    """From the class that reads them, so that the sums are those that it checks."""
    from torchvision import datasets

    name = spec.options["class"]
    cls: Any = getattr(datasets, name)
    if name in IDX:
        return [Download(cls.mirrors[0] + file, md5, f"{name}/raw") for file, md5 in cls.resources]
    if name in ("CIFAR10", "CIFAR100"):
        return [Download(cls.url, cls.tgz_md5, ".", f"unpack it there: {cls.base_folder}/")]
    if name == "SVHN":
        return [Download(url, md5, ".") for url, _, md5 in cls.split_list.values()]
    if name == "Food101":
        return [Download(cls._URL, cls._MD5, ".", "unpack it there: food-101/")]
    if name == "DTD":
        return [Download(cls._URL, cls._MD5, "dtd", "unpack it there: dtd/")]
    if name == "Omniglot":
        return [
            Download(f"{cls.download_url_prefix}/{stem}.zip", md5, "omniglot-py",
                     f"unpack it there: {stem}/")
            for stem, md5 in cls.zips_md5.items()
        ]  # fmt: skip
    several = {"CelebA": _celeba, "Places365": _places, "Flowers102": _flowers, "LFWPeople": _lfw}
    return several[name](cls)


def _celeba(cls: Any) -> list[Download]:
    return [
        Download(f"https://drive.google.com/uc?id={drive}/{file}", md5, "celeba",
                 "unpack it there: img_align_celeba/" if file.endswith(".zip") else "")
        for drive, md5, file in cls.file_list
    ]  # fmt: skip


def _places(cls: Any) -> list[Download]:
    def unpacked(split: str, folder: str) -> Download:
        file, md5 = cls._IMAGES_META[split, True]
        return Download(cls._BASE_URL + file, md5, ".", f"unpack it there: {folder}/")

    lists, md5 = cls._DEVKIT_META["standard"]
    return [
        unpacked("val", "val_256"),
        unpacked("train-standard", "data_256_standard"),
        Download(cls._BASE_URL + lists, md5, ".", "unpack it there: the lists of images"),
    ]


def _flowers(cls: Any) -> list[Download]:
    return [
        Download(cls._download_url_prefix + file, md5, "flowers-102",
                 "unpack it there: jpg/" if file.endswith(".tgz") else "")
        for file, md5 in cls._file_dict.values()
    ]  # fmt: skip


def _lfw(cls: Any) -> list[Download]:
    _, archive, md5 = cls.file_dict["funneled"]
    lists = ("lfw-names.txt", "peopleDevTrain.txt", "peopleDevTest.txt")
    return [
        Download(cls.download_url_prefix + archive, md5, "lfw-py",
                 "unpack it there: lfw_funneled/; the archive stays"),
        *(Download(cls.download_url_prefix + file, cls.checksums.get(file, ""), "lfw-py")
          for file in lists),
    ]  # fmt: skip


# ---------------------------------------------------------------------- in words
def layout(spec: DatasetSpec) -> list[str]:
    """Paths below a data folder that a split is found by, in words."""
    if spec.source == "selection":
        return layout(base_of(spec))
    if spec.source == "torchvision":
        packed = ", each as it is or as .gz" if spec.options["class"] in IDX else ""
        return [f"{split}: {', '.join(needed_files(spec, split))}{packed}" for split in spec.splits]
    return [f"{one.folder}/{one.file}".removeprefix("./") for one in downloads(spec)]


def arrays(spec: DatasetSpec) -> str:
    """The prepared form, which every set may have instead."""
    channels, height, width = spec.shape
    size = f"N×{height}×{width}" + ("" if channels == 1 else f"×{channels}")
    names = ", ".join(f"{spec.name}-{split}.npz" for split in spec.splits)
    return f"{names} with an array `images`, uint8 {size}, and `labels` where there are any"


def described(spec: DatasetSpec, folder: str) -> list[tuple[str, Sequence[str]]]:
    """Heads, and lines below them: everything that a reader needs to have the set in `folder`."""
    counts = ", ".join(f"{split} {count:,}" for split, count in spec.splits.items())
    size = "×".join(map(str, spec.shape))
    about = [f"images: {counts}; {size} (channels×height×width) as they are used", *(
        [f"as published: {spec.native}"] if spec.variants else []
    ), f"licence: {spec.licence or 'none stated'}", f"cite: {spec.cite}",
        f"home: {spec.homepage}"]  # fmt: skip
    if spec.source == "embedded":
        return [(spec.title, about), ("To get it", ["nothing: it comes with scikit-learn"])]
    if spec.source in ("arrays", "files"):
        return [(spec.title, about), ("To get it", ["it is declared by a plug-in or project"])]
    if spec.source == "selection":
        parts = " and ".join(parts_of(spec))
        about.append(f"drawn from {base_of(spec).name}, {parts}, whose files are those below")
    name = base_of(spec).options.get("class", "")
    steps = [note for notes in (GONE, BIG) if (note := notes.get(name))]
    steps += [_step(one, folder) for one in downloads(spec)]
    right = [f"`oodbench data fetch {spec.name} --into {folder}` checks what is there by its hash"]
    right += ["`oodbench data status` counts the images of every split"]
    return [
        (spec.title, about),
        ("To get it", [f"`oodbench data fetch {spec.name}` downloads what is offered; by hand:",
                       *steps]),
        (f"Where it is found, below {folder} or any folder of --data or OODBENCH_DATA",
         [*layout(spec), f"or {arrays(spec)}"]),
        ("To see that it is right", right),
    ]  # fmt: skip


def _step(one: Download, folder: str) -> str:
    url, file = one.url, one.file
    if "drive.google.com" in url:
        url = f"{url.rpartition('/')[0]} ({file})"
    where = f"{folder}/{one.folder}".removesuffix("/.")
    sum_ = f", MD5 {one.md5}" if one.md5 else ""
    return f"{url}{sum_}, into {where}" + (f"; {one.then}" if one.then else "")

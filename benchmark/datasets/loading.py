"""Loading a split: find its source, transform once, keep it as one memory-mapped uint8 array.

A materialised split is ``<name>-<split>-<identity>.npy`` in the cache folder, with its labels and
a JSON that holds the fingerprint and the identity of the source (path, size, time of its files).
Loading it again reads the JSON and maps the array; nothing is decompressed or hashed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.corruptions import REVISION as CORRUPTION_REVISION
from oodbench.datasets.corruptions import is_corruption
from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.naming import GENERIC, SIZING, step_name
from oodbench.datasets.sources.embedded import find_embedded
from oodbench.datasets.sources.published import expected_files, find_arrays, find_published
from oodbench.datasets.sources.raw_images import Found, Raw
from oodbench.datasets.sources.synthetic import find_generated
from oodbench.datasets.sources.user_files import find_user_data, grey_if_equal
from oodbench.datasets.spec import DatasetName, DatasetSpec, catalogue, get_spec, parse_name
from oodbench.datasets.split_cache import Slot
from oodbench.datasets.subsets import keep_classes
from oodbench.errors import DataError, OodbenchError

CACHE_VERSION = 2
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class DataPlaces:
    """Where arrays and torchvision roots are looked for, and where split arrays are kept."""

    folders: tuple[Path, ...]
    cache: Path


def find_places(data: Sequence[str | Path], store: str) -> DataPlaces:
    """Folders given, those of OODBENCH_DATA, and the cache: OODBENCH_CACHE, else beside the store.

    DataError where a folder given does not exist.
    """
    given = [Path(folder).expanduser() for folder in data]
    for folder in given:
        if not folder.is_dir():
            raise DataError(f"--data {folder}: there is no such folder")
    named = [
        Path(p).expanduser() for p in os.environ.get("OODBENCH_DATA", "").split(os.pathsep) if p
    ]
    local = Path(store).parent if "://" not in store else Path("results")
    cache = Path(os.environ.get("OODBENCH_CACHE") or local / "data")
    return DataPlaces((*given, *named, cache / "downloads"), cache)


def load(
    name: str | DatasetName,
    split: str,
    places: DataPlaces,
    *,
    like: Shape | None = None,
    count: int = 0,
    divide: bool = False,
) -> ImageSet:
    """One split of a registered or generated set or of a user's path, as an `ImageSet`.

    `like` (C, H, W) is the ID set's shape, the target of sizing steps that the name asks for, and
    with `count`, the number of ID test images, what a generated set takes.  `divide`: the path has
    to serve as training and test set.  DataError says what is missing and how to get it.
    """
    wanted = parse_name(name) if isinstance(name, str) else name
    sys.audit("oodbench.load", str(wanted), split)
    source = _source(wanted, split, places, like, count, divide)
    # What the name asks for is part of the fingerprint, so that two names are two sets.
    asked = wanted.whole if wanted.generated else wanted.whole.removeprefix(wanted.base)
    chain = (*([asked] if asked else []), *source.chain)
    identity: dict[str, JSON] = {
        "version": CACHE_VERSION,
        "source": source.found.identity,
        "split": split,
        "chain": list(chain),
        "target": list(source.target or ()),
    }
    if any(is_corruption(step) for step in source.chain):
        identity["corruptions"] = CORRUPTION_REVISION
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(wanted.base).stem)[:40]
    slot = Slot(places.cache, f"{stem}-{split}-{digest(identity)[:20]}")
    meta = slot.read()
    if meta is None:
        meta = slot.fill(lambda: _materialise(source, wanted, split), chain)
    return ImageSet(
        name=str(wanted),
        split=split,
        images=slot.images(),
        fingerprint=str(meta["fingerprint"]),
        labels=slot.labels(meta),
        expected=0 if wanted.classes else source.expected,
        note=str(meta["note"]),
        verify=slot.verify,
        stored_hashes=partial(slot.hashes, meta),
    )


@dataclass(frozen=True)
class _Source:
    """Where a split comes from and the steps it goes through.

    `default` are the steps that a prepared array has behind it, `target` the shape that sizing
    steps lead to, `classes` the names of the labels where they are declared.
    """

    found: Found
    chain: tuple[str, ...]
    target: Shape | None
    default: tuple[str, ...] = ()
    expected: int = 0
    classes: tuple[str, ...] = ()


def _source(
    wanted: DatasetName, split: str, places: DataPlaces, like: Shape | None, count: int,
    divide: bool,
) -> _Source:  # fmt: skip
    if wanted.generated:
        return _Source(find_generated(wanted, split, like, count), wanted.variants, like)
    if wanted.is_path:
        found = find_user_data(Path(wanted.base), split, divide=divide)
        return _Source(found, wanted.variants, like)
    spec = get_spec(wanted.base)
    # Sizing that is asked for by name goes to the ID set's size, the default to the registered.
    sized = like is not None and any(v in SIZING for v in wanted.variants)
    return _Source(
        found=_find(spec, split, places),
        chain=_chain(spec, wanted),
        target=like if sized else spec.shape,
        default=spec.variants.get(spec.default_variant, ()),
        expected=spec.splits.get(split, 0),
        classes=spec.classes,
    )


def check_compatible(id_set: ImageSet, ood_set: ImageSet) -> None:
    """DataError with the mend where the OOD images are not of the ID images' shape."""
    if id_set.shape == ood_set.shape:
        return
    steps = ""
    if id_set.shape[0] != ood_set.shape[0]:
        steps += "@grey" if id_set.shape[0] == 1 else "@rgb"
    if id_set.shape[1:] != ood_set.shape[1:]:
        steps += "@resize"
    different = (
        f"{ood_set.name} has images of {_size(ood_set.shape)}, but {id_set.name} of"
        f" {_size(id_set.shape)}"
    )
    wanted = parse_name(ood_set.name)
    if wanted.generated:
        fitting = "@".join([f"{wanted.base}({wanted.count})", *wanted.variants])
        raise DataError(f"{different}; use {fitting if wanted.shape else wanted.base}")
    raise DataError(
        f"{different}; use {ood_set.name}{steps}"
        + (" (or @crop instead of @resize)" if "@resize" in steps else "")
    )


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) + " (channels×height×width)"


def _chain(spec: DatasetSpec, wanted: DatasetName) -> tuple[str, ...]:
    """Steps of the named variant (the default where none is named), then the generic ones.

    A sizing step with a side of its own takes the place of the default's.
    """
    rest = list(wanted.variants)
    named = next((v for v in rest if v in spec.variants), "")
    base = spec.variants.get(named or spec.default_variant, ())
    if named:
        rest.remove(named)
    second = next((v for v in rest if v in spec.variants and v not in GENERIC), "")
    if second:
        raise DataError(f"{wanted}: {named!r} and {second!r} are two variants; name one of them")
    if any(step_name(v) in SIZING and v not in SIZING for v in rest):
        base = tuple(step for step in base if step not in SIZING)
    return (*base, *rest)


def _find(spec: DatasetSpec, split: str, places: DataPlaces) -> Found:
    if split not in spec.splits:
        raise DataError(f"{spec.name} has no {split} split; it has {', '.join(spec.splits)}")
    if spec.source == "embedded":
        return find_embedded(spec, split)
    if spec.source == "files":
        return find_user_data(Path(spec.options[split]), split, divide=False)
    found = find_published(spec, split, places.folders)
    if found is None:
        looked = ", ".join(map(str, places.folders)) or "no folder"
        raise DataError(
            f"{spec.name} {split}: {expected_files(spec, split)} not found (looked in: {looked});"
            f" run `oodbench data fetch {spec.name}`, or point --data or OODBENCH_DATA to a folder"
            " that holds it"
        )
    return found


def _materialise(
    source: _Source, wanted: DatasetName, split: str
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """(N, C, H, W) uint8, labels and note of a source."""
    raw, target = source.found.read(), source.target
    if wanted.classes:
        raw = keep_classes(raw, wanted, source.classes or raw.classes)
    steps, note = list(source.chain), raw.note
    if raw.final and source.default:
        assert isinstance(raw.images, np.ndarray)
        held = raw.images.shape[1:3]
        fits = target is None or held == target[1:]
        steps, unknown = _after_default(source.default, source.chain, wanted, fits)
        note = "; ".join(filter(None, (note, unknown)))
        if target is not None and not fits:
            raise DataError(
                f"{wanted}: the prepared array is {held[0]}×{held[1]};"
                f" {target[1]}×{target[2]} needs the native images"
            )
    if isinstance(raw.images, np.ndarray) and not steps:
        return np.ascontiguousarray(raw.images.transpose(0, 3, 1, 2)), raw.labels, note
    images = _transformed(raw, steps, wanted, target, split)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), raw.labels, note


def _check_room(wanted_bytes: int, name: DatasetName) -> None:
    """DataError where a split would take more than half of this machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if wanted_bytes > memory / 2:
        raise DataError(
            f"{name}: its images take {wanted_bytes / 2**30:,.0f} GiB, more than half of the"
            f" memory here ({memory / 2**30:,.0f} GiB); use fewer or smaller ones (@resize)"
        )


def _after_default(
    default: Sequence[str], chain: Sequence[str], wanted: DatasetName, fits: bool
) -> tuple[list[str], str]:
    """What is left to do on an array that already went through the default variant, and a note.

    Where it is of the size wanted (`fits`), resizing it changes nothing, whatever made it so.
    """
    sizing = [[s for s in steps if step_name(s) in SIZING] for steps in (default, chain)]
    note = ""
    if sizing[0][:1] != sizing[1][:1]:
        if not (fits and sizing[1][:1] == ["resize"]):
            raise DataError(
                f"{wanted}: the prepared array already went through {sizing[0][0]!r};"
                f" {(sizing[1] or ['its absence'])[0]!r} needs the native images"
            )
        note = "an array of this size, taken as it is: resized or cropped is not known"
    # Undo the default's inversion, then do what was asked for; two inversions are none.
    left: list[str] = []
    undo = [s for s in default if s == "invert"]
    for step in [*undo, *(s for s in chain if step_name(s) not in SIZING)]:
        if step == "invert" and left[-1:] == ["invert"]:
            left.pop()
        else:
            left.append(step)
    return left, note


def _transformed(
    raw: Raw, steps: Sequence[str], wanted: DatasetName, target: Shape | None, split: str
) -> np.ndarray:
    from oodbench.datasets.transforms import apply

    sizing = [step for step in steps if step in SIZING]
    if target is None and sizing:
        named = str(wanted).replace(f"@{sizing[0]}", f"@{sizing[0]}(32)")
        raise DataError(
            f"{wanted}: {sizing[0]} takes its size from the ID set, and there is none here; name"
            f" the size, as in '{named}'"
        )
    size = (target[1], target[2]) if target else (0, 0)
    out: list[np.ndarray] = []
    colour = False
    indices = range(raw.count) if raw.indices is None else raw.indices
    for index, image in zip(indices, raw.images, strict=True):
        done = apply(image, steps, size, int(index), split)
        if not out:
            _check_room(done.nbytes * raw.count, wanted)
        if wanted.is_path and "rgb" not in steps and done.shape[2] == 3 and not colour:
            colour = grey_if_equal(done).shape[2] == 3
        if out and done.shape[:2] != out[0].shape[:2]:
            first, other = out[0].shape, done.shape
            side = "" if target else f"({min(*first[:2], *other[:2])})"
            raise DataError(
                f"{wanted}: image {index} is {other[0]}×{other[1]}, image {indices[0]} is"
                f" {first[0]}×{first[1]}; use {wanted}@resize{side} or {wanted}@crop{side}"
            )
        out.append(done)
    channels = {image.shape[2] for image in out}
    if wanted.is_path and not colour and "rgb" not in steps:
        out = [image[:, :, :1] for image in out]
    elif len(channels) > 1:
        out = [np.repeat(i, 3, axis=2) if i.shape[2] == 1 else i for i in out]
    return np.stack(out)


@dataclass(frozen=True)
class SplitStatus:
    """Whether a split can be loaded here; `state` is embedded, arrays, native or missing."""

    name: str
    split: str
    state: str
    where: str
    expected: int


def status(places: DataPlaces) -> list[SplitStatus]:
    """The state of every registered split; reads no image."""
    rows = []
    for spec in catalogue().values():
        for split, expected in spec.splits.items():
            if spec.source == "embedded":
                rows.append(SplitStatus(spec.name, split, "embedded", "scikit-learn", expected))
                continue
            try:
                found: Found | None
                if spec.source == "files":
                    found = find_user_data(Path(spec.options[split]), split, divide=False)
                else:
                    found = find_published(spec, split, places.folders)
            except OodbenchError as error:
                rows.append(SplitStatus(spec.name, split, "damaged", str(error), expected))
                continue
            if found is None:
                rows.append(SplitStatus(spec.name, split, "missing", "", expected))
            else:
                kind = (
                    "arrays"
                    if any(find_arrays(spec, split, f) for f in places.folders)
                    else "native"
                )
                rows.append(SplitStatus(spec.name, split, kind, found.where, expected))
    return rows

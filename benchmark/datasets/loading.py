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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.corruptions import REVISION as CORRUPTION_REVISION
from oodbench.datasets.corruptions import is_corruption
from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.materialise import Shape, Source, materialise
from oodbench.datasets.naming import GENERIC, SIZING, call, classes_apart, step_name
from oodbench.datasets.paths.outside_paths import check_path
from oodbench.datasets.reading.contents import Wanted
from oodbench.datasets.reading.file_identity import in_doubt
from oodbench.datasets.reading.pixel_values import Asked, parse_range
from oodbench.datasets.sources.embedded import find_embedded
from oodbench.datasets.sources.frost import read_photographs
from oodbench.datasets.sources.published import expected_files, find_published
from oodbench.datasets.sources.raw_images import Found
from oodbench.datasets.sources.synthetic import find_generated
from oodbench.datasets.sources.user_files import find_user_data
from oodbench.datasets.spec import DatasetName, DatasetSpec, get_spec, parse_name
from oodbench.datasets.split_cache import Slot
from oodbench.errors import DataError
from oodbench.progress import Progress
from oodbench.store.places import is_url, local_folder

CACHE_VERSION = 4


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
    local = Path("results") if is_url(store) else _beside(store)
    cache = Path(os.environ.get("OODBENCH_CACHE") or local / "data")
    return DataPlaces((*given, *named, cache / "downloads"), cache)


def _beside(store: str) -> Path:
    """The folder that a store of this machine stands in, as it is written."""
    return (local_folder(store) if store.startswith("file://") else Path(store)).parent


def load(
    name: str | DatasetName,
    split: str,
    places: DataPlaces,
    *,
    like: Shape | None = None,
    count: int = 0,
    divide: bool = False,
    beside: str | DatasetName | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """One split of a registered or generated set or of a user's path, as an `ImageSet`.

    `like` (C, H, W) is the ID set's shape, the target of sizing steps that the name asks for, and
    with `count`, the number of ID test images, what a generated set takes.  `divide`: the path has
    to serve as training and test set.  `beside` names the ID set: a path that is also its path is
    cut as it is there, so that no image, corrupted or not, is one of the training images.
    DataError says what is missing and how to get it.
    """
    wanted = parse_name(name) if isinstance(name, str) else name
    sys.audit("oodbench.load", str(wanted), split)
    divide = divide or (beside is not None and cut_alike(wanted, beside))
    source = _source(wanted, split, places, like, count, divide)
    if "frost" in map(step_name, source.chain):
        found = read_photographs(places.folders)
        source = replace(source, photographs=lambda: found)
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
    if meta is None or meta["doubt"]:
        doubt = in_doubt(source.found.changed_ns)
        shown = progress or Progress("quiet")
        meta = slot.fill(lambda: materialise(source, wanted, split, shown), chain, doubt=doubt)
    values = cast("list[float] | None", meta["values"])
    return ImageSet(
        name=str(wanted),
        split=split,
        images=slot.images(),
        fingerprint=str(meta["fingerprint"]),
        labels=slot.labels(meta),
        expected=0 if wanted.classes else source.expected,
        note=str(meta["note"]),
        groups=slot.groups(meta),
        unlabelled=str(meta["unlabelled"]),
        values=None if values is None else (values[0], values[1]),
        verify=slot.verify,
        stored_hashes=partial(slot.hashes, meta),
    )


def cut_alike(wanted: DatasetName, beside: str | DatasetName) -> bool:
    """Whether a set is the ID set's path, with classes that the ID set may have too."""
    other = parse_name(beside) if isinstance(beside, str) else beside
    if not (wanted.is_path and other.is_path) or not same_place(wanted.base, other.base):
        return False
    return not classes_apart(wanted.classes, other.classes)


def same_place(one: str, other: str) -> bool:
    """Whether two paths lead to one file or folder."""
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _source(
    wanted: DatasetName, split: str, places: DataPlaces, like: Shape | None, count: int,
    divide: bool,
) -> Source:  # fmt: skip
    if wanted.generated:
        return Source(find_generated(wanted, split, like, count), wanted.variants, like)
    values = asked_range(wanted.variants)
    if wanted.is_path:
        asked = Wanted(split, divide, bool(wanted.classes), values)
        check_path(wanted.base, places.folders)
        return Source(find_user_data(Path(wanted.base), asked), wanted.variants, like)
    spec = get_spec(wanted.base)
    if values is not None and spec.source != "files":
        raise DataError(
            f"{wanted}: range is for files of your own; {spec.name} is known to be 8-bit"
        )
    # Sizing that is asked for by name goes to the ID set's size, the default to the registered.
    sized = like is not None and any(v in SIZING for v in wanted.variants)
    return Source(
        found=_find(spec, split, places, values),
        chain=_chain(spec, wanted),
        target=like if sized else spec.shape,
        default=spec.variants.get(spec.default_variant, ()),
        expected=spec.splits.get(split, 0),
        classes=spec.classes,
    )


def asked_range(steps: Sequence[str]) -> Asked | None:
    """What a step ``range(low:high)`` asks for; DataError where it is not the first one."""
    found = [parse_range(argument) for name, argument in map(call, steps) if name == "range"
             if argument is not None]  # fmt: skip
    if found and (len(found) > 1 or not steps[0].startswith("range(")):
        raise DataError(f"@{'@'.join(steps)}: range says how files are read; write it once, first")
    return Asked(found[0]) if found and found[0] is not None else None


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
    if "@resize" in steps:  # in place of any other size
        kept = tuple(v for v in wanted.variants if step_name(v) not in SIZING)
        wanted = replace(wanted, variants=kept)
        steps += " (or @crop instead of @resize)"
    raise DataError(f"{different}; use {wanted}{steps}")


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) + " (channels×height×width)"


def steps_of(wanted: DatasetName) -> tuple[str, ...]:
    """Every step that a set of this name went through, those that its bare name means included."""
    if wanted.generated or wanted.is_path:
        return wanted.variants
    return _chain(get_spec(wanted.base), wanted)


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


def _how_to_get(spec: DatasetSpec) -> str:
    if spec.source == "arrays":
        return ""
    return f"run `oodbench data fetch {spec.name}` (`oodbench data info {spec.name}`: by hand), or "


def _find(spec: DatasetSpec, split: str, places: DataPlaces, values: Asked | None) -> Found:
    if split not in spec.splits:
        raise DataError(f"{spec.name} has no {split} split; it has {', '.join(spec.splits)}")
    if spec.source == "embedded":
        return find_embedded(spec, split)
    if spec.source == "files":
        check_path(spec.options[split], places.folders)
        return find_user_data(Path(spec.options[split]), Wanted(split, values=values))
    found = find_published(spec, split, places.folders)
    if found is None:
        looked = ", ".join(map(str, places.folders)) or "no folder"
        raise DataError(
            f"{spec.name} {split}: {expected_files(spec, split, places.folders)} not found (looked"
            f" in: {looked}); {_how_to_get(spec)}point --data or OODBENCH_DATA to a folder that"
            " holds it"
        )
    return found

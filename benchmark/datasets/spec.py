"""What is known of a data set before it is loaded: splits, shape, transforms, citation, licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import cast

from oodbench.datasets.naming import (
    GENERATED,
    GENERIC,
    SIZING,
    call,
    ends_as_data,
    exists,
    parse_classes,
    parse_generated,
    parse_step,
    split_name,
    step_name,
)
from oodbench.datasets.paths.outside_paths import note_path
from oodbench.declare.declarations import Declarations, Source, checked_entry, sources
from oodbench.errors import ConfigError, DataError, OodbenchError, UnknownNameError


@dataclass(frozen=True)
class DatasetSpec:
    """One registered data set.

    `shape` (C, H, W) after the native transform; `variants` name chains of transforms, the first
    being the default; `classes` are the names of its labels 0, 1, …, where they are known;
    `source` is the kind of loader and `options` its parameters.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    native: str
    splits: Mapping[str, int]
    variants: Mapping[str, tuple[str, ...]]
    source: str
    options: Mapping[str, str]
    cite: str
    licence: str
    homepage: str
    aliases: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def default_variant(self) -> str:
        """The variant meant by the bare name, "" where there is one form only."""
        return next(iter(self.variants), "")


def catalogue() -> dict[str, DatasetSpec]:
    """The data sets of oodbench, of plug-ins and of the project, by name."""
    return _catalogue(sources())


def dataset_declarations() -> Declarations[DatasetSpec]:
    """The catalogue, and every ``datasets.yaml`` (see `_declared`)."""
    return _declarations(sources())


@cache
def _catalogue(_: tuple[Source, ...]) -> dict[str, DatasetSpec]:
    return dataset_declarations().all()


@cache
def _declarations(_: tuple[Source, ...]) -> Declarations[DatasetSpec]:
    return Declarations[DatasetSpec]("data set").add_entries("datasets.yaml", _declared)


def _declared(source: Source, name: str, body: object) -> DatasetSpec:
    """A data set: title, shape [C, H, W], splits {train: N, test: N}, cite, licence, homepage.

    Its images are arrays ``NAME-SPLIT.npz`` in a data folder, or what `files` names: for every
    split a folder of images or a file that `sources.user_files` reads, relative to the declaration.
    """
    if source.is_built_in:
        return _spec(name, cast("Mapping[str, object]", body))
    where = f"data set {name!r}"
    entry = checked_entry(
        body, where,
        {"title": str, "shape": list, "splits": dict},
        {"files": dict, "cite": str, "licence": str, "homepage": str},
    )  # fmt: skip
    shape = cast("list[object]", entry["shape"])
    if len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
        raise ConfigError(f"{where}: 'shape' must be three whole numbers [C, H, W], not {shape}")
    splits = cast("Mapping[str, object]", entry["splits"])
    for split, count in splits.items():
        if split not in ("train", "test") or type(count) is not int or count < 1:
            raise ConfigError(f"{where}: 'splits' must map train and test to numbers of images")
    paths = cast("Mapping[str, object]", entry.pop("files", {}))
    if paths and sorted(paths) != sorted(splits):
        raise ConfigError(f"{where}: 'files' must name a file or folder for {', '.join(splits)}")
    options = {split: str(source.path / str(path)) for split, path in paths.items()}
    for named in options.values():
        note_path(source, named)
    kind = "files" if paths else "arrays"
    return _spec(name, {"cite": "", "licence": "", **entry, "source": kind, "options": options})


def _spec(name: str, body: Mapping[str, object]) -> DatasetSpec:
    variants = cast("Mapping[str, list[str]]", body.get("variants", {}))
    shape = cast("list[int]", body["shape"])
    return DatasetSpec(
        name=name,
        title=str(body["title"]),
        shape=(shape[0], shape[1], shape[2]),
        native=str(body.get("native", f"{shape[1]}×{shape[2]}")),
        splits=cast("Mapping[str, int]", body["splits"]),
        variants={key: tuple(chain) for key, chain in variants.items()},
        source=str(body["source"]),
        options={
            k: str(v) for k, v in cast("Mapping[str, object]", body.get("options", {})).items()
        },
        cite=str(body["cite"]),
        licence=str(body["licence"]),
        homepage=str(body.get("homepage", "")),
        aliases=tuple(cast("list[str]", body.get("aliases", []))),
        classes=tuple(str(body.get("classes", "")).split()),
    )


def get_spec(name: str) -> DatasetSpec:
    """The specification of a name or alias; UnknownNameError with the nearest names."""
    declared, known = dataset_declarations(), catalogue()
    if name in declared:
        return declared.get(name)
    for spec in known.values():
        if name in spec.aliases:
            return spec
    raise UnknownNameError(
        "data set",
        name,
        [*known, *GENERATED],
        "or give the path of a folder of images or of a file of data",
    )


@dataclass(frozen=True)
class DatasetName:
    """A parsed name: a set or a path, classes in brackets, and the steps asked for after "@".

    A generated set has a `count` (0: as the ID test set) and a `shape` (None: the ID set's).
    """

    base: str
    variants: tuple[str, ...]
    is_path: bool
    classes: tuple[str, ...] = ()
    generated: bool = False
    count: int = 0
    shape: tuple[int, int, int] | None = None

    @property
    def whole(self) -> str:
        """Base with its brackets, without steps."""
        if self.classes:
            return f"{self.base}[{','.join(self.classes)}]"
        if not self.count:
            return self.base
        size = "," + "x".join(map(str, self.shape)) if self.shape else ""
        return f"{self.base}({self.count}{size})"

    def __str__(self) -> str:
        return "@".join([self.whole, *self.variants])


def parse_name(text: str) -> DatasetName:
    """A name or path with what `oodbench.datasets.naming` describes; checks every part of it.

    A text with a "/", that ends as files of data do, or that names an existing file or folder is a
    path.
    """
    if not text.isprintable():
        raise DataError(f"{text!r} cannot be printed in a table; rename the file or folder")
    base, classes, steps = split_name(text, _is_registered(text.split("@")[0]))
    if not base:
        raise DataError(f"{text!r} names no data set; write NAME, NAME@variant or a path")
    is_path = not _is_registered(base) and ("/" in base or ends_as_data(base) or exists(base))
    if is_path:
        plain = str(Path(base))
        # "./digits" is the folder; without its slash it would next be read as the registered set.
        base = f"./{plain}" if "/" in base and "/" not in plain else plain
        chosen = () if classes is None else parse_classes(classes, base, ())
        return DatasetName(base, tuple(parse_step(s, base, ()) for s in steps), True, chosen)
    name, argument = call(base)
    if name in GENERATED and classes is None:
        count, shape = parse_generated(argument, name)
        variants = tuple(parse_step(s, base, ()) for s in steps)
        return DatasetName(name, variants, False, generated=True, count=count, shape=shape)
    if name in GENERATED:
        raise DataError(f"{base}[{classes}]: a generated set has no classes; write {base}")
    spec = get_spec(base)
    chosen = () if classes is None else parse_classes(classes, spec.name, spec.classes)
    variants = tuple(parse_step(s, spec.name, tuple(spec.variants)) for s in steps)
    if spec.default_variant and variants[:1] == (spec.default_variant,):
        # A size that is written goes to that of the ID images, unless a later step says more.
        sizes = [step_name(step) in SIZING for step in variants]
        if not sizes[0] or any(sizes[1:]):
            variants = variants[1:]
    return DatasetName(spec.name, variants, False, chosen)


def same_set(one: DatasetName, other: DatasetName, shape: tuple[int, int, int] | None) -> bool:
    """Whether two names are one set beside ID images of `shape` (C, H, W), None: as the ID set.

    The default size of a registered set, written or not, is one where the ID images have it.
    """

    def plain(name: DatasetName) -> DatasetName:
        if name.is_path or name.generated or not name.variants:
            return name
        spec = get_spec(name.base)
        default = name.variants[0] == spec.default_variant and shape in (None, spec.shape)
        return replace(name, variants=name.variants[1:]) if default else name

    return one.base == other.base and plain(one) == plain(other)


def is_plainly_registered(name: str) -> bool:
    """Whether a name is that of a declared set with at most steps: no path, nothing drawn."""
    try:
        found = parse_name(name)
    except OodbenchError:
        return False
    return not found.is_path and not found.generated


def _is_registered(name: str) -> bool:
    known = catalogue()
    return name in GENERATED or name in known or any(name in s.aliases for s in known.values())


def check_catalogue(spec: DatasetSpec) -> None:
    """ConfigError where a declaration cannot be right; used by the tests of the catalogue."""
    for chain in spec.variants.values():
        for step in chain:
            if step not in GENERIC:
                raise ConfigError(f"{spec.name}: unknown transform {step!r}")

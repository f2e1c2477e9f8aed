"""Diagnosing stored fits: what the layers of a trained model carry; nothing is trained anew.

The measures themselves come through the entry-point group ``oodbench.diagnostics``; a result is an
entry of the store's stage ``diagnosis``, keyed by the fit, the images and the revisions of the
measures and of the noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, cast

from oodbench.canonical_json import JSON
from oodbench.datasets.spec import is_plainly_registered
from oodbench.declare.registry import Registry
from oodbench.errors import ConfigError, DataError
from oodbench.seeding import NOISE_REVISION, SUBSET_REVISION, derive_seed
from oodbench.store.store import Entry, Key, Store

if TYPE_CHECKING:
    import torch

    from oodbench.datasets.imageset import ImageSet
    from oodbench.datasets.loading import DataPlaces
    from oodbench.seeding import KeyedNoise

STAGE = "diagnosis"
LAYERS = "layers"
Row: TypeAlias = "Mapping[str, JSON]"


class Diagnostic(Protocol):
    """A measure of a trained model, one row per layer."""

    revision: ClassVar[int]

    @staticmethod
    def applies(model: torch.nn.Module) -> bool:
        """Whether the model can be diagnosed."""
        ...

    def run(
        self,
        model: torch.nn.Module,
        test: tuple[torch.Tensor, Callable[[slice], KeyedNoise]],
        train: tuple[torch.Tensor, Callable[[slice], KeyedNoise]],
        seed: int,
    ) -> Sequence[Row]:
        """Rows of JSON numbers, `test` being judged and `train` at hand to learn from."""
        ...


def _adopt(name: str, value: object) -> type[Diagnostic]:
    return cast("type[Diagnostic]", value)


DIAGNOSTICS: Registry[type[Diagnostic]] = Registry("diagnostic", "oodbench.diagnostics", _adopt)


def diagnose(
    store: Store, places: DataPlaces, fits: Sequence[Entry], count: int, say: Callable[[str], None]
) -> list[Entry]:
    """The diagnosis of every fit whose model has an encoder mean, made where it is missing.

    `count` test images (all, where there are fewer) are judged and as many training images teach.
    ConfigError where none of the models has an encoder mean or the images are too few for the
    teacher, DataError where the images are not here, StoreError where a fit was made by other code
    than today's.
    """
    from oodbench.flow.stored.models import load_model

    diagnostic = DIAGNOSTICS.get(LAYERS)
    found, kinds = [], []
    for fit in fits:
        if "model" not in fit.parts:
            continue
        subject = _Subject(fit, places, count)
        model = load_model(fit, subject.test.shape)
        kinds.append(str(fit.parts["model"]))
        if not diagnostic.applies(model):
            continue

        make = partial(_make, store, diagnostic(), model, subject, say)
        found.append(store.obtain(subject.key(diagnostic.revision), make, say))
    if not found:
        what = f"a model of kind {', '.join(kinds)}" if kinds else "a detector without a model"
        raise ConfigError(
            f"{what} has no encoder mean to diagnose; diagnose takes runs on VAEs such as"
            " vanilla-hvae, lvae and vae"
        )
    return found


class _Subject:
    """The images that a fit is diagnosed on."""

    def __init__(self, fit: Entry, places: DataPlaces, count: int) -> None:
        from oodbench.datasets.loading import load

        self.fit, name = fit, str(fit.record["in_dist"])
        if fit.imported and not is_plainly_registered(name):
            raise DataError(
                f"the images {name!r} are named by the imported fit {fit.digest[:12]}, and only"
                " those of sets that are registered here are opened for it"
            )
        self.test = load(name, "test", places, divide=True)
        self.train = load(name, "train", places, divide=True)
        if self.train.fingerprint != fit.parts["train"]:
            raise DataError(
                f"the training images of {name} found here are not those that fit"
                f" {fit.digest[:12]} was made of; name their folder with --data"
            )
        self.count = min(count, len(self.test), len(self.train))

    def key(self, revision: int) -> Key:
        """What determines the diagnosis."""
        return Key(
            STAGE,
            {
                "diagnostic": LAYERS,
                "revision": revision,
                "fit": self.fit.digest,
                "images": self.test.fingerprint,
                "train": self.train.fingerprint,
                "subset": self.count,
                "subset_revision": SUBSET_REVISION,
                "noise": NOISE_REVISION,
            },
        )

    def chosen(self, images: ImageSet) -> tuple[torch.Tensor, Callable[[slice], KeyedNoise]]:
        """A seeded subset of a split, and the noise keyed by its indices."""
        import torch

        from oodbench.flow.resolved_job import subset_indices
        from oodbench.seeding import KeyedNoise

        indices = subset_indices(len(images), self.count)
        noise = KeyedNoise(derive_seed(STAGE, images.split), indices)
        return torch.from_numpy(images.images[indices]), noise.rows


def _make(
    store: Store,
    diagnostic: Diagnostic,
    model: torch.nn.Module,
    subject: _Subject,
    say: Callable[[str], None],
    key: Key,
) -> Entry:
    from oodbench.store.provenance import machine_record

    started, fit = time.monotonic(), subject.fit
    say(f"diagnosing {fit.record['name']}")
    sides = subject.chosen(subject.test), subject.chosen(subject.train)
    try:
        rows = diagnostic.run(model, *sides, derive_seed(STAGE, "teacher"))
    except ValueError as error:
        raise ConfigError(f"{error}; give more with --images") from error
    record: dict[str, JSON] = {
        "name": fit.record["name"],
        "model": fit.parts["model"],
        "in_dist": fit.record["in_dist"],
        "recipe": fit.record["recipe"],
        "variant": fit.record["variant"],
        "seed": fit.parts["seed"],
        "images": subject.count,
        "layers": [dict(row) for row in rows],
        "seconds": time.monotonic() - started,
        "machine": machine_record("cpu"),
    }
    return store.write(key, {}, record)


# ---------------------------------------------------------------------- what is stored
class StoredDiagnoses:
    """Diagnoses of a store, found by run; of several, the newest draws and the most images."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._by_fit: dict[str, Entry] = {}
        for entry in store.entries(STAGE):
            fit = str(entry.parts["fit"])
            known = self._by_fit.get(fit)
            if known is None or _rank(entry) > _rank(known):
                self._by_fit[fit] = entry

    def of(self, run: Entry) -> Sequence[Row]:
        """Rows of the first diagnosed fit behind a run; empty where there is none."""
        if not self._by_fit:
            return []
        for digest in self._fits(run):
            if digest in self._by_fit:
                return rows_of(self._by_fit[digest])
        return []

    def _fits(self, run: Entry) -> Iterator[str]:
        score = self.store.get("score", str(run.parts["id_scores"]))
        measure = score and self.store.get("measure", str(score.parts["measure"]))
        if measure:
            yield from cast("Sequence[str]", measure.parts["fits"])


def _rank(entry: Entry) -> tuple[int, int]:
    return int(cast(int, entry.parts.get("noise", 0))), int(cast(int, entry.record["images"]))


def rows_of(entry: Entry) -> Sequence[Row]:
    """The layers of a diagnosis."""
    return cast("Sequence[Row]", entry.record["layers"])

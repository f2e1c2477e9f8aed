"""What steps take, by what the store has recorded of others like them; a guess elsewhere."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, cast

from oodbench.store.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oodbench.canonical_json import JSON
    from oodbench.datasets.imageset import ImageSet
    from oodbench.declare.recipes import Recipe
    from oodbench.store.store import Entry, Key, Store

#: Records that are read for what they took; of a URL, where each is a request, fewer.
MOST_LOCAL, MOST_REMOTE = 3_000, 100
#: Seconds of a step of which nothing is known.
TYPICAL = {"score": 0.05, "run": 0.5}
#: Seconds a value of an image, trained on with a model, learned from without one, and measured.
GUESSED_TRAINING, GUESSED_LEARNING, GUESSED_MEASURING = 1e-6, 1e-7, 1e-6


class Costs:
    """Seconds an image of fits by recipe and of measurements by what is measured."""

    def __init__(self, store: Store) -> None:
        self._fits: dict[tuple[str, ...], float] = {}
        self._measures: dict[str, float] = {}
        most = MOST_LOCAL if isinstance(store.storage, LocalStorage) else MOST_REMOTE
        for entry in islice(store.entries("fit"), most):
            self._note_fit(entry)
        for entry in islice(store.entries("measure"), most):
            if (ms := entry.record.get("ms_per_image")) is not None:
                self._measures[str(entry.parts.get("measure"))] = float(cast(float, ms)) / 1000

    def _note_fit(self, entry: Entry) -> None:
        record = entry.record
        if "images_per_second" in record:
            kind = str(record.get("recipe")), str(record.get("variant"))
            self._fits[kind] = 1 / max(1e-9, float(cast(float, record["images_per_second"])))
        elif "seconds" in record and record.get("train_images"):
            seconds = float(cast(float, record["seconds"]))
            self._fits[(_taught(entry.parts),)] = seconds / int(cast(int, record["train_images"]))

    def fitting(self, key: Key, recipe: Recipe | None, images: int, dims: int) -> float:
        """Seconds of a fit on so many images, with repetition, of D = `dims`."""
        kind = (recipe.label, recipe.variant) if recipe is not None else (_taught(key.parts),)
        guess = dims * (GUESSED_LEARNING if recipe is None else GUESSED_TRAINING)
        return images * self._fits.get(kind, guess)

    def measuring(self, key: Key, images: ImageSet, count: int) -> float:
        """Seconds of measuring so many of the images."""
        guess = images.dims * GUESSED_MEASURING
        return count * self._measures.get(str(key.parts["measure"]), guess)

    @staticmethod
    def typical(stage: str) -> float:
        """Seconds of a step of a stage that takes about the same always."""
        return TYPICAL[stage]


def _taught(parts: Mapping[str, JSON]) -> str:
    return str(parts.get("detector"))

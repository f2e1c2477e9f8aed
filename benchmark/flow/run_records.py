"""What a run's record says beside its key: metrics, notes on the images, cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet
    from oodbench.detect.detector import Detector
    from oodbench.flow.keys import JobKeys


def results(
    detector: Detector,
    id_scores: Mapping[str, np.ndarray],
    ood_scores: Mapping[str, np.ndarray],
    id_index: np.ndarray,
    ood_index: np.ndarray,
) -> dict[str, JSON]:
    """Metrics of every score; one of groups counts groups of its `members`; oracle choices last."""
    from oodbench.rank.metrics import evaluate, group_members

    found, stored = {}, {}
    for name, values in id_scores.items():
        members = detector.groups.get(name)
        sides = values[id_index], ood_scores[name][ood_index]
        if members is not None:
            firsts = [s[group_members(len(s), members)[:, 0]] for s in (values, ood_scores[name])]
            count = min(map(len, firsts))
            sides = firsts[0][:count], firsts[1][:count]
        found[name] = evaluate(*sides)
        stored[name] = found[name].to_json() | ({} if members is None else {"members": members})
    for oracle, names in detector.oracles().items():
        best = max(names, key=lambda name: found[name].auroc.value)
        stored[oracle] = stored[best] | {"oracle": best}
    return cast("dict[str, JSON]", stored)


def notes(keys: JobKeys, images: ImageSet) -> list[str]:
    """What a reader has to know of the images."""
    found = [images.note] if images.note else []
    if keys.subset(images):
        found.append(f"a seeded subset of {keys.count(images):,} of {len(images):,} images")
    return [f"{images.name}: {note}" for note in found]


def fit_notes(keys: JobKeys) -> list[str]:
    """What a reader has to know of a recipe, or of the images that a detector was fitted on."""
    if keys.recipe is not None:
        return [f"{keys.recipe.name}: {keys.recipe.note}"] if keys.recipe.note else []
    if not keys.has_fit or not keys.fit_subset:
        return []
    count = f"{keys.fit_subset:,} of {len(keys.train):,}"
    return [f"fitted on a seeded subset of {count} training images"]


def reference_notes(keys: JobKeys) -> list[str]:
    """What a reader has to know of the training images that scores compare with."""
    if not keys.compares or keys.train_subset == len(keys.train):
        return []
    count = f"{keys.train_subset:,} of {len(keys.train):,}"
    return [f"compared with a seeded subset of {count} training images"]


def duplicates(keys: JobKeys, ood: ImageSet) -> list[str]:
    """Test images that are exact copies of training images, where the detector learned from them.

    What is learned of an image is also known of its copy: such a test image is no test.
    """
    from oodbench.datasets.duplicates import count_copies

    if not keys.has_fit:
        return []
    train, found = keys.train.hashes(), []
    for images in (keys.test, ood):
        copies = count_copies(images.hashes(), train)
        if copies:
            found.append(
                f"{copies:,} of {len(images):,} test images of {images.name} are exact copies of"
                f" training images of {keys.train.name}"
            )
    return found


def shown_notes(record: Mapping[str, JSON]) -> list[str]:
    """What a table says of a run's images: the notes of its record, then the duplicates."""
    return [*cast("list[str]", record["notes"]), *cast("list[str]", record.get("duplicates", []))]


def chosen(detector: Detector, record: Mapping[str, JSON]) -> list[str]:
    """What a detector chose on its validation set, from the record of its scores."""
    if "choice" not in record:
        return []
    return [f"{detector.title}: {record['choice']}, chosen on {record['validation']}"]


def cost(keys: JobKeys) -> dict[str, JSON]:
    """Passes and milliseconds per image, and what the training took."""
    found: dict[str, JSON] = {"passes": keys.detector.cost}
    measured = keys.bench.store.find(keys.measure_key(keys.test, keys.subset(keys.test)))
    if measured is not None:
        found["ms_per_image"] = measured.record["ms_per_image"]
        found["peak_memory_mb"] = measured.record["peak_memory_mb"]
    if keys.has_fit:
        entries = [keys.bench.store.find(key) for key in keys.fit_keys()]
        fits = [fit for fit in entries if fit is not None]
        if fits:
            fit = fits[0]
            for name, shown in (
                ("images_per_second", "train_images_per_second"),
                ("train_images", "train_images"),
                ("parameters", "parameters"),
            ):
                if name in fit.record:
                    found[shown] = fit.record[name]
            found["train_seconds"] = sum(float(cast(float, f.record["seconds"])) for f in fits)
            found["members"] = len(fits)
            found["device"] = cast("Mapping[str, JSON]", fit.record["machine"])["device_name"]
    return found

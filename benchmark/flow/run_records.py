"""What a run's record says beside its numbers: notes on the images, what was chosen, cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.declare.layouts import METRICS
from oodbench.flow.keys import fit_keys, measure_key
from oodbench.store.records.files import IMPORTED

if TYPE_CHECKING:
    from oodbench.datasets.imageset import ImageSet
    from oodbench.detect.detector import Detector
    from oodbench.flow.resolved_job import ResolvedJob
    from oodbench.store.store import Entry

#: Percentage points by which a metric of one key may differ: other threads round otherwise.
SAME = 0.05


def difference(here: Entry, there: Entry, names: tuple[str, str] = ("here", "there")) -> str:
    """Where the metrics of two runs of one key differ most, in words; "" where they agree."""
    mine, others = _metrics(here), _metrics(there)
    shared = mine.keys() & others.keys()
    apart = [name for name in shared if abs(mine[name] - others[name]) > SAME]
    if apart:
        name = max(apart, key=lambda name: abs(mine[name] - others[name]))
        found = f"{mine[name]:.2f} {names[0]} and {others[name]:.2f} {names[1]}"
        return f"{' '.join(name)} is {found}"
    return "" if mine.keys() == others.keys() else "other scores"


def _metrics(run: Entry) -> dict[tuple[str, str], float]:
    """Score and metric to the value in percent."""
    scores = cast("Mapping[str, Mapping[str, Mapping[str, float]]]", run.record["scores"])
    return {
        (name, metric): 100 * float(found[metric]["value"])
        for name, found in scores.items()
        for metric in METRICS
    }


#: How a note on a setting of a run ends that its recipe does not have.
BY_HAND = ", not the recipe's own"


def members_of(record: Mapping[str, JSON], score: str) -> int:
    """How many images a score of a run judges at once; 0 where a record does not tell.

    Records of before revision 4 of the metrics hold the number of groups alone.
    """
    found = cast("Mapping[str, Mapping[str, JSON]]", record["scores"])[score]
    if "members" in found:
        return int(cast(int, found["members"]))
    groups, images = int(cast(int, found["n_id"])), int(cast(int, record["n"]))
    if groups >= images:
        return 1
    least, most = images // (groups + 1) + 1, images // groups
    return most if least == most else 0


def notes(job: ResolvedJob, images: ImageSet) -> list[str]:
    """What a reader has to know of the images."""
    found = [images.note] if images.note else []
    if images.groups is not None:
        count = len(set(images.groups.tolist()))
        found.append(f"{count:,} groups of dependent images, over which intervals are taken")
    if job.subset(images):
        found.append(f"a seeded subset of {job.count(images):,} of {len(images):,} images")
    return [f"{images.name}: {note}" for note in found]


def with_notes_of_today(run: Entry, job: ResolvedJob, ood: ImageSet) -> Entry:
    """A run with what is known of its images as they were found now.

    A run is found by its pixels: the files that hold them may be others than those that it was made
    of, and what was skipped, scaled or cut is said of these.  Imported runs stay as they are.
    """
    if run.imported:
        return run
    held = cast("list[str]", run.record["notes"])
    names = tuple(f"{images.name}: " for images in (job.test, ood))
    now = [note for images in (job.test, ood) for note in notes(job, images)]
    first = next((i for i, note in enumerate(held) if note.startswith(names)), None)
    if first is None:  # behind those of the recipe and of the training images
        first = len([*fit_notes(job), *reference_notes(job)])
    kept = [note for note in held if not note.startswith(names)]
    told = [*kept[:first], *now, *kept[first:]]
    changed: dict[str, JSON] = {**run.record, "notes": cast("list[JSON]", told)}
    return run if told == held else replace(run, record=changed)


def fit_notes(job: ResolvedJob) -> list[str]:
    """What a reader has to know of a recipe, or of the images that a detector was fitted on."""
    if job.recipe is not None:
        found = [f"{job.recipe.name}: {job.recipe.note}"] if job.recipe.note else []
        return found + [f"{job.recipe.name}: {one}{BY_HAND}" for one in job.recipe.overrides]
    if not job.has_fit or not job.fit_subset:
        return []
    count = f"{job.fit_subset:,} of {len(job.train):,}"
    return [f"fitted on a seeded subset of {count} training images"]


def reference_notes(job: ResolvedJob) -> list[str]:
    """What a reader has to know of the training images that scores compare with."""
    if not job.compares or job.train_subset == len(job.train):
        return []
    count = f"{job.train_subset:,} of {len(job.train):,}"
    return [f"compared with a seeded subset of {count} training images"]


def duplicates(job: ResolvedJob, ood: ImageSet) -> list[str]:
    """Images that stand on both sides of the pair, or among the images that were learned from.

    No score can tell an image from itself.  What is learned of an image is also known of its copy:
    such a test image is no test.
    """
    from oodbench.datasets.duplicates import count_copies

    found, shared = [], count_copies(ood.hashes(), job.test.hashes())
    if shared:
        found.append(
            f"{shared:,} of {len(ood):,} test images of {ood.name} are shared with the ID test"
            f" images of {job.test.name} (both sides hold them)"
        )
    if not job.has_fit:
        return found
    train = job.train.hashes()
    for images in (job.test, ood):
        copies = count_copies(images.hashes(), train)
        if copies:
            found.append(
                f"{copies:,} of {len(images):,} test images of {images.name} are exact copies of"
                f" training images of {job.train.name}"
            )
    return found


def shown_notes(record: Mapping[str, JSON]) -> list[str]:
    """What a table says of a run: notes on its images, duplicates, where it was imported from."""
    notes = [*cast("list[str]", record["notes"]), *cast("list[str]", record.get("duplicates", []))]
    origin = cast("Mapping[str, str]", record.get(IMPORTED, {}))
    if origin:
        part = f" ({origin['seeds']})" if "seeds" in origin else ""
        notes.append(f"imported from {origin['from']}, not computed in this store{part}")
    return notes


def chosen(detector: Detector, record: Mapping[str, JSON]) -> list[str]:
    """What a detector chose on its validation set, from the record of its scores."""
    if "choice" not in record:
        return []
    return [f"{detector.title}: {record['choice']}, chosen on {record['validation']}"]


def cost(job: ResolvedJob) -> dict[str, JSON]:
    """Passes and milliseconds per image, and what the training took."""
    found: dict[str, JSON] = {"passes": job.detector.cost}
    measured = job.store.find(measure_key(job, job.test, job.subset(job.test)))
    if measured is not None:
        found["ms_per_image"] = measured.record["ms_per_image"]
        found["peak_memory_mb"] = measured.record["peak_memory_mb"]
    if job.has_fit:
        entries = [job.store.find(key) for key in fit_keys(job)]
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

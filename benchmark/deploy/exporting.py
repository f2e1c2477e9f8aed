"""A trained detector as a folder of its own: weights, what is needed to score, and a seal.

    detector.json          detector, recipe, shape, threshold, provenance; checksums of the rest
    fit-<n>.safetensors    weights, in the order in which the detector takes them
    id_scores.parquet      the sorted scores of the ID test images, for p-values
    id_images.bin          the hashes of the ID test images, by which one is known again
    reference.parquet      statistics of training images, where the detector compares with them
    inside, outside        of training and of validation images, where it chooses on them

Nothing in it is code.  The threshold is a quantile of the ID test scores: no OOD image is seen.
The checksums find damage and edits; they do not say who made the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from oodbench.canonical_json import JSON, canonical_json, digest
from oodbench.datasets.paths.shown_names import shown_name
from oodbench.errors import ConfigError, OodbenchError, StoreError
from oodbench.flow.plan import (
    DetectorRequest,
    Job,
    column_name,
    parse_detector,
    select_scores,
    simplified,
)
from oodbench.seeding import NOISE_REVISION
from oodbench.store.plain_files import read_plain

if TYPE_CHECKING:
    from oodbench.declare.recipes import Recipe
    from oodbench.detect.detector import Detector
    from oodbench.flow.bench import Bench
    from oodbench.flow.perform import Learned

SCHEMA = 1
#: Percent of ID images that are accepted where nothing is asked for: at most, and at least.
DEFAULT_ACCEPT, LEAST_ACCEPT = 95.0, 90.0
log = logging.getLogger("oodbench.deploy.exporting")
MANIFEST = "detector.json"
#: Bytes; that of an ensemble of a hundred is a hundredth of it.
LARGEST_MANIFEST = 64 << 20


def export_job(
    detector: str, pair: str | None, in_dist: str | None, score: str, scale: str, seed: int,
    overrides: Mapping[str, JSON],
) -> Job:  # fmt: skip
    """The job of an export; OodbenchError where ID set or score are named twice or not at all."""
    from oodbench.datasets.pairs import get_pair
    from oodbench.flow.selection import check_scale

    if (pair is None) == (in_dist is None):
        raise OodbenchError("name the ID set with one of --pair and --in-dist")
    check_scale(scale)
    request = parse_detector(detector)
    if score and request.scores:
        raise OodbenchError(f"{detector} names a score already; leave out --score {score}")
    if score:
        request = replace(request, scores=(score,))
    chosen = get_pair(pair).in_dist if pair is not None else in_dist
    return Job(request, str(chosen), (), scale, seed, dict(overrides))


def export_detector(bench: Bench, job: Job, target: Path, accept: float | None = None) -> Path:
    """Write the detector of a job to the new folder `target`; what was not fitted is fitted.

    `accept`: the share of ID images, in percent, that the threshold calls "in"; None: 95, or the
    most that fewer than 19 ID test images hold, 90 at least, with a warning.  Raises
    ConfigError where no single score is named, it judges groups of images, or the detector's state
    is no tensors; StoreError where `target` is there already.
    """
    from oodbench.flow.keys import fit_key
    from oodbench.flow.perform import learn
    from oodbench.flow.resolved_job import ResolvedJob

    if accept is not None:
        _check_share(accept)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{target} is there already; give another folder with --out")
    found = ResolvedJob(bench, job)
    score = single_score(found.detector, job.request)  # before anything is trained
    accept = held_share(found.count(found.test), accept)
    if found.detector.refits:
        raise ConfigError(
            f"{found.detector.name} cannot be exported: what it learns is no tensors, and an export"
            " holds no training images to fit it again"
        )
    fits = found.fits if found.has_fit else []
    lacking = [fit.label for fit in fits if bench.store.find(fit_key(found, fit)) is None]
    if lacking:
        bench.progress.say(f"not in the store, so trained first: {'; '.join(lacking)}")
    learned = learn(bench, job)
    files = _payload(learned, score)
    body = _manifest(learned, job, score, accept, files)
    _write(target, files, body)
    return target


def single_score(detector: Detector, request: DetectorRequest) -> str:
    """The one score of single images that is asked for, as its column is called."""
    names = [column_name(name) for name in detector.score_names()]
    oracles = map(simplified, detector.oracles())
    if request.scores and simplified(request.scores[0]) in oracles:
        raise ConfigError(
            f"{request.scores[0]} is chosen by the OOD images of a pair; name one of"
            f" {', '.join(names)}"
        )
    chosen = select_scores(request, names)
    single = [name for name in names if name not in detector.groups]
    if len(chosen) > 1:
        raise ConfigError(
            f"{request.name} has several scores; choose one with --score: {', '.join(single)}"
        )
    if chosen[0] in detector.groups:
        raise ConfigError(
            f"{chosen[0]} judges {detector.groups[chosen[0]]} images together and says nothing of"
            f" one; choose with --score: {', '.join(single)}"
        )
    return chosen[0]


def threshold_at(scores: np.ndarray, accept: float) -> float:
    """The ⌈(n + 1) (1 − α)⌉-th smallest of n scores of ID images, 1 − α = `accept` percent.

    Of images drawn like these at most α exceed it, in expectation over both (split conformal
    prediction: Vovk, Gammerman, Shafer 2005; Lei et al. 2018, arXiv 1604.04173); the images that
    do are those with a p-value up to α.  ConfigError where n is too small for that.
    """
    count, place = len(scores), conformal_place(len(scores), accept)
    if place > count:
        least = math.ceil(accept / (100 - accept) - 1e-9) if accept < 100 else 0
        mend = f"give {least:,} ID test images or more" if least else "no number of images does"
        raise ConfigError(
            f"{count:,} ID test images cannot hold a false alarm of {100 - accept:g} %: {mend}, or"
            f" accept {100 * count / (count + 1):.4g} % at most (--accept)"
        )
    return float(np.sort(scores)[place - 1])


def _check_share(accept: float) -> None:
    if not 0 < accept <= 100:
        raise ConfigError(f"--accept {accept:g}: the share of ID images lies in 0 … 100 %")
    if accept < 1:
        raise ConfigError(
            f"--accept {accept:g} is a share; give percent, --accept {100 * accept:g}"
        )


def held_share(count: int, accept: float | None) -> float:
    """The share, in percent, that n ID test images are to hold; ConfigError where they cannot."""
    wanted = accept if accept is not None else DEFAULT_ACCEPT
    most = math.floor(1e4 * count / (count + 1)) / 100
    if accept is None and LEAST_ACCEPT <= most < wanted:
        log.warning(
            "%d ID test images hold a false alarm of %.2f %%, not of %g %%: give more, or say it"
            " with --accept", count, 100 - most, 100 - wanted,
        )  # fmt: skip
        wanted = most
    threshold_at(np.zeros(count), wanted)
    return wanted


def conformal_place(count: int, accept: float) -> int:
    """⌈(n + 1) · accept / 100⌉, at least 1."""
    return max(1, math.ceil((count + 1) * accept / 100 - 1e-9))


def _payload(learned: Learned, score: str) -> dict[str, bytes]:
    from oodbench.store.payload import pack_table

    files = {f"fit-{n}.safetensors": data for n, (_, data) in enumerate(learned.fits)}
    files["id_scores.parquet"] = pack_table({"score": np.sort(learned.scores[score])})
    files["id_images.bin"] = learned.job.test.hashes()
    for name, statistics in learned.compared.items():
        files[f"{name}.parquet"] = pack_table(statistics)
    return files


def _manifest(
    learned: Learned, job: Job, score: str, accept: float, files: Mapping[str, bytes]
) -> dict[str, JSON]:
    from oodbench.datasets.loading import steps_of
    from oodbench.detect.source_fingerprints import source_record
    from oodbench.store.provenance import machine_record
    from oodbench.train.devices import pick_device

    found = learned.job
    detector, scores = found.detector, learned.scores[score]
    threshold = threshold_at(scores, accept)
    return {
        "schema": SCHEMA,
        "detector": {
            "name": detector.name,
            "revision": detector.revision,
            "title": detector.title,
            "category": detector.category,
            "cite": detector.cite,
            "module": type(detector).__module__,
        },
        "score": score,
        "seed": job.seed,
        "shape": list(found.test.shape),
        "values": None if found.test.values is None else list(found.test.values),
        "recipes": [_recipe(fit.recipe) for fit in found.fits if fit.recipe]
        if found.recipe
        else [],
        "members": detector.members,
        "environment": dict(detector.environment()),
        "noise": NOISE_REVISION if found.noisy else 0,
        "in_dist": {
            "name": shown_name(found.test.name),
            "steps": list(steps_of(found.name)),
            "train": found.train.fingerprint if found.has_fit else None,
            "train_images": len(found.train) if found.has_fit else None,
            "test": found.test.fingerprint,
            "test_images": len(scores),
        },
        "threshold": {
            "value": threshold,
            "accept_percent": accept,
            "accepted_of_id_test": float(np.mean(scores <= threshold)),
        },
        "keys": {
            "fits": [key.digest for key, _ in learned.fits],
            "id_measurement": learned.measurement.digest,
        },
        "machine": machine_record(pick_device(found.bench.device)),
        "source": source_record(detector, found.recipe),
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        },
    }


def _recipe(recipe: Recipe) -> JSON:
    return {
        "name": recipe.name,
        "scale": recipe.scale,
        "variant": recipe.variant,
        "measure": recipe.measure.model_dump(mode="json"),
        **recipe.fit_parts(),
    }


def _write(target: Path, files: Mapping[str, bytes], body: Mapping[str, JSON]) -> None:
    """The folder appears under its name when it is complete, or not at all."""
    text = canonical_json({"export": body, "sha256": digest(body)})
    laid_out = json.dumps(json.loads(text), indent=1, ensure_ascii=False, sort_keys=True)
    folder = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.with_name(f".{target.name}-{secrets.token_hex(6)}")
        folder.mkdir()
        for name, data in {**files, MANIFEST: laid_out.encode()}.items():
            (folder / name).write_bytes(data)
        folder.replace(target)
        folder = None
    except OSError as error:
        raise StoreError(
            f"cannot write {target}: {error.strerror}; give another folder with --out"
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def read_export(folder: Path) -> tuple[dict[str, JSON], dict[str, bytes]]:
    """Manifest and files of an exported detector; StoreError where anything is not as written."""
    where = folder / MANIFEST
    try:
        wrapped = json.loads(read_plain(where, LARGEST_MANIFEST))
        body = cast("dict[str, JSON]", wrapped["export"])
        sound = isinstance(body, Mapping) and digest(body) == wrapped["sha256"]
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder}: no {MANIFEST} in it; make such a folder with `oodbench export`"
        ) from error
    except OSError as error:
        raise StoreError(f"{where}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise StoreError(f"{where} does not match its checksum; export the detector again")
    if body.get("schema") != SCHEMA:
        raise StoreError(f"{where} was written by another version of oodbench; export it again")
    listed, files = body.get("files"), {}
    if not isinstance(listed, Mapping) or not all(isinstance(f, Mapping) for f in listed.values()):
        raise StoreError(f"{where} is not a whole export; export it again")
    for name, file in cast("Mapping[str, Mapping[str, JSON]]", listed).items():
        if "/" in name or name in ("", ".", ".."):
            raise StoreError(f"{where} names a file {name!r} outside its folder")
        try:
            size = file.get("bytes")
            files[name] = read_plain(folder / name, size if isinstance(size, int) else 0)
        except OSError as error:
            raise StoreError(f"{folder / name}: {error.strerror}; export it again") from error
        if hashlib.sha256(files[name]).hexdigest() != file.get("sha256"):
            raise StoreError(
                f"{folder / name} does not match its checksum; export the detector again"
            )
    return body, files

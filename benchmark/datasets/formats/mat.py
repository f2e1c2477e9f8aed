"""MATLAB files as SVHN's: ``X`` (H, W, C, N) and ``y`` (N, 1), in which 10 stands for 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from oodbench.datasets.reading.array_images import ArrayImages, StoredArray
from oodbench.datasets.reading.contents import Contents, not_used
from oodbench.datasets.reading.labels import Labels, understand
from oodbench.datasets.sources.raw_images import short_reason
from oodbench.errors import DataError

IMAGES = ("x", "images", "image", "imgs", "data")
LABELS = ("y", "labels", "label", "targets")


def mat_contents(path: Path) -> Contents:
    """The images of a .mat file; DataError where it is of another kind."""
    from scipy.io import loadmat, whosmat

    try:
        held = {name.lower(): (name, shape, kind) for name, shape, kind in whosmat(str(path))}
        image = next((name for name in IMAGES if name in held), "")
        if not image:
            listed = ", ".join(f"{name} {'×'.join(map(str, s))}" for name, s, _ in held.values())
            raise DataError(
                f"{path}: no array X of images (it holds {listed or 'nothing'}); name it X, H×W×C×N"
            )
        label = next((name for name in LABELS if name in held), "")
        names = [held[name][0] for name in (image, label) if name]
        arrays = loadmat(str(path), variable_names=names)
    except DataError:
        raise
    except NotImplementedError as error:  # a file of version 7.3 is HDF5
        raise DataError(
            f"{path}: .mat files of version 7.3 are not read; save it with '-v7' or as an .npz"
        ) from error
    except Exception as error:  # scipy raises anything on a damaged file
        raise DataError(f"{path}: not a readable .mat file ({short_reason(error)})") from error
    unused = [name for name, _, _ in held.values() if name not in names]
    notes = [not_used("arrays", unused)] if unused else []
    images = _images_first(np.asarray(arrays[names[0]]), path)
    stored = StoredArray(lambda: images, images.shape, images.dtype, str(path))
    labels, ten = _labels(np.asarray(arrays[names[1]]), len(images)) if label else (Labels(), False)
    if ten:
        notes.append("of its labels 1 … 10 the last is taken as 0, as SVHN means it")
    return Contents(str(path), ArrayImages({"": stored}, str(path)), labels, notes=tuple(notes))


def _images_first(array: np.ndarray, path: Path) -> np.ndarray:
    """(N, H, W, C) from (H, W, C, N), (N, H, W, C) or (N, C, H, W)."""
    if array.ndim == 4 and array.shape[2] in (1, 3) and array.shape[3] not in (1, 3):
        return array.transpose(3, 0, 1, 2)
    if array.ndim == 4:
        return array
    raise DataError(f"{path}: X has the shape {array.shape}; expected (H, W, C, N)")


def _labels(array: np.ndarray, count: int) -> tuple[Labels, bool]:
    """The labels, and whether 10 was taken as 0."""
    if array.shape == (1, count):  # MATLAB's rows
        array = array[0]
    found = understand({"": array}, {"": count})
    values = found.of("")
    if values is None or not len(values):
        return found, False
    if not found.classes and values.min() == 1 and values.max() == 10:
        return Labels({"": np.where(values == 10, 0, values)}), True
    return found, False

"""A user's own images: an .npz file or a folder, cut into train and test where it must be both.

An .npz may hold ``images`` (with ``labels``), or ``train`` and ``test`` (with ``train_labels`` and
``test_labels``); a folder may hold image files anywhere below it, or ``train/`` and ``test/``.
Where every image lies in a folder of its class, the names of those folders, sorted, are the
classes 0, 1, …  Where one undivided set has to serve as ID training and test set, it is cut 80/20
by a seeded permutation.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.sources.raw_images import (
    Found,
    Raw,
    as_images,
    as_labels,
    file_identity,
    read_npz,
    short_reason,
)
from oodbench.errors import DataError
from oodbench.seeding import derive_seed

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
#: What Pillow may take a file for: its reader of PostScript, for one, runs another program.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
MAX_PIXELS = 64_000_000


def find_user_data(path: Path, split: str, *, divide: bool) -> Found:
    """The source at `path`; DataError where there is nothing usable. `divide`: cut 80/20."""
    if path.suffix == ".npz":
        if not path.is_file():
            raise DataError(f"{path}: there is no such file (looked in {Path.cwd()})")
        held: JSON = {"file": file_identity(path), "split": split, "divide": divide}
        return Found(str(path), held, lambda: _npz(path, split, divide))
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder (looked in {Path.cwd()})")
    folder, whole, roots = path, True, [path]
    if (path / "train").is_dir() and (path / "test").is_dir():
        folder, whole, roots = path / split, False, [path / "train", path / "test"]
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not images:
        raise DataError(
            f"{folder}: no images in it; it should hold {', '.join(sorted(ENDINGS))} files"
        )
    listing = digest([file_identity(p) for p in images])
    identity: dict[str, JSON] = {
        "folder": str(folder.absolute()), "listing": listing, "split": split
    }  # fmt: skip
    cut = divide and whole
    names = sorted({p.name for root in roots for p in root.iterdir() if p.is_dir()})
    classes = tuple(names) if all(p.parent != folder for p in images) else ()
    identity |= {"divide": cut} | ({"classes": classes} if classes else {})
    return Found(str(folder), identity, lambda: _folder(folder, images, split, cut, classes))


def _npz(path: Path, split: str, divide: bool) -> Raw:
    arrays = read_npz(path)
    if split in arrays:
        images, labels = as_images(arrays[split], f"{path}[{split}]"), arrays.get(f"{split}_labels")
        if labels is not None:
            labels = as_labels(labels, len(images), f"{path}[{split}_labels]")
        return Raw(images, len(images), labels)
    if "images" not in arrays:
        held = ", ".join(arrays) or "nothing"
        raise DataError(f"{path}: no array 'images' (it holds {held}); name the array 'images'")
    images = as_images(arrays["images"], str(path))
    labels = arrays.get("labels")
    if labels is not None:
        labels = as_labels(labels, len(images), str(path))
    if not divide:
        return Raw(images, len(images), labels)
    chosen, note = _share(len(images), split)
    return Raw(images[chosen], len(chosen), None if labels is None else labels[chosen], note=note)


def _folder(
    folder: Path, paths: list[Path], split: str, divide: bool, classes: tuple[str, ...]
) -> Raw:
    note = ""
    if divide:
        chosen, note = _share(len(paths), split)
        paths = [paths[i] for i in chosen]

    def read() -> Iterator[np.ndarray]:
        for path in paths:
            yield read_image(path)

    labels = None
    if classes:
        labels = np.array([classes.index(p.relative_to(folder).parts[0]) for p in paths])
    return Raw(read(), len(paths), labels, note=note, classes=classes)


def _share(count: int, split: str) -> tuple[np.ndarray, str]:
    if count < 5:
        raise DataError(
            f"{count} images cannot be cut into training and test images; give 5 or more"
        )
    order = np.random.default_rng(derive_seed("80/20", count)).permutation(count)
    cut = count * 4 // 5
    chosen = np.sort(order[:cut] if split == "train" else order[cut:])
    return chosen, f"a seeded {'80' if split == 'train' else '20'} % share of {count} images"


def read_image(path: Path) -> np.ndarray:
    """(H, W, 1 or 3) uint8: EXIF rotation applied, 16 bits to 8, alpha over white, first frame."""
    from PIL import Image, ImageOps

    try:
        with _without_warnings(), Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {opened.width}×{opened.height} pixels are too many (limit"
                    f" {MAX_PIXELS:,}); reduce it first"
                )
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
                wide = np.asarray(image, dtype=np.float64)
                scaled = wide / 257.0 if wide.max(initial=0) > 255 else wide
                return np.clip(np.round(scaled), 0, 255).astype(np.uint8)[:, :, None]
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
            if image.mode in ("1", "L"):
                return np.asarray(image.convert("L"))[:, :, None]
            colour = np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow raises anything on damaged files
        raise DataError(
            f"{path}: not a readable image ({short_reason(error)}); remove or mend it"
        ) from error
    return colour


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow warns of large images and odd metadata; what matters is an error of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def grey_if_equal(image: np.ndarray) -> np.ndarray:
    """One channel where the three are equal everywhere."""
    if (
        image.shape[2] == 3
        and np.array_equal(image[..., 0], image[..., 1])
        and np.array_equal(image[..., 1], image[..., 2])
    ):
        return image[:, :, :1]
    return image


def listing_hash(paths: list[Path]) -> str:
    """SHA-256 of file names, for messages and tests."""
    return hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()

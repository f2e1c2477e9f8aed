"""Real images that ship inside scikit-learn: no download, on any machine.

`digits`: the 1,797 scanned 8×8 digits, values 0..16 scaled to 0..255, cut into 1,297 + 500 by a
seeded permutation.  The patch sets are windows of the two sample photographs (427×640).  A photo
is divided into a grid of 5×8 blocks; every fourth block, shifted from row to row, is for testing.
A patch lies inside one block, so that no pixel of a test patch is in any training patch.  Training
patches overlap (stride a quarter of the side); test patches are disjoint, since an interval over
test images takes each for an observation of its own.  Patches of one block still resemble each
other: an interval that resampled the blocks would be about three times as wide.

`china` leaves out the two upper rows of blocks, which are mostly sky: flat and textured patches in
one set give its likelihood two modes, and a model of such a set says little about a paradox that
is about textured ID images and smooth OOD ones.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.sources.raw_images import Found, Raw
from oodbench.datasets.spec import DatasetSpec
from oodbench.seeding import derive_seed

#: Of the patch sets; 2: disjoint test patches.
REVISION = 2
DIGITS_REVISION = 1
BLOCKS = (5, 8)
FIRST_ROW = {"china": 2}


def find_embedded(spec: DatasetSpec, split: str) -> Found:
    """The embedded set; reading it imports scikit-learn."""
    identity: dict[str, JSON] = {
        "revision": DIGITS_REVISION if spec.name == "digits" else REVISION,
        "first_row": FIRST_ROW.get(spec.name.partition("-")[0], 0),
        "scikit-learn": _version(),
    }
    return Found("scikit-learn", identity, lambda: read_embedded(spec.name, split))


@cache
def _version() -> str:
    return metadata.version("scikit-learn")


def read_embedded(name: str, split: str) -> Raw:
    """Images of an embedded set, in a fixed order."""
    if name == "digits":
        return _digits(split)
    if name == "photos":
        parts = [_patches(_photo(photo, half=True), 8, split) for photo in ("china", "flower")]
        images = np.concatenate(parts)
    else:
        photo, _, colour = name.partition("-")
        images = _patches(_photo(photo, grey=not colour), 16, split, FIRST_ROW.get(photo, 0))
    return Raw(images, len(images), final=True)


def _digits(split: str) -> Raw:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.round(data.images * 255.0 / 16.0).astype(np.uint8)[..., None]
    order = np.random.default_rng(derive_seed("digits", DIGITS_REVISION)).permutation(len(images))
    chosen = np.sort(order[:1297] if split == "train" else order[1297:])
    return Raw(images[chosen], len(chosen), data.target[chosen].astype(np.int64), final=True)


def _photo(name: str, *, grey: bool = True, half: bool = False) -> np.ndarray:
    """(H, W, 1 or 3) uint8."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(f"{name}.jpg"))
    if grey:
        image = image.convert("L")
    if half:
        image = image.reduce(2)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def is_test_block(row: int, column: int) -> bool:
    """Whether a block of the grid is for testing: one in four, on shifted diagonals."""
    return (column + 2 * row) % 4 == 0


def _patches(photo: np.ndarray, side: int, split: str, first_row: int = 0) -> np.ndarray:
    """(N, side, side, C) windows of the blocks of a split from a row on, in reading order."""
    height, width = photo.shape[0] // BLOCKS[0], photo.shape[1] // BLOCKS[1]
    stride = side // 4 if split == "train" else side
    out = []
    for row in range(first_row, BLOCKS[0]):
        for column in range(BLOCKS[1]):
            if is_test_block(row, column) != (split == "test"):
                continue
            block = photo[row * height : (row + 1) * height, column * width : (column + 1) * width]
            for top in range(0, height - side + 1, stride):
                lefts = range(0, width - side + 1, stride)
                out += [block[top : top + side, left : left + side] for left in lefts]
    return np.stack(out)

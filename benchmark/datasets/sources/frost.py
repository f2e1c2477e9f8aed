"""The photographs of frost that the corruption `frost` lays over images.

Hendrycks, Dietterich 2019; github.com/hendrycks/robustness, Apache-2.0.  They are theirs, so they
are not part of this package: `oodbench data fetch frost` downloads them, each checked by its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from oodbench.errors import DataError

COMMIT = "8190fe329f5f072a06e3a2aea02bb5dda69aed9f"
URL = f"https://raw.githubusercontent.com/hendrycks/robustness/{COMMIT}/ImageNet-C/create_c/"
#: The five that the public code draws from (it lists a sixth and never takes it), SHA-256.
PHOTOGRAPHS = {
    "frost1.png": "ff9f907860bd7a835d459e32f9d588062b7f61ee267343cc7222b56753a14755",
    "frost2.png": "fe211a89b336999c207a852ce05818d4545d0b57c5beadd824b4cc9d9a9b6137",
    "frost3.png": "2d0d50b4a9bb213f38b024ef7768731bb83cc08d2f26b5766bbc167cdfa0e504",
    "frost4.jpg": "3f8b91ca1a9fa7167b09e773da53f5ae60d0a1fd88f02a783f6e328a72887f6e",
    "frost5.jpg": "5fc6a19df4a429ba68abdcc8f8a4278d4c9f81c9ccafd2c92ab0c8cf8992ebd2",
}


def read_photographs(folders: Sequence[Path]) -> list[np.ndarray]:
    """The photographs, (H, W, 3) uint8, from a folder `frost` below one of these.

    Reduced to a fifth of their size: of five pixels each way the middle one, which is what linear
    interpolation at the centres takes.  DataError where one is missing or is another file.
    """
    home = next((f / "frost" for f in folders if (f / "frost" / "frost1.png").is_file()), None)
    if home is None:
        looked = ", ".join(str(folder / "frost") for folder in folders) or "no folder"
        raise DataError(
            f"frost takes the photographs of its authors, {', '.join(PHOTOGRAPHS)} (looked in:"
            f" {looked}); run `oodbench data fetch frost`"
        )
    return [_read(home / name, known) for name, known in PHOTOGRAPHS.items()]


def _read(path: Path, known: str) -> np.ndarray:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; run `oodbench data fetch frost`") from error
    if found != known:
        raise DataError(
            f"{path} is not the published photograph (SHA-256 {found[:8]}…, published"
            f" {known[:8]}…); delete it and run `oodbench data fetch frost`"
        )
    with Image.open(path, formats=["PNG", "JPEG"]) as picture:
        return np.asarray(picture.convert("RGB"))[2::5, 2::5]


def fetch_photographs(folder: Path) -> list[str]:
    """Download what is missing into ``folder/frost``; the files. DataError without a network."""
    from oodbench.datasets.sources.fetching import download

    home = folder / "frost"
    home.mkdir(parents=True, exist_ok=True)
    for name, known in PHOTOGRAPHS.items():
        download("frost", URL + name, f"sha256:{known}", home, name)
    return [str(home / name) for name in PHOTOGRAPHS]

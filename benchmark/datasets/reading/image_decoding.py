"""One image file, as Pillow reads it: 8-bit pixels, or the numbers that it holds in more bits.

EXIF rotation is applied, alpha is laid over white, palettes and other colour spaces become RGB.
A file may hold several images: the pages of a TIFF, the frames of a GIF or WebP.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oodbench.datasets.sources.raw_images import short_reason
from oodbench.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

#: What an image file ends in; whatever its ending, Pillow looks at its first bytes.
ENDINGS = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".bmp", ".dib", ".webp", ".tif",
    ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip
#: Images that are not read, to be told from files that are none.
OTHER_IMAGES = {
    ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".xcf", ".exr", ".hdr",
    ".dcm", ".nii", ".mha", ".raw", ".cr2", ".nef", ".arw", ".dng", ".ico", ".icns", ".tga", ".dds",
    ".pcx", ".fits", ".eps", ".pdf", ".ai",
}  # fmt: skip
#: What Pillow may take a file for: its reader of PostScript, for one, runs another program.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM")
#: Formats whose files may hold several images.  (A JPEG's second image is a preview.)
SEVERAL = ("TIFF", "GIF", "WEBP")
MAX_PIXELS = 64_000_000
MAX_FRAMES = 100_000
#: Where a file says how it is turned.
_TURNED = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
_WIDE: dict[str, type[np.generic]] = {
    "I": np.int32,
    "I;16": np.uint16,
    "I;16B": np.uint16,
    "I;16L": np.uint16,
    "F": np.float32,
}
#: What may be done to the pixels of a file, and what is said of so many files.
CHANGES = {
    "deep": "colour files have 16 bits a channel, of which the upper 8 are read",
    "turned": "files are turned as their EXIF data say",
    "transparent": "files are transparent, and laid over white",
    "colours": "files are in other colours than RGB (CMYK, Lab, …), and converted",
    "previews": "files hold smaller copies of their images, which are not read",
}
_ORIENTATION, OPAQUE = 0x0112, 255
#: Modes of Pillow that become grey or RGB without a change of any colour.
_PLAIN_MODES = {"1", "L", "P", "RGB", "RGBX"}
#: The tag and value by which a TIFF says that a page is a smaller copy of another.
_SUBFILE, _REDUCED = 254, 1


def count_frames(source: Path | bytes, where: str) -> int:
    """How many images a file holds; DataError where it cannot be read."""
    with _opened(source, where) as image:
        return sum(1 for _ in _frames(image, where, {}))


def may_hold_several(name: str) -> bool:
    """Whether a file of this name may hold several images."""
    return name.lower().endswith((".tif", ".tiff", ".gif", ".webp"))


@dataclass(frozen=True)
class Decoded:
    """The images of a file: (H, W, 1 or 3) uint8, or (H, W, 1) of the numbers that it holds.

    `changes`: in which ways the pixels are not those that stand in the file, of `CHANGES`.
    """

    frames: list[np.ndarray]
    changes: tuple[str, ...] = ()


def decode(source: Path | bytes, where: str, expected: int = 1) -> Decoded:
    """A file of `expected` images; DataError where it cannot be read or holds another number."""
    with _opened(source, where) as image:
        changes = _changes(image)
        frames = [_pixels(frame, changes) for frame in _frames(image, where, changes)]
    if len(frames) != expected:
        raise DataError(
            f"{where}: it holds {len(frames):,} images, which its ending does not say; save each as"
            " a file of its own"
        )
    return Decoded(frames, tuple(changes))


@contextmanager
def _opened(source: Path | bytes, where: str) -> Iterator[Image.Image]:
    from PIL import Image

    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with _without_warnings(), Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{where}: {image.width}×{image.height} pixels are too many (limit"
                    f" {MAX_PIXELS:,}); reduce it first"
                )
            yield image
    except DataError:
        raise
    except Exception as error:  # Pillow raises anything on damaged files
        raise DataError(
            f"{where}: not a readable image ({short_reason(error)}); remove or mend it"
        ) from error


def _frames(image: Image.Image, where: str, changes: dict[str, None]) -> Iterator[Image.Image]:
    """The image at each of its frames; smaller copies that a TIFF holds of its pages left out."""
    if image.format == "MPO":
        changes["previews"] = None
    several = image.format in SEVERAL or (image.format == "PNG" and "loop" in image.info)
    count = getattr(image, "n_frames", 1) if several else 1
    if count > MAX_FRAMES:
        raise DataError(f"{where}: {count:,} images in one file are too many")
    for number in range(count):
        if count > 1:
            image.seek(number)
        if number and getattr(image, "tag_v2", {}).get(_SUBFILE, 0) & _REDUCED:
            changes["previews"] = None
            continue
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{where}: {image.width}×{image.height} pixels are too many")
        yield image


def _pixels(opened: Image.Image, changes: dict[str, None]) -> np.ndarray:
    from PIL import Image, ImageOps

    image = opened
    opened.load()  # what a file says of itself may stand behind its pixels
    if opened.format not in ("PNG", "BMP", "PPM", "GIF", "JPEG") or _TURNED & opened.info.keys():
        turned = opened.getexif().get(_ORIENTATION, 1) in range(2, 9)
        image = ImageOps.exif_transpose(opened)
        if turned:
            changes["turned"] = None
    if image.mode in _WIDE:
        return np.asarray(image).astype(_WIDE[image.mode])[:, :, None]
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white, over = Image.new("RGBA", image.size, "white"), image.convert("RGBA")
        if over.getchannel("A").getextrema()[0] != OPAQUE:
            changes["transparent"] = None
        image = Image.alpha_composite(white, over).convert("RGB")
    if image.mode not in _PLAIN_MODES:
        changes["colours"] = None
    if image.mode in ("1", "L"):
        return np.asarray(image if image.mode == "L" else image.convert("L"))[:, :, None]
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _changes(image: Image.Image) -> dict[str, None]:
    """Whether a colour file has 16 bits a channel, of which Pillow keeps the upper 8."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return {}
    tiles = getattr(image, "tile", ())
    deep = any(";16" in str(tile[3]) for tile in tiles if len(tile) > 3)
    return {"deep": None} if deep else {}


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

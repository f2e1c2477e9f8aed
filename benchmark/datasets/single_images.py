"""Images named one by one, in folders or in .npz files, brought to a detector's shape.

Conversion is only what is asked for: an image of another shape is refused, with the flag that
would make it fit.  The steps are those of data sets (`oodbench.datasets.transforms`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oodbench.datasets.naming import SIZING
from oodbench.datasets.sources.raw_images import as_images, read_npz
from oodbench.datasets.sources.user_files import ENDINGS, grey_if_equal, read_image
from oodbench.datasets.transforms import apply
from oodbench.errors import DataError

Shape = tuple[int, int, int]
#: The order in which conversions apply.
STEPS = ("grey", "rgb", *SIZING, "invert")


@dataclass
class Loose:
    """`images` (N, C, H, W) uint8 with their `names`; `unreadable` names with the reason."""

    names: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    images: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 1), np.uint8))


def check_steps(steps: Sequence[str]) -> tuple[str, ...]:
    """The steps in their order; DataError where one is unknown or two exclude each other."""
    for step in steps:
        if step not in STEPS:
            raise DataError(f"unknown conversion {step!r}; one of {', '.join(STEPS)}")
    for group in (("grey", "rgb"), SIZING):
        chosen = [step for step in group if step in steps]
        if len(chosen) > 1:
            raise DataError(f"--{chosen[0]} and --{chosen[1]} exclude each other; give one of them")
    return tuple(step for step in STEPS if step in steps)


def read_loose(sources: Sequence[str | Path], shape: Shape, steps: Sequence[str] = ()) -> Loose:
    """Every image of files, folders (everything below, sorted) and .npz files (array ``images``).

    An image file that cannot be read is listed in `unreadable`.  DataError where a source does not
    exist, an .npz cannot be read, or an image is not of `shape` (C, H, W) after the steps.
    """
    chain, out, kept = check_steps(steps), Loose(), []
    misfits: list[tuple[str, tuple[int, ...]]] = []
    for position, (name, image) in enumerate(_each(sources)):
        if isinstance(image, DataError):
            out.unreadable[name] = str(image).removeprefix(f"{name}: ")
            continue
        done = fit_image(image, shape, chain, position)
        if (done.shape[2], *done.shape[:2]) != shape:
            misfits.append((name, done.shape))
            continue
        out.names.append(name)
        kept.append(np.ascontiguousarray(done.transpose(2, 0, 1)))
    if misfits:
        raise _misfit(misfits, len(misfits) + len(kept), shape)
    if not out.names and not out.unreadable:
        raise DataError("there are no images to score; name files, folders or .npz files")
    out.images = np.stack(kept) if kept else np.zeros((0, *shape), np.uint8)
    return out


def fit_image(image: np.ndarray, shape: Shape, chain: Sequence[str], index: int) -> np.ndarray:
    """(H, W, C) uint8 through the steps; a colour image that is grey everywhere may be grey."""
    done = apply(image, chain, shape[1:], index)
    return grey_if_equal(done) if shape[0] == 1 else done


def steps_to(shape: Shape, size: Sequence[int]) -> list[str]:
    """What brings an image of `size` (H, W, C) to `shape` (C, H, W)."""
    colours = [] if size[2] == shape[0] else ["grey" if shape[0] == 1 else "rgb"]
    return [*colours, *([] if tuple(size[:2]) == shape[1:] else ["resize"])]


def _misfit(misfits: Sequence[tuple[str, tuple[int, ...]]], count: int, shape: Shape) -> DataError:
    steps = {step for _, size in misfits for step in steps_to(shape, size)}
    flags = [f"--{step}" for step in STEPS if step in steps]
    flags += ["(or --crop, --nearest)"] if "resize" in steps else []
    name, size = misfits[0]
    return DataError(
        f"{len(misfits):,} of {count:,} images are not of the detector's shape"
        f" {'×'.join(map(str, shape))} (channels×height×width), the first {name} with"
        f" {size[2]}×{size[0]}×{size[1]}; give {' '.join(flags)}"
    )


def _each(sources: Sequence[str | Path]) -> Iterator[tuple[str, np.ndarray | DataError]]:
    for source in map(str, sources):
        path = Path(source)
        if path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in ENDINGS]
            if not any(p.is_file() for p in found):
                raise DataError(f"{path}: no images in it ({', '.join(sorted(ENDINGS))})")
            yield from (_file(p) for p in found if p.is_file())
        elif not path.is_file():
            raise DataError(f"{path}: there is no such file or folder (looked in {Path.cwd()})")
        elif path.suffix == ".npz":
            arrays = read_npz(path)
            if "images" not in arrays:
                held = ", ".join(arrays) or "nothing"
                raise DataError(f"{path}: no array 'images' (it holds {held}); name it 'images'")
            for index, image in enumerate(as_images(arrays["images"], str(path))):
                yield f"{path}[{index}]", image
        else:
            yield _file(path)


def _file(path: Path) -> tuple[str, np.ndarray | DataError]:
    try:
        return str(path), read_image(path)
    except DataError as error:
        return str(path), error

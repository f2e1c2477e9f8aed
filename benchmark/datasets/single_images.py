"""Images named one by one, in folders or in files of data, brought to a detector's shape.

Conversion is only what is asked for: an image of another shape is refused, with the flag that
would make it fit.  The steps are those of data sets (`oodbench.datasets.transforms`); what is
random in one follows from the image itself, so that it is converted alike alone and among others.

Pixels that are not 8-bit are scaled as those of the ID set were.  Where the ID set is 8-bit,
16 bits run from 0 to 65,535, and other values are refused until ``range(low:high)`` says more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oodbench.datasets.duplicates import image_hashes
from oodbench.datasets.naming import SIZING
from oodbench.datasets.reading.contents import Wanted
from oodbench.datasets.reading.image_decoding import (
    ENDINGS,
    count_frames,
    decode,
    grey_if_equal,
    may_hold_several,
)
from oodbench.datasets.reading.image_tree import reason_against, walk
from oodbench.datasets.reading.pixel_values import Asked, Scale, parse_range, scale_alone
from oodbench.datasets.sources.user_files import find_user_data
from oodbench.datasets.transforms import apply
from oodbench.errors import DataError

log = logging.getLogger("oodbench.datasets")
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
    """The steps in their order; DataError where one is unknown or two exclude each other.

    ``range(low:high)`` is none of them: see `asked_values`.
    """
    for step in steps:
        if step not in STEPS and not step.startswith("range("):
            raise DataError(
                f"unknown conversion {step!r}; one of {', '.join(STEPS)}, range(low:high)"
            )
    for group in (("grey", "rgb"), SIZING):
        chosen = [step for step in group if step in steps]
        if len(chosen) > 1:
            raise DataError(f"--{chosen[0]} and --{chosen[1]} exclude each other; give one of them")
    return tuple(step for step in STEPS if step in steps)


def asked_values(steps: Sequence[str], values: tuple[float, float] | None = None) -> Asked | None:
    """The scale that ``range(low:high)`` asks for, else that of the ID set's wide pixels, `values`.

    DataError where two are asked for, or what is asked for is none.
    """
    asked = [step for step in steps if step.startswith("range(")]
    if not asked:
        return None if values is None else Asked(Scale(*values), wide=True)
    scale = parse_range(asked[0].removeprefix("range(").removesuffix(")"))
    if scale is None or len(asked) > 1:
        raise DataError(
            f"{' '.join(asked)}: give one range of black and white, as in range(0:4095)"
        )
    return Asked(scale)


def read_loose(
    sources: Sequence[str | Path],
    shape: Shape,
    steps: Sequence[str] = (),
    *,
    values: tuple[float, float] | None = None,
    by_position: bool = False,
    prepare: Callable[[str, np.ndarray, int | None], np.ndarray] | None = None,
) -> Loose:
    """Every image of files, folders (everything below, sorted) and files of data.

    `values` are those of the ID set (`ImageSet.values`); `by_position` keys what is random in a
    step by the place in the list, as a data set does; `prepare` takes the place of the steps: name,
    image and place or None to image.  An image file that cannot be read is listed
    in `unreadable`.  DataError where a source does not exist, a file of data cannot be read, or an
    image is not of `shape` (C, H, W) after the steps.
    """
    chain, out, kept = check_steps(steps), Loose(), []
    misfits: list[tuple[str, tuple[int, ...]]] = []
    for position, (name, image) in enumerate(_each(sources, asked_values(steps, values))):
        if isinstance(image, DataError):
            out.unreadable[name] = str(image).removeprefix(f"{name}: ")
            continue
        place = position if by_position else None
        if prepare is not None:
            done = prepare(name, image, place)
        else:
            done = fit_image(image, shape, chain, place)
        if (done.shape[2], *done.shape[:2]) != shape:
            misfits.append((name, done.shape))
            continue
        out.names.append(name)
        kept.append(np.ascontiguousarray(done.transpose(2, 0, 1)))
    if misfits:
        raise _misfit(misfits, len(misfits) + len(kept), shape)
    if not out.names and not out.unreadable:
        raise DataError("there are no images to score; name files, folders or files of data")
    out.images = np.stack(kept) if kept else np.zeros((0, *shape), np.uint8)
    return out


def fit_image(
    image: np.ndarray, shape: Shape, chain: Sequence[str], index: int | None = None
) -> np.ndarray:
    """(H, W, C) uint8 through the steps; a colour image that is grey everywhere may be grey.

    What is random in a step is keyed by `index`, else by the image's own pixels.
    """
    if index is None:
        index = int.from_bytes(image_hashes(image[None])[:8], "big")
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


def _each(
    sources: Sequence[str | Path], asked: Asked | None
) -> Iterator[tuple[str, np.ndarray | DataError]]:
    for source in map(str, sources):
        path = Path(source)
        if path.is_dir():
            tree, _ = walk(path)
            if not tree.files:
                raise DataError(f"{path}: no images in it ({', '.join(sorted(ENDINGS))})")
            if tree.skipped.names:
                log.warning("%s: %s", path, tree.skipped)
            for name in tree.files:
                yield from _file(path / name, asked)
        elif not path.is_file():
            raise DataError(f"{path}: there is no such file or folder (looked in {Path.cwd()})")
        elif path.suffix.lower() in ENDINGS or reason_against(path.name).startswith("images"):
            yield from _file(path, asked)
        else:
            yield from _data_file(path, asked)


def _data_file(path: Path, asked: Asked | None) -> Iterable[tuple[str, np.ndarray]]:
    """The images of a file of data (of the test part where it is divided)."""
    raw = find_user_data(path, Wanted("test", values=asked)).read()
    for index, image in enumerate(raw.images):
        yield f"{path}[{index}]", image
    if raw.notes():
        log.warning("%s: %s", path, raw.notes())


def _file(path: Path, asked: Asked | None) -> Iterator[tuple[str, np.ndarray | DataError]]:
    try:
        count = count_frames(path, str(path)) if may_hold_several(path.name) else 1
        frames = [scale_alone(f, asked, str(path)) for f in decode(path, str(path), count).frames]
    except DataError as error:
        yield str(path), error
        return
    for index, frame in enumerate(frames):
        yield str(path) if count == 1 else f"{path}[{index}]", frame

"""Figures made of images: reconstructions, draws given one image, samples from the prior.

Images are floats in [0, 1]; NaN is left white.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from oodbench.figures.style import TEXT_WIDTH, new_figure, styled
from oodbench.media import terminal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Pixels of white between images, as a share of an image's height.
GAP = 1 / 14


@dataclass(frozen=True)
class Grid:
    """`images` (R, N, C, H, W), C = 1 or 3; `rows` labels the R rows and may be empty."""

    title: str
    rows: Sequence[str]
    images: np.ndarray


@styled
def grid_figure(grids: Sequence[Sequence[Grid]], title: str = "") -> Figure:
    """Panels of images: rows of columns; a row is as high as its highest panel."""
    columns = max(map(len, grids))
    cell = TEXT_WIDTH / max(2, columns)
    heights = []
    for row in grids:
        sizes = [_canvas(grid.images).shape for grid in row]
        heights.append((cell - 0.45) * max(size[0] / size[1] for size in sizes) + 0.25)
    figure = new_figure(columns * cell, sum(heights) + (0.3 if title else 0.05))
    spec = figure.add_gridspec(len(grids), columns, height_ratios=heights)
    for r, row in enumerate(grids):
        for c, grid in enumerate(row):
            show(figure.add_subplot(spec[r, c]), grid)
    if title:
        figure.suptitle(title)
    return figure


def show(ax: Axes, grid: Grid) -> None:
    """Draw one grid, pixel by pixel, with the labels of its rows at the left."""
    canvas = _canvas(grid.images)
    ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    height = grid.images.shape[-2]
    step = height + _gap(height)
    ax.set_xticks([])
    ax.set_yticks([r * step + (height - 1) / 2 for r in range(len(grid.rows))],
                  [terminal(row) for row in grid.rows])  # fmt: skip
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(grid.title)
    ax.set_anchor("N")


def _gap(height: int) -> int:
    return max(1, round(GAP * height))


def _canvas(images: np.ndarray) -> np.ndarray:
    """(H', W') or (H', W', 3): the images on white."""
    rows, count, channels, height, width = images.shape
    gap = _gap(height)
    size = (rows * (height + gap) - gap, count * (width + gap) - gap, channels)
    canvas = np.ones(size)
    for r in range(rows):
        for c in range(count):
            top, left = r * (height + gap), c * (width + gap)
            image = np.nan_to_num(images[r, c].transpose(1, 2, 0), nan=1.0)
            canvas[top : top + height, left : left + width] = image.clip(0, 1)
    return canvas[..., 0] if channels == 1 else canvas

"""How every figure looks, and files that are the same bytes whenever the figure is the same.

Sizes are those of print: 6.75 inches is the text width of the papers, type is 7 to 8 points.
Colours are those of Okabe and Ito (2008), told apart with any colour vision; lines also differ in
dashes and markers and areas in hatching, so that a figure survives a grey printer.
"""

from __future__ import annotations

import io
import textwrap
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import matplotlib as mpl

from oodbench.errors import ConfigError
from oodbench.media import printable_figure
from oodbench.store.outputs import write_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT_WIDTH = 6.75
DPI = 200
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (2, 1)))
MARKERS = "osD^vP*"
ID_COLOUR, OOD_COLOUR = COLOURS[:2]
GREY = "#666666"
FORMATS = ("pdf", "svg", "png")
#: Inches that a line of a legend takes, and that a letter is wide per point of type, on average.
LEGEND_LINE = 0.145
LETTER = 0.0088

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "text": {"parse_math": False},  # a name may hold a $
    "font": {"family": "sans-serif", "sans-serif": ["DejaVu Sans"], "size": 8},
    "figure": {"titlesize": 8.5},
    "axes": {"titlesize": 8, "labelsize": 8, "linewidth": 0.7},
    "axes.spines": {"top": False, "right": False},
    "xtick": {"labelsize": 7},
    "ytick": {"labelsize": 7},
    "xtick.major": {"width": 0.7},
    "ytick.major": {"width": 0.7},
    "legend": {"fontsize": 7, "title_fontsize": 7, "frameon": False, "handlelength": 2.6},
    "lines": {"linewidth": 1.4, "markersize": 4},
    "hatch": {"linewidth": 0.6},
    "pdf": {"fonttype": 42},
    "svg": {"fonttype": "none", "hashsalt": "oodbench"},
}
#: Dates and versions are left out, so that they do not make a new file of the same figure.
METADATA: Mapping[str, Mapping[str, str | None]] = {
    "pdf": {"Creator": "oodbench", "Producer": None, "CreationDate": None},
    "svg": {"Creator": "oodbench", "Date": None},
    "png": {"Software": None},
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: run the function with `SETTINGS`, on matplotlib's own defaults."""

    set_group: Callable[..., None] = mpl.rc

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()
            for group, values in SETTINGS.items():
                set_group(group, **values)
            return function(*args, **kwargs)

    return run


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches that lays itself out; it needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panels(count: int, *, height: float = 2.4, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of `count` equal panels, at most `columns` in a row, each `height` inches high."""
    across = min(count, columns)
    rows = -(-count // across)
    width = TEXT_WIDTH if across > 1 else 0.6 * TEXT_WIDTH
    figure = new_figure(width, rows * height)
    axes = [figure.add_subplot(rows, across, i + 1) for i in range(count)]
    return figure, axes


def legend_below(ax: Axes, *, title: str = "") -> None:
    """The panel's legend under the label of its x axis, where it covers nothing."""
    from matplotlib.transforms import ScaledTranslation

    assert ax.figure is not None
    below = ax.transAxes + ScaledTranslation(0, -0.42, ax.figure.dpi_scale_trans)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below,
              title=title or None)  # fmt: skip


def legend_height(labels: Iterable[str]) -> float:
    """Inches that a legend of these labels takes, a line each, wrapped ones several."""
    return LEGEND_LINE * sum(1 + label.count("\n") for label in labels)


def wrapped(text: str, inches: float, points: float = 7.0) -> str:
    """The text in lines that fit a width; a word that is too long is cut."""
    width = max(8, int(inches / (LETTER * points)))
    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def line_styles(names: Iterable[str]) -> dict[str, tuple[str, object]]:
    """Colour and dashes of every name: all different, up to 49, and the same in every figure.

    A name has a place of its own, taken from its letters; where two of a figure share one, the
    later name takes the next that is free.
    """
    every = [(colour, dashes) for dashes in DASHES for colour in COLOURS]
    taken: dict[int, str] = {}
    wanted = list(names)
    for name in sorted(set(wanted)):
        place = zlib.crc32(name.encode()) % len(every)
        while place in taken and len(taken) < len(every):
            place = (place + 1) % len(every)
        taken.setdefault(place, name)
    found = {name: every[place] for place, name in taken.items()}
    return {name: found.get(name, every[0]) for name in wanted}


def file_format(path: str | Path) -> str:
    """pdf, svg or png, by the file's suffix; ConfigError otherwise."""
    suffix = Path(path).suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise ConfigError(f"a figure is written as .pdf, .svg or .png, not as {Path(path).name!r}")
    return suffix


@styled
def to_bytes(figure: Figure, format_: str, dpi: int = DPI) -> bytes:
    """The figure as a PDF, SVG or PNG file; equal figures give equal bytes.

    `dpi` is the resolution of a PNG, and of the images inside a PDF or an SVG.
    """
    out = io.BytesIO()
    printable_figure(figure).savefig(out, format=format_, dpi=dpi, metadata=dict(METADATA[format_]))
    return out.getvalue()


def write_figure(figure: Figure, path: str | Path, dpi: int = DPI) -> None:
    """Write the format that the suffix names; the file is complete or as it was before."""
    write_output(path, to_bytes(figure, file_format(path), dpi))

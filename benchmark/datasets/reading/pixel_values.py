"""The rule by which values become pixels 0 … 255: one for a whole set, and said below its tables.

    found in the whole set              taken as black … white
    8-bit pixels                        themselves
    0 and 1 alone, of any type          0 … 1
    whole numbers up to 255             themselves
    whole numbers up to 4,095           0 … 4,095, 12 bits
    whole numbers up to 65,535          0 … 65,535, 16 bits
    other floats from 0 to 1            0 … 1
    other floats from -1 to 1           -1 … 1

Anything else is refused: ``NAME@range(low:high)`` says what black and white are.  In between, a
value v becomes 255 (v − low) / (high − low), rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from oodbench.errors import DataError


@dataclass(frozen=True)
class Seen:
    """What the values of some images are: their type in words, from `low` to `high`.

    `whole`: all are whole numbers.  `count` images were looked at.
    """

    kind: str
    low: float
    high: float
    whole: bool
    count: int = 1

    @property
    def eight_bit(self) -> bool:
        """Whether these are pixels as they are."""
        return self.kind == "8-bit"

    def __add__(self, other: Seen) -> Seen:
        """What both together are."""
        kind = (
            self.kind if other.kind in self.kind.split(" and ") else f"{self.kind} and {other.kind}"
        )
        return Seen(
            kind, min(self.low, other.low), max(self.high, other.high), self.whole and other.whole,
            self.count + other.count,
        )  # fmt: skip


def look(values: np.ndarray, where: str, count: int = 1) -> Seen:
    """What an array is that holds `count` images; DataError where its values are no numbers."""
    kind = values.dtype.kind
    if kind not in "buif":
        raise DataError(f"{where}: images are {values.dtype}; store them as uint8 0..255")
    if values.dtype == np.uint8:
        return Seen("8-bit", float(values.min()), float(values.max()), True, count)
    low, high = float(values.min()), float(values.max())
    if kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        first = np.argwhere(~np.isfinite(values))[0]
        raise DataError(
            f"{where}: image {first[0] if count > 1 else 0} holds {values[tuple(first)]}; images"
            " must be without NaN and infinite values"
        )
    whole = kind != "f" or bool(np.all(values == np.rint(values)))
    return Seen(_kind(values.dtype), low, high, whole, count)


def _kind(dtype: np.dtype[np.generic]) -> str:
    if dtype.kind == "b":
        return "1-bit"
    return f"{8 * dtype.itemsize}-bit {'float' if dtype.kind == 'f' else 'integer'}"


@dataclass(frozen=True)
class Scale:
    """`low` becomes 0 and `high` 255."""

    low: float
    high: float

    @property
    def plain(self) -> bool:
        """Whether 8-bit pixels stay what they are."""
        return (self.low, self.high) == (0.0, 255.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape and type as uint8; those outside become 0 and 255."""
        if self.plain and values.dtype == np.uint8:
            return values
        spread = self.high - self.low
        out: np.ndarray = np.empty(values.shape, np.uint8)
        for part, into in _pieces(values, out):
            scaled = (part.astype(np.float64) - self.low) * 255.0 / spread
            into[...] = np.clip(np.rint(scaled), 0, 255)
        return out


PLAIN = Scale(0.0, 255.0)


@dataclass(frozen=True)
class Asked:
    """A scale that is asked for, of all pixels, or with `wide` of those that are not 8-bit."""

    scale: Scale
    wide: bool = False

    def of(self, eight_bit: bool) -> Scale | None:
        """The scale of pixels of a kind, None where the rule decides."""
        return None if self.wide and eight_bit else self.scale


def _pieces(values: np.ndarray, out: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Runs of the first axis, so that the float64 copies stay small."""
    if values.ndim < 4:
        return [(values, out)]
    return ((values[i : i + 1024], out[i : i + 1024]) for i in range(0, len(values), 1024))


def scale_of(seen: Seen, where: str) -> Scale:
    """The scale by the rule above; DataError with the step that settles it where none fits."""
    if seen.whole and seen.low >= 0 and (seen.high == 1 or seen.kind == "1-bit"):
        return Scale(0.0, 1.0)
    if seen.eight_bit:
        return PLAIN
    if seen.whole and seen.low >= 0:
        for high in (255.0, 4095.0, 65535.0):
            if seen.high <= high:
                return Scale(0.0, high)
    if not seen.whole and seen.high <= 1 and seen.low >= -1:
        return Scale(0.0 if seen.low >= 0 else -1.0, 1.0)
    high = seen.high if seen.high > seen.low else seen.low + 1
    raise DataError(
        f"{where}: values run from {seen.low:g} to {seen.high:g} ({seen.kind}), and no rule says"
        f" what black and white are; name them, as in '{where}@range({seen.low:g}:{high:g})'"
    )


def scale_alone(values: np.ndarray, asked: Asked | None, where: str) -> np.ndarray:
    """One image as uint8 by itself, so that no rule may depend on what it happens to hold.

    `asked` with `wide` is the scale of the set that it is held against.  Without any, whole numbers
    of 16 bits run from 0 to 65,535; DataError where values lie outside, or no scale is known.
    """
    eight_bit = values.dtype == np.uint8
    scale = None if asked is None else asked.of(eight_bit)
    if eight_bit:
        # The one 8-bit set that is scaled is that of 0 and 1.
        if asked is not None and asked.wide and asked.scale == Scale(0, 1) and values.max() <= 1:
            scale = asked.scale
        return (scale or PLAIN).apply(values)
    if scale is None and values.dtype.kind in "iu":
        scale = Scale(0.0, 65535.0)
    seen = look(values, where)
    within = scale is not None and scale.low <= seen.low and seen.high <= scale.high
    if scale is None or not (within or (asked is not None and not asked.wide)):
        raise DataError(
            f"{where}: its pixels are {seen.kind} values from {seen.low:g} to {seen.high:g}; say"
            " what black and white are, with --range LOW:HIGH or range(low:high)"
        )
    return scale.apply(values)


def said(seen: Seen, scale: Scale) -> str:
    """The rule in words; "" for 8-bit pixels that stay what they are."""
    if seen.eight_bit and scale.plain:
        return ""
    binary = seen.whole and (seen.low, seen.high) == (0, 1)
    between = "and" if binary else "…"
    found = f"{seen.kind} values {_number(seen.low)} {between} {_number(seen.high)}"
    if scale.plain:
        return f"{found} taken as they are"
    return f"{found} mapped from {_number(scale.low)} … {_number(scale.high)}"


def asked_for(scale: Scale) -> str:
    """A scale that the name asks for, in words."""
    return f"values mapped from {_number(scale.low)} … {_number(scale.high)}, as asked"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def parse_range(text: str) -> Scale | None:
    """The scale of ``low:high``, None where it is none."""
    low, colon, high = text.partition(":")
    try:
        scale = Scale(float(low), float(high))
    except ValueError:
        return None
    good = colon and np.isfinite(scale.low) and np.isfinite(scale.high) and scale.low < scale.high
    return scale if good else None

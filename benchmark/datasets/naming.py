"""The grammar of data-set names: a set, its classes in brackets, its steps after "@".

    mnist[0-4]                      images of the classes 0 to 4
    cifar10[cat,dog]@blur(2)        two classes by name, blurred
    photos/holiday.npz@resize(32)   a path, and a step with a parameter
    uniform(5000)                   a generated set

Pure text: neither numpy nor an image is needed to read a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oodbench.errors import DataError, UnknownNameError

SIZING = ("resize", "crop", "nearest")
#: Steps that change size, colours or polarity, so that two sets fit each other.
GENERIC = (*SIZING, "invert", "grey", "rgb")
ALIASES = {"inversion": "invert", "gray": "grey"}
MAX_SIDE = 4096


@dataclass(frozen=True)
class Parameter:
    """The number that a step takes in brackets, from `low` to `high`."""

    meaning: str
    low: float
    high: float
    example: str
    whole: bool = False
    #: The step that takes any number where this one takes few.
    other: str = ""


SIDE = Parameter("the side in pixels", 1, MAX_SIDE, "32", whole=True)
#: Those of Hendrycks and Dietterich by their names: `oodbench.datasets.common_corruptions`.
COMMON = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
    "jpeg_compression",
)  # fmt: skip
_OTHERS = {"brightness": "brightness_shift(0.2)", "contrast": "contrast_factor(0.5)"}
#: Corruptions by name; None for those without a parameter. `oodbench.datasets.corruptions` does
#: what they say.
CORRUPTIONS: dict[str, Parameter | None] = {
    "blur": Parameter("σ in pixels", 0, 100, "2"),
    "brightness_shift": Parameter("a share of the range", -1, 1, "0.2"),
    "contrast_factor": Parameter("the factor", 0, 10, "0.5"),
    "hflip": None,
    "jpeg": Parameter("the quality", 1, 95, "10", whole=True),
    "noise": Parameter("σ as a share of the range", 0, 1, "0.1"),
    "posterize": Parameter("bits a channel", 1, 8, "2", whole=True),
    "rotate": Parameter("degrees, counter-clockwise", -360, 360, "90"),
    "saltpepper": Parameter("the share of pixels", 0, 1, "0.1"),
    "shuffle": None,
    "vflip": None,
    **{name: Parameter("the severity", 1, 5, "3", True, _OTHERS.get(name, "")) for name in COMMON},
}
#: Sets that are drawn, in the shape and number of the ID test images, with what they hold.
GENERATED = {
    "constant": "one random grey or colour an image",
    "gaussian": "N(1/2, 1) of the range at every pixel and channel, clipped",
    "uniform": "U(0 … 255) at every pixel and channel",
}
DATA_ENDINGS = (
    ".npz", ".npy", ".mat", ".csv", ".csv.gz", ".parquet", ".zip", ".tar", ".tar.gz", ".tgz",
    ".tar.bz2", ".tbz2", ".tar.xz", ".txz", "-ubyte", "-ubyte.gz",
)  # fmt: skip
_CALL = re.compile(r"([^()\[\]@]*)\(([^()]*)\)")
_SUBSET = re.compile(r"(.+)\[([^\[\]/]*)\]", re.DOTALL)


def split_name(text: str, registered: bool) -> tuple[str, str | None, list[str]]:
    """Base, what stands in its brackets (None without) and steps of a name.

    The longest beginning that names an existing file or folder is the base, whatever characters it
    holds, unless the text before the first "@" is a `registered` name.
    """
    parts = text.split("@")
    for cut in range(len(parts), 0, -1):
        base = "@".join(parts[:cut])
        if (cut == 1 and registered) or not _special(base):
            continue
        if exists(base):
            return base, None, parts[cut:]
    found = _SUBSET.fullmatch(parts[0])
    return (found[1], found[2], parts[1:]) if found else (parts[0], None, parts[1:])


def exists(path: str) -> bool:
    """Whether a file or folder stands there."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that is too long, or that holds a NUL
        return False


def ends_as_data(path: str) -> bool:
    """Whether a name ends as files of data do, so that it is a path though nothing stands there."""
    return path.lower().endswith(DATA_ENDINGS)


def _special(base: str) -> bool:
    return any(char in base for char in "@[](")


def call(text: str) -> tuple[str, str | None]:
    """``name(argument)`` taken apart; the argument is None where there are no brackets."""
    found = _CALL.fullmatch(text)
    return (found[1], found[2].strip()) if found else (text, None)


def classes_apart(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two choices of classes, all by number or all by name, have none in common.

    False where one of them is empty (all classes), or where numbers and names cannot be compared.
    """
    if not one or not other:
        return False
    numbers = [[_numbers(item) for item in items] for items in (one, other)]
    if all(found is None for found in (*numbers[0], *numbers[1])):
        return not {item.lower() for item in one} & {item.lower() for item in other}
    if any(found is None for found in (*numbers[0], *numbers[1])):
        return False
    left, right = ({n for found in side for n in found or ()} for side in numbers)
    return not left & right


def step_name(step: str) -> str:
    """A step without its parameter."""
    return call(step)[0]


def parameter_of(step: str) -> float | None:
    """The number of a step in canonical form, None where it has none."""
    argument = call(step)[1]
    return None if argument is None or ":" in argument else float(argument)


def parse_step(text: str, base: str, named: Sequence[str]) -> str:
    """A step in canonical form; `named` are the variants that the set's own declaration names.

    UnknownNameError with the nearest steps, DataError where its parameter is missing or wrong.
    """
    name, argument = call(text)
    name = ALIASES.get(name, name)
    if name == "range" and name not in named:
        return _range(argument, f"{base}@{text}")
    valid = [*named, *(g for g in (*GENERIC, *CORRUPTIONS, "range") if g not in named)]
    if name not in valid:
        raise UnknownNameError(f"variant of {base}", name, valid)
    parameter = SIDE if name in SIZING else CORRUPTIONS.get(name)
    if argument is None:
        if name in CORRUPTIONS and parameter is not None:
            raise DataError(
                f"{base}@{name}: {name} takes a number in brackets, {parameter.meaning}; write"
                f" '{base}@{name}({parameter.example})'"
            )
        return name
    if parameter is None:
        raise DataError(f"{base}@{text}: {name} takes no number; write {base}@{name}")
    return f"{name}({_number(argument, parameter, f'{base}@{text}')})"


def _number(text: str, parameter: Parameter, where: str) -> str:
    """The shortest text of a number within its limits."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    good = parameter.low <= value <= parameter.high  # not a number is in no range
    if not good or (parameter.whole and not value.is_integer()):
        kind = "a whole number" if parameter.whole else "a number"
        other = f"; for a number of your own: {parameter.other}" if parameter.other else ""
        raise DataError(
            f"{where}: {parameter.meaning} must be {kind} from {parameter.low:g} to"
            f" {parameter.high:g}, as in ({parameter.example}){other}"
        )
    return _shortest(value)


def _range(argument: str | None, where: str) -> str:
    """The step that says which values of a user's files are black and white."""
    low, colon, high = (argument or "").partition(":")
    try:
        values = (float(low), float(high)) if colon else (math.nan, math.nan)
    except ValueError:
        values = (math.nan, math.nan)
    if not (all(map(math.isfinite, values)) and values[0] < values[1]):
        raise DataError(
            f"{where}: range takes the values of black and white, the smaller first, as in (0:4095)"
        )
    return f"range({':'.join(_shortest(value) for value in values)})"


def _shortest(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def parse_classes(text: str, base: str, known: Sequence[str]) -> tuple[str, ...]:
    """The classes between the brackets, as numbers, ranges ``2-5`` and names.

    `known` are the names of the set's classes, () where they are not known before its images are.
    """
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise DataError(f"{base}[{text}]: name classes between the brackets, as in '{base}[0-4]'")
    out = []
    for item in items:
        numbers = _numbers(item)
        if numbers is not None and not numbers:
            raise DataError(f"{base}[{text}]: the range {item} is empty; write the smaller first")
        if known:
            item = _known_class(item, numbers, base, known)
        out.append(item)
    return tuple(dict.fromkeys(out))


def _known_class(item: str, numbers: range | None, base: str, known: Sequence[str]) -> str:
    exact = {name.lower(): name for name in known}
    if item.lower() in exact:
        return exact[item.lower()]
    if numbers is None:
        raise UnknownNameError(f"class of {base}", item, known)
    if numbers[-1] >= len(known):
        raise DataError(
            f"{base}[{item}]: there is no class {numbers[-1]}; {base} has the classes 0 to"
            f" {len(known) - 1}"
        )
    return item


def _numbers(item: str) -> range | None:
    """The numbers of ``7`` or ``2-5``, None for a name."""
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", item)
    return range(int(found[1]), int(found[2] or found[1]) + 1) if found else None


def class_numbers(items: Sequence[str], names: Sequence[str], where: str) -> set[int]:
    """The labels that the items of `parse_classes` stand for; a name goes before a number."""
    exact = {name.lower(): number for number, name in enumerate(names)}
    wanted: set[int] = set()
    for item in items:
        numbers = _numbers(item)
        if item.lower() in exact:
            wanted.add(exact[item.lower()])
        elif numbers is not None:
            wanted |= set(numbers)
        elif names:
            raise UnknownNameError(f"class of {where}", item, names)
        else:
            raise DataError(
                f"{where}[{item}]: its classes have no names here; write their numbers, as in"
                f" '{where}[0-4]'"
            )
    return wanted


def parse_generated(argument: str | None, base: str) -> tuple[int, tuple[int, int, int] | None]:
    """Number of images (0: as the ID test set) and shape (None: the ID set's) of a generated set.

    The argument is ``N`` or ``N,CxHxW``.
    """
    if argument is None:
        return 0, None
    found = re.fullmatch(r"([0-9]{1,8})(?:,\s*([13])x([0-9]{1,4})x([0-9]{1,4}))?", argument)
    if not found or int(found[1]) < 1 or "0" in (found[3] or "", found[4] or ""):
        raise DataError(
            f"{base}({argument}): write the number of images, '{base}(5000)', or that and a shape,"
            f" '{base}(5000,1x28x28)'"
        )
    shape = (int(found[2]), int(found[3]), int(found[4])) if found[2] else None
    return int(found[1]), shape

"""Passes through networks: what a `cost` formula declares, and what the modules see.

A formula is a sum of products of numbers and of these symbols:
    e  from an image to latents      g  from latents to an image      f  a whole network, e + g
    b  a backward pass               S  importance samples            L  layers
    steps  of refitting              compression  on the CPU          M  members
of which e, g and f are counted and S, L, M and steps are those of the recipe.  "·" may be left out.
Forward calls of every module with weights are counted by hooks, as images that pass it.  A module
belongs to e where a part of its path ends in "encoder", to g where one ends in "decoder".  Without
such parts a network has no halves, and counts as f where all its modules see equally many images.
A network may share work between passes; the declared number must lie between the fewest and the
most images that a module of that half sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from oodbench.conformance.verdicts import NotApplicable, NotConforming

TOKEN = re.compile(r"\s*(\d+|steps|compression|[A-Za-z]|[-−+()·*])")
COUNTED = ("e", "g", "f")
LEFT_OUT = ("b", "compression")
Terms = dict[str, float]


def parse_cost(cost: str, values: Mapping[str, float]) -> Terms:
    """Number of passes by symbol ("e", "g", "f", "b", "compression"), 0 left out.

    `values` are those of S, L, M and steps.  NotApplicable names what cannot be read.
    """
    tokens, position = [], 0
    text = cost.strip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise _unreadable(f"the cost {cost!r} cannot be read at {text[position:]!r}")
        tokens.append(match[1])
        position = match.end()
    found = _Formula(cost, tokens, values).read()
    if found.pop("", 0.0):
        raise _unreadable(f"the cost {cost!r} has a number without a pass to count")
    return {name: count for name, count in found.items() if count}


def _unreadable(reason: str) -> NotApplicable:
    return NotApplicable(f"not countable: {reason}")


class _Formula:
    """Recursive descent: sum → product → factor; a term without a symbol is named ""."""

    def __init__(self, cost: str, tokens: list[str], values: Mapping[str, float]) -> None:
        self.cost, self.tokens, self.values = cost, tokens, values

    def read(self) -> Terms:
        total = self._sum()
        if self.tokens:
            raise _unreadable(f"the cost {self.cost!r} cannot be read at {self.tokens[0]!r}")
        return total

    def _sum(self) -> Terms:
        total = self._product()
        while self.tokens and self.tokens[0] in "+-−":
            sign = 1 if self.tokens.pop(0) == "+" else -1
            for name, count in self._product().items():
                total[name] = total.get(name, 0.0) + sign * count
        return total

    def _product(self) -> Terms:
        total = self._factor()
        while self.tokens and self.tokens[0] not in ("+", "-", "−", ")"):
            if self.tokens[0] in "·*":
                self.tokens.pop(0)
            total = self._multiplied(total, self._factor())
        return total

    def _multiplied(self, a: Terms, b: Terms) -> Terms:
        if set(a) - {""} and set(b) - {""}:
            raise _unreadable(f"the cost {self.cost!r} multiplies passes by passes")
        return {m or n: x * y for m, x in a.items() for n, y in b.items()}

    def _factor(self) -> Terms:
        if not self.tokens:
            raise _unreadable(f"the cost {self.cost!r} ends too early")
        token = self.tokens.pop(0)
        if token == "(":
            inside = self._sum()
            if not self.tokens or self.tokens.pop(0) != ")":
                raise _unreadable(f"the cost {self.cost!r} lacks a ')'")
            return inside
        if token.isdigit():
            return {"": float(token)}
        if token in self.values:
            return {"": self.values[token]}
        if token in (*COUNTED, *LEFT_OUT):
            return {token: 1.0}
        raise _unreadable(
            f"the cost {self.cost!r} has {token!r}, which is none of e, g, f, b, S, L, M,"
            " steps, compression"
        )


@dataclass
class Count:
    """Images that passed every module with weights, by module."""

    images: dict[nn.Module, int] = field(default_factory=dict)

    def saw(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        """A forward call."""
        first = next((value for value in inputs if isinstance(value, torch.Tensor)), None)
        if first is not None and next(module.parameters(recurse=False), None) is not None:
            rows = len(first) if first.ndim else 1
            self.images[module] = self.images.get(module, 0) + rows


@contextmanager
def counting() -> Iterator[Count]:
    """Counts the forward calls of all modules meanwhile."""
    count = Count()

    def hook(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        count.saw(module, inputs)

    handle = nn.modules.module.register_module_forward_hook(hook)
    try:
        yield count
    finally:
        handle.remove()


def counted_passes(
    models: Sequence[nn.Module], measure_one_by_one: Callable[[], int]
) -> dict[str, tuple[float, float]]:
    """Fewest and most passes per image by symbol: e and g, or f; summed over the models.

    `measure_one_by_one` measures images in batches of one (where a module is mapped over the
    images of a batch, its hook sees one) and returns how many.  NotApplicable where passes cannot
    be told apart.
    """
    with counting() as count:
        images = measure_one_by_one()
    total: dict[str, tuple[float, float]] = {}
    known: set[nn.Module] = set()
    for model in models:
        known |= set(model.modules())
        for symbol, (fewest, most) in _passes(model, count, images).items():
            low, high = total.get(symbol, (0.0, 0.0))
            total[symbol] = low + fewest, high + most
    if strangers := set(count.images) - known:
        name = type(next(iter(strangers))).__name__
        raise NotApplicable(f"not countable: a module {name} that is no part of its models runs")
    return total


def _passes(model: nn.Module, count: Count, images: int) -> dict[str, tuple[float, float]]:
    halves: dict[str, list[float]] = {}
    rest: list[float] = []
    present = set()
    for path, module in model.named_modules():
        parts = path.split(".")
        half = "e" if any(part.endswith("encoder") for part in parts) else ""
        half = half or ("g" if any(part.endswith("decoder") for part in parts) else "")
        present.add(half)
        if module in count.images:
            seen = count.images[module] / images
            halves.setdefault(half, []).append(seen) if half else rest.append(seen)
    if halves and {"e", "g"} <= present:
        return {half: (min(seen), max(seen)) for half, seen in halves.items()}
    every = [*rest, *(seen for half in halves.values() for seen in half)]
    if every and min(every) != max(every):
        raise NotApplicable(
            f"not countable: the modules of {type(model).__name__} see {min(every):g} to"
            f" {max(every):g} images per image, and none is called an encoder or a decoder"
        )
    return {"f": (every[0], every[0])} if every else {}


def compare(declared: Terms, counted: Mapping[str, tuple[float, float]]) -> str:
    """What was counted, in words; NotConforming where it is not what is declared."""
    wanted = {name: declared.get(name, 0.0) for name in COUNTED}
    if "f" in counted and len(counted) > 1:
        raise NotApplicable("not countable: some of its networks have halves, others have not")
    if "e" in counted:
        whole = wanted.pop("f")
        wanted["e"], wanted["g"] = wanted["e"] + whole, wanted["g"] + whole
    elif "f" in counted and (wanted["e"] or wanted["g"]):
        raise NotApplicable("not countable: e and g are declared, but the network has no halves")
    shown = []
    for name, number in wanted.items():
        fewest, most = counted.get(name, (0.0, 0.0))
        seen = f"{fewest:g}" if fewest == most else f"{fewest:g} to {most:g}"
        if not fewest <= number <= most:
            raise NotConforming(f"{number:g} {name} are declared, {seen} counted per image")
        if number or most:
            shown.append(f"{name}: {number:g} declared, {seen} counted")
    shown += [f"{name}: not counted" for name in LEFT_OUT if name in declared]
    return "; ".join(shown) or "no network, and none ran"

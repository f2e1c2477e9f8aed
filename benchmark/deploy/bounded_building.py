"""Building a network that a stranger's configuration describes, within the size of its weights.

A configuration is a few bytes; ``"blocks": 1000000`` in it is a network that takes hours to build
and more memory than there is.  Whoever has its weights has files of that size, so a network may
take no more tensors and numbers than some times those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oodbench.errors import StoreError

if TYPE_CHECKING:
    import torch

#: Initialisers draw and factorise copies of what they fill.
TIMES, NUMBERS, TENSORS = 16, 1 << 20, 4_096


@contextmanager
def building_within(weights: Iterable[Mapping[str, torch.Tensor]], where: str) -> Iterator[None]:
    """Whatever makes tensors inside may make no more than networks of these weights need.

    Raises StoreError, which names `where` the configuration is from, before the memory is taken.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    states = list(weights)
    numbers = NUMBERS + TIMES * sum(value.numel() for state in states for value in state.values())
    tensors = TENSORS + TIMES * sum(map(len, states))
    makers = {
        torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye,
        torch.arange, torch.linspace,
    }  # fmt: skip

    class Counting(TorchFunctionMode):
        """Counts before it makes; the meta device makes nothing."""

        def __torch_function__(  # type: ignore[no-untyped-def]
            self, function, types, arguments=(), named=None
        ) -> object:
            nonlocal numbers, tensors
            named = named or {}
            if function in makers:
                shape = {k: v for k, v in named.items() if k not in ("generator", "pin_memory")}
                numbers -= function(*arguments, **{**shape, "device": "meta"}).numel()
                tensors -= 1
                if numbers < 0 or tensors < 0:
                    raise StoreError(
                        f"{where}: its configuration describes a network far beyond its weights;"
                        " nothing of it was built"
                    )
            return function(*arguments, **named)

    with Counting():
        yield

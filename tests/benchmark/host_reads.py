"""Counting what would make the host wait for a GPU: numbers that are read of tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Function = Callable[..., object]
#: Methods and functions of torch, by name, that hand the host what is in a tensor.
READING = {
    "item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__float__", "__int__", "__index__",
    "nonzero", "masked_select", "unique", "argwhere", "is_nonzero", "equal", "allclose",
}  # fmt: skip
#: Operators that do, whoever calls them.
OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")


def _by_mask(arguments: Sequence[object]) -> bool:
    """Whether one of the indices is a mask, whose count says how large the result is."""
    indices = arguments[1] if len(arguments) > 1 else None
    parts = indices if isinstance(indices, list | tuple) else ()
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


class _Operators(TorchDispatchMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self,
        func: Function,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = func._schema.name.removeprefix("aten::")
        if name in OPERATORS or (name.startswith("index") and _by_mask(args)):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


class HostReads(TorchFunctionMode):
    """Counts what would make the host wait for a GPU: Tensor methods, and operators below them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self._below = _Operators(self.found)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Forget what is read meanwhile."""
        before = self.found.copy()
        yield
        self.found.clear()
        self.found.update(before)

    def __enter__(self) -> HostReads:
        self._below.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        super().__exit__(*about)
        self._below.__exit__(*about)

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = getattr(func, "__name__", "")
        if name in READING:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))

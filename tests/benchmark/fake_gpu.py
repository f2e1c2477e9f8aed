"""A GPU that is not there: tensors of device "cuda" with shapes and no numbers.

Inside `fake_gpu` every operation is checked as on a real one: tensors of two devices do not mix,
and one on the GPU has no NumPy array.  What the host asks of a tensor is noted, since it would wait
for all that was handed over before: numbers that are read, transfers that are not asynchronous.
Gradients are tensors of the right shape and device: torch's engine needs a real GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from host_reads import Function
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda:0")
#: Methods that hand the host a number of a tensor of one element.
NUMBERS = {"item", "__bool__", "__int__", "__float__", "__index__", "is_nonzero"}
ARRAYS = {"numpy", "__array__", "tolist"}
#: Operators that copy between devices; under inference_mode `to` is not made of `_to_copy`.
MOVING = ("_to_copy", "copy_", "to", "cpu", "cuda")
#: What makes a tensor of Python's numbers, and copies it where a device is asked for.
MAKING = (torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor)


class _Transfers(TorchDispatchMode):
    """Notes copies between host and GPU that the host waits for."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(
        self,
        func: Function,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")  # type: ignore[attr-defined]
        if name == "index":
            args = (args[0], [self._place(index) for index in args[1]])  # type: ignore[attr-defined]
        out = func(*args, **given)
        if name in MOVING and isinstance(out, Tensor):
            names = (argument.name for argument in func._schema.arguments)  # type: ignore[attr-defined]
            bound = dict(zip(names, args, strict=False)) | given
            source = bound.get("src" if name == "copy_" else "self")
            assert isinstance(source, Tensor)
            places = {source.device.type, out.device.type}
            # To `meta` go the simulation's own questions after the shape of a result.
            if len(places - {"meta"}) > 1 and not bound.get("non_blocking", False):
                self.waits[f"{source.device.type} → {out.device.type}"] += 1
        indices = args[1] if name.startswith("index") and len(args) > 1 else ()
        if isinstance(indices, list | tuple):
            host = [i for i in indices if isinstance(i, Tensor) and i.device.type == "cpu"]
            if host and isinstance(out, Tensor) and out.device.type == "cuda":
                self.waits["index on the CPU"] += 1
        return out

    def _place(self, index: object) -> object:
        """A mask, whose count the host would wait for, as one that chooses everything."""
        if not isinstance(index, Tensor) or index.dtype != torch.bool or index.ndim != 1:
            return index
        self.waits["mask"] += 1
        return torch.arange(len(index), device=index.device)


class _Host(TorchFunctionMode):
    """What Python asks of fake tensors, answered with as good as any numbers."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if name == "grad" and func is torch.autograd.grad:
            return tuple(torch.empty_like(x) for x in _listed(_argument(args, given, 1, "inputs")))
        if name in NUMBERS | ARRAYS and isinstance(first, FakeTensor):
            return self._read(name, first)
        if func in MAKING and torch.device(str(given.get("device") or "cpu")).type == "cuda":
            self.waits[f"torch.{name} on the GPU"] += 1
        return func(*args, **given)

    def _read(self, name: str, tensor: Tensor) -> object:
        on_gpu = tensor.device.type == "cuda"
        if on_gpu and name in ("numpy", "__array__"):
            raise TypeError(f"a tensor on {tensor.device} has no NumPy array; take .cpu() first")
        if on_gpu:
            self.waits[name] += 1
        if name in ("numpy", "__array__", "tolist"):
            kind = np.dtype(str(tensor.dtype).removeprefix("torch."))
            values = np.random.default_rng(0).integers(0, 2, tuple(tensor.shape)).astype(kind)
            return values.tolist() if name == "tolist" else values
        return {"item": 1.0, "__float__": 1.0, "__int__": 1, "__index__": 1}.get(name, True)


def _argument(args: Sequence[object], given: Mapping[str, object], place: int, name: str) -> object:
    return args[place] if len(args) > place else given[name]


def _listed(found: object) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)  # type: ignore[call-overload]


@contextmanager
def fake_gpu() -> Iterator[Counter[str]]:
    """Tensors are fake inside; what the host waited for is counted."""
    waits: Counter[str] = Counter()
    with FakeTensorMode(allow_non_fake_inputs=True), _Transfers(waits), _Host(waits):
        yield waits
        left = waits.copy()
    waits.clear()
    waits.update(left)


def moved(model: nn.Module) -> nn.Module:
    """What `.to` does to a model: its parameters and buffers, and nothing else, on the GPU."""
    held: dict[int, Tensor] = {}

    def there(tensor: Tensor) -> Tensor:
        if id(tensor) not in held:
            copy = torch.empty_like(tensor, device=GPU)
            wants = tensor.requires_grad
            held[id(tensor)] = (
                nn.Parameter(copy, wants) if isinstance(tensor, nn.Parameter) else copy
            )
        return held[id(tensor)]

    for module in model.modules():
        for group in (module._parameters, module._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    group[name] = there(tensor)  # type: ignore[assignment]
    return model

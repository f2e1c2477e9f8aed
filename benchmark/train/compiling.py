"""Which parts of a model torch.compile makes kernels of: its networks, whatever the model.

A model's loss draws noise, chooses branches and logs; it stays in Python.  What it calls are its
networks: the outermost modules inside with parameters and a `forward`.  They are compiled in place,
so that names of weights stay.  Results may then differ in rounding.
"""

from __future__ import annotations

from torch import nn


def networks(model: nn.Module) -> list[nn.Module]:
    """The outermost modules inside `model` that can be called, and that have parameters."""
    found = []
    for child in model.children():
        if next(child.parameters(), None) is None:
            continue
        callable_ = type(child).forward is not nn.Module.forward
        found += [child] if callable_ else networks(child)
    return found


def compile_networks(model: nn.Module, backend: str = "inductor") -> None:
    """Compile the networks of `model` in place; `backend` as of torch.compile."""
    for network in networks(model):
        network.compile(backend=backend)

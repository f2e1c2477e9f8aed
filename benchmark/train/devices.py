"""Where torch computes: device, memory and the layout of weights; nothing here changes a result."""

from __future__ import annotations

import torch
from torch import nn

from oodbench.errors import ConfigError


def tune_allocator() -> None:
    """Keep freed memory in the process (glibc), so that large tensors are not faulted in anew.

    Training allocates and frees tensors of tens of megabytes at every step; by default glibc
    returns each to the system.  No effect on results; nothing happens without glibc.
    """
    import ctypes

    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, -1)
    mallopt(top_pad, 64 << 20)


def pick_device(wanted: str = "auto") -> str:
    """``auto`` is the GPU where there is one, else the CPU; ConfigError on one that is not here."""
    count = torch.cuda.device_count()
    here = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    if wanted == "auto":
        return "cuda" if count else "cpu"
    if wanted not in here:
        raise ConfigError(f"device {wanted!r} is not on this machine; it has {', '.join(here)}")
    return wanted


def channels_last(model: nn.Module) -> nn.Module:
    """The same model with its convolution weights laid out for channels-last images."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model

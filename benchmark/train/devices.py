"""Where torch computes: device, memory, layout of weights, and how a GPU multiplies float32.

Nothing here changes a result on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from oodbench.canonical_json import JSON
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


@contextmanager
def tensor_float_32(allowed: bool) -> Iterator[None]:
    """Whether a GPU may round the factors of float32 products to 10 bits (TF32), for a while.

    That is up to 8 times as fast there; on the CPU nothing is different.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = allowed
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def arithmetic(
    device: str, precision: str = "fp32", *, tf32: bool = False, compiled: bool = False
) -> dict[str, JSON]:
    """What a record says of how numbers were multiplied; TF32 is a GPU's alone."""
    on_gpu = torch.device(device).type == "cuda"
    return {"precision": precision, "tf32": tf32 and on_gpu, "compiled": compiled}


def memory_error(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the CPU; a GPU's is then given back as far as it can.

    A GPU tells with an error of its own kind, the CPU's allocator with the text of a RuntimeError.
    """
    if not isinstance(error, MemoryError | torch.OutOfMemoryError):
        text = str(error)
        if not (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in text):
            return False
    torch.cuda.empty_cache()
    return True

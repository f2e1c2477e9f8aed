"""torch's global state, as oodbench needs it, whatever the caller has set.

A notebook may have switched gradients off, made float64 the default, or entered autocast or
another device; a model that is built, trained or measured there would not be the recipe's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Gradients on, float32, the CPU and no autocast meanwhile; put back afterwards.

    Nothing happens where torch has not been imported: its state is then what it is at first.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    kind = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.empty(0).device.type != "cpu":  # its context costs every operation a detour
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(kind)

"""The network of a stored fit, with its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import digest
from oodbench.declare.recipes import MODELS, ModelConfig
from oodbench.errors import StoreError
from oodbench.store.payload import unpack_tensors

if TYPE_CHECKING:
    import torch

    from oodbench.store.store import Entry


def load_model(fit: Entry, shape: tuple[int, int, int]) -> torch.nn.Module:
    """The trained network of a fit that stands on a recipe, in evaluation mode.

    StoreError where the fit's code revision or configuration is not today's any more.
    """
    name = str(fit.parts["model"])
    kind = MODELS.get(name)
    try:
        config = cast("ModelConfig", kind.model_validate(fit.parts["config"]))  # type: ignore[attr-defined]
        same = digest(config.model_dump(mode="json")) == digest(fit.parts["config"])
    except ValueError:
        same = False
    if not same or kind.revision != fit.parts["revision"]:
        raise StoreError(
            f"fit {fit.digest[:12]} ({fit.record['name']}) was made by an earlier version of the"
            f" model {name!r}; `oodbench run` with the same options trains it anew"
        )
    model = config.build(shape)
    model.load_state_dict(unpack_tensors(fit.read("weights.safetensors")))
    return model.eval()

"""``--log wandb``: a run per fit; WANDB_MODE=offline needs no network, ``wandb sync`` sends it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodbench.train.training_logs import missing_package

if TYPE_CHECKING:
    import numpy as np

    from oodbench.canonical_json import JSON


class WandbLog:
    """Metrics over steps, the settings as configuration, images."""

    def __init__(self, folder: Path) -> None:
        try:
            wandb: Any = import_module("wandb")
        except ImportError as error:
            raise missing_package("wandb", "wandb") from error
        self.wandb = wandb
        self.folder = folder

    def start(self, name: str, settings: Mapping[str, JSON]) -> None:
        """A run of the project oodbench."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run: Any = self.wandb.init(
            project="oodbench", name=name, dir=str(self.folder), config=dict(settings)
        )

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics over steps."""
        self.run.log(dict(values), step=step)

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        """Images by name."""
        pictures = {
            name: [self.wandb.Image(image) for image in images.transpose(0, 2, 3, 1)]
            for name, images in shown.items()
        }
        self.run.log(pictures, step=step)

    def close(self) -> None:
        """The run is finished."""
        self.run.finish()

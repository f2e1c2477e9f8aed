"""``--log tensorboard``: torch's writer; ``tensorboard --logdir FOLDER`` shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from oodbench.train.training_logs import missing_package

if TYPE_CHECKING:
    import numpy as np

    from oodbench.canonical_json import JSON


class TensorBoardLog:
    """A run per fit: ``train/…`` of every epoch, ``kl/layer_1`` …, and images."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing_package("tensorboard", "tensorboard") from error
        self.folder, self._make = folder, SummaryWriter

    def start(self, name: str, settings: Mapping[str, JSON]) -> None:
        """A folder of its own, and the settings as text."""
        place = self.folder / re.sub(r"[^\w.@=-]+", "_", name)
        self.writer = self._make(str(place))
        lines = [f"    {key} = {value}" for key, value in settings.items()]
        self.writer.add_text("settings", "\n".join(lines))

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars over steps."""
        for name, value in values.items():
            layer = re.fullmatch(r"kl_(\w+)", name)
            tag = f"kl/layer_{layer[1]}" if layer else f"train/{name}"
            self.writer.add_scalar(tag, value, step)
        self.writer.flush()

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        """Rows of images."""
        for name, images in shown.items():
            self.writer.add_images(name, images, step)

    def close(self) -> None:
        """What was written is complete."""
        self.writer.close()

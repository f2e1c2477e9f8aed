"""A picture per scored image: the image, what every pixel adds to its score, the KL per layer.

Beside the pictures stands ``explained.csv``: image, picture, score, decision, the sum of the map,
and ``kl_1`` … in nats.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oodbench.deploy.scoring import TrainedDetector
from oodbench.detect.detector import wants_noise
from oodbench.detect.explanations import Explanation, explanation_of
from oodbench.errors import OodbenchError, plugin_contract
from oodbench.media import csv_cell, printable_figure, terminal
from oodbench.store.outputs import write_output

if TYPE_CHECKING:
    import pandas

    from oodbench.deploy.given_images import Given

#: Images that go through the model at once.
BATCH = 32


def explain(
    trained: TrainedDetector, images: Given, folder: Path, frame: pandas.DataFrame, *,
    convert: Sequence[str] = (), prepared: bool = False, noise: str = "image",
) -> list[Path]:  # fmt: skip
    """Write a picture of every image that `frame`, as `TrainedDetector.score` gives it, scores.

    ConfigError where the detector has no such map, OodbenchError where `folder` cannot be made.
    """
    told = explanation_of(trained.detector)
    found = trained.preparation.read(
        images, convert, prepared=prepared, by_position=noise == "position"
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OodbenchError(f"cannot write to {folder}: {error.strerror}") from error
    keys = np.arange(len(found.images)) if noise == "position" else trained.keys_of(found.images)
    rows, paths = [], []
    for start in range(0, len(found.images), BATCH):
        chosen = slice(start, start + BATCH)
        maps = _told(trained, told, found.images[chosen], keys[chosen])
        for place, image in enumerate(found.images[chosen]):
            number = start + place
            name = str(found.names[number])
            safe = re.sub(r"[^\w.-]+", "_", terminal(Path(name).name))[-60:]
            path = folder / f"{number:05d}-{safe}.png"
            score, decision = frame["score"].iloc[number], frame["decision"].iloc[number]
            head = f"{terminal(name)}\n{trained.score_name} {score:.4g}: {decision}"
            write_output(path, _picture(image, maps, place, head))
            paths.append(path)
            rows.append(_row(name, path, score, decision, maps, place))
    write_output(folder / "explained.csv", _csv(rows))
    return paths


def _told(
    trained: TrainedDetector, told: object, images: np.ndarray, keys: np.ndarray
) -> Explanation:
    import torch

    from oodbench.seeding import KeyedNoise

    assert callable(told)
    detector = trained.detector
    with trained.lock, torch.inference_mode(), plugin_contract(detector, "explain"):
        batch = torch.from_numpy(np.array(images)).to(trained.device)
        noisy = wants_noise(type(detector))
        draws = KeyedNoise(trained.seed, keys, batch.device) if noisy else None
        found: Explanation = told(batch, draws, trained.score_name)
        kl = None if found.kl is None else found.kl.double().cpu()
        return Explanation(found.map.double().cpu(), found.what, kl)


def _row(
    name: str, path: Path, score: float, decision: str, maps: Explanation, place: int
) -> dict[str, object]:
    layers = [] if maps.kl is None else maps.kl[place].tolist()
    return {
        "image": csv_cell(name), "picture": path.name, "score": score, "decision": decision,
        "map_sum": float(maps.map[place].sum()),
        **{f"kl_{layer}": value for layer, value in enumerate(layers, start=1)},
    }  # fmt: skip


def _csv(rows: Sequence[dict[str, object]]) -> str:
    import pandas as pd

    return pd.DataFrame(rows).to_csv(index=False)


def _picture(image: np.ndarray, maps: Explanation, place: int, head: str) -> bytes:
    """A PNG: the image, its map under a scale of its own, the layers as bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = 2 + (maps.kl is not None)
    figure = Figure(figsize=(2.6 * count, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count)
    shown = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    axes[0].imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    values = maps.map[place].numpy()
    signed = values.min() < 0
    limit = float(np.abs(values).max()) or 1.0
    drawn = axes[1].imshow(
        values, cmap="coolwarm" if signed else "magma", interpolation="nearest",
        vmin=-limit if signed else 0.0, vmax=limit,
    )  # fmt: skip
    figure.colorbar(drawn, ax=axes[1], shrink=0.8)
    axes[1].set_title(f"{maps.what}, sum {values.sum():.1f}", fontsize=7)
    for ax in axes[:2]:
        ax.set_axis_off()
    if maps.kl is not None:
        layers = maps.kl[place].numpy()
        axes[2].barh(range(1, len(layers) + 1), layers, color="0.4")
        axes[2].set(yticks=range(1, len(layers) + 1), ylabel="Layer", xlabel="KL, nats")
    figure.suptitle(head, fontsize=8)
    out = io.BytesIO()
    printable_figure(figure).savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()

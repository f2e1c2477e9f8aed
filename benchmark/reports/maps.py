"""Why images score as they do, drawn beside their pictures: a map an image, the KL of the layers.

The one part of a report that runs a model: the stored weights, on the images that the page shows
and with the draws that these were measured with.  Nothing is trained.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.imageset import ImageSet
from oodbench.declare.overrides import parse_settings
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import DETECTORS, Detector, wants_noise
from oodbench.detect.explanations import EXPLANATIONS, Explain, explanation_of
from oodbench.errors import OodbenchError, StoreError, plugin_contract
from oodbench.reports.thumbnails import SIDE, Thumbnails
from oodbench.store.store import Entry, Store

if TYPE_CHECKING:
    import torch

    from oodbench.detect.explanations import Explanation

#: Images that go through a model at once.
BATCH = 32


@dataclass(frozen=True)
class Shown:
    """Images of a side that the page shows, by their indices; the parts of their measurement."""

    images: ImageSet
    indices: Sequence[int]
    measured: Mapping[str, JSON]


class Maps:
    """Makes the maps of one score after the other; each detector is built once."""

    def __init__(self, store: Store, thumbnails: Thumbnails) -> None:
        self.store, self.thumbnails = store, thumbnails
        self._built: dict[tuple[str, ...], tuple[Detector, Explain] | str] = {}

    def of(self, run: Entry, score: str, sides: Mapping[str, Shown]) -> dict[str, JSON]:
        """`what` a map holds, its `limit`, and of every side [picture, sum, KL …] by index.

        {} where the score has no map, {"note": …} where it cannot be drawn.
        """
        name = str(run.record["detector"])
        if name not in DETECTORS.names() or not _has_map(name):
            return {}
        try:
            found = {side: self._explained(run, score, shown) for side, shown in sides.items()}
        except OodbenchError as error:
            return {"note": f"No map: {error}"}
        limit = max((float(e.map.abs().max()) for e, _ in found.values()), default=0.0) or 1.0
        signed = any(float(e.map.min()) < 0 for e, _ in found.values())
        what = next((e.what for e, _ in found.values()), "")
        out: dict[str, JSON] = {"what": what, "limit": float(f"{limit:.3g}")}
        for side, (explained, indices) in found.items():
            drawn: dict[str, JSON] = {}
            for place, index in enumerate(indices):
                values = np.asarray(explained.map[place])
                picture = _png(values, limit, signed=signed)
                if len(picture) > self.thumbnails.left:
                    return {"note": "Maps are left out: the page holds as many pictures as it can."}
                self.thumbnails.left -= len(picture)
                kl = [] if explained.kl is None else explained.kl[place].tolist()
                drawn[str(index)] = [picture, *(float(f"{v:.5g}") for v in (values.sum(), *kl))]
            out[side] = drawn
        return out

    def _explained(self, run: Entry, score: str, shown: Shown) -> tuple[Explanation, list[int]]:
        """float64 maps (n, H, W) and KL (n, L) of the images, each index once."""
        import torch

        from oodbench.detect.explanations import Explanation
        from oodbench.seeding import KeyedNoise
        from oodbench.train.torch_state import own_torch_state

        detector, told = self._detector(run, shown)
        indices = list(dict.fromkeys(shown.indices))
        maps: list[torch.Tensor] = []
        kl: list[torch.Tensor] = []
        what = ""
        for start in range(0, len(indices), BATCH):
            chosen = np.array(indices[start : start + BATCH])
            with own_torch_state(), torch.inference_mode(), plugin_contract(detector, "explain"):
                batch = torch.from_numpy(np.array(shown.images.images[chosen]))
                seed = int(cast(int, shown.measured.get("seed", 0)))
                noise = KeyedNoise(seed, chosen) if wants_noise(type(detector)) else None
                found: Explanation = told(batch, cast(KeyedNoise, noise), score)
            maps.append(found.map.double().cpu())
            kl += [] if found.kl is None else [found.kl.double().cpu()]
            what = found.what
        return Explanation(torch.cat(maps), what, torch.cat(kl) if kl else None), indices

    def _detector(self, run: Entry, shown: Shown) -> tuple[Detector, Explain]:
        fits = tuple(map(str, cast("list[JSON]", shown.measured.get("fits", []))))
        key = (str(run.record["detector"]), *fits)
        if key not in self._built:
            try:
                self._built[key] = self._build(run, shown, fits)
            except OodbenchError as error:
                self._built[key] = str(error)
        built = self._built[key]
        if isinstance(built, str):
            raise StoreError(built)
        return built

    def _build(self, run: Entry, shown: Shown, fits: Sequence[str]) -> tuple[Detector, Explain]:
        """The run's detector with its stored weights; OodbenchError where it is not as it was."""
        from oodbench.flow.stored.models import load_model

        record = run.record
        detector = DETECTORS.get(str(record["detector"]))()
        if record["recipe"]:
            settings = parse_settings(cast("list[str]", record.get("overrides", [])))
            file = find_recipe(str(record["recipe"]))
            detector.recipe = resolve(file, str(record["scale"]), str(record["variant"]), settings)
            held = cast("Mapping[str, JSON]", shown.measured.get("settings", {}))
            today = detector.recipe.measure.model_dump(mode="json")
            if {k: v for k, v in today.items() if k in held} != dict(held):
                raise StoreError(f"recipe {record['recipe']} measures in another way than it did")
        models = []
        for fit in fits:
            entry = self.store.get("fit", fit)
            if entry is None:
                raise StoreError(f"the weights {fit[:12]} are not in the store any more")
            models.append(load_model(entry, shown.images.shape))
        with plugin_contract(detector, "attach"):
            detector.attach(models)
        return detector, explanation_of(detector)


def _has_map(name: str) -> bool:
    """Whether a detector's scores have a map at all."""
    cls = DETECTORS.get(name)
    known = EXPLANATIONS.names()
    return hasattr(cls, "explain") or cls.name in known or cls.measure_name in known


def _png(values: np.ndarray, limit: float, *, signed: bool) -> str:
    """(H, W) as a base64 PNG: black to yellow from 0 to `limit`, `signed` blue to red around 0."""
    from matplotlib import colormaps
    from PIL import Image

    if signed:
        shades = colormaps["coolwarm"]((values + limit) / (2 * limit))
    else:
        shades = colormaps["magma"](values / limit)
    picture = Image.fromarray((255 * shades[..., :3]).round().astype(np.uint8))
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()

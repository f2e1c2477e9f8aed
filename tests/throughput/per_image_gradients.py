"""Images a second: gradients of all images at once against a loop of backward passes.

    python tests/throughput/per_image_gradients.py [--images 100] [--scale small]

The same network, the same draws, the same run, one thread; the squared norms of both must agree.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from oodbench.baselines.layer_gradients import LayerGradients
from oodbench.baselines.per_image_gradients import layers_of, squared_gradients
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import DETECTORS
from oodbench.seeding import KeyedNoise

CASES = {
    "glow-D": "gradients-glow", "D2": "gradients-hvae", "pixelcnn-D": "gradients-pixelcnn",
    "diffusion-D": "gradients-diffusion",
}  # fmt: skip


def one_by_one(detector: LayerGradients, images: torch.Tensor) -> torch.Tensor:
    """‖∇_θj log p(x)‖², one backward pass an image."""
    rows, model = [], detector.model
    weights = dict(model.named_parameters())
    for place in range(len(images)):
        model.zero_grad()
        pixels = images[place : place + 1].float()
        parts = detector.parts(model, pixels, KeyedNoise(0, np.array([place])))
        total = parts.rest.sum()
        if parts.parameters is not None:
            total = total + detector.likelihood(model, parts.parameters, pixels).sum()
        torch.autograd.backward(total)
        slopes = [[weights[n].grad for n in names] for names in layers_of(model).values()]
        rows.append([sum(float((g.double() ** 2).sum()) for g in layer if g is not None)
                     for layer in slopes])  # fmt: skip
    return torch.tensor(rows, dtype=torch.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--scale", default="small")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name, known in CASES.items():
        detector = DETECTORS.get(known)()
        assert isinstance(detector, LayerGradients)
        file = find_recipe(name)
        model = resolve(file, asked.scale, detector.recipe_variant).build(file.shape)
        images = torch.randint(0, 256, (asked.images, *file.shape), dtype=torch.uint8)
        model.initialise(images)  # type: ignore[operator]
        detector.attach([model.eval()])
        noise = KeyedNoise(0, np.arange(asked.images))
        squared_gradients(
            model, detector.parts, detector.likelihood, images[:8], noise.rows(slice(8))
        )
        start = time.perf_counter()
        together = squared_gradients(model, detector.parts, detector.likelihood, images, noise)
        middle = time.perf_counter()
        alone = one_by_one(detector, images)
        end = time.perf_counter()
        error = float(((together - alone).abs() / (alone + 1e-9 * alone.max())).max())
        rate = asked.images / (middle - start), asked.images / (end - middle)
        print(f"{known}: {rate[0]:.0f} images/s at once, {rate[1]:.0f} one by one,"
              f" {rate[0] / rate[1]:.1f} times; largest difference {error:.1e}")  # fmt: skip


if __name__ == "__main__":
    main()

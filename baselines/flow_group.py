"""Flow + group: are the flow's latents of an image, projected at random, still Gaussian?

Jiang, Sun, Yu, ICLR 2022, "Revisiting flow generative models for out-of-distribution detection":
the latent z (d numbers, standardised by their Gaussians) of every member of a group is projected
on n random directions of length 1, the same for all; for each direction
    GOD1KS: the Kolmogorov–Smirnov distance of the b projections to N(0, 1),
    GOD2KS: the two-sample distance to the projections of training images,
averaged over the directions; higher = more OOD.  A group of one image is made of 10 augmented
copies of it (the paper's own augmentation is not known to us: here the image, shifts of up to 2
pixels with edge padding, noise of standard deviation 2, and horizontal flips of colour images),
as is the training reference.  Groups of 5, 10 and 20 are test images as they are, one value for
each group.
Cost per image: 10 forward passes and sorting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from oodbench.detect.detector import Detector, register
from oodbench.seeding import derive_seed

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.models.flows.glow import Glow
    from oodbench.seeding import KeyedNoise

DIRECTIONS = 50
COPIES = 10
SHIFT = 2
NOISE = 2.0
GROUPS = (5, 10, 20)


@register("flow-group", cite="Jiang et al., ICLR 2022", title="Flow+Group (Glow)")
class FlowGroup(Detector):
    """Both distances on the Glow that the detector `glow` trains."""

    recipe_variant = "glow-group"
    cost = "10 f"
    score_patterns: ClassVar[Sequence[str]] = ("GOD1KS", "GOD2KS", "GOD1KS b=…", "GOD2KS b=…")
    groups: ClassVar[Mapping[str, int]] = {
        f"{name} b={size}": size for name in ("GOD1KS", "GOD2KS") for size in GROUPS
    }

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the flow."""
        self.model = cast("Glow", models[0])

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """projections (B, COPIES · DIRECTIONS), copy by copy; the first copy is the image."""
        import torch

        found = []
        for copy in range(COPIES):
            draw = noise.scope(f"copy{copy}")
            changed = augmented(images, draw) if copy else images
            latents, parameters, _ = self.model.transform(self.model.observe(changed, draw))
            standardised = [_standardised(z, p) for z, p in zip(latents, parameters, strict=True)]
            found.append(torch.cat(standardised, dim=1) @ self._directions(images.device))
        return {"projections": torch.cat(found, dim=1)}

    def _directions(self, device: torch.device) -> torch.Tensor:
        """(d, DIRECTIONS) unit vectors, the same for every image."""
        import torch

        d = math.prod(self.model.inner)
        generator = torch.Generator().manual_seed(derive_seed("directions", d, DIRECTIONS))
        drawn = torch.randn(d, DIRECTIONS, generator=generator)
        unit: torch.Tensor = drawn / torch.linalg.vector_norm(drawn, dim=0)
        return unit.to(device, non_blocking=True)

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """The training projections, sorted per direction: of all copies, and of images alone."""
        import numpy as np

        projections = _by_copy(statistics["projections"])
        self.copies = np.sort(projections.reshape(-1, DIRECTIONS), axis=0)
        self.plain = np.sort(projections[:, 0], axis=0)

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Both distances of every image, and of every group on each of its members."""
        import numpy as np

        from oodbench.rank.metrics import group_members

        projections = _by_copy(statistics["projections"])
        out = {
            "GOD1KS": one_sample(projections),
            "GOD2KS": two_sample(projections, self.copies),
        }
        for name, size in self.groups.items():
            members = group_members(len(projections), size)
            grouped = projections[members, 0]
            one = name.startswith("GOD1KS")
            values = one_sample(grouped) if one else two_sample(grouped, self.plain)
            out[name] = np.full(len(projections), values.mean())
            out[name][members] = values[:, None]
        return out

    def score_names(self) -> list[str]:
        """One image at a time first."""
        return ["GOD1KS", "GOD2KS", *self.groups]


def augmented(images: torch.Tensor, noise: KeyedNoise) -> torch.Tensor:
    """A copy of uint8 images (B, C, H, W): shifted, noisy, flipped where they have colours."""
    import torch
    from torch.nn import functional as F

    count, colours, height, width = images.shape
    padded = F.pad(images.float(), (SHIFT,) * 4, mode="replicate")
    offsets = (noise.uniform("shift", (2,)) * (2 * SHIFT + 1)).long().clamp(max=2 * SHIFT)
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)
    index = torch.arange(count, device=images.device)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    moved = shifted.permute(0, 3, 1, 2)
    if colours == 3:
        flip = (noise.uniform("flip", (1,)) < 0.5)[:, :, None, None]
        moved = torch.where(flip, moved.flip(3), moved)
    noisy = moved + NOISE * noise.normal("noise", tuple(images.shape[1:]))
    return noisy.round().clamp(0, 255).to(torch.uint8)


def one_sample(values: np.ndarray) -> np.ndarray:
    """(G,): mean over directions of sup |F_b − Φ|, of `values` (G, b, n)."""
    import numpy as np
    from scipy.special import ndtr

    size = values.shape[1]
    expected = ndtr(np.sort(values, axis=1))
    steps = np.arange(1, size + 1)[None, :, None] / size
    distance = np.maximum(steps - expected, expected - (steps - 1 / size)).max(axis=1)
    return np.asarray(distance.mean(axis=1))


def two_sample(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(G,): mean over directions of sup |F_b − F_ref|; `reference` (M, n) sorted per direction."""
    import numpy as np

    size, count = values.shape[1], len(reference)
    ordered = np.sort(values, axis=1)
    total = np.zeros(len(values))
    for direction in range(values.shape[2]):
        column, sample = reference[:, direction], ordered[:, :, direction]
        # The supremum is reached at a point of the smaller sample, or just before one.
        at = np.searchsorted(column, sample, side="right") / count
        before = np.searchsorted(column, sample, side="left") / count
        steps = np.arange(1, size + 1)[None, :] / size
        total += np.maximum(steps - at, before - (steps - 1 / size)).max(axis=1)
    return np.asarray(total / values.shape[2])


def _standardised(z: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """(z − mean) / σ, flattened; `parameters` hold mean and log σ in dimension 1."""
    mean, log_scale = parameters.chunk(2, dim=1)
    return ((z - mean) * (-log_scale).exp()).flatten(1)


def _by_copy(projections: np.ndarray) -> np.ndarray:
    """(N, COPIES, DIRECTIONS)."""
    return projections.reshape(len(projections), COPIES, DIRECTIONS)

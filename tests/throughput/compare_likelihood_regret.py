"""Likelihood regret against the one-image loop of Xiao, Yan, Amit 2020, as a ratio.

    git clone https://github.com/XavierXiao/Likelihood-Regret
    python tests/throughput/compare_likelihood_regret.py --reference Likelihood-Regret [--images N]

Both get the published network for 1×32×32 images (100 latents, 32 channels), random weights,
100 Adam steps on the encoder and 1000 importance samples before and after.  Measured are seconds
for N images, by default 25, which are refitted at once here and one after the other there.  The
loop of the public script stands at its top level and cannot be imported; what is timed as theirs
makes the same calls on the public networks, in the same order and batches.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Mapping
from typing import Any

import torch
from sides import Step, compare
from torch.nn import functional as F

SHAPE = (1, 32, 32)
LATENT, WIDTH, STEPS, SAMPLES = 100, 32, 100, 1000


def random_images(count: int) -> torch.Tensor:
    """(count, 1, 32, 32) uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8)


def ours(options: argparse.Namespace) -> tuple[int, Mapping[str, Step]]:
    """oodbench, all images at once."""
    import numpy as np

    from oodbench.baselines.likelihood_regret import EncoderRegret
    from oodbench.devices import channels_last, tune_allocator
    from oodbench.recipes import find_recipe, resolve
    from oodbench.seeding import KeyedNoise

    tune_allocator()
    detector = EncoderRegret()
    detector.recipe = resolve(find_recipe("vae-F"), "paper", "vae-regret")
    measuring = detector.recipe.measure
    assert measuring.refit is not None
    assert (measuring.refit.steps, measuring.importance_samples) == (STEPS, SAMPLES)
    model = channels_last(detector.recipe.build(SHAPE)).to(options.device).eval()
    detector.attach([model])
    batch = random_images(options.images).to(options.device)

    def regret() -> None:
        detector.measure(batch, KeyedNoise(0, np.arange(len(batch)), options.device))

    return sum(p.numel() for p in model.parameters()), {f"{options.images} images": regret}


def theirs(options: argparse.Namespace) -> tuple[int, Mapping[str, Step]]:
    """The public networks in the public loop."""
    sys.path.insert(0, str(options.reference))
    import DCGAN_VAE_pixel as public  # type: ignore[import-not-found]

    encoder = public.Encoder(32, LATENT, 1, WIDTH, 1).to(options.device).eval()
    decoder = public.DCGAN_G(32, LATENT, 1, WIDTH, 1).to(options.device).eval()
    batch = (random_images(options.images).float() / 255.0).to(options.device)

    def bound(net: Any, image: torch.Tensor) -> torch.Tensor:
        repeated = image.expand(200, -1, -1, -1).contiguous()
        weights = []
        with torch.no_grad():
            for _ in range(SAMPLES // 200):
                z, mean, log_variance = net(repeated)
                logits = decoder(z).contiguous().view(-1, 256)
                target = (repeated.view(-1) * 255).long()
                log_likelihood = -F.cross_entropy(logits, target, reduction="none").view(200, -1)
                z, mean, log_variance = (t.view(200, -1) for t in (z, mean, log_variance))
                prior = -0.5 * (z**2).sum(1)
                posterior = -0.5 * ((z - mean) ** 2 / log_variance.exp() + log_variance).sum(1)
                weights.append(log_likelihood.sum(1) + prior - posterior)
        return torch.logsumexp(torch.cat(weights), 0)

    def regret() -> None:
        for image in batch.split(1):
            before = bound(encoder, image)
            own = copy.deepcopy(encoder)
            optimiser = torch.optim.Adam(own.parameters(), 2e-4, weight_decay=5e-5)
            target = (image.view(-1) * 255).long()
            for _ in range(STEPS):
                z, mean, log_variance = own(image)
                logits = decoder(z).contiguous().view(-1, 256)
                mean, log_variance = mean.flatten(1), log_variance.flatten(1)
                kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
                loss = F.cross_entropy(logits, target, reduction="none").sum() + kl.mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            float(bound(own, image) - before)

    networks = (encoder, decoder)
    parameters = sum(p.numel() for net in networks for p in net.parameters())
    return parameters, {f"{options.images} images": regret}


if __name__ == "__main__":
    assert __doc__ is not None
    own = argparse.ArgumentParser()
    own.add_argument("--images", type=int, default=25)
    compare(__doc__.splitlines()[0], "DCGAN_VAE_pixel.py", ours, theirs, own)

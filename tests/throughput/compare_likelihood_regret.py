"""Likelihood regret against the one-image loop of Xiao, Yan, Amit 2020, as a ratio.

    git clone https://github.com/XavierXiao/Likelihood-Regret
    python tests/throughput/compare_likelihood_regret.py --reference Likelihood-Regret
        --weights vae.pt [--data FOLDER] [--images N]

Both get the published network for 1×32×32 images (100 latents, 32 channels) with the same trained
weights, 100 Adam steps on the encoder and 1000 importance samples before and after.  Weights and
images are real ones because the speed of ours depends on them: draws whose weight cannot matter
are left out.  The network is trained on FashionMNIST, resized as the public code does, and kept in
the file `--weights`, which is read where it exists.  Measured are seconds for N images, by default
24, every other one from FashionMNIST's test set and the others from MNIST's.  The loop of the
public script stands at its top level and cannot be imported; what is timed as theirs makes the
same calls on the public networks, in the same order and batches.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sides import Step, compare
from torch.nn import functional as F

SHAPE = (1, 32, 32)
LATENT, WIDTH, STEPS, SAMPLES = 100, 32, 100, 1000


def images_of(name: str, split: str, options: argparse.Namespace) -> torch.Tensor:
    """(N, 1, 32, 32) uint8."""
    from oodbench.datasets.loading import find_places, load

    places = find_places(options.data, str(options.weights))
    return torch.tensor(load(f"{name}@resize(32)", split, places).images)


def test_images(options: argparse.Namespace) -> torch.Tensor:
    """(N, 1, 32, 32) uint8, FashionMNIST and MNIST in turn."""
    half = (options.images + 1) // 2
    sets = [images_of(name, "test", options)[:half] for name in ("fashionmnist", "mnist")]
    return torch.stack(sets, 1).flatten(0, 1)[: options.images]


def trained(options: argparse.Namespace) -> None:
    """Make the file of weights, if there is none: `--fit-steps` Adam steps of 64 images."""
    if options.weights.exists():
        return
    torch.manual_seed(0)
    images = images_of("fashionmnist", "train", options)
    model = network().train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, weight_decay=3e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.fit_steps)
    for step in range(options.fit_steps):
        parts = model.loss(images[torch.randint(0, len(images), (64,))], 0)
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: {parts['loss'].item():.0f} nats", file=sys.stderr, flush=True)
    torch.save(model.state_dict(), options.weights)


def network() -> Any:
    """oodbench's network, as the `paper` recipe has it."""
    from oodbench.declare.recipes import find_recipe, resolve
    from oodbench.train.devices import channels_last, tune_allocator

    tune_allocator()
    return channels_last(resolve(find_recipe("vae-F"), "paper", "vae-regret").build(SHAPE))


def ours(options: argparse.Namespace) -> tuple[int, Mapping[str, Step]]:
    """oodbench, all images at once."""
    import numpy as np

    from oodbench.baselines.likelihood_regret import EncoderRegret
    from oodbench.declare.recipes import find_recipe, resolve
    from oodbench.seeding import KeyedNoise

    detector = EncoderRegret()
    detector.recipe = resolve(find_recipe("vae-F"), "paper", "vae-regret")
    measuring = detector.recipe.measure
    assert measuring.refit is not None
    assert (measuring.refit.steps, measuring.importance_samples) == (STEPS, SAMPLES)
    model = network().to(options.device).eval()
    model.load_state_dict(torch.load(options.weights))
    detector.attach([model])
    batch = test_images(options).to(options.device)

    warm()

    def regret() -> None:
        found = detector.measure(batch, KeyedNoise(0, np.arange(len(batch)), options.device))
        report("ours", found["after"] - found["before"])

    return sum(p.numel() for p in model.parameters()), {f"{options.images} images": regret}


def theirs(options: argparse.Namespace) -> tuple[int, Mapping[str, Step]]:
    """The public networks in the public loop."""
    sys.path.insert(0, str(options.reference))
    import DCGAN_VAE_pixel as public  # type: ignore[import-not-found]

    encoder = public.Encoder(32, LATENT, 1, WIDTH, 1).to(options.device).eval()
    decoder = public.DCGAN_G(32, LATENT, 1, WIDTH, 1).to(options.device).eval()
    weights = torch.load(options.weights)
    fill([encoder.main, encoder.conv1, encoder.conv2], weights, "encoder.")
    fill([decoder.main], weights, "decoder.")
    batch = (test_images(options).float() / 255.0).to(options.device)

    warm()

    def bound(net: Any, image: torch.Tensor) -> torch.Tensor:
        repeated = image.expand(200, -1, -1, -1).contiguous()
        weights = []
        with torch.no_grad():
            for _ in range(SAMPLES // 200):
                z, mean, log_variance = net(repeated)
                logits = decoder(z).contiguous().view(-1, 256)
                target = (repeated.view(-1) * 255).round().long()
                log_likelihood = -F.cross_entropy(logits, target, reduction="none").view(200, -1)
                z, mean, log_variance = (t.view(200, -1) for t in (z, mean, log_variance))
                prior = -0.5 * (z**2).sum(1)
                posterior = -0.5 * ((z - mean) ** 2 / log_variance.exp() + log_variance).sum(1)
                weights.append(log_likelihood.sum(1) + prior - posterior)
        return torch.logsumexp(torch.cat(weights), 0)

    def regret() -> None:
        found = []
        for image in batch.split(1):
            before = bound(encoder, image)
            own = copy.deepcopy(encoder)
            optimiser = torch.optim.Adam(own.parameters(), 2e-4, weight_decay=5e-5)
            target = (image.view(-1) * 255).round().long()
            for _ in range(STEPS):
                z, mean, log_variance = own(image)
                logits = decoder(z).contiguous().view(-1, 256)
                mean, log_variance = mean.flatten(1), log_variance.flatten(1)
                kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
                loss = F.cross_entropy(logits, target, reduction="none").sum() + kl.mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            found.append(bound(own, image) - before)
        report("theirs", torch.stack(found))

    networks = (encoder, decoder)
    parameters = sum(p.numel() for net in networks for p in net.parameters())
    return parameters, {f"{options.images} images": regret}


def warm() -> None:
    """Let torch import what it imports at the first optimiser, some seconds' worth."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def fill(modules: list[Any], weights: Mapping[str, torch.Tensor], prefix: str) -> None:
    """Give public modules our weights, which come in the same order and shapes."""
    own = [tensor for name, tensor in weights.items() if name.startswith(prefix)]
    theirs = [tensor for module in modules for tensor in module.state_dict().values()]
    assert [t.shape for t in own] == [t.shape for t in theirs]
    for to, tensor in zip(theirs, own, strict=True):
        to.copy_(tensor)


def report(side: str, regret: torch.Tensor) -> None:
    """What came out, so that the sides can be seen to agree."""
    fashion, digits = (regret[first::2].mean() for first in (0, 1))
    print(
        f"{side}: mean likelihood regret {fashion:.2f} nats on FashionMNIST, {digits:.2f} on MNIST",
        file=sys.stderr, flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    assert __doc__ is not None
    own = argparse.ArgumentParser()
    own.add_argument("--images", type=int, default=24)
    own.add_argument("--weights", type=Path, required=True, help="kept here; made if missing")
    own.add_argument("--fit-steps", type=int, default=3000, help="to train for, if missing")
    own.add_argument("--data", type=Path, action="append", default=[], help="folder of arrays")
    compare(__doc__.splitlines()[0], "DCGAN_VAE_pixel.py", ours, theirs, own, trained)

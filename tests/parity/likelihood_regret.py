"""Our convolutional VAE beside the public code of likelihood regret: its bound on log p(x).

    git clone https://github.com/XavierXiao/Likelihood-Regret
    python tests/parity/likelihood_regret.py --reference Likelihood-Regret --data FOLDER
        [--model vae-F] [--weights netE_pixel.pth --decoder netG_pixel.pth]

The importance-weighted bound with S draws, the same ones on both sides, at the published size
(1×32×32 and 3×32×32).  Weights are published beside the public code, in two files a data set; where
none are given, the public networks are trained for some steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from beside import (
    IMAGES,
    Verdict,
    arguments,
    compare_each,
    fill,
    images_of,
    in_double,
    state_of,
    trained,
)
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.declare.recipes import find_recipe, resolve

SAMPLES = 100
DATA = {"vae-F": "fashionmnist@resize(32)", "vae-C": "cifar10"}


class Drawn:
    """Draws that both sides get: ``s3`` is the fourth for every image."""

    def __init__(self, eps: Tensor) -> None:
        self.eps = eps

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, latent), of this draw."""
        return self.eps

    def scope(self, name: str) -> Drawn:
        """One draw."""
        return Drawn(self.eps[int(name.removeprefix("s"))])


def networks(config: Any, shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """The public encoder and decoder of our configuration."""
    import DCGAN_VAE_pixel  # type: ignore[import-not-found]

    sizes = (shape[1], config.latent, shape[0], config.width, 1)
    return DCGAN_VAE_pixel.Encoder(*sizes), DCGAN_VAE_pixel.DCGAN_G(*sizes)


def pairs(ours: Any, encoder: Any, decoder: Any) -> list[tuple[Tensor, Tensor]]:
    """Every parameter and running mean of ours, and the public tensor that it is.

    The last layer's 256 logits of a colour stand together in the public code.
    """
    theirs = [encoder.main, encoder.conv1, encoder.conv2, decoder.main]
    mine = [ours.encoder.features, ours.encoder.mean, ours.encoder.log_variance]
    found: list[tuple[Tensor, Tensor]] = []
    for to, module in zip([*mine, ours.decoder.layers], theirs, strict=True):
        running = zip(to.buffers(), module.buffers(), strict=True)
        for buffer, value in running:
            buffer.copy_(value)
        found += zip(to.parameters(), module.parameters(), strict=True)
    to, last = found[-1]
    found[-1] = (to, last.unflatten(1, (-1, 256)).transpose(1, 2).flatten(1, 2))
    return found


def with_weights(
    name: str, config: Any, options: argparse.Namespace
) -> tuple[nn.Module, nn.Module]:
    """The public networks, trained or read."""
    images = images_of(DATA[name], "train", 1000, options)
    torch.manual_seed(0)
    encoder, decoder = networks(config, tuple(images.shape[1:]))
    if options.weights is not None:
        encoder.load_state_dict(state_of(options.weights))
        decoder.load_state_dict(state_of(options.decoder))
        return encoder.eval(), decoder.eval()

    def loss(batch: Tensor) -> Tensor:
        z, mean, log_variance = encoder(batch / 255.0)
        logits = decoder(z).reshape(-1, 256)
        nll = F.cross_entropy(logits, batch.flatten().long(), reduction="sum")
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        total: Tensor = (nll + kl) / len(batch)
        return total

    trained(nn.ModuleList([encoder, decoder]).train(), loss, images, options)
    return encoder.eval(), decoder.eval()


def public_bounds(encoder: Any, decoder: Any, images: Tensor, eps: Tensor) -> Tensor:
    """Of every image the bound by the public functions, with the draws `eps` (S, B, latent)."""
    import compute_LR  # type: ignore[import-not-found]

    compute_LR.opt = SimpleNamespace(repeat=len(eps))
    bounds = []
    for row, image in enumerate(images.to(eps.dtype) / 255.0):
        own = eps[:, row]
        encoder.reparametrize = lambda mean, log_variance, own=own: (
            mean + own.view_as(mean) * (log_variance / 2).exp()
        )
        x = image.expand(len(eps), -1, -1, -1).contiguous()
        z, mean, log_variance = encoder(x)
        logits = decoder(z)
        flat = (t.flatten(1) for t in (mean, log_variance, z))
        bounds.append(-compute_LR.compute_NLL(compute_LR.store_NLL(x, logits, *flat)))
    return torch.stack(bounds)


@torch.no_grad()
def compare(name: str, options: argparse.Namespace, verdict: Verdict) -> None:
    """The bound of ten test images."""
    config = resolve(find_recipe(name), "paper", "vae-regret").config
    images = images_of(DATA[name], "test", IMAGES, options)
    with torch.enable_grad():
        encoder, decoder = with_weights(name, config, options)
    ours: Any = config.build(tuple(images.shape[1:])).eval()
    fill(ours, pairs(ours, encoder, decoder))
    torch.manual_seed(1)
    eps = torch.randn(SAMPLES, len(images), config.latent)
    exact = eps.double()
    single = public_bounds(encoder, decoder, images, eps)
    double = public_bounds(encoder.double(), decoder.double(), images, exact)
    ours_single = ours.log_prob(images, Drawn(eps), SAMPLES)
    with in_double(ours):
        ours_double = ours.log_prob(images, Drawn(exact), SAMPLES)
    verdict.compare(f"{name}, S = {SAMPLES}", [double, single], [ours_double, ours_single])


def main() -> None:
    """Compare the two published sizes, or the one that is named."""
    assert __doc__ is not None
    parser = arguments(__doc__, "compute_LR.py", "the public encoder's file, of one --model", 40)
    parser.add_argument("--decoder", type=Path, help="the public decoder's file")

    def check(options: argparse.Namespace) -> None:
        if (options.weights is None) != (options.decoder is None):
            parser.error("--weights and --decoder go together")

    compare_each(parser, DATA, compare, check)


if __name__ == "__main__":
    main()

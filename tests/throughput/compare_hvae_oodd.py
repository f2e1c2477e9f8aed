"""Throughput of the F3-hvk model against the public code of Havtorn et al. 2021, as a ratio.

    git clone https://github.com/JakobHavtorn/hvae-oodd
    python tests/throughput/compare_hvae_oodd.py --reference hvae-oodd [--threads 2] [--device cpu]
        [--evaluation S --images N]

Both get the same architecture, batch, threads and images (random binary ones: speed does not
depend on them).  Measured are seconds a training step (loss with warm-up and free bits, backward
pass, Adam), seconds for L>k of all k of one batch (lower layers by their mode), and seconds for
the importance-weighted L of one batch.  `evaluate-all.sh` of the public code runs `ood-llr.py` for
k = 1 and again for k = 2, and each run draws the samples of L anew, while one measurement serves
every k here: for the S = 1000 evaluation of both, the last ratio counts twice.  `--evaluation 1000`
times that instead, the two runs of the script against one measurement, on one batch of N images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import torch
from sides import Step, compare

BATCH = 128
STAGES = [(64, 5, 2), (64, 3, 2), (64, 3, 1)]
LATENTS = ["c8", "d16", "d8"]
#: Importance samples that are timed; the time is proportional to them.
SAMPLES = 20


def ours(options: argparse.Namespace) -> tuple[int, Mapping[str, Step]]:
    """A training step, all L>k of a batch, and importance samples of L, by oodbench."""
    from oodbench.declare.recipes import find_recipe, resolve
    from oodbench.models.layers.noise import FreshNoise
    from oodbench.train.devices import channels_last, tune_allocator

    tune_allocator()
    recipe = resolve(find_recipe("F3-hvk"), "paper", "hvk")
    model: Any = channels_last(recipe.config.build((1, 28, 28))).to(options.device)
    images = binary_images(options.images).to(options.device)
    model.initialise(images)
    optimiser = torch.optim.Adam(model.parameters(), 3e-4)

    def train() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = model.loss(images, 1)["loss"]
        loss.backward()
        optimiser.step()
        loss.item()

    @torch.inference_mode()
    def measure() -> torch.Tensor:
        noise = FreshNoise(len(images), images.device)
        x = model.likelihood.observe(images, noise)
        return model.branches(
            x, noise, (0, 1, 2), lower="mode", encoder_lower="mode"
        ).elbo().cpu()  # fmt: skip

    @torch.inference_mode()
    def importance() -> torch.Tensor:
        bound: torch.Tensor = model.log_prob(images, samples=SAMPLES)
        return bound.cpu()

    @torch.inference_mode()
    def evaluation() -> torch.Tensor:
        scores: torch.Tensor = model.log_prob(images, samples=options.evaluation).cpu() - measure()
        return scores

    size = sum(p.numel() for p in model.parameters())
    if options.evaluation:
        return size, {f"L with S = {options.evaluation} and L>1, L>2": evaluation}
    return size, {"training step": train, "all L>k": measure, f"L with S = {SAMPLES}": importance}


def public_model() -> Any:
    """The same architecture in the public code."""
    import oodd.models

    deterministic = [
        [
            {"block": "ResBlockConv2d", "out_channels": channels, "kernel_size": kernel,
             "stride": stride if index == 2 else 1, "weightnorm": True, "gated": False}
            for index in range(3)
        ]
        for channels, kernel, stride in STAGES
    ]  # fmt: skip
    stochastic = [
        {"block": "GaussianConv2d" if latent[0] == "c" else "GaussianDense",
         "latent_features": int(latent[1:]), "weightnorm": True}
        for latent in LATENTS
    ]  # fmt: skip
    return oodd.models.VAE(
        input_shape=(1, 28, 28), likelihood_module="BernoulliLikelihoodConv2d",
        config_deterministic=deterministic, config_stochastic=stochastic, activation="ReLU",
        q_dropout=0, p_dropout=0, skip_stochastic=True, features_out=None,
    )  # fmt: skip


def theirs(options: argparse.Namespace) -> tuple[int, Mapping[str, Step]]:
    """The same by the public code; its evaluation loops over importance samples."""
    sys.path.insert(0, str(options.reference))
    import oodd.losses

    model = public_model().to(options.device)
    images = (binary_images(options.images).float() / 255.0).to(options.device)
    with torch.no_grad():
        model(images)
    optimiser = torch.optim.Adam(model.parameters(), 3e-4)
    criterion = oodd.losses.ELBO()

    def train() -> None:
        likelihood, stages = model(images, n_posterior_samples=1)
        kl = [s.loss.kl_elementwise for s in stages if s.loss.kl_elementwise is not None]
        loss, *_ = criterion(
            likelihood.likelihood, kl, samples=1, free_nats=2, beta=0.005,
            sample_reduction=torch.mean, batch_reduction=None,
        )  # fmt: skip
        loss.mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.mean().item()

    @torch.no_grad()
    def bound(samples: int, k: int = 0) -> torch.Tensor:
        """The importance-weighted L>k, layers l ≤ k by the mode of p, as the script takes it."""
        skipped = [True] * k + [False] * (3 - k)
        bounds = []
        for _ in range(samples):
            out, stages = model(
                images, n_posterior_samples=1, decode_from_p=skipped, use_mode=skipped
            )
            kl = [s.loss.kl_elementwise for s in stages if s.loss.kl_elementwise is not None]
            _, elbo, *_ = criterion(
                out.likelihood, kl, samples=1, free_nats=0, beta=1,
                sample_reduction=torch.mean, batch_reduction=None,
            )  # fmt: skip
            bounds.append(elbo)
        return torch.logsumexp(torch.stack(bounds), 0)

    def measure() -> None:
        for k in range(3):
            bound(1, k).sum().item()

    def importance() -> None:
        bound(SAMPLES).sum().item()

    def evaluation() -> None:
        for k in (1, 2):
            (bound(options.evaluation) - bound(1, k)).sum().item()

    size = sum(p.numel() for p in model.parameters())
    if options.evaluation:
        return size, {f"L with S = {options.evaluation} and L>1, L>2": evaluation}
    return size, {"training step": train, "all L>k": measure, f"L with S = {SAMPLES}": importance}


def binary_images(count: int) -> torch.Tensor:
    """(count, 1, 28, 28) uint8, 0 or 255."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(count, 1, 28, 28, generator=generator) < 0.3).to(torch.uint8) * 255


if __name__ == "__main__":
    assert __doc__ is not None
    own = argparse.ArgumentParser()
    own.add_argument(
        "--evaluation", type=int, metavar="S", help="time evaluate-all.sh with S draws"
    )
    own.add_argument("--images", type=int, default=BATCH, help="images of a batch")
    compare(__doc__.splitlines()[0], "oodd", ours, theirs, own)

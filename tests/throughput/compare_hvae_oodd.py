"""Throughput of the F3-hvk model against the public code of Havtorn et al. 2021, as a ratio.

    git clone https://github.com/JakobHavtorn/hvae-oodd
    python tests/throughput/compare_hvae_oodd.py --reference hvae-oodd [--threads 2] [--device cpu]

Both get the same architecture, batch, threads and images (random binary ones: speed does not
depend on them).  Each side runs in a process of its own, the way its users run it, in turn,
several times.  Measured are seconds a training step (loss with warm-up and free bits, backward
pass, Adam) and seconds for L>k of all k of one batch (lower layers by their mode).  The ratio of
a round is theirs / ours; the median over rounds is the result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

BATCH = 128
STAGES = [(64, 5, 2), (64, 3, 2), (64, 3, 1)]
LATENTS = ["c8", "d16", "d8"]
Step = Callable[[], object]


def ours(device: str) -> tuple[int, Step, Step]:
    """Number of parameters, a training step, and all L>k of a batch, by oodbench."""
    from oodbench.models.noise import FreshNoise
    from oodbench.recipes import find_recipe, resolve
    from oodbench.training import channels_last, tune_allocator

    tune_allocator()
    recipe = resolve(find_recipe("F3-hvk"), "paper", "hvk")
    model: Any = channels_last(recipe.config.build((1, 28, 28))).to(device)
    images = binary_images().to(device)
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
        noise = FreshNoise(BATCH, images.device)
        x = model.likelihood.observe(images, noise)
        return model.branches(
            x, noise, (0, 1, 2), lower="mode", encoder_lower="mode"
        ).elbo().cpu()  # fmt: skip

    return sum(p.numel() for p in model.parameters()), train, measure


def theirs(device: str, reference: Path) -> tuple[int, Step, Step]:
    """The same by the public code at `reference`."""
    sys.path.insert(0, str(reference))
    import oodd.losses
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
    model = oodd.models.VAE(
        input_shape=(1, 28, 28), likelihood_module="BernoulliLikelihoodConv2d",
        config_deterministic=deterministic, config_stochastic=stochastic, activation="ReLU",
        q_dropout=0, p_dropout=0, skip_stochastic=True, features_out=None,
    ).to(device)  # fmt: skip
    images = (binary_images().float() / 255.0).to(device)
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
    def measure() -> None:
        for k in range(3):
            from_prior = [True] * k + [False] * (3 - k)
            out, _ = model(
                images, n_posterior_samples=1, decode_from_p=from_prior, use_mode=from_prior
            )
            out.likelihood.sum().item()

    return sum(p.numel() for p in model.parameters()), train, measure


def binary_images() -> torch.Tensor:
    """(BATCH, 1, 28, 28) uint8, 0 or 255."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(BATCH, 1, 28, 28, generator=generator) < 0.3).to(torch.uint8) * 255


def seconds(step: Step, repeats: int) -> float:
    """Median seconds of a call, after one to warm up."""
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def worker(options: argparse.Namespace) -> None:
    """One side of one round, in this process; prints JSON."""
    torch.set_num_threads(options.threads)
    side = ours(options.device) if options.worker == "ours" else theirs(
        options.device, options.reference
    )  # fmt: skip
    parameters, train, measure = side
    out = {
        "parameters": parameters,
        "train": seconds(train, options.repeats),
        "measure": seconds(measure, options.repeats),
    }
    print(json.dumps(out))


def main() -> None:
    """Alternate the two sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, help="clone of hvae-oodd")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.reference / "oodd").is_dir():
        parser.error(f"{options.reference} is not a clone of hvae-oodd")
    if options.worker:
        worker(options)
        return
    ratios: dict[str, list[float]] = {"train": [], "measure": []}
    for number in range(1, options.rounds + 1):
        sides = {}
        for side in ("ours", "theirs"):
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", side]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            sides[side] = json.loads(done.stdout.splitlines()[-1])
        assert sides["ours"]["parameters"] == sides["theirs"]["parameters"]
        for what, found in ratios.items():
            a, b = sides["ours"][what], sides["theirs"][what]
            found.append(b / a)
            print(f"round {number}, {what}: ours {a:.3f} s, theirs {b:.3f} s, ratio {b / a:.2f}")
    print(f"{sides['ours']['parameters']:,} parameters, batch {BATCH}, {options.threads} threads")
    for what, found in ratios.items():
        print(f"{what}: {statistics.median(found):.2f} times the speed of hvae-oodd")


if __name__ == "__main__":
    main()

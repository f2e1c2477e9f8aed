"""Our HVAE and LVAE beside the public code of Havtorn et al. 2021: NLL_k and KL for every k.

    git clone https://github.com/JakobHavtorn/hvae-oodd
    python tests/parity/hvae_oodd.py --reference hvae-oodd --data FOLDER [--model F3-hvk]

All latents are at their means, those of z≤k of p.  No weights are published; those used here are
initialised and trained for some steps by the public code, or read from a folder that it wrote
(`--weights`, with one `--model`).  The architecture is that of our recipe's scale `paper`; what
differs there from the public code on purpose is set as the public code has it: skips of equal
shape are left out, the tail of a discretised logistic is capped or bent, and its scale is not
bounded.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from beside import (
    IMAGES,
    Verdict,
    arguments,
    as_published,
    compare_each,
    fill,
    images_of,
    in_double,
    trained,
    weight_normed,
)
from torch import Tensor

from oodbench.declare.recipes import find_recipe, resolve
from oodbench.models.layers.noise import AtMeans, FreshNoise

#: Our recipe: its variant, and the data.
MODELS = {
    "F3-hvk": ("hvk", "fashionmnist"),
    "F3": ("vanilla", "fashionmnist"),
    "C3": ("vanilla", "cifar10"),
    "lvae-F3": ("lvae", "fashionmnist"),
    "lvae-C3": ("lvae", "cifar10"),
}
HEADS = {
    "bernoulli": "BernoulliLikelihoodConv2d",
    "logistic": "DiscretizedLogisticLikelihoodConv2d",
    "logistic-mixture": "DiscretizedLogisticMixLikelihoodConv2d",
}


def configured(name: str) -> Any:
    """Our configuration with the choices of the public code."""
    found = resolve(find_recipe(name), "paper", MODELS[name][0]).config
    changes: dict[str, object] = {"generative_skips": "drop"}
    if found.name == "lvae":
        changes |= {"merge": "published", "inference_skips": "drop"}
    return found.model_copy(update=changes)


def public_model(config: Any, shape: tuple[int, int, int]) -> Any:
    """The same architecture in the public code."""
    import oodd.models

    deterministic, stochastic = [], []
    for layer in config.layers:
        stage, latent = layer.stage, layer.latent
        deterministic.append([
            {"block": "ResBlockConv2d", "out_channels": stage.channels,
             "kernel_size": stage.kernel, "weightnorm": True, "gated": False,
             "stride": stage.stride if block == stage.blocks - 1 else 1}
            for block in range(stage.blocks)
        ])  # fmt: skip
        block = "GaussianConv2d" if latent.kind == "conv" else "GaussianDense"
        stochastic.append({"block": block, "latent_features": latent.dim, "weightnorm": True})
    kind = oodd.models.LVAE if config.name == "lvae" else oodd.models.VAE
    return kind(
        input_shape=shape, likelihood_module=HEADS[config.likelihood.kind],
        config_deterministic=deterministic, config_stochastic=stochastic, activation="ReLU",
        q_dropout=0, p_dropout=0, skip_stochastic=True, features_out=None,
    )  # fmt: skip


def pairs(ours: Any, theirs: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Every parameter of ours, and the public tensor that it is."""
    for to, stage in zip(ours.stages, theirs.stages, strict=True):
        yield from _blocks(to.encoder.blocks, stage.q_deterministic.layers)
        yield from _blocks(to.decoder.blocks, stage.p_deterministic.layers)
        yield from _normed(to.q_layer.layer, stage.stochastic.in_transform_q)
        if to.p_layer is not None:
            yield from _normed(to.p_layer.layer, stage.stochastic.in_transform_p)
        for name in ("q_projection", "p_projection"):
            if getattr(to, name, None) is not None:
                yield from _normed(getattr(to, name), getattr(stage, name).transform)
        if hasattr(to, "merge"):
            yield from _blocks([to.merge], [stage.merge])
    yield from _head(ours.likelihood, theirs.likelihood.parameter_net)


def _blocks(ours: Any, theirs: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for to, block in zip(ours, theirs, strict=True):
        yield from _normed(to.conv1, block.conv1)
        yield from _normed(to.conv2, block.conv2)
        assert (to.aux_op is None) == (block.aux_op is None)
        if to.aux_op is not None:
            yield from _normed(to.aux_op, block.aux_op)


def _normed(to: Any, layer: Any) -> list[tuple[Tensor, Tensor]]:
    return weight_normed(to, layer.linear if hasattr(layer, "linear") else layer.conv)


def _head(to: Any, layer: Any) -> list[tuple[Tensor, Tensor]]:
    """The mixture's means, scales and coefficients stand colour by colour in the public code."""
    found = _normed(to.layer, layer)
    if not hasattr(to, "components"):
        return found
    k, colours = to.components, to.shape[0]
    parts = torch.arange(3 * k * colours).view(colours, 3, k).transpose(0, 1).flatten()
    order = torch.cat([torch.arange(k), k + parts])
    return [(ours, tensor[order]) for ours, tensor in found]


def seen(images: Tensor, config: Any) -> Tensor:
    """What the model is given of values 0 … 255: binary, or in [0, 1]."""
    x = images if images.is_floating_point() else images.float()
    return (x > 127).to(x.dtype) if config.likelihood.kind == "bernoulli" else x / 255.0


def with_weights(name: str, config: Any, options: argparse.Namespace) -> Any:
    """The public model, trained or read."""
    import oodd.losses
    import oodd.models

    if options.weights is not None:
        return oodd.models.load_model(str(options.weights)).eval()
    images = images_of(MODELS[name][1], "train", 1000, options)
    model = public_model(config, tuple(images.shape[1:]))
    criterion = oodd.losses.ELBO()
    with torch.no_grad():
        torch.manual_seed(0)
        model(seen(images[:16], config))  # sets the weights' lengths and biases by these images

    def loss(batch: Tensor) -> Tensor:
        out, stages = model(seen(batch, config), n_posterior_samples=1)
        kl = [stage.loss.kl_elementwise for stage in stages]
        found, *_ = criterion(
            out.likelihood, kl, samples=1, free_nats=0, beta=1, sample_reduction=torch.mean,
            batch_reduction=None,
        )  # fmt: skip
        return found.mean()

    trained(model, loss, images, options, rate=1e-4)
    return model.eval()


@torch.no_grad()
def compare(name: str, options: argparse.Namespace, verdict: Verdict) -> None:
    """NLL_k and the KL of every layer above k, k = 0 … L − 1."""
    config = configured(name)
    images = images_of(MODELS[name][1], "test", IMAGES, options)
    with torch.enable_grad():
        theirs = with_weights(name, config, options)
    ours = config.build(tuple(images.shape[1:])).eval()
    as_published(ours.likelihood)
    fill(ours, pairs(ours, theirs))
    x = seen(images, config)
    single, public_single = branches(ours, x), public_branches(theirs, x)
    with in_double(ours):
        x = seen(images.double(), config)
        double, public_double = branches(ours, x), public_branches(theirs.double(), x)
    for k in range(ours.layers):
        for part in range(ours.layers - k + 1):
            what = f"k = {k}, KL_{k + part}" if part else f"NLL_{k}"
            verdict.compare(
                f"{name} {what}",
                [public_double[k][part], public_single[k][part]],
                [double[k][part], single[k][part]],
            )


def branches(ours: Any, x: Tensor) -> list[list[Tensor]]:
    """NLL_k, KL_(k+1) … KL_L (B,) for every k, every latent at its mean."""
    noise, ks = AtMeans(FreshNoise(len(x))), tuple(range(ours.layers))
    out = ours.branches(x, noise, ks, lower="mode", encoder_lower="mode")
    return [[out.nll[k], *out.kl_layers()[k].T[k:]] for k in ks]


def public_branches(theirs: Any, x: Tensor) -> list[list[Tensor]]:
    """The same by the public code."""
    found = []
    for k in range(theirs.n_latents):
        from_p = [index < k for index in range(theirs.n_latents)]
        out, stages = theirs(x, n_posterior_samples=1, use_mode=True, decode_from_p=from_p)
        kl = [stage.loss.kl_elementwise.flatten(1).sum(1) for stage in stages[k:]]
        found.append([-out.likelihood, *kl])
    return found


def main() -> None:
    """Compare every model, or the one that is named."""
    assert __doc__ is not None
    parser = arguments(__doc__, "oodd", "folder that the public code wrote, of one --model", 20)
    compare_each(parser, MODELS, compare)


if __name__ == "__main__":
    main()

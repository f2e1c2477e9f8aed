"""Our Glow beside a public port of it: log p(x).

    git clone https://github.com/y0ast/Glow-PyTorch
    python tests/parity/glow_pytorch.py --reference Glow-PyTorch --data FOLDER
        [--weights glow_affine_coupling.pt --levels 3 --steps-of-flow 32 --hidden 512]

On CIFAR-10, with the same dequantising noise on both sides.  Weights are published beside the
port; where none are given, the public network is trained for some steps, at the size of our
recipe's scale `paper`.  It calls `torch.qr` and `torch.lu`, which newer torch has not or will not
have: what took their place stands in.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import Any

import torch
from beside import (
    IMAGES,
    Verdict,
    arguments,
    fill,
    images_of,
    in_double,
    public,
    state_of,
    trained,
)
from torch import Tensor

from oodbench.declare.recipes import find_recipe, resolve


class Given:
    """One draw of the dequantising noise."""

    def __init__(self, u: Tensor) -> None:
        self.u = u

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, C, H, W) in [0, 1)."""
        return self.u


def pairs(ours: Any, theirs: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Every parameter of ours, and the public tensor that it is.

    The permutation and the signs of an invertible convolution are no parameters: they are copied.
    """
    layers = list(theirs.flow.layers)
    for index, level in enumerate(ours.levels):
        layers.pop(0)  # the squeezing
        for to in level:
            step = layers.pop(0)
            yield from _actnorm(to.norm, step.actnorm)
            mix = step.invconv
            to.mix.permutation.copy_(mix.p)
            to.mix.sign.copy_(mix.sign_s)
            yield to.mix.lower, mix.lower
            yield to.mix.upper, mix.upper
            yield to.mix.log_diagonal, mix.log_s
            first, _, second, _, last = step.block
            for number, layer in ((1, first), (2, second)):
                yield getattr(to.coupling, f"conv{number}").weight, layer.conv.weight
                yield from _actnorm(getattr(to.coupling, f"norm{number}"), layer.actnorm)
            yield from _alternating(to.coupling.out, last)
        if index < len(ours.splits):
            yield from _alternating(ours.splits[index].prior, layers.pop(0).conv)
    top = theirs.learn_top_fn
    yield ours.top, top.conv.bias * torch.exp(3.0 * top.logs.flatten())  # of zeros


def _actnorm(to: Any, layer: Any) -> Iterator[tuple[Tensor, Tensor]]:
    yield to.bias, layer.bias
    yield to.log_scale, layer.logs


def _alternating(to: Any, layer: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Shift and scale alternate in the public code and follow each other in ours."""
    order = torch.arange(layer.conv.out_channels).view(-1, 2).T.flatten()
    yield to.conv.weight, layer.conv.weight[order]
    yield to.conv.bias, layer.conv.bias[order]
    yield to.log_scale, layer.logs[order]


def with_weights(config: Any, options: argparse.Namespace) -> Any:
    """The public network, trained or read."""
    from model import Glow  # type: ignore[import-not-found]

    images = images_of("cifar10", "train", 1000, options)
    torch.manual_seed(0)
    model = Glow(
        image_shape=(*images.shape[2:], images.shape[1]), hidden_channels=config.hidden,
        K=config.steps, L=config.levels, actnorm_scale=1.0, flow_permutation="invconv",
        flow_coupling="affine", LU_decomposed=True, y_classes=10, learn_top=True,
        y_condition=False,
    )  # fmt: skip
    if options.weights is not None:
        model.load_state_dict(state_of(options.weights))
        model.set_actnorm_init()
        return model.eval()
    with torch.no_grad():
        model.train()(images[:32] / 256.0 - 0.5)  # sets scales and biases by these images
    nats = math.log(2.0) * images[0].numel()
    trained(model, lambda batch: nats * model(batch / 256.0 - 0.5)[1].mean(), images, options)
    return model.eval()


@torch.no_grad()
def compare(options: argparse.Namespace, verdict: Verdict) -> None:
    """log p(x) of ten test images."""
    config = resolve(find_recipe("glow-C"), "paper", "glow").config
    sizes = {"levels": options.levels, "steps": options.steps_of_flow, "hidden": options.hidden}
    config = config.model_copy(update={k: v for k, v in sizes.items() if v is not None})
    images = images_of("cifar10", "test", IMAGES, options)
    with torch.enable_grad():
        theirs = with_weights(config, options)
    ours: Any = config.build(tuple(images.shape[1:])).eval()
    fill(ours, pairs(ours, theirs))
    torch.manual_seed(1)
    u = torch.rand(images.shape, dtype=torch.float64)
    single = public_log_prob(theirs, images, u.float())
    double = public_log_prob(theirs.double(), images, u)
    ours_single = ours.log_prob(images, Given(u.float()))
    with in_double(ours):
        ours_double = ours.log_prob(images, Given(u))
    verdict.compare("glow-C", [double, single], [ours_double, ours_single])


def public_log_prob(theirs: Any, images: Tensor, u: Tensor) -> Tensor:
    """log p(x) by the public code, which gives bits a dimension, with `u` as its noise."""
    import model

    real = model.uniform_binning_correction
    constant = -math.log(256.0) * images[0].numel()
    model.uniform_binning_correction = lambda x: (x + u / 256.0, constant)
    bits = theirs(images.to(u.dtype) / 256.0 - 0.5)[1]
    model.uniform_binning_correction = real
    found: Tensor = -bits * math.log(2.0) * images[0].numel()
    return found


def main() -> None:
    """Compare the colour model."""
    assert __doc__ is not None
    parser = arguments(__doc__, "modules.py", "a file of public weights", 10)
    parser.add_argument("--levels", type=int, help="L of the public weights")
    parser.add_argument("--steps-of-flow", type=int, help="K of the public weights")
    parser.add_argument("--hidden", type=int, help="hidden channels of the public weights")
    options = parser.parse_args()
    public(options.reference)
    torch.qr, torch.lu = torch.linalg.qr, torch.linalg.lu_factor  # type: ignore[assignment]
    verdict = Verdict()
    compare(options, verdict)
    verdict.end()


if __name__ == "__main__":
    main()

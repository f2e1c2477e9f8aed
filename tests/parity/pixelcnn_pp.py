"""Our PixelCNN++ beside a public port of it: log p(x).

    git clone https://github.com/pclucas14/pixel-cnn-pp
    python tests/parity/pixelcnn_pp.py --reference pixel-cnn-pp --data FOLDER [--model pixelcnn-C]
        [--weights pcnn_lr:0.00040_nr-resnet5_nr-filters160_889.pth]

At the published size.  Weights for CIFAR-10 are published beside the port; where none are given,
the public network is trained for some steps.  The tail of the logistic mixture is bent, and its
scales are not bounded, as it is there.  Its likelihood asks for CUDA; on a machine without,
`Tensor.cuda` is made to do nothing.  A line of `utils.py` is Python 2 and is mended as it is read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
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
    state_of,
    trained,
    weight_normed,
)
from torch import Tensor

from oodbench.declare.recipes import find_recipe, resolve

DATA = {"pixelcnn-C": "cifar10", "pixelcnn-F": "fashionmnist"}
STREAMS = (("above", "u_stream"), ("left", "ul_stream"))


def pairs(ours: Any, theirs: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Every parameter of ours, and the public tensor that it is."""
    yield from _normed(ours.first_above, theirs.u_init)
    yield from _normed(ours.first_row, theirs.ul_init[0])
    yield from _normed(ours.first_left, theirs.ul_init[1])
    for stream, public_stream in STREAMS:
        ways = {"down": theirs.up_layers, "up": theirs.down_layers}  # by size, and by depth
        for way, layers in ways.items():
            for to, layer in zip(getattr(ours, f"{way}_{stream}"), layers, strict=True):
                for gated, block in zip(to, getattr(layer, public_stream), strict=True):
                    yield from _normed(gated.conv1, block.conv_input)
                    yield from _normed(gated.conv2, block.conv_out)
                    if gated.skip is not None:
                        yield from _normed(gated.skip, block.nin_skip)
        for mine, name in (("shrink", "downsize"), ("grow", "upsize")):
            layers = getattr(theirs, f"{name}_{public_stream}")
            for to, layer in zip(getattr(ours, mine)[stream], layers, strict=True):
                yield from _normed(to, layer)
    order = _order(ours.likelihood.components, ours.shape[0])
    for to, tensor in _normed(ours.likelihood.layer, theirs.nin_out):
        yield to, tensor[order]


def _normed(to: Any, layer: Any) -> list[tuple[Tensor, Tensor]]:
    if hasattr(layer, "deconv"):
        return _transposed(to, layer.deconv)
    return weight_normed(to, layer.conv if hasattr(layer, "conv") else layer.lin_a)


def _transposed(to: Any, layer: Any) -> list[tuple[Tensor, Tensor]]:
    """The port normalises by input channel, ours by output channel: the same weight."""
    v = layer.weight_v
    weight = v * (layer.weight_g / torch.linalg.vector_norm(v, dim=(1, 2, 3), keepdim=True))
    length = torch.linalg.vector_norm(weight, dim=(0, 2, 3), keepdim=True)
    return [(to.v, weight), (to.g, length), (to.bias, layer.bias)]


def _order(k: int, colours: int) -> Tensor:
    """The public outputs in our order: theirs stand colour by colour."""
    kinds = 3 if colours == 3 else 2
    parts = torch.arange(kinds * k * colours).view(colours, kinds, k).transpose(0, 1).flatten()
    return torch.cat([torch.arange(k), k + parts])


def with_weights(name: str, config: Any, options: argparse.Namespace) -> Any:
    """The public network, trained or read."""
    from model import PixelCNN  # type: ignore[import-not-found]

    images = images_of(DATA[name], "train", 1000, options)
    torch.manual_seed(0)
    model = PixelCNN(
        nr_resnet=config.blocks, nr_filters=config.filters, nr_logistic_mix=config.components,
        input_channels=images.shape[1],
    )  # fmt: skip
    if options.weights is not None:
        model.load_state_dict(state_of(options.weights))
        return model.eval()
    log_prob = partial(public_log_prob, model.train())
    trained(model, lambda batch: -log_prob(batch).mean(), images, options, rate=2e-4)
    return model.eval()


def public_log_prob(model: Any, images: Tensor) -> Tensor:
    """log p(x) of values 0 … 255, (B,)."""
    import utils  # type: ignore[import-not-found]

    x = (images / 255.0 - 0.5) * 2.0
    grey = images.shape[1] == 1
    loss = utils.discretized_mix_logistic_loss_1d if grey else utils.discretized_mix_logistic_loss
    model.init_padding = None  # it is of the last batch's size
    out = model(x)
    return torch.stack([-loss(*one) for one in zip(x.split(1), out.split(1), strict=True)])


@torch.no_grad()
def compare(name: str, options: argparse.Namespace, verdict: Verdict) -> None:
    """log p(x) of ten test images."""
    config = resolve(find_recipe(name), "paper", "pixelcnn").config
    images = images_of(DATA[name], "test", IMAGES, options)
    with torch.enable_grad():
        theirs = with_weights(name, config, options)
    ours: Any = config.build(tuple(images.shape[1:])).eval()
    as_published(ours.likelihood)
    fill(ours, pairs(ours, theirs))
    ours_single, single = ours.log_prob(images), public_log_prob(theirs, images.float())
    double = public_log_prob(theirs.double(), images.double())
    with in_double(ours):
        fill(ours, pairs(ours, theirs))  # weights that were computed, in double precision too
        ours_double = ours.log_prob(images)
    verdict.compare(name, [double, single], [ours_double, ours_single])


def import_utils(folder: Path) -> None:
    """The port's `utils`, which prints an error in the manner of Python 2."""
    source = (folder / "utils.py").read_text("utf-8").replace("print e\n", "print(e)\n")
    module = ModuleType("utils")
    exec(compile(source, "utils.py", "exec"), vars(module))
    sys.modules["utils"] = module


def main() -> None:
    """Compare the colour and the grey model, or the one that is named."""
    assert __doc__ is not None
    parser = arguments(__doc__, "model.py", "a file of public weights, of one --model", 3)
    compare_each(parser, DATA, compare, prepare)


def prepare(options: argparse.Namespace) -> None:
    """The port's own modules, which ask for a GPU."""
    import_utils(options.reference)
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign,assignment,misc]


if __name__ == "__main__":
    main()

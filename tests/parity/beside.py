"""Our models beside public code: what the scripts of this folder share.

A script loads weights of the public code into our model and compares what both say of the same
images.  With both in double precision that compares the mathematics: the script exits 1 where a
difference is above `TOLERANCE`.  Beside it stands how far each is, in single precision as it is
used, from those public values: its rounding, which is shown and not judged.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oodbench.models.layers import likelihoods

#: Images that are compared.
IMAGES = 10
#: Nats, with both in double precision.
TOLERANCE = 1e-6


def arguments(doc: str, marker: str, weights: str, steps: int) -> argparse.ArgumentParser:
    """The options of every script; `marker`: a file of the public code; `weights`: their help."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--reference", type=_checkout(marker), required=True, metavar="FOLDER",
                        help="a checkout of the public code")  # fmt: skip
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="FOLDER",
                        help="where the data sets are; may be repeated")  # fmt: skip
    parser.add_argument("--weights", type=Path, help=weights)
    parser.add_argument("--steps", type=int, default=steps,
                        help="training steps, where no weights are given")  # fmt: skip
    parser.add_argument("--batch", type=int, default=8, help="images of such a step")
    return parser


def _checkout(marker: str) -> Callable[[str], Path]:
    def checked(text: str) -> Path:
        folder = Path(text)
        if not (folder / marker).exists():
            raise argparse.ArgumentTypeError(
                f"{folder} is no checkout of the public code: it has no {marker}"
            )
        return folder.resolve()

    return checked


def public(folder: Path) -> None:
    """Let the modules of a checkout be imported by their names."""
    sys.path.insert(0, str(folder))


def images_of(name: str, split: str, count: int, options: argparse.Namespace) -> Tensor:
    """The first `count` images of a set, (count, C, H, W) uint8."""
    from oodbench.datasets.loading import find_places, load

    places = find_places(options.data, "results/store")
    return torch.tensor(load(name, split, places).images[:count])


def trained(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    options: argparse.Namespace,
    rate: float = 1e-3,
) -> None:
    """`--steps` Adam steps on a loss, on batches of uint8 `images`, seed 0."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(options.steps):
        batch = images[torch.randint(0, len(images), (options.batch,))]
        optimiser.zero_grad(set_to_none=True)
        loss(batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def fill(ours: nn.Module, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Copy (to, from) tensors; ValueError unless every parameter of ours is filled just once."""
    left = {id(p): name for name, p in ours.named_parameters()}
    with torch.no_grad():
        for to, tensor in pairs:
            if id(to) not in left:
                raise ValueError("a tensor that is no parameter of ours, or one filled twice")
            if to.numel() != tensor.numel():
                raise ValueError(f"{left[id(to)]}: {tuple(to.shape)} and {tuple(tensor.shape)}")
            del left[id(to)]
            to.copy_(tensor.view_as(to))
    if left:
        raise ValueError(f"not filled: {', '.join(left.values())}")


def weight_normed(to: Any, layer: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Pairs of one of our weight-normalised layers and one of torch's ``weight_norm``."""
    named = dict(layer.named_parameters(recurse=False))
    if to.g.ndim == named["weight_g"].ndim and to.g.shape != named["weight_g"].shape:
        raise ValueError("the public layer normalises along another dimension than ours")
    return [(to.v, named["weight_v"]), (to.g, named["weight_g"]), (to.bias, named["bias"])]


def reordered(pairs: list[tuple[Tensor, Tensor]], order: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The same with the output channels of the public layer, dimension 0, in another order."""
    return [(to, tensor[order]) for to, tensor in pairs]


def as_published(likelihood: Any) -> None:
    """Let our likelihood bend or cap its tail as the public code does, and not bound its scales.

    Log-scales are at most `likelihoods.MAX_LOG_SCALE` in ours, for this whole process no longer.
    """
    likelihood.tail = "published"
    likelihoods.MAX_LOG_SCALE = math.inf


@contextmanager
def in_double(model: nn.Module) -> Iterator[None]:
    """Our model in double precision, also where it says ``.float()``, until the block ends."""
    single = torch.Tensor.float
    model.double()
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.Tensor.float = single  # type: ignore[method-assign]
        model.float()


class Verdict:
    """Largest differences of quantities in nats, printed as they come."""

    def __init__(self) -> None:
        self.failed = False
        print(f"largest difference over {IMAGES} images, nats; allowed in double: {TOLERANCE:g}")
        print(f"{'':24} {'public':>9} {'both':>9} {'ours in':>9} {'theirs in':>9}")
        print(f"{'':24} {'mean':>9} {'double':>9} {'single':>9} {'single':>9}", flush=True)

    def compare(self, what: str, theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> None:
        """A line of `what`: values (B,) in double and in single precision of each side."""
        exact = theirs[0]
        found = [(t - exact).abs().max().item() for t in (*ours, theirs[1])]
        fine = found[0] <= TOLERANCE
        self.failed = self.failed or not fine
        shown = f"{what:24} {exact.mean().item():9.2f}" + "".join(f" {d:9.1e}" for d in found)
        print(shown if fine else f"{shown}  ABOVE", flush=True)

    def end(self) -> None:
        """Exit 1 where a difference was above its tolerance."""
        sys.exit(int(self.failed))


def compare_each(
    parser: argparse.ArgumentParser,
    models: Iterable[str],
    compare: Callable[[str, argparse.Namespace, Verdict], None],
    prepare: Callable[[argparse.Namespace], None] = lambda options: None,
) -> None:
    """Compare every model, or those of ``--model``; exits as `Verdict.end` does.

    `prepare` checks the options, and makes the public code, which can be imported by then, ready.
    """
    parser.add_argument("--model", choices=list(models), action="append", help="one of our recipes")
    options = parser.parse_args()
    names = options.model or list(models)
    if options.weights is not None and len(names) > 1:
        parser.error("--weights is of one model: name it by --model")
    public(options.reference)
    prepare(options)
    verdict = Verdict()
    for name in names:
        compare(name, options, verdict)
    verdict.end()


def state_of(path: Path) -> Mapping[str, Tensor]:
    """A file of public weights, without the prefix that a parallel model puts before every name."""
    found = torch.load(path, map_location="cpu", weights_only=True)
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}

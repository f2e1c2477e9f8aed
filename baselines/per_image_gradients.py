"""‖∇_θj log p(x)‖² of every image and layer, for all images of a batch at once.

`torch.func`: one `vmap` over images of `grad` of `functional_call`.  What a model draws for an
image is drawn before, for the whole batch, and given to every image as its own; what a likelihood
makes of a model's output is derived before too, batch by batch, since it has no weights of the
model.  By the chain rule the sum of what is left is the gradient of log p.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from oodbench.models.layers.noise import Noise

#: Numbers of the gradients that are held at once.
GRADIENTS = 8_000_000


class Recorded:
    """A source of noise that keeps what it drew: (B, *shape) by name."""

    def __init__(self, source: Noise, drawn: dict[str, Tensor], prefix: str = "") -> None:
        self.source, self.drawn, self.prefix = source, drawn, prefix

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) independent N(0, 1)."""
        return self._keep(f"{self.prefix}{name}/normal", self.source.normal(name, shape))

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) independent U[0, 1)."""
        return self._keep(f"{self.prefix}{name}/uniform", self.source.uniform(name, shape))

    def scope(self, name: str) -> Recorded:
        """The same source under another name."""
        return Recorded(self.source.scope(name), self.drawn, f"{self.prefix}{name}/")

    def _keep(self, name: str, drawn: Tensor) -> Tensor:
        self.drawn[name] = drawn
        return drawn


class Replayed:
    """What was drawn for one image, (1, *shape) by name."""

    def __init__(self, drawn: Mapping[str, Tensor], prefix: str = "") -> None:
        self.drawn, self.prefix = drawn, prefix

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(1, *shape)."""
        return self.drawn[f"{self.prefix}{name}/normal"].unsqueeze(0)

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(1, *shape)."""
        return self.drawn[f"{self.prefix}{name}/uniform"].unsqueeze(0)

    def scope(self, name: str) -> Replayed:
        """The draws under another name."""
        return Replayed(self.drawn, f"{self.prefix}{name}/")


def layers_of(model: nn.Module) -> dict[str, list[str]]:
    """The modules with weights of their own, in order, and the names of these weights."""
    found: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


class AsProducts(TorchFunctionMode):
    """Convolutions as products of patches with a matrix.

    Under `vmap` the gradient of a convolution in its weights is a convolution with a group for
    every image, which a CPU does one by one; of a product it is a product.
    """

    def __torch_function__(
        self,
        func: Callable[..., Tensor],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.conv2d:
            return _convolution(*args, **kwargs)
        if func is F.conv_transpose2d:
            return _transposed(*args, **kwargs)
        return func(*args, **kwargs)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """torch.nn.functional.conv2d of x (B, I, H, W)."""
    kernel, step = tuple(weight.shape[2:]), _two(stride)
    if groups != 1 or _two(dilation) != (1, 1) or isinstance(padding, str):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    high, wide = _two(padding)
    rows, columns = (
        (x.shape[2 + i] + 2 * (high, wide)[i] - kernel[i]) // step[i] + 1 for i in (0, 1)
    )
    if kernel == (1, 1) and step == (1, 1) and not high and not wide:
        patches = x.flatten(2)
    else:
        patches = F.unfold(x, kernel, padding=(high, wide), stride=step)
    # All maps side by side, so that the gradient in the weights is one product.
    side_by_side = patches.transpose(0, 1).flatten(1) if len(x) > 1 else patches[0]
    out = (weight.flatten(1) @ side_by_side).view(-1, len(x), rows, columns).transpose(0, 1)
    return out if bias is None else out + bias.view(-1, 1, 1)


def _transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """torch.nn.functional.conv_transpose2d of x (B, I, H, W): zeros between, then a convolution."""
    if groups != 1 or _two(dilation) != (1, 1):
        return F.conv_transpose2d(
            x, weight, bias, stride, padding, output_padding, groups, dilation
        )  # fmt: skip
    step, kernel = _two(stride), tuple(weight.shape[2:])
    if step != (1, 1):
        between = x.new_zeros(*x.shape[:3], step[0], x.shape[3], step[1])
        between = torch.cat([x[:, :, :, None, :, None],
                             between[:, :, :, :1, :, 1:]], dim=5)  # fmt: skip
        filled = torch.cat(
            [between, x.new_zeros(*x.shape[:3], step[0] - 1, x.shape[3], step[1])], 3
        )
        x = filled.flatten(4).flatten(2, 3)
        x = x[:, :, : x.shape[2] - step[0] + 1, : x.shape[3] - step[1] + 1]
    border, more = _two(padding), _two(output_padding)
    sides = [kernel[i] - 1 - border[i] for i in (0, 1)]
    x = F.pad(x, (sides[1], sides[1] + more[1], sides[0], sides[0] + more[0]))
    return _convolution(x, weight.flip(2, 3).transpose(0, 1), bias)


def _two(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


class Parts(NamedTuple):
    """log p in two parts: that of `parameters` (B, …) through a likelihood, and `rest` (B,)."""

    parameters: Tensor | None
    rest: Tensor


def squared_gradients(
    model: nn.Module,
    parts: Callable[[nn.Module, Tensor, Noise], Parts],
    likelihood: Callable[[nn.Module, Tensor, Tensor], Tensor],
    images: Tensor,
    noise: Noise,
) -> Tensor:
    """‖∇_θj log p(x)‖² of every image and layer, (B, layers) float64.

    `parts(model, pixels, noise)` for float pixels (B, C, H, W), and `likelihood(model, parameters,
    pixels)`, (B,), the weights of which are none of the model's: its derivative in the parameters
    is taken first, of the whole batch.  What is drawn is drawn once, for the whole batch.
    """
    weights = {name: w.detach() for name, w in model.named_parameters() if w.requires_grad}
    rest = {name: w.detach() for name, w in model.named_parameters() if not w.requires_grad}
    fixed = rest | dict(model.named_buffers())
    drawn: dict[str, Tensor] = {}
    pixels = images.float()
    with torch.no_grad():
        parameters = parts(model, pixels, Recorded(noise, drawn)).parameters
    slope = pixels.new_zeros(len(pixels), 0)
    if parameters is not None:
        parameters = parameters.requires_grad_()
        (slope,) = torch.autograd.grad(likelihood(model, parameters, pixels).sum(), parameters)

    def of_one(
        given: dict[str, Tensor], image: Tensor, draws: dict[str, Tensor], along: Tensor
    ) -> Tensor:
        whole = _Called(model, parts)
        state = {f"model.{name}": value for name, value in (given | fixed).items()}
        found: Parts = torch.func.functional_call(
            whole, state, (image.unsqueeze(0), Replayed(draws))
        )
        if found.parameters is None:
            return found.rest[0]
        return found.rest[0] + (found.parameters[0] * along).sum(dtype=torch.float64)

    layers = layers_of(model)

    def norms(image: Tensor, draws: dict[str, Tensor], along: Tensor) -> Tensor:
        gradients = torch.func.grad(of_one)(weights, image, draws, along)
        squares = [
            torch.stack([gradients[name].square().sum(dtype=torch.float64) for name in names]).sum()
            for names in layers.values()
        ]
        return torch.stack(squares)

    size = sum(w.numel() for w in weights.values())
    with AsProducts():
        found: Tensor = torch.func.vmap(norms, chunk_size=max(1, GRADIENTS // size))(
            pixels, drawn, slope.detach()
        )
    return found.detach()


class _Called(nn.Module):
    """`parts` as a module, so that the weights of `model` can be replaced in a call."""

    def __init__(
        self, model: nn.Module, parts: Callable[[nn.Module, Tensor, Noise], Parts]
    ) -> None:
        super().__init__()
        self.model, self.parts = model, parts

    def forward(self, pixels: Tensor, noise: Noise) -> Parts:
        return self.parts(self.model, pixels, noise)

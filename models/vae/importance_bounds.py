"""Importance samples that need no softmax: a cheap upper bound on log p(x|z) tells which.

Most of the S draws of an importance-weighted bound hold next to nothing of its sum: their weights
lie tens of nats below the largest.  `Ceiling` bounds log p(x|h) from above at a tenth of the
cost of the 256-way softmaxes, and `log_sum_exp` takes draws from the highest ceiling downwards
until the ceilings of all the others together cannot change the sum any more.

The ceiling.  The 256 values of a number are cut into groups of neighbours.  With π the softmax
within a group at a reference h₀ (the mean of the posterior), Jensen's inequality gives
    Σ_{v in g} exp(ℓ_v) ≥ exp(Σ_v π_v ℓ_v + H(π)),
and logits are linear in h, so that the exponent is one product of h with a vector made once per
image.  The sum over groups is thus at least Σ_g exp(a_g + w_g · h), and log p(x|h) at most
ℓ_x − log of that; equal at h₀.  A bound for every h, not an estimate: nothing is assumed about the
model, the image or the draws.  What float32 rounds off is allowed for by ROUNDING.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oodbench.models.layers.categorical_pixels import VALUES, by_colour
from oodbench.models.layers.transposed_convolution import Quarter, pad, split

#: Groups of neighbouring values.
GROUPS = 8
#: By which a ceiling is raised for the rounding of float32: nats, and a share of log p.
ROUNDING = (0.01, 1e-5)
#: The share of the sum that the draws left out may hold: nats by which it may fall short.
LEFT_OUT = 1e-4
#: Draws of an image whose weights are computed first.
FIRST = 8


@dataclass(frozen=True)
class _Row:
    """A row of a quarter: of its P pixels and C colours the exponents, linear in the input.

    upper, lower (P, C·GROUPS, 2·in): by the input's two rows; constants (P, C·GROUPS, 1); bits.
    """

    top: int
    left: int
    constants: Tensor
    upper: Tensor
    lower: Tensor


class Ceiling:
    """Upper bounds on log p(x|h) of one image x, for any h; tight near `reference`.

    layer: gives the logits, as in `oodbench.models.layers.categorical_pixels.log_prob`; reference
    (1, in, H/2, W/2); values (H, W, C) int64 in 0 … 255.
    """

    def __init__(self, layer: nn.ConvTranspose2d, reference: Tensor, values: Tensor) -> None:
        padded = pad(reference)
        self.colours = values.shape[2]
        # Σ over pixels of the wanted logits is linear in h, too.
        self.wanted = torch.zeros_like(padded)
        self.constant = 0.0
        self.rows: list[_Row] = []
        for part in split(layer, (reference.shape[2], reference.shape[3])):
            self._add(part, padded, values[part.rows, part.columns])

    def _add(self, part: Quarter, padded: Tensor, values: Tensor) -> None:
        """One quarter of the pixels; `values` (rows, columns, C) its values."""
        high, wide, colours = values.shape
        pixels = high * wide
        matrix = by_colour(part.matrix, colours)
        inputs = len(matrix)
        logits = part.patches(padded).view(pixels, inputs) @ matrix
        logits = logits.view(pixels, colours, VALUES).transpose(0, 1) * math.log(2.0)
        groups, entropies = _grouped(torch.softmax(logits, 2))
        # Shifted so that the sum over groups is 1 at the reference.
        shift = torch.logsumexp(logits, 2)
        self.constant -= float(shift.sum(dtype=torch.float64)) / math.log(2.0)
        constants = (entropies - shift[..., None]) / math.log(2.0)
        factors = torch.bmm(groups.flatten(1, 2), matrix.T.view(colours, VALUES, inputs))
        factors = factors.view(colours, high, wide, GROUPS, inputs).permute(1, 2, 0, 3, 4)
        upper, lower = factors.reshape(high, wide, colours * GROUPS, inputs).chunk(2, dim=3)
        constants = constants.view(colours, high, wide, GROUPS, 1).permute(1, 2, 0, 3, 4)
        constants = constants.reshape(high, wide, colours * GROUPS, 1)
        for row in range(high):
            self.rows.append(
                _Row(part.row + row, part.column, constants[row], upper[row], lower[row])
            )
        columns = values + VALUES * torch.arange(colours, device=values.device)
        own = matrix.T[columns].sum(2).view(1, high, wide, 4, -1)
        for index, window in enumerate(part.windows(self.wanted)):
            window += own[..., index, :]

    def __call__(self, h: Tensor) -> Tensor:
        """h (S, in, H/2, W/2) float32 to (S,) float64, nats."""
        padded = pad(h)
        total = self.constant + (padded.flatten(1) @ self.wanted.flatten()).double()
        for row in self.rows:
            pixels, _, inputs = row.upper.shape
            # Neighbouring pixels read overlapping inputs: a view, without a copy of the patches.
            size, strides = (pixels, inputs, len(h)), (padded.shape[3], 1, padded.stride(0))
            upper, lower = (
                padded[:, top, row.left].as_strided(size, strides) for top in (row.top, row.top + 1)
            )
            bits = torch.baddbmm(row.constants, row.upper, upper)
            bits.baddbmm_(row.lower, lower)
            sums = bits.exp2_().view(pixels * self.colours, GROUPS, len(h)).sum(1)
            # Beyond float32's range the largest number it has is a bound on the sum as well.
            sums.clamp_(max=torch.finfo(sums.dtype).max).log2_()
            total -= sums.sum(0, dtype=torch.float64)
        total = total.nan_to_num(math.inf, math.inf, -math.inf) * math.log(2.0)
        return total + (ROUNDING[0] + ROUNDING[1] * total.abs())


def _grouped(p: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the values in their groups, (…, GROUPS, 256), and their entropies, (…, GROUPS).

    p (…, 256): a distribution; -inf is the entropy of a group without a value.  A group takes a
    GROUPS-th of Σ √p: where p is high groups are narrow, but rare values are not thrown together.
    """
    root = torch.sqrt(p)
    place = (root.cumsum(-1) - 0.5 * root) / root.sum(-1, keepdim=True)
    index = (place * GROUPS).long().clamp_(0, GROUPS - 1)
    # Any shares give a bound; so none needs to be as small as to vanish.
    p = p + 1e-30
    empty = torch.zeros(*p.shape[:-1], GROUPS, dtype=p.dtype, device=p.device)
    mass = empty.scatter_add(-1, index, p)
    share = p / mass.gather(-1, index)
    entropy = empty.scatter_add(-1, index, torch.special.entr(share))
    spread = torch.zeros(*p.shape[:-1], GROUPS, VALUES, dtype=p.dtype, device=p.device)
    spread.scatter_(-2, index[..., None, :], share[..., None, :])
    return spread, entropy.masked_fill(mass == 0, -math.inf)


def log_sum_exp(ceilings: Tensor, weights: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """log Σ_s exp(w_s) of every image, short of it by LEFT_OUT nats at most; (B,) float64.

    ceilings (S, B) float64, w_s ≤ ceilings_s; `weights(draws, images)` gives w (n,) float64 of n
    pairs of indices.  What is computed for an image depends on its own column alone.
    """
    ordered, order = ceilings.nan_to_num(math.inf, math.inf, -math.inf).sort(0, descending=True)
    # rest[n]: what the draws behind the first n hold at most.
    rest = ordered.flip(0).logcumsumexp(0).flip(0)
    found = torch.full_like(ceilings, -math.inf)
    done = torch.zeros(ceilings.shape[1], dtype=torch.long, device=ceilings.device)
    place = torch.arange(len(ceilings), device=ceilings.device)[:, None]
    while True:
        total = torch.logsumexp(found, 0)
        needed = (rest > total + math.log(LEFT_OUT)).sum(0)
        upto = torch.minimum(needed, torch.where(done > 0, 2 * done, FIRST))
        ranks, images = ((place >= done) & (place < upto)).nonzero(as_tuple=True)
        if not len(ranks):
            return total
        found[ranks, images] = weights(order[ranks, images], images)
        done = torch.maximum(done, upto)

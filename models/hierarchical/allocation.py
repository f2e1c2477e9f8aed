"""Latent dimensions of a hierarchy from one budget: geometric sizes, rounded to keep the total.

Williamson, Ji, Dwyer 2025, arXiv 2506.10089: under a fixed budget the ratio r between the sizes of
adjacent layers has an optimum (stated).  d_l ∝ r^(l−1), l = 1 at the image, and the rounding are
ours, since the paper's formula could not be read.
"""

from __future__ import annotations

import math


def allocate(budget: int, ratio: float, layers: int) -> list[int]:
    """Sizes of the layers 1 … L, each at least 1, that sum to `budget`.

    Quotas q_l are rounded down to at least 1; missing units go one each to the layers with the
    largest q_l − d_l (a layer that was raised to 1 has had its unit), surplus ones come off the
    largest d_l − q_l above 1; ties take the lower layer.
    Σ (d_l − q_l)² is then the least there is.
    ValueError where there are fewer units than layers.
    """
    if budget < layers:
        raise ValueError(f"a budget of {budget} is less than one unit for each of {layers} layers")
    weights = [ratio**index for index in range(layers)]
    quotas = [budget * weight / math.fsum(weights) for weight in weights]
    # The 1e-9 keeps a quota that is whole but for rounding from losing a unit.
    dims = [max(1, math.floor(quota + 1e-9)) for quota in quotas]
    by_lack = sorted(range(layers), key=lambda index: (dims[index] - quotas[index], index))
    for index in by_lack[: max(0, budget - sum(dims))]:
        dims[index] += 1
    while sum(dims) > budget:
        shrinkable = [index for index in range(layers) if dims[index] > 1]
        dims[max(shrinkable, key=lambda index: (dims[index] - quotas[index], -index))] -= 1
    return dims

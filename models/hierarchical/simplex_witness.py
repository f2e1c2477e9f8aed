"""The simplex witness: a certificate that an encoder's mean is not constant, and its loss.

Zhang, Peng, Zhang, "A Simplex Witness Certificate for Constant Collapse in Variational
Autoencoders", arXiv 2605.18224.  A teacher gives every image a distribution T_x over K components;
the witness reads one from the mean μ(x) ∈ R^d of q(z|x), d ≥ K − 1:
    S(μ) = softmax_k(β v_k·μ),   v_1 … v_K the unit vertices of a regular simplex, never trained.
    I_T = E KL(T_x ‖ T̄),   T̄ = E T_x;     L_TS = E KL(T_x ‖ S(μ(x)));     G_T = I_T − L_TS.
Stated in the paper: the best constant prediction loses I_T, so that G_T > 0 certifies that μ is not
constant.  Derived: E KL(T_x ‖ c) = I_T + KL(T̄ ‖ c) for any constant c, which holds for whatever is
read from a constant μ, on the images over which the means are taken; G_T ≤ 0 proves nothing.

Everything here is in float64 and nats; images in rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Far above what rounding leaves of the sums in float64, far below any gap that means something.
ROUNDING = 1e-9


def simplex(components: int, units: int) -> Tensor:
    """(K, d): unit vertices with sum 0 and v_i·v_j = −1/(K − 1), in the first K − 1 coordinates.

    Any other placement is a rotation of this one.  ValueError where d < K − 1 or K < 2.
    """
    if components < 2 or units < components - 1:
        raise ValueError(
            f"a simplex witness of {components} components needs 2 or more of them and"
            f" {components - 1} units; there are {units}"
        )
    vertices = torch.zeros(components, units, dtype=torch.float64)
    for j in range(1, components):
        # Helmert's rows: orthonormal, and orthogonal to (1, …, 1).
        norm = math.sqrt(j * (j + 1))
        vertices[:j, j - 1] = 1.0 / norm
        vertices[j, j - 1] = -j / norm
    return vertices * math.sqrt(components / (components - 1))


def smoothed(responsibilities: Tensor, smoothing: float) -> Tensor:
    """(N, K): T = (1 − ε) r + ε/K, of full support where ε > 0."""
    count = responsibilities.shape[1]
    return (1.0 - smoothing) * responsibilities.double() + smoothing / count


def log_readout(mean: Tensor, vertices: Tensor, gain: float) -> Tensor:
    """log S(μ), (N, K), of means (N, d); `gain` is β."""
    return torch.log_softmax(gain * mean.to(vertices.dtype) @ vertices.T, dim=1)


def divergence(target: Tensor, log_prediction: Tensor) -> Tensor:
    """KL(T_x ‖ S), (N,), of distributions (N, K) with full support."""
    return (target * (target.log() - log_prediction)).sum(1)


def teacher_information(target: Tensor) -> float:
    """I_T = H(T̄) − E H(T_x), the mutual information of image and teacher label."""
    return float(divergence(target, target.mean(0, keepdim=True).log()).mean())


def centred_log_odds(target: Tensor) -> Tensor:
    """c_k = log T_k − mean_j log T_j, (N, K)."""
    logs = target.log()
    return logs - logs.mean(1, keepdim=True)


def minimum_code(target: Tensor, vertices: Tensor, gain: float) -> Tensor:
    """z*, (N, d): the shortest code with S(z*) = T, (K − 1)/(Kβ) Σ_k c_k v_k (derived)."""
    count = len(vertices)
    return (count - 1) / (count * gain) * centred_log_odds(target) @ vertices


def teacher_energy(target: Tensor) -> float:
    """E_T = E ‖c(x)‖²; the shortest exact code costs ½ E‖z*‖² = (K − 1)/(2Kβ²) E_T nats of KL."""
    return float((centred_log_odds(target) ** 2).sum(1).mean())


@dataclass(frozen=True)
class Certificate:
    """What a readout of a layer's mean says; nats.

    `information` I_T and `alignment` L_TS of the same images; `energy`: ½ E‖z*‖².
    """

    components: int
    information: float
    alignment: float
    energy: float

    @property
    def gap(self) -> float:
        """G_T = I_T − L_TS."""
        return self.information - self.alignment

    @property
    def certified(self) -> bool:
        """Whether the mean is certified not to be constant; False claims nothing.

        A gap within rounding of 0, as that of a constant mean can be, is none.
        """
        return self.gap > ROUNDING * max(1.0, self.information, self.alignment)


def certificate(target: Tensor, log_prediction: Tensor, gain: float) -> Certificate:
    """The certificate of teacher distributions and readouts (N, K) of the same N images."""
    count = target.shape[1]
    energy = (count - 1) / (2 * count * gain**2) * teacher_energy(target)
    alignment = float(divergence(target, log_prediction.double()).mean())
    return Certificate(count, teacher_information(target), alignment, energy)

"""Training objectives of hierarchical VAEs: ELBO with warm-up and free bits, informative loss.

Informative loss (LLRada paper, Eq. 10), to be maximised per image:
    (1/L) Σ_(k=0..L−1) LL>k − Σ_l KL_l,   LL>k = E_(q(z>k|x)) E_(p(z≤k|z>k)) log p(x|z1),
with the KLs of the k = 0 pass.  A layer l feeds the terms k < l, total weight l/L against a KL of
weight 1, so the upper layers cannot be ignored.  Cost: L decodes a step instead of one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from oodbench.models.hierarchical.config import FreeBits
from oodbench.models.hierarchical.ladder import Ladder
from oodbench.models.layers.noise import Noise


def warmup_weight(epoch: int, warmup_epochs: int) -> float:
    """β of the KL terms in `epoch` (from 1): min(1, epoch / warmup_epochs)."""
    return 1.0 if warmup_epochs == 0 else min(1.0, epoch / warmup_epochs)


def free_nats(epoch: int, settings: FreeBits) -> float:
    """The floor λ in `epoch` (from 1), nats: constant, then linear to 0 with both ends included."""
    past = epoch - settings.constant_epochs
    if past <= 0:
        return settings.nats
    if past >= settings.falling_epochs:
        return 0.0
    return settings.nats * (1.0 - (past - 1) / (settings.falling_epochs - 1))


def floored_kl(element: Tensor, floor: float, settings: FreeBits) -> Tensor:
    """(B,) or scalar: one latent's KL with its floor > 0; `element` (B, d, …) elementwise, nats.

    ``hvk``: Σ over elements of max(KL, λ/C), C = size of dimension 1, so that a conv latent gets
    λ at every pixel.  ``layer``: max(batch mean of the layer's KL, λ).
    """
    if settings.kind == "hvk":
        return element.clamp(min=floor / element.shape[1]).flatten(1).sum(1)
    return element.flatten(1).sum(1).mean().clamp(min=floor)


def objective_loss(
    model: Ladder, x: Tensor, noise: Noise, epoch: int, target: Tensor | None = None
) -> dict[str, Tensor]:
    """The loss that the model's configuration names, mean over the batch, nats per image.

    `target` (B, K): what the teacher of the model's witness says of the images, where it has one.
    Beside ``loss`` the means to log: ``elbo``, ``nll_k`` of every branch, ``kl_l`` of every layer,
    ``l_ts`` of a witness.
    """
    settings = model.config.objective
    informative = settings.kind == "informative"
    ks = tuple(range(model.layers)) if informative else (0,)
    monte_carlo = settings.free_bits is not None and settings.free_bits.kind == "hvk"
    out = model.branches(
        x, noise, ks, lower=settings.lower, kl="sample" if monte_carlo else "analytic"
    )
    kl = out.kl_layers()[0]
    floor = 0.0 if settings.free_bits is None else free_nats(epoch, settings.free_bits)
    if settings.free_bits is None or floor == 0:
        # No floor, not a floor at 0: elements of a single-sample KL are often negative.
        penalty = kl.sum(-1).mean()
    else:
        parts = [
            floored_kl(latent, floor, settings.free_bits)
            for i in range(model.layers)
            for latent in out.kl[0][i].chunk(model.stage(i).latents, dim=1)
        ]
        penalty = torch.stack([part.mean() for part in parts]).sum()
    reconstruction = out.nll.mean()
    penalty = warmup_weight(epoch, settings.warmup_epochs) * penalty
    witness: dict[str, Tensor] = {}
    if target is None:
        loss = reconstruction + penalty
    else:
        mean = out.posteriors[model.layers - 1].mean
        loss, witness = _witnessed(model, reconstruction, penalty, epoch, target, mean)
    logged = {"loss": loss, "elbo": -(out.nll[0] + kl.sum(-1)).mean().detach()}
    logged |= {f"nll_{k}": out.nll[i].mean().detach() for i, k in enumerate(ks)}
    logged |= {f"kl_{i + 1}": kl[:, i].mean().detach() for i in range(model.layers)}
    return logged | witness


def _witnessed(
    model: Ladder,
    reconstruction: Tensor,
    penalty: Tensor,
    epoch: int,
    target: Tensor,
    mean: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """NLL + α_KL KL + λ_TS L_TS, or the distance from the exact code while it is prefitted."""
    assert model.witness is not None
    settings = model.witness.settings
    alignment = model.witness.alignment(target, mean).mean()
    logged = {"l_ts": alignment.detach()}
    if epoch <= settings.prefit_epochs:
        return model.witness.distance(target, mean).mean(), logged
    return reconstruction + settings.kl_weight * penalty + settings.weight * alignment, logged


def bits_per_dim(nats: float, dims: int) -> float:
    """nats per image as bits per dimension: nats / (D ln 2), for a negative log-likelihood."""
    return nats / (dims * math.log(2.0))

"""Diagnostics of posterior collapse, layer by layer, of any model with an encoder mean.

Of a layer z_l with q(z_l|x) = N(μ(x), σ²(x)), over N images:
    KL_l, NLL_k, L>k  as in `oodbench.models.layers.branches`, one sample of z>k and z≤k at their
                      modes (so that L>k is no bound on log p(x), but for k = 0);
    active units      Var_x μ_j(x) > 0.01 (the criterion of Burda et al. 2016, arXiv 1509.00519);
    I_q(x; z_l)       mean of log q(z_n|x_n) − log 1/N Σ_m q(z_n|x_m), z_n ~ q(z_l|x_n).  Biased
                      downwards: its expectation is at most I_q, and it never exceeds log N;
    certificate       I_T, L_TS, G_T (`oodbench.models.hierarchical.simplex_witness`), by two
    readouts of the mean.
The published readout is the fixed simplex: on a model that was not trained with it the simplex
points anywhere, so that G_T < 0 is the rule and says nothing.  The fitted readout is ours: G_T ≤ 0
for every function of a constant mean, so also for softmax(Aμ + b) with A and b learned from
training images; G_T is then taken on other images.

For μ, σ, active units, I_q and the certificate every latent that q is conditioned on is at its
mean.  A teacher of K components needs K − 1 units: K is 10, or units + 1 where there are fewer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from oodbench.models.hierarchical.config import TeacherSettings, WitnessSettings
from oodbench.models.hierarchical.simplex_witness import Certificate, certificate
from oodbench.models.hierarchical.witness_teacher import Teacher, Witness
from oodbench.models.layers.branches import Branches
from oodbench.models.layers.gaussian import Gaussian
from oodbench.models.layers.noise import Noise

ACTIVE = 0.01
BATCH = 100
#: Penalty on ½‖A‖² of the fitted readout, nats: a mean that hardly moves must gain hardly anything.
PENALTY = 0.01
Row: TypeAlias = "dict[str, float | int | bool]"


class Encoding(Protocol):
    """What a model with an encoder mean offers."""

    def posteriors(self, images: Tensor, noise: Noise) -> list[Gaussian]:
        """q(z_l|·), l = 1 … L, mean and scale (B, units), of uint8 images (B, C, H, W)."""
        ...

    def all_branches(self, images: Tensor, noise: Noise) -> Branches:
        """NLL_k and the KL terms of every branch k = 0 … L − 1."""
        ...


@dataclass(frozen=True)
class Sample:
    """uint8 `images` (N, C, H, W) and where the draws of some of them come from."""

    images: Tensor
    noise: Callable[[slice], Noise]

    def batches(self) -> list[tuple[Tensor, Noise]]:
        """The images in batches, with their noise."""
        cuts = [slice(i, i + BATCH) for i in range(0, len(self.images), BATCH)]
        return [(self.images[cut], self.noise(cut)) for cut in cuts]


def active_units(mean: Tensor) -> int:
    """How many of the units of (N, units) have a mean of variance above 0.01 over the images."""
    return int((mean.double().var(0, correction=0) > ACTIVE).sum())


def information(q: Gaussian, z: Tensor) -> float:
    """The estimate of I_q(x; z), nats, from q(z|x_n) and z_n ~ q(z|x_n), all (N, units)."""
    mean, scale, z = q.mean.double(), q.scale.double(), z.double()
    precision = scale**-2
    offset = 0.5 * (mean**2 * precision).sum(1) + scale.log().sum(1)
    total = 0.0
    for start in range(0, len(z), BATCH):
        part = z[start : start + BATCH]
        log_q = part @ (mean * precision).T - 0.5 * part**2 @ precision.T - offset
        own = log_q.diagonal(start)
        total += float((own - torch.logsumexp(log_q, dim=1)).sum())
    return total / len(z) + math.log(len(z))


def fit_readout(mean: Tensor, target: Tensor) -> Callable[[Tensor], Tensor]:
    """log softmax(Aμ + b) of least E KL(T_x ‖ ·) + PENALTY ½‖A‖² on (N, units) and (N, K).

    The problem is convex; L-BFGS from A = 0, b = log T̄.
    """
    mean, target = mean.double(), target.double()
    weight = torch.zeros(target.shape[1], mean.shape[1], dtype=torch.float64, requires_grad=True)
    bias = target.mean(0).log().clone().requires_grad_()
    centre = mean.mean(0)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        log_prediction = torch.log_softmax((mean - centre) @ weight.T + bias, dim=1)
        value = -(target * log_prediction).sum(1).mean() + 0.5 * PENALTY * (weight**2).sum()
        torch.autograd.backward(value)
        return value

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    a, b = weight.detach(), bias.detach()
    return lambda new: torch.log_softmax((new.double() - centre) @ a.T + b, dim=1)


@dataclass
class _Teachers:
    """T_x of both samples by number of components, each teacher fitted once."""

    test: Sample
    train: Sample
    seed: int
    known: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def targets(self, components: int) -> tuple[Tensor, Tensor]:
        """(N, K) of the test and of the training images."""
        if components not in self.known:
            settings = TeacherSettings(components=components)
            teacher = Teacher(settings, self._shape())
            teacher.fit(self.train.images, self.seed)
            self.known[components] = teacher(self.test.images), teacher(self.train.images)
        return self.known[components]

    def _shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.test.images.shape
        return channels, height, width


class LayerDiagnosis:
    """What `oodbench diagnose` asks of every model; `revision` is part of the key of a result."""

    revision = 2

    @staticmethod
    def applies(model: torch.nn.Module) -> bool:
        """Whether the model has an encoder mean."""
        return all(hasattr(model, name) for name in ("posteriors", "all_branches"))

    @torch.no_grad()
    def run(
        self,
        model: Encoding,
        test: tuple[Tensor, Callable[[slice], Noise]],
        train: tuple[Tensor, Callable[[slice], Noise]],
        seed: int,
    ) -> list[Row]:
        """One row per layer, nats and bits/dim; `test` is diagnosed, `train` teaches.

        Both are uint8 images (N, C, H, W) and the noise of a slice of them.
        """
        samples = Sample(*test), Sample(*train)
        nll, kl, bound, drawn = _terms(model, samples[0])
        means = [q.mean for q in _posteriors(model, samples[1])]
        teachers = _Teachers(*samples, seed)
        own: Witness | None = getattr(model, "witness", None)
        bits = math.prod(samples[0].images.shape[1:]) * math.log(2.0)
        rows = []
        for index, (q, z) in enumerate(drawn):
            top = index == len(drawn) - 1
            rows.append(
                {
                    "layer": index + 1,
                    "units": q.mean.shape[1],
                    "kl_nats": float(kl[:, 0, index].mean()),
                    "active_units": active_units(q.mean),
                    "information_nats": information(q, z),
                    "information_limit_nats": math.log(len(z)),
                    "nll_bits_per_dim": float(nll[:, index].mean()) / bits,
                    "bound_bits_per_dim": -float(bound[:, index].mean()) / bits,
                    "E_mu_sq": float((q.mean.double() ** 2).sum(1).mean()),
                }
                | _certificates(q.mean, means[index], teachers, own if top else None)
            )
        return rows


def _certificates(
    mean: Tensor, train_mean: Tensor, teachers: _Teachers, own: Witness | None
) -> Row:
    """Columns of both readouts; the model's own witness is used where it was trained with one."""
    units = mean.shape[1]
    if own is None:
        components = min(TeacherSettings().components, units + 1)
        settings = WitnessSettings(teacher=TeacherSettings(components=components))
        _, *shape = teachers.test.images.shape
        witness = Witness(settings, (shape[0], shape[1], shape[2]), units)
        target, train_target = teachers.targets(components)
    else:
        witness = own
        target, train_target = (own.teacher(s.images) for s in (teachers.test, teachers.train))
    fixed = witness.certify(target, mean)
    readout = fit_readout(train_mean, train_target)
    fitted: Certificate = certificate(target, readout(mean), witness.settings.gain)
    return {
        "K": fixed.components,
        "I_T_nats": fixed.information,
        "L_TS_nats": fixed.alignment,
        "G_T_nats": fixed.gap,
        "certified": fixed.certified,
        "fitted_L_TS_nats": fitted.alignment,
        "fitted_G_T_nats": fitted.gap,
        "fitted_certified": fitted.certified,
        "code_energy_nats": fixed.energy,
        "own_witness": own is not None,
    }


def _terms(
    model: Encoding, sample: Sample
) -> tuple[Tensor, Tensor, Tensor, list[tuple[Gaussian, Tensor]]]:
    """NLL_k (N, L), KL (N, L, L), L>k (N, L), and per layer q at the means with a draw from it."""
    nll, kl, bound = [], [], []
    for images, noise in sample.batches():
        out = model.all_branches(images, noise)
        nll.append(out.nll.T)
        kl.append(out.kl_layers().transpose(0, 1))
        bound.append(out.elbo().T)
    noise = sample.noise(slice(None)).scope("information")
    drawn = []
    for number, q in enumerate(_posteriors(model, sample), start=1):
        eps = noise.normal(f"z{number}", tuple(q.mean.shape[1:]))
        drawn.append((q, q.mean + q.scale * eps))
    return torch.cat(nll), torch.cat(kl), torch.cat(bound), drawn


def _posteriors(model: Encoding, sample: Sample) -> list[Gaussian]:
    """q of every layer over all images, at the means."""
    found = [model.posteriors(images, noise) for images, noise in sample.batches()]
    return [
        Gaussian(torch.cat([q.mean for q in layer]), torch.cat([q.scale for q in layer]))
        for layer in zip(*found, strict=True)
    ]

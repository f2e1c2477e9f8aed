"""One pass down a hierarchical VAE, with the branches of the partial bounds as batch rows.

Branch k takes z>k from q and z≤k from p.  Branches share a row of features until they part, so
that a layer costs one decode of as many rows as there are different histories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oodbench.models.hierarchical.blocks import Expand
from oodbench.models.hierarchical.ladder import Draw, Encoding, Inferred, KLForm, Ladder, Slot
from oodbench.models.layers.gaussian import Gaussian, kl_analytic, kl_sample, standard
from oodbench.models.layers.noise import Noise


@dataclass(frozen=True)
class Level:
    """One layer of the pass, before its blocks are run.

    `prior` and `above` (the features d_(l+1), None at the top) have a row for every row of the
    layer above; `inferred`, `z` and the elementwise `kl` of what was inferred one for every slot;
    `row[i]` is the slot of branch i.
    """

    index: int
    slots: list[Slot]
    row: list[int]
    prior: list[Gaussian]
    above: Tensor | None
    inferred: list[Inferred | None]
    z: list[Tensor]
    kl: list[Tensor | None]


class Descent:
    """The state of a pass: call `draw` and `generate` for every layer, from the top down.

    Without an `encoding` everything comes from the prior.  z≤k is drawn from p by sampling or as
    p's mean (`lower`).  ``kl="analytic"`` takes the closed form of the KL wherever it is right (see
    `Ladder.drawn_before`).
    """

    def __init__(
        self,
        model: Ladder,
        encoding: Encoding | None,
        ks: Sequence[int],
        noise: Noise,
        batch: int,
        lower: Draw,
        kl: KLForm = "sample",
    ) -> None:
        self.model, self.encoding, self.ks, self.noise = model, encoding, ks, noise
        self.batch, self.lower, self.kl = batch, lower, kl
        self.row = [0] * len(ks)
        self.features: Tensor | None = None
        self.aux: list[Tensor] = []

    def draw(self, index: int) -> Level:
        """z of layer index + 1 in every slot."""
        model, features = self.model, self.features
        if features is None:
            like = model.likelihood.layer.bias
            prior = [standard((self.batch, *model.stage(index).latent), like)]
        else:
            prior = split(model.stage(index).prior(features), self.batch)
        slots, row = self._slots(index)
        given = [slot for slot in slots if slot.inferred]
        found = iter(self._infer(index, given))
        level = Level(index, slots, row, prior, features, [], [], [])
        for slot in slots:
            have = next(found) if slot.inferred else None
            p = prior[slot.row]
            level.inferred.append(have)
            level.z.append(self._from_prior(index, slot, p) if have is None else have.z)
            level.kl.append(None if have is None else self._divergence(index, have, p))
        return level

    def generate(self, level: Level) -> None:
        """Run the blocks of a layer on what was drawn."""
        expand = expander([slot.row for slot in level.slots], len(level.prior), self.batch)
        stage = self.model.stage(level.index)
        self.features, self.aux = stage.generate(stack(level.z), self.aux, expand)
        self.row = level.row

    def _slots(self, index: int) -> tuple[list[Slot], list[int]]:
        slots: dict[tuple[int, tuple[int, ...] | None], Slot] = {}
        row = []
        for branch, (above, k) in enumerate(zip(self.row, self.ks, strict=True)):
            have = self.encoding is not None and index >= k
            key = (above, self.encoding.identity(index, branch) if self.encoding and have else None)
            slots.setdefault(key, Slot(branch, above, have))
            row.append(list(slots).index(key))
        return list(slots.values()), row

    def _infer(self, index: int, slots: list[Slot]) -> list[Inferred]:
        if not slots:
            return []
        assert self.encoding is not None
        return self.model.infer(index, self.encoding, slots, self.features, self.noise)

    def _divergence(self, index: int, inferred: Inferred, p: Gaussian) -> Tensor:
        """KL of the layer per element, in closed form for the channels drawn after z>l."""
        q, z = inferred
        first = self.model.drawn_before(index) if self.kl == "analytic" else z.shape[1]
        if first == 0:
            return kl_analytic(q, p)
        if first == z.shape[1]:
            return kl_sample(z, q, p)
        early = [Gaussian(g.mean[:, :first], g.scale[:, :first]) for g in (q, p)]
        late = [Gaussian(g.mean[:, first:], g.scale[:, first:]) for g in (q, p)]
        return torch.cat([kl_sample(z[:, :first], *early), kl_analytic(*late)], dim=1)

    def _from_prior(self, index: int, slot: Slot, p: Gaussian) -> Tensor:
        if self.lower == "mode":
            return p.mean
        name = f"p{index + 1}/k{self.ks[slot.branch]}"
        return p.mean + p.scale * self.noise.normal(name, tuple(p.mean.shape[1:]))


def draw_up(
    q: Sequence[Gaussian],
    row: Sequence[int],
    eps: Tensor,
    as_mean: Sequence[bool],
) -> tuple[list[Tensor], list[int], list[int]]:
    """Draws from the rows `q` on the way up, where branch i stands on row[i].

    Branch i passes its mean on where as_mean[i], else a sample by `eps`.  Returns the draws of the
    new rows, the old row of each, and the new row of every branch.
    """
    wanted = list(zip(row, as_mean, strict=True))
    slots = list(dict.fromkeys(wanted))
    z = [q[r].mean if mean else q[r].mean + q[r].scale * eps for r, mean in slots]
    return z, [r for r, _ in slots], [slots.index(w) for w in wanted]


def split(stacked: Gaussian, batch: int) -> list[Gaussian]:
    """The rows of a stacked Gaussian."""
    pairs = zip(*(torch.split(t, batch) for t in stacked), strict=True)
    return [Gaussian(*pair) for pair in pairs]


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Rows one under the other."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def expander(histories: Sequence[int], rows: int, batch: int) -> Expand | None:
    """Repeat the rows of a stacked tensor so that slot j goes on from row histories[j]."""
    if list(histories) == list(range(rows)):
        return None

    def expand(stacked: Tensor) -> Tensor:
        parts = torch.split(stacked, batch)
        return torch.cat([parts[r] for r in histories])

    return expand

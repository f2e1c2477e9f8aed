"""BIVA: parameter counts of two public codes, and its partial bound spelled out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from oodbench.models.hierarchical.biva import BIVA
from oodbench.models.hierarchical.config import BIVAConfig
from oodbench.models.layers.gaussian import Gaussian

GREY = [(64, 5, 2), (64, 3, 2), (64, 3, 1)]


def config(
    stages: list[tuple[int, int, int]], latents: list[str], likelihood: str, **more: object
) -> BIVAConfig:
    blocks = more.pop("blocks", 3)
    layers = [
        {"stage": {"kind": "conv", "channels": c, "kernel": k, "stride": s, "blocks": blocks},
         "latent": z}
        for (c, k, s), z in zip(stages, latents, strict=True)
    ]  # fmt: skip
    settings = {"layers": layers, "likelihood": {"kind": likelihood}, **more}
    return BIVAConfig.model_validate(settings)


def count(settings: BIVAConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in settings.build((1, 28, 28)).parameters())


# Counts of hvae-oodd, measured by instantiating it (Bernoulli head).
@pytest.mark.parametrize(
    ("stages", "latents", "published"),
    [
        (GREY, ["c8", "d16", "d8"], 4_383_842),
        (GREY, ["c16", "d8", "d4"], 4_137_298),
        ([*GREY, (64, 3, 1), (64, 3, 1)], ["c32", "d24", "d16", "d8", "d4"], 7_156_946),
    ],
)
def test_parameter_count_of_hvae_oodd(
    stages: list[tuple[int, int, int]], latents: list[str], published: int
) -> None:
    """Its generative skips are all inactive, and of the BU skips only the top stage's is built."""
    settings = config(stages, latents, "bernoulli", merge="published", inference_skips="drop",
                      generative_skips="none")  # fmt: skip
    one_skip = 128 * 64 + 64 + 64
    assert count(settings) == published + (len(stages) - 2) * 3 * one_skip


def test_parameter_count_of_biva_pytorch() -> None:
    """Its model of MNIST, measured by instantiating it.

    It merges with 3×3 kernels in every stage and has a 1×1 head; here the merge has the kernel of
    its stage, 5×5 in the first one, and the head is 3×3.
    """
    stages = [(64, 5, 2), (64, 3, 1), (64, 3, 1), (64, 3, 1), (64, 3, 1), (64, 3, 2)]
    latents = ["d48", "d40", "d32", "d24", "d16", "d8"]
    settings = config(stages, latents, "bernoulli", gated=True, dropout=0.5, activation="elu")
    wider_merge = (25 - 9) * (64 * 64 + 64 * 128)
    wider_head = (9 - 1) * 64
    assert count(settings) == 31_550_946 + wider_merge + wider_head


class Pass:
    """Two layers without skips on the way down, walked by the stages' own methods."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        settings = config([(6, 3, 2), (6, 3, 2)], ["c4", "d3"], "logistic", blocks=1,
                          generative_skips="none")  # fmt: skip
        self.model = settings.build((1, 8, 8))
        self.model.initialise(torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8))
        self.x = torch.rand(5, 1, 8, 8)

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        seed = int.from_bytes(name.encode()[-7:], "big")
        return torch.randn(5, *shape, generator=torch.Generator().manual_seed(seed))

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.rand(5, *shape)

    def scope(self, name: str) -> Pass:
        return self

    def draw(self, q: Gaussian, name: str) -> torch.Tensor:
        return q.mean + q.scale * self.normal(name, tuple(q.mean.shape[1:]))


def total(element: torch.Tensor) -> torch.Tensor:
    return element.flatten(1).sum(1).double()


def halves(p: Gaussian) -> tuple[Normal, Normal]:
    means, scales = p.mean.chunk(2, dim=1), p.scale.chunk(2, dim=1)
    return Normal(means[0], scales[0]), Normal(means[1], scales[1])


@pytest.mark.parametrize("form", ["sample", "analytic"])
def test_full_pass_by_hand(form: str) -> None:
    """z1_bu on the way up, z2 from both paths, z1_td from the merge; three KLs count."""
    by = Pass()
    low, top = by.model.stage(0), by.model.stage(1)
    with torch.no_grad():
        bu1, td1 = low.ascend(by.x, by.x, None)
        q_bu = low.infer_up(bu1)
        z_bu = by.draw(q_bu, "z1/bu")
        bu2, td2 = top.ascend(low.project_up(z_bu), td1, torch.cat([bu1, td1], 1))
        q2 = top.infer(torch.cat([bu2, td2], 1), None)
        z2 = by.draw(q2, "z2")
        d2, _ = top.generate(z2, [], None)
        q_td = low.infer(td1, d2)
        z_td = by.draw(q_td, "z1")
        p_bu, p_td = halves(low.prior(d2))
        d1, _ = low.generate(torch.cat([z_bu, z_td], 1), [], None)
        nll = -by.model.likelihood.log_prob(by.model.likelihood(d1), by.x)
        kl_bu = total(Normal(*q_bu).log_prob(z_bu) - p_bu.log_prob(z_bu))
        if form == "sample":
            kl_td = total(Normal(*q_td).log_prob(z_td) - p_td.log_prob(z_td))
            kl2 = total(Normal(*q2).log_prob(z2) - Normal(0, 1).log_prob(z2))
        else:
            kl_td = total(kl_divergence(Normal(*q_td), p_td))
            kl2 = total(kl_divergence(Normal(*q2), Normal(0, 1)))
        out = by.model.branches(by.x, by, kl=form)  # type: ignore[arg-type]
    torch.testing.assert_close(out.nll[0], nll)
    kl = torch.stack([kl_bu + kl_td, kl2], dim=-1)
    torch.testing.assert_close(out.kl_layers()[0], kl, rtol=1e-4, atol=1e-4)
    means = torch.cat([q_bu.mean.flatten(1), q_td.mean.flatten(1)], dim=1)
    torch.testing.assert_close(out.means[0], means)


@pytest.mark.parametrize("encoder_lower", ["mode", "sample"])
def test_a_skipped_stage_draws_both_latents_from_the_prior(encoder_lower: str) -> None:
    """L>1: z1_bu still goes up, as its mean or a sample, and has no part in what comes down."""
    by = Pass()
    low, top = by.model.stage(0), by.model.stage(1)
    with torch.no_grad():
        bu1, td1 = low.ascend(by.x, by.x, None)
        q_bu = low.infer_up(bu1)
        z_bu = q_bu.mean if encoder_lower == "mode" else by.draw(q_bu, "z1/bu")
        bu2, td2 = top.ascend(low.project_up(z_bu), td1, torch.cat([bu1, td1], 1))
        q2 = top.infer(torch.cat([bu2, td2], 1), None)
        z2 = by.draw(q2, "z2")
        d2, _ = top.generate(z2, [], None)
        prior = low.prior(d2)
        d1, _ = low.generate(prior.mean, [], None)
        nll = -by.model.likelihood.log_prob(by.model.likelihood(d1), by.x)
        kl2 = total(Normal(*q2).log_prob(z2) - Normal(0, 1).log_prob(z2))
        p_td = halves(prior)[1]
        reverse = total(kl_divergence(p_td, Normal(*low.infer(td1, d2))))
        out = by.model.branches(by.x, by, (0, 1), lower="mode", reverse_kl=True,
                                encoder_lower=encoder_lower)  # type: ignore[arg-type]  # fmt: skip
    torch.testing.assert_close(out.nll[1], nll)
    torch.testing.assert_close(out.kl_layers()[1, :, 1], kl2, rtol=1e-4, atol=1e-4)
    assert (out.kl_layers()[1, :, 0] == 0).all()
    assert out.reverse_kl is not None
    torch.testing.assert_close(out.reverse_kl[1], reverse, rtol=1e-4, atol=1e-4)


def test_two_latents_in_every_stage_but_the_top() -> None:
    model = config(GREY, ["c4", "d3", "d2"], "bernoulli", blocks=1).build((1, 28, 28))
    assert isinstance(model, BIVA)
    assert [model.stage(i).latents for i in range(3)] == [2, 2, 1]
    assert [math.prod(model.stage(i).latent) for i in range(3)] == [2 * 4 * 14 * 14, 6, 2]

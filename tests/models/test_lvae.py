"""The ladder VAE: the published parameter counts, and its bounds spelled out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from oodbench.models.hierarchical.config import LVAEConfig
from oodbench.models.layers.gaussian import Gaussian
from oodbench.models.layers.noise import FreshNoise

GREY = [(64, 5, 2), (64, 3, 2), (64, 3, 1)]
RGB = [(256, 5, 2), (256, 3, 2), (256, 3, 2)]
PUBLISHED = {"merge": "published", "inference_skips": "drop", "generative_skips": "drop"}


def config(
    stages: list[tuple[int, int, int]], latents: list[str], likelihood: str, **more: object
) -> LVAEConfig:
    blocks = more.pop("blocks", 3)
    layers = [
        {"stage": {"kind": "conv", "channels": c, "kernel": k, "stride": s, "blocks": blocks},
         "latent": z}
        for (c, k, s), z in zip(stages, latents, strict=True)
    ]  # fmt: skip
    settings = {"layers": layers, "likelihood": {"kind": likelihood}, **more}
    return LVAEConfig.model_validate(settings)


# The first count is that of the public code, measured by instantiating it (Bernoulli head on grey
# images); the second has a 1×1 convolution for every auxiliary input that it drops.
@pytest.mark.parametrize(
    ("stages", "latents", "likelihood", "shape", "published", "conv1x1"),
    [
        (GREY, ["c8", "d16", "d8"], "bernoulli", (1, 28, 28), 2_917_730, 2_959_970),
        (GREY, ["c16", "d8", "d4"], "bernoulli", (1, 28, 28), 2_785_874, 2_828_114),
        ([*GREY, (64, 3, 1), (64, 3, 1)], ["c32", "d24", "d16", "d8", "d4"], "bernoulli",
         (1, 28, 28), 4_524_306, 4_625_682),
        (RGB, ["c128", "c64", "d32"], "logistic-mixture", (3, 32, 32), 43_250_248, 43_910_728),
    ],
)  # fmt: skip
def test_published_parameter_counts(
    stages: list[tuple[int, int, int]],
    latents: list[str],
    likelihood: str,
    shape: tuple[int, int, int],
    published: int,
    conv1x1: int,
) -> None:
    counts = []
    with torch.device("meta"):
        for more in (PUBLISHED, {}):
            model = config(stages, latents, likelihood, **more).build(shape)
            counts.append(sum(p.numel() for p in model.parameters()))
    assert counts == [published, conv1x1]


class Pass:
    """Three layers without skips, walked by the stages' own methods with fixed noise."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        stages = [(6, 3, 2), (6, 3, 2), (6, 3, 1)]
        settings = config(stages, ["c4", "d3", "d2"], "logistic", blocks=1, generative_skips="none")
        self.model = settings.build((1, 8, 8))
        self.model.initialise(torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8))
        self.x = torch.rand(5, 1, 8, 8)
        self.h, below = [], self.x
        for stage in self.model.stages:
            below = stage.ascend(below)
            self.h.append(below)

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        seed = int.from_bytes(name.encode()[-7:], "big")
        return torch.randn(5, *shape, generator=torch.Generator().manual_seed(seed))

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.rand(5, *shape)

    def scope(self, name: str) -> Pass:
        return self

    def draw(self, q: Gaussian, name: str) -> torch.Tensor:
        return q.mean + q.scale * self.normal(name, tuple(q.mean.shape[1:]))

    def down(self, index: int, z: torch.Tensor) -> torch.Tensor:
        return self.model.stage(index).generate(z, [], None)[0]


def total(element: torch.Tensor) -> torch.Tensor:
    return element.flatten(1).sum(1).double()


def test_partial_pass_by_hand() -> None:
    """L>1: z3 and z2 from q on the way down, z1 at the mean of p."""
    by = Pass()
    stages = [by.model.stage(i) for i in range(3)]
    with torch.no_grad():
        q3 = stages[2].infer(by.h[2], None)
        z3 = by.draw(q3, "z3")
        d3 = by.down(2, z3)
        q2, p2 = stages[1].infer(by.h[1], d3), stages[1].prior(d3)
        z2 = by.draw(q2, "z2")
        z1 = stages[0].prior(by.down(1, z2)).mean
        nll = -by.model.likelihood.log_prob(by.model.likelihood(by.down(0, z1)), by.x)
        kl3 = total(Normal(*q3).log_prob(z3) - Normal(0, 1).log_prob(z3))
        kl2 = total(Normal(*q2).log_prob(z2) - Normal(*p2).log_prob(z2))
        exact = total(kl_divergence(Normal(*q2), Normal(*p2)))
        out = by.model.branches(by.x, by, (1,), lower="mode")
        analytic = by.model.branches(by.x, by, (1,), lower="mode", kl="analytic")
    torch.testing.assert_close(out.nll[0], nll)
    kl = torch.stack([torch.zeros_like(kl2), kl2, kl3], dim=-1)
    torch.testing.assert_close(out.kl_layers()[0], kl, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(analytic.kl_layers()[0, :, 1], exact, rtol=1e-4, atol=1e-4)


def test_reverse_kl_by_hand() -> None:
    """KL>2: z3 from q, z2 from p, and KL(p ‖ q) of the layers 2 and 1 given what is above."""
    by = Pass()
    stages = [by.model.stage(i) for i in range(3)]
    with torch.no_grad():
        d3 = by.down(2, by.draw(stages[2].infer(by.h[2], None), "z3"))
        p2, q2 = stages[1].prior(d3), stages[1].infer(by.h[1], d3)
        d2 = by.down(1, by.draw(p2, "p2/k2"))
        p1, q1 = stages[0].prior(d2), stages[0].infer(by.h[0], d2)
        expected = total(kl_divergence(Normal(*p2), Normal(*q2)))
        expected += total(kl_divergence(Normal(*p1), Normal(*q1)))
        out = by.model.branches(by.x, by, (0, 1, 2), lower="mode", reverse_kl=True)
    assert out.reverse_kl is not None
    torch.testing.assert_close(out.reverse_kl[2], expected, rtol=1e-4, atol=1e-4)
    assert (out.reverse_kl[0] == 0).all()


def test_nothing_is_drawn_on_the_way_up() -> None:
    """Every branch has the very same features, whatever `encoder_lower` says."""
    by = Pass()
    before = torch.get_rng_state()
    encoding = by.model.encode(by.x, FreshNoise(5), (0, 1), "mode")
    assert torch.equal(before, torch.get_rng_state())
    assert all(branches[0] is branches[1] for branches in encoding.h)
    torch.testing.assert_close([branches[0] for branches in encoding.h], by.h)

"""What must hold of both models that infer on the way down, the LVAE and BIVA."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from oodbench.models.hierarchical.blocks import ParameterLayer
from oodbench.models.hierarchical.config import BIVAConfig, LVAEConfig, TopDownConfig
from oodbench.models.hierarchical.top_down_inference import TopDownModel
from oodbench.models.layers.gaussian import Gaussian
from oodbench.models.layers.noise import FreshNoise
from oodbench.seeding import KeyedNoise

MODELS: dict[str, type[TopDownConfig]] = {"lvae": LVAEConfig, "biva": BIVAConfig}
both = pytest.mark.parametrize("name", list(MODELS))


def conv(channels: int, kernel: int, stride: int, blocks: int = 1, **more: object) -> object:
    return {"kind": "conv", "channels": channels, "kernel": kernel, "stride": stride,
            "blocks": blocks, **more}  # fmt: skip


def build(
    name: str,
    stages: list[object],
    latents: list[str],
    shape: tuple[int, int, int],
    likelihood: str = "logistic",
    spread: float = 0.3,
    **more: object,
) -> TopDownModel:
    """An initialised model of a fixed seed.

    The parameters of its Gaussians have the standard deviation `spread`, so that means converge.
    """
    layers = [{"stage": s, "latent": z} for s, z in zip(stages, latents, strict=True)]
    settings = {"layers": layers, "likelihood": {"kind": likelihood}, **more}
    torch.manual_seed(0)
    model = MODELS[name].model_validate(settings).build(shape)  # type: ignore[attr-defined]
    assert isinstance(model, TopDownModel)
    model.initialise(images(16, shape))
    for layer in model.modules():
        if isinstance(layer, ParameterLayer) and layer.layer.g is not None:
            layer.layer.g.data.mul_(spread)
            layer.layer.bias.data.mul_(spread)
    return model.eval()


def small(name: str, **more: object) -> TopDownModel:
    stages = [conv(6, 5, 2, 2), conv(6, 3, 2, 2, downsample="first"), conv(6, 3, 1)]
    return build(name, stages, ["c4", "d5", "d3"], (1, 12, 12), **more)  # type: ignore[arg-type]


def tiny(name: str) -> TopDownModel:
    """p(x) over the 16 binary images of 2×2 pixels, by 2 layers of one or two units."""
    stages = [conv(3, 3, 1), conv(3, 3, 2)]
    return build(name, stages, ["d1", "d1"], (1, 2, 2), "bernoulli", activation="elu")


def images(n: int, shape: tuple[int, int, int] = (1, 12, 12)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)


class NamedNoise:
    """The same name always gives the same draw; names in `other` give another one."""

    def __init__(self, n: int, *other: str) -> None:
        self.n, self.other = n, other

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        seed = int.from_bytes(name.encode()[-7:], "big") + (name in self.other)
        return torch.randn(self.n, *shape, generator=torch.Generator().manual_seed(seed))

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.rand(self.n, *shape)

    def scope(self, name: str) -> NamedNoise:
        return self


def posteriors(model: TopDownModel, noise: NamedNoise) -> dict[int, Gaussian]:
    x = images(4).float() / 255
    with torch.no_grad():
        return model.decode(model.encode(x, noise), (0,), noise, 4)[2]


@both
@pytest.mark.parametrize("replaced", [2, 3])
def test_the_posterior_moves_with_the_latents_above(name: str, replaced: int) -> None:
    """With another z_(l+1) every q(z_l|z>l, x) below is another; the layers above stay."""
    model = small(name)
    one = posteriors(model, NamedNoise(4))
    two = posteriors(model, NamedNoise(4, f"z{replaced}"))
    for layer in (1, 2, 3):
        moved = (one[layer - 1].mean - two[layer - 1].mean).abs().max()
        assert moved > 1e-3 if layer < replaced else moved == 0


@both
def test_the_published_merge_is_mean_field(name: str) -> None:
    """hvae-oodd drops the features from above where they have the shape of h_l: q stays."""
    model = small(name, merge="published")
    one = posteriors(model, NamedNoise(4))
    two = posteriors(model, NamedNoise(4, "z3", "z2"))
    for q, other in zip(one.values(), two.values(), strict=True):
        assert torch.equal(q.mean, other.mean)
        assert torch.equal(q.scale, other.scale)


@both
@pytest.mark.parametrize("lower", ["mode", "sample"])
@pytest.mark.parametrize("encoder_lower", ["mode", "sample"])
def test_one_batched_pass_equals_separate_passes(name: str, lower: str, encoder_lower: str) -> None:
    model = small(name)
    x, noise = images(7).float() / 255, NamedNoise(7)
    options = {"lower": lower, "encoder_lower": encoder_lower, "reverse_kl": True}
    with torch.no_grad():
        together = model.branches(x, noise, (0, 1, 2), **options)  # type: ignore[arg-type]
        assert together.reverse_kl is not None
        for k in (0, 1, 2):
            alone = model.branches(x, noise, (k,), **options)  # type: ignore[arg-type]
            assert alone.reverse_kl is not None
            torch.testing.assert_close(together.nll[k], alone.nll[0], rtol=1e-5, atol=1e-3)
            for a, b in (
                (together.kl_layers()[k], alone.kl_layers()[0]),
                (together.reverse_kl[k], alone.reverse_kl[0]),
            ):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            assert (alone.kl_layers()[0, :, :k] == 0).all()
            assert sorted(alone.kl[0]) == list(range(k, 3))
            assert (alone.reverse_kl.min() > 0) == (k > 0)


@both
def test_the_bound_of_the_lowest_branch_is_the_elbo(name: str) -> None:
    model, pictures = small(name), images(5)
    noise = KeyedNoise(3, np.arange(5))
    with torch.no_grad():
        x = model.likelihood.observe(pictures, noise)
        out = model.branches(x, noise, (0, 1, 2), lower="mode")
    torch.testing.assert_close(out.elbo()[0], model.log_prob(pictures, noise))
    torch.testing.assert_close(out.elbo()[0], -out.nll[0] - out.kl_layers()[0].sum(-1))
    assert [out.means[i].shape for i in range(3)] == [
        (5, math.prod(model.stage(i).latent)) for i in range(3)
    ]


@both
def test_analytic_kl_is_the_mean_of_the_sampled_one(name: str) -> None:
    """At every layer, so that both losses have one expectation."""
    model = small(name)
    copies = 6000
    x = (images(1).float() / 255).expand(copies, -1, -1, -1)
    torch.manual_seed(1)
    with torch.no_grad():
        sampled = model.branches(x, FreshNoise(copies), kl="sample").kl_layers()[0]
        analytic = model.branches(x, FreshNoise(copies), kl="analytic").kl_layers()[0]
    error = ((sampled.var(0) + analytic.var(0)) / copies).sqrt()
    assert (sampled.mean(0) - analytic.mean(0)).abs().div(error).max() < 5
    assert (sampled.mean(0) > 20 * error).all()
    assert analytic[:, 2].var() < sampled[:, 2].var()


@both
def test_a_score_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    model, pictures = small(name), images(6)
    every = model.log_prob(pictures, KeyedNoise(3, np.arange(6)), samples=3)
    some = model.log_prob(pictures[[4, 1]], KeyedNoise(3, np.array([4, 1])), samples=3)
    torch.testing.assert_close(every[[4, 1]], some, rtol=1e-5, atol=1e-4)


def weights(model: TopDownModel, k: int, samples: int) -> torch.Tensor:
    """log w (16, samples) of every binary image, z>k from q and z≤k from p."""
    bits = (torch.arange(16)[:, None] >> torch.arange(4)) & 1
    x = bits.float().view(16, 1, 2, 2).repeat_interleave(samples, dim=0)
    with torch.no_grad():
        return model.branches(x, FreshNoise(len(x)), (k,)).elbo()[0].view(16, samples)


@both
@pytest.mark.parametrize("k", [0, 1])
def test_the_probabilities_of_a_tiny_space_sum_to_one(name: str, k: int) -> None:
    """Importance weights are unbiased for p(x), whichever of the latents are proposed by p."""
    torch.manual_seed(2)
    w = weights(tiny(name), k, 8_000).exp()
    error = (w.var(1) / w.shape[1]).sum().sqrt().item()
    assert error < 0.02
    assert w.mean(1).sum().item() == pytest.approx(1.0, abs=5 * error)


@both
def test_the_importance_bound_rises_with_the_samples(name: str) -> None:
    torch.manual_seed(3)
    log_w = weights(tiny(name), 0, 8_000)
    means = [
        (log_w.view(16, -1, count).logsumexp(-1) - math.log(count)).mean().item()
        for count in (1, 10, 100, 8_000)
    ]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.01


@both
@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "elbo", "warmup_epochs": 10, "free_bits": {"kind": "hvk", "nats": 0.01}},
        {"kind": "informative", "lower": "mode"},
        {"kind": "informative", "lower": "sample"},
    ],
)
def test_gradients_reach_every_parameter(name: str, objective: dict[str, object]) -> None:
    model = small(name, objective=objective, activation="elu")
    model.loss(images(6), epoch=3)["loss"].backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert torch.isfinite(value.grad).all(), parameter
        assert value.grad.abs().max() > 0, parameter


@both
def test_the_informative_loss_is_its_definition(name: str) -> None:
    """(1/L) Σ_k NLL_k + Σ_l KL_l, with z>k shared between the branches."""
    model = small(name, objective={"kind": "informative", "lower": "mode"})
    pictures = images(6)
    torch.manual_seed(1)
    logged = model.loss(pictures, epoch=1)
    torch.manual_seed(1)
    noise = FreshNoise(6)
    x = model.likelihood.observe(pictures, noise)
    out = model.branches(x, noise, (0, 1, 2), lower="mode", kl="analytic")
    expected = out.nll.mean() + out.kl_layers()[0].sum(-1).mean()
    torch.testing.assert_close(logged["loss"], expected)


@both
def test_free_bits_are_per_latent(name: str) -> None:
    """A floor of λ that binds everywhere costs λ at every pixel of each of the 2L − 1 latents."""
    nats = 1e6
    model = small(name, objective={"kind": "elbo", "free_bits": {"kind": "hvk", "nats": nats}})
    logged = model.loss(images(6), epoch=1)
    pixels = [36, 1, 1]
    count = sum(n * model.stage(i).latents for i, n in enumerate(pixels))
    assert count == (38 if name == "lvae" else 75)
    excess = (logged["loss"] - logged["nll_0"]).item()
    assert excess == pytest.approx(nats * count, rel=1e-5)


@both
def test_state_dict_round_trip(name: str) -> None:
    model = small(name)
    other = model.config.build((1, 12, 12))  # type: ignore[attr-defined]
    other.load_state_dict(model.state_dict())
    noise = KeyedNoise(0, np.arange(3))
    assert torch.equal(other.eval().log_prob(images(3), noise), model.log_prob(images(3), noise))


@both
@pytest.mark.parametrize("likelihood", ["logistic", "logistic-mixture", "bernoulli"])
def test_colour_odd_sizes_gates_and_dropout(name: str, likelihood: str) -> None:
    shape = (3, 9, 7)
    stages = [conv(6, 5, 2), conv(4, 3, 2, 2)]
    model = build(name, stages, ["c3", "d3"], shape, likelihood, gated=True, dropout=0.2)
    pictures = images(4, shape)
    assert torch.isfinite(model.log_prob(pictures, samples=3)).all()
    samples, mean = model.sample(2), model.reconstruct(pictures, k=1)
    assert (samples.shape, samples.dtype) == ((2, *shape), torch.uint8)
    assert mean.shape == (4, *shape)
    assert 0 <= mean.min() <= mean.max() <= 1


@both
def test_one_layer_is_a_vae(name: str) -> None:
    model = build(name, [conv(4, 3, 2)], ["d3"], (1, 8, 8))
    assert torch.isfinite(model.log_prob(images(4, (1, 8, 8)))).all()


@both
def test_mlp_stages_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"layer 2 has an mlp stage.*or take the model hvae"):
        build(name, [conv(4, 3, 2), {"kind": "mlp"}], ["c3", "d3"], (1, 8, 8))

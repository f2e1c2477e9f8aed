"""The hierarchical VAE against closed forms, brute force and the published parameter counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from oodbench.models.hierarchical.config import HVAEConfig
from oodbench.models.hierarchical.hvae import HVAE
from oodbench.models.layers.gaussian import Gaussian, from_raw, kl_analytic, kl_sample
from oodbench.models.layers.noise import FreshNoise
from oodbench.models.layers.weight_norm import Conv2d, ConvTranspose2d, Linear, initialising


def conv(channels: int, kernel: int, stride: int, blocks: int = 3) -> dict[str, object]:
    return {"kind": "conv", "channels": channels, "kernel": kernel, "stride": stride,
            "blocks": blocks}  # fmt: skip


def config(
    stages: list[dict[str, object]], latents: list[str], likelihood: str, **more: object
) -> HVAEConfig:
    layers = [{"stage": s, "latent": z} for s, z in zip(stages, latents, strict=True)]
    return HVAEConfig.model_validate({"layers": layers, "likelihood": {"kind": likelihood}, **more})


GREY = [conv(64, 5, 2), conv(64, 3, 2), conv(64, 3, 1)]
RGB = [conv(256, 5, 2), conv(256, 3, 2), conv(256, 3, 2)]


# Counts of the public code, measured by instantiating it (Bernoulli head on grey images).
@pytest.mark.parametrize(
    ("stages", "latents", "likelihood", "shape", "count"),
    [
        (GREY, ["c8", "d16", "d8"], "bernoulli", (1, 28, 28), 2_620_258),
        (GREY, ["c16", "d8", "d4"], "bernoulli", (1, 28, 28), 2_455_378),
        ([*GREY, conv(64, 3, 1), conv(64, 3, 1)], ["c32", "d24", "d16", "d8", "d4"], "bernoulli",
         (1, 28, 28), 4_193_042),
        (RGB, ["c128", "c64", "d32"], "logistic-mixture", (3, 32, 32), 37_013_064),
        ([*RGB, conv(256, 3, 1), conv(256, 3, 1)], ["c128", "c64", "d32", "d28", "d24"],
         "logistic-mixture", (3, 32, 32), 53_738_504),
        (RGB, ["c64", "c32", "d16"], "logistic-mixture", (3, 32, 32), 35_160_840),
    ],
)  # fmt: skip
def test_published_parameter_counts(
    stages: list[dict[str, object]],
    latents: list[str],
    likelihood: str,
    shape: tuple[int, int, int],
    count: int,
) -> None:
    with torch.device("meta"):
        model = config(stages, latents, likelihood, generative_skips="drop").build(shape)
    assert sum(p.numel() for p in model.parameters()) == count


def test_a_grey8_head_adds_578_parameters() -> None:
    with torch.device("meta"):
        binary = config(GREY, ["c16", "d8", "d4"], "bernoulli").build((1, 28, 28))
        grey8 = config(GREY, ["c16", "d8", "d4"], "logistic").build((1, 28, 28))
    counts = [sum(p.numel() for p in m.parameters()) for m in (binary, grey8)]
    assert counts[1] - counts[0] == 578


# ---------------------------------------------------------------------- linear-Gaussian hierarchy
class Linearised:
    """x = A z1 + a + σε, z1 = B z2 + b + Sε, z2 ~ N(0, I): log p(x) and the ELBO in closed form."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        linear = {"kind": "mlp", "hidden": []}
        self.model = config([linear, linear], ["d3", "d2"], "gaussian", weight_norm=False).build(
            (1, 2, 2)
        )
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name.endswith("v"):
                    parameter.mul_(0.3)
                if name.endswith("bias"):
                    parameter.normal_(0, 0.1)
            for index, layer in ((3, self.q(0)), (2, self.q(1)), (3, self.p())):
                layer.v[index:] = 0.0  # the scales do not depend on the input
                layer.bias[index:] = torch.tensor([-0.3, 0.1, 0.4][:index])
            self.model.likelihood.log_sigma.fill_(-1.0)

    def q(self, index: int) -> Linear:
        return self.model.stage(index).q_layer.layer  # type: ignore[return-value]

    def p(self) -> Linear:
        return self.model.stage(0).p_layer.layer  # type: ignore[union-attr, return-value]

    @staticmethod
    def parts(layer: Linear, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weight = layer.v.detach().double().numpy()[:size]
        bias = layer.bias.detach().double().numpy()
        scale = np.log2(1 + 2.0 ** bias[size:])
        return weight, bias[:size], scale

    def log_evidence(self, x: np.ndarray) -> float:
        head = self.model.likelihood.layer
        a, shift = head.v.detach().double().numpy(), head.bias.detach().double().numpy()
        b, b_shift, s = self.parts(self.p(), 3)
        sigma = math.exp(-1.0)
        mean = a @ b_shift + shift
        middle = b @ b.T + np.diag(s**2)
        covariance = a @ middle @ a.T + sigma**2 * np.eye(4)
        residual = x - mean
        quadratic = residual @ np.linalg.solve(covariance, residual)
        log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
        return float(-0.5 * (quadratic + log_det) - 4 * math.log(256))

    def elbo(self, x: np.ndarray) -> float:
        """E_q[log p(x, z1, z2) − log q(z1|x) − log q(z2|z1)], all expectations of quadratics."""
        head = self.model.likelihood.layer
        a, shift = head.v.detach().double().numpy(), head.bias.detach().double().numpy()
        q1, c1, s1 = self.parts(self.q(0), 3)
        q2, c2, s2 = self.parts(self.q(1), 2)
        b, b_shift, s = self.parts(self.p(), 3)
        sigma = math.exp(-1.0)
        m1, v1 = q1 @ x + c1, np.diag(s1**2)
        m2, v2 = q2 @ m1 + c2, q2 @ v1 @ q2.T + np.diag(s2**2)
        cross = v1 @ q2.T  # Cov(z1, z2) under q
        log_px = -0.5 * (
            ((x - a @ m1 - shift) ** 2).sum() / sigma**2
            + np.trace(a @ v1 @ a.T) / sigma**2
            + 4 * math.log(2 * math.pi * sigma**2)
        )
        gap = m1 - b @ m2 - b_shift
        spread = v1 - b @ cross.T - cross @ b.T + b @ v2 @ b.T
        log_p1 = -0.5 * ((gap**2 + np.diag(spread)) / s**2 + np.log(2 * np.pi * s**2)).sum()
        log_p2 = -0.5 * (m2 @ m2 + np.trace(v2) + 2 * math.log(2 * math.pi))
        entropy = sum(0.5 * np.log(2 * np.pi * math.e * sc**2).sum() for sc in (s1, s2))
        return float(log_px + log_p1 + log_p2 + entropy - 4 * math.log(256))


def test_with_lower_layers_at_their_modes_a_partial_bound_is_none() -> None:
    """One point for E over p(z1|z2): where p is wide it lies above the exact log p(x)."""
    linear = Linearised()
    x = linear.model.sample(400, FreshNoise(400)).float() / 255.0
    with torch.no_grad():
        mode, sampled = (
            linear.model.branches(x, FreshNoise(400), (1,), lower=lower).elbo()[0].numpy()
            for lower in ("mode", "sample")
        )
    exact = np.array([linear.log_evidence(image.flatten().double().numpy()) for image in x])
    assert (mode > exact + 0.1).any()
    assert sampled.mean() < exact.mean()


def repeated(n: int) -> tuple[torch.Tensor, np.ndarray]:
    x = torch.tensor([0.1, 0.5, 0.9, 0.3]).view(1, 1, 2, 2)
    return x.expand(n, -1, -1, -1), x.view(-1).double().numpy()


def test_elbo_of_a_linear_gaussian_hierarchy() -> None:
    toy = Linearised()
    x, flat = repeated(200_000)
    torch.manual_seed(1)
    with torch.no_grad():
        draws = toy.model.branches(x, FreshNoise(len(x)), kl="sample").elbo()[0]
        analytic = toy.model.branches(x, FreshNoise(len(x)), kl="analytic").elbo()[0]
    for values in (draws, analytic):
        error = values.std().item() / math.sqrt(len(x))
        assert values.mean().item() == pytest.approx(toy.elbo(flat), abs=5 * error + 1e-4)


def test_importance_bound_rises_from_the_elbo_to_the_evidence() -> None:
    toy = Linearised()
    copies, samples = 40, 6000
    x, flat = repeated(copies * samples)
    torch.manual_seed(2)
    with torch.no_grad():
        log_w = toy.model.branches(x, FreshNoise(len(x))).elbo()[0].view(copies, samples)
    means = []
    for count in (1, 10, samples):
        bound = log_w.view(copies, -1, count).logsumexp(-1) - math.log(count)
        means.append(bound.mean().item())
    assert toy.elbo(flat) < toy.log_evidence(flat)
    assert means == sorted(means)
    assert means[-1] == pytest.approx(toy.log_evidence(flat), abs=0.05)


def test_analytic_kl_is_for_the_top_layer_only() -> None:
    """Below the top z_(l+1) depends on z_l, and the closed form would give another expectation."""
    toy = Linearised()
    x, _ = repeated(8)
    with torch.no_grad():
        sampled = toy.model.branches(x, NamedNoise(8), kl="sample").kl_layers()
        analytic = toy.model.branches(x, NamedNoise(8), kl="analytic").kl_layers()
    torch.testing.assert_close(sampled[0, :, 0], analytic[0, :, 0])
    assert (sampled[0, :, 1] - analytic[0, :, 1]).abs().max() > 1e-3


def test_log_prob_with_one_sample_is_the_elbo_of_that_sample() -> None:
    model = small_model("logistic")
    images = random_images(5)
    torch.manual_seed(3)
    bound = model.log_prob(images)
    torch.manual_seed(3)
    noise = FreshNoise(5)
    elbo = model.branches(model.likelihood.observe(images, noise), noise).elbo()[0]
    torch.testing.assert_close(bound, elbo.detach())


# ---------------------------------------------------------------------- branches
def small_model(likelihood: str, **more: object) -> HVAE:
    torch.manual_seed(0)
    model = config([conv(6, 5, 2, 2), conv(6, 3, 2, 2), conv(5, 3, 1, 1)], ["c4", "d5", "d3"],
                   likelihood, **more).build((1, 12, 12))  # fmt: skip
    model.initialise(random_images(16))
    return model.eval()


def random_images(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randint(0, 256, (n, 1, 12, 12), generator=generator, dtype=torch.uint8)


class NamedNoise:
    """The same name always gives the same draw, so that separate passes can be compared."""

    def __init__(self, n: int) -> None:
        self.n = n

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        seed = int.from_bytes(name.encode()[-7:], "big")
        return torch.randn(self.n, *shape, generator=torch.Generator().manual_seed(seed))

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.rand(self.n, *shape)

    def scope(self, name: str) -> NamedNoise:
        return self


@pytest.mark.parametrize("lower", ["mode", "sample"])
@pytest.mark.parametrize("encoder_lower", ["mode", "sample"])
@pytest.mark.parametrize("skips", ["conv1x1", "drop", "none"])
def test_one_batched_decode_equals_separate_passes(
    lower: str, encoder_lower: str, skips: str
) -> None:
    model = small_model("logistic", generative_skips=skips)
    x = random_images(7).float() / 255
    noise = NamedNoise(7)
    options = {"lower": lower, "encoder_lower": encoder_lower}
    with torch.no_grad():
        together = model.branches(x, noise, (0, 1, 2), **options)  # type: ignore[arg-type]
        for k in (0, 1, 2):
            alone = model.branches(x, noise, (k,), **options)  # type: ignore[arg-type]
            torch.testing.assert_close(together.nll[k], alone.nll[0], rtol=1e-5, atol=1e-3)
            torch.testing.assert_close(
                together.kl_layers()[k], alone.kl_layers()[0], rtol=1e-4, atol=1e-4
            )


def test_partial_pass_by_hand() -> None:
    """L>1 of a two-layer model spelled out with the stages' own methods (HVK's evaluation)."""
    torch.manual_seed(0)
    model = config([conv(6, 3, 2, 1), conv(6, 3, 2, 1)], ["c4", "d3"], "logistic",
                   generative_skips="none").build((1, 8, 8))  # fmt: skip
    model.initialise(torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8))
    x = torch.rand(4, 1, 8, 8)
    noise = NamedNoise(4)
    low, top = model.stage(0), model.stage(1)
    with torch.no_grad():
        mean1 = low.infer(x).mean
        q2 = top.infer(low.project_up(mean1))
        z2 = q2.mean + q2.scale * noise.normal("z2", (3,))
        d2, _ = top.generate(z2, [], None)
        z1 = low.prior(d2).mean
        d1, _ = low.generate(z1, [], None)
        nll = -model.likelihood.log_prob(model.likelihood(d1), x)
        normal = torch.distributions.Normal
        kl = (normal(q2.mean, q2.scale).log_prob(z2) - normal(0, 1).log_prob(z2)).sum(1)
        out = model.branches(x, noise, (1,), lower="mode", encoder_lower="mode")
    torch.testing.assert_close(out.nll[0], nll)
    torch.testing.assert_close(out.kl_layers()[0, :, 1], kl.double(), rtol=1e-4, atol=1e-4)
    assert out.kl_layers()[0, :, 0].abs().max() == 0


def test_inference_is_a_markov_chain_and_generation_uses_the_skips() -> None:
    """q(z2|·) depends on the image through z1 alone; with skips p(x|·) sees z2 beside z1."""
    model = small_model("logistic")
    stage = model.stage(0)
    with torch.no_grad():
        z1 = torch.randn(2, *stage.latent)
        above = model.stage(1)
        outputs = []
        for _ in range(2):
            _, hidden = above.generate(torch.randn(2, *above.latent), *_top(model))
            outputs.append(stage.generate(z1, hidden, None)[0])
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


def _top(model: HVAE) -> tuple[list[torch.Tensor], None]:
    top = model.stage(2)
    return top.generate(torch.randn(2, *top.latent), [], None)[1], None


def test_samples_and_reconstructions_have_the_right_form() -> None:
    model = small_model("logistic")
    samples = model.sample(3)
    assert samples.shape == (3, 1, 12, 12)
    assert samples.dtype == torch.uint8
    mean = model.reconstruct(random_images(2), k=1)
    assert mean.shape == (2, 1, 12, 12)
    assert 0 <= mean.min() <= mean.max() <= 1


def test_layer_means_follow_the_means_upwards() -> None:
    model, images = small_model("logistic"), random_images(3)
    below = images.float() / 255.0
    for index, means in enumerate(model.layer_means(images)):
        stage = model.stage(index)
        q = stage.infer(below)
        torch.testing.assert_close(means, q.mean.flatten(1))
        below = stage.project_up(q.mean)


@pytest.mark.parametrize("likelihood", ["logistic", "logistic-mixture", "bernoulli"])
def test_rgb_and_odd_sizes(likelihood: str) -> None:
    torch.manual_seed(0)
    model = config([conv(6, 5, 2, 1), conv(6, 3, 2, 2)], ["c3", "d3"], likelihood).build((3, 9, 7))
    images = torch.randint(0, 256, (4, 3, 9, 7), dtype=torch.uint8)
    model.initialise(images)
    assert torch.isfinite(model.log_prob(images, samples=3)).all()
    assert model.sample(2).shape == (2, 3, 9, 7)


def test_mlp_stages_and_mixed_stages() -> None:
    torch.manual_seed(0)
    mlp = {"kind": "mlp", "hidden": [16, 12]}
    model = config([conv(6, 3, 2, 1), mlp, mlp], ["c3", "d4", "d2"], "logistic").build((1, 8, 8))
    images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    model.initialise(images)
    assert torch.isfinite(model.log_prob(images)).all()
    with pytest.raises(ValueError, match="cannot stand on an mlp stage"):
        config([mlp, conv(4, 3, 1)], ["d3", "d2"], "logistic").build((1, 8, 8))


# ---------------------------------------------------------------------- parts
def test_scale_is_log2_of_one_plus_two_to_the_s() -> None:
    scale = from_raw(torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, -1.0]])).scale
    expected = torch.tensor([[1.0, 1.58496, 0.58496]])
    torch.testing.assert_close(scale, expected, rtol=1e-5, atol=1e-5)


def test_kl_against_torch_distributions() -> None:
    torch.manual_seed(0)
    q = Gaussian(torch.randn(9), torch.rand(9) + 0.1)
    p = Gaussian(torch.randn(9), torch.rand(9) + 0.1)
    dq, dp = (torch.distributions.Normal(d.mean, d.scale) for d in (q, p))
    torch.testing.assert_close(kl_analytic(q, p), torch.distributions.kl_divergence(dq, dp))
    z = torch.randn(9)
    torch.testing.assert_close(kl_sample(z, q, p), dq.log_prob(z) - dp.log_prob(z))


@pytest.mark.parametrize("layer", [
    Conv2d((9, 9), 3, 5, 5, 2), Conv2d((8, 8), 3, 5, 3), ConvTranspose2d((9, 9), 3, 5, 3, 2),
    Linear(27, 5),
])  # fmt: skip
def test_initialisation_normalises_every_channel(layer: torch.nn.Module) -> None:
    torch.manual_seed(0)
    size = {Conv2d: (64, 3, 9, 9), ConvTranspose2d: (64, 3, 5, 5), Linear: (64, 27)}[type(layer)]
    if isinstance(layer, Conv2d) and layer.stride == 1:
        size = (64, 3, 8, 8)
    x = 3 * torch.randn(size) + 1
    with initialising(layer):
        first = layer(x)
    again = layer(x)
    dims = [d for d in range(again.ndim) if d != 1]
    torch.testing.assert_close(first, again, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(again.mean(dims), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(again.var(dims), torch.ones(5), rtol=1e-3, atol=1e-3)
    assert bool(layer.initialised)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(28, 5, 2), (14, 3, 2), (9, 3, 2), (7, 5, 3)]
)
def test_transposed_convolution_is_the_adjoint_of_the_strided_one(
    size: int, kernel: int, stride: int
) -> None:
    """⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩ with the same weights and no bias."""
    torch.manual_seed(0)
    down = Conv2d((size, size), 2, 3, kernel, stride, normalise=False).double()
    up = ConvTranspose2d((size, size), 3, 2, kernel, stride, normalise=False).double()
    with torch.no_grad():
        up.v.copy_(down.v)
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    y = torch.randn_like(down(x))
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum())

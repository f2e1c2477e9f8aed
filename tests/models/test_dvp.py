"""The DVP-VAE: pseudo-inputs, what sees what on the way down, and training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import fft

from oodbench.datasets.loading import DataPlaces, load
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.models.dvp.config import DVPConfig
from oodbench.models.dvp.dvp_vae import DVPVAE
from oodbench.models.dvp.pseudo_inputs import PseudoInput, cosines
from oodbench.models.layers.noise import FreshNoise
from oodbench.progress import Progress
from oodbench.seeding import KeyedNoise
from oodbench.train.training import Runtime, _Loop, train

SHAPE = (1, 8, 8)
QUIET = Progress("quiet")


def images(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)


def model(**changes: object) -> DVPVAE:
    """Three groups on 8×8, no weight at its start."""
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "groups": [{"latents": 2, "stride": 1}, {"latents": 1}, {"latents": 2}],
        "likelihood": {"kind": "logistic"}, "channels": 2, "features": 8, "pseudo_input": 3,
        "encoder_blocks": 1, "diffusion": {"width": 8, "blocks": 1, "steps": 4}, **changes,
    }  # fmt: skip
    built = DVPConfig.model_validate(settings).build(SHAPE)
    built.prepare(images(64), 0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return built.eval()


# ---------------------------------------------------------------------- pseudo-inputs
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 6, 10)])
def test_coefficients_are_scipys(shape: tuple[int, int, int]) -> None:
    x = images(3, shape).float() / 255.0
    found = PseudoInput(shape, 5, -6.0).coefficients(x)
    expected = fft.dctn(x.numpy(), type=2, norm="ortho", axes=(2, 3))[:, :, :5, :5]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(cosines(9) @ cosines(9).T, np.eye(9), atol=1e-6)


def test_an_image_of_low_frequencies_comes_back() -> None:
    pseudo = PseudoInput(SHAPE, 4, -6.0)
    spectrum = np.zeros((5, 1, 8, 8), np.float32)
    spectrum[:, :, :4, :4] = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 1, 4, 4))
    spectrum[:, :, 0, 0] = 4.0
    x = torch.from_numpy(fft.idctn(spectrum, type=2, norm="ortho", axes=(2, 3)))
    assert 0 < x.min() < x.max() < 1
    pseudo.fit((255 * x).round().to(torch.uint8))
    r = pseudo.posterior(x)
    assert r.mean.abs().max() <= 1
    torch.testing.assert_close(pseudo.image(r.mean), 2 * x - 1, atol=1e-5, rtol=0)


def test_the_scale_is_the_largest_floored_coefficient_and_at_least_one() -> None:
    pseudo = PseudoInput(SHAPE, 4, -6.0)
    shown = torch.zeros(6, *SHAPE, dtype=torch.uint8)
    shown[:, :, :4] = torch.arange(0, 240, 40, dtype=torch.uint8)[:, None, None, None]
    pseudo.fit(shown)
    whole = fft.dctn(shown.numpy() / 255.0, type=2, norm="ortho", axes=(2, 3))[:, :, :4, :4]
    expected = np.abs(np.floor(whole)).max(0)
    # A horizontal frequency is 0 up to rounding, here of either sign; its floor must not matter.
    np.testing.assert_allclose(pseudo.scale.numpy(), np.maximum(expected, 1.0))
    assert (pseudo.scale == 1).any()
    assert (pseudo.scale > 1).any()
    u = pseudo.posterior(torch.ones(2, *SHAPE)).mean
    assert torch.isfinite(u).all()
    assert u.abs().max() <= 1
    torch.testing.assert_close(pseudo.mean, pseudo.posterior(shown.float() / 255).mean.mean(0))


def test_the_log_variance_stays_in_its_range() -> None:
    pseudo = PseudoInput(SHAPE, 3, -15.0)
    assert (pseudo.log_variance == -12).all()
    with torch.no_grad():
        pseudo.log_variance.fill_(3.0)
    r = pseudo.posterior(torch.rand(1, *SHAPE))
    assert r.scale.max().item() == pytest.approx(np.exp(-2.5))
    normal = torch.distributions.Normal(r.mean, r.scale)
    entropy = normal.entropy().sum()
    assert pseudo.negative_entropy().item() == pytest.approx(-entropy.item())
    pseudo.project()
    pseudo.negative_entropy().backward()
    assert (pseudo.log_variance.grad != 0).all()


def test_an_image_smaller_than_its_pseudo_input_is_refused() -> None:
    with pytest.raises(ValueError, match="9×9 needs images of at least that; they have 8×8"):
        model(pseudo_input=9)
    with pytest.raises(ValueError, match="gamma_min must be the smaller"):
        model(diffusion={"gamma_min": 2.0, "gamma_max": 2.0})


# ---------------------------------------------------------------------- the published models
PUBLISHED: list[tuple[tuple[int, int, int], dict[str, object], int]] = [
    ((1, 28, 28), {"groups": [{"latents": 4}] * 2, "likelihood": {"kind": "bernoulli"}}, 648_579),
    ((1, 28, 28), {"groups": [{"latents": 4}] * 2, "likelihood": {"kind": "bernoulli"},
                   "features": 80, "bottleneck": 0.5, "pseudo_input": 5,
                   "diffusion": {"steps": 50, "width": 32, "blocks": 3}}, 1_298_563),
    ((3, 32, 32), {"groups": [{"latents": 10, "stride": 1}, {"latents": 8}, {"latents": 6},
                              {"latents": 4}], "likelihood": {"kind": "logistic-mixture"},
                   "channels": 3, "features": 128, "bottleneck": 0.75, "encoder_blocks": 4,
                   "diffusion": {"gamma_min": -10, "width": 32, "blocks": 3}}, 19_478_162),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "settings", "public"), PUBLISHED)
def test_published_parameter_counts(
    shape: tuple[int, int, int], settings: dict[str, object], public: int
) -> None:
    """The public code's, measured by instantiating it, less what there reaches no output.

    At the lowest latent that is the way from z and from the prior's network to the state.
    """
    config = DVPConfig.model_validate(settings)
    with torch.device("meta"):
        found = sum(p.numel() for p in config.build(shape).parameters())
    hidden = int(config.features * config.bottleneck)
    unused = config.features * ((config.channels + 1) + (hidden + 1) + (config.features + 1))
    assert found == public - unused - config.features * shape[0]


def test_paper_recipes_are_the_published_models() -> None:
    for name, (shape, settings, _) in zip(("dvp-M", "dvp-O", "dvp-C"), PUBLISHED, strict=True):
        config = resolve(find_recipe(name), "paper", "dvp").config
        expected = DVPConfig.model_validate(settings)
        assert find_recipe(name).shape == shape
        for field in ("groups", "channels", "features", "bottleneck", "pseudo_input"):
            assert getattr(config, field) == getattr(expected, field), (name, field)


# ---------------------------------------------------------------------- what sees what
def test_the_likelihood_sees_the_sum_of_the_latents_and_nothing_else() -> None:
    built = model()
    with torch.no_grad():
        for group in built.decoder:
            for block in group:
                # p has mean 0 whatever its network is given; the residual goes on as before.
                for layer in (block.prior.last, block.prior.skip):
                    layer.weight[: built.config.channels] = 0
                    layer.bias[: built.config.channels] = 0
    seen = built.see(images(2), FreshNoise(2))
    trails = []
    for u in (torch.full((2, 1, 3, 3), -0.9), torch.full((2, 1, 3, 3), 0.9)):
        (trail,) = built.trails(seen, u, FreshNoise(2), [built.layers], lower="mode")
        trails.append(trail)
    assert not torch.allclose(trails[0].state, trails[1].state)
    assert torch.equal(built.head(trails[0]), built.head(trails[1]))
    # Without the sum, nothing is left through which u, q or the state could reach the likelihood.
    (trail,) = built.trails(seen, seen.r.mean, FreshNoise(2))
    assert trail.total is not None
    sources = [trail.state, *(trail.q[g].mean for g in range(3)), seen.features[0]]
    whole = built.log_likelihood(trail, seen.x).sum()
    (by_total,) = torch.autograd.grad(whole, trail.total, retain_graph=True)
    assert (by_total != 0).any()
    cut = built.log_likelihood(replace(trail, total=trail.total.detach()), seen.x).sum()
    assert torch.autograd.grad(cut, sources, allow_unused=True) == (None,) * len(sources)


def test_every_latent_reaches_the_image() -> None:
    """Shifting one latent's posterior mean moves the parameters, in every group."""
    built = model()
    seen = built.see(images(2), FreshNoise(2))
    noise = KeyedNoise(0, np.arange(2))
    (before,) = built.trails(seen, seen.r.mean, noise)
    for group in built.decoder:
        for block in group:
            with torch.no_grad():
                block.posterior.last.bias[0] += 1.0
            (after,) = built.trails(seen, seen.r.mean, noise)
            assert not torch.allclose(before.total, after.total)
            with torch.no_grad():
                block.posterior.last.bias[0] -= 1.0


def test_the_prior_of_every_latent_depends_on_u() -> None:
    built = model()
    state = torch.ones(1, 8, 4, 4)
    for group in built.decoder:
        for block in group:
            contexts = [built.pseudo.image(torch.full((1, 1, 3, 3), v)) for v in (-0.5, 0.5)]
            p, q = (block.conditional(state, c[:, :, :4, :4]).p for c in contexts)
            assert not torch.allclose(p.mean, q.mean)
            assert not torch.allclose(p.scale, q.scale)


def test_branches_are_passes_of_their_own() -> None:
    """Branches drawn together equal each branch drawn alone, and share what is inferred."""
    built = model()
    x = images(3)
    noise = KeyedNoise(0, np.arange(3))
    seen = built.see(x, noise)
    u = built.draw_u(seen.r, noise)
    together = built.trails(seen, u, noise, (0, 1, 2, 3))
    for k, trail in enumerate(together):
        (alone,) = built.trails(seen, u, noise, (k,))
        torch.testing.assert_close(trail.total, alone.total)
        assert sorted(trail.kl) == list(range(k, 3))
        for group, element in trail.kl.items():
            assert torch.equal(element, together[0].kl[group])
    assert [built.shape[1:], *built.sizes] == [(8, 8), (8, 8), (4, 4), (2, 2)]


def test_odd_maps_and_colours() -> None:
    config = model().config.model_copy(update={"pseudo_input": 2})
    built = config.build((3, 5, 7)).eval()
    found = built.log_prob(images(2, (3, 5, 7)), KeyedNoise(0, np.arange(2)))
    assert torch.isfinite(found).all()
    assert built.sample(2).shape == (2, 3, 5, 7)
    assert built.sizes == [(5, 7), (3, 4), (2, 2)]


@pytest.mark.parametrize("sees", ["draw", "intensities"])
def test_what_inference_sees_of_binary_pixels(sees: str) -> None:
    built = model(likelihood={"kind": "bernoulli"}, sees=sees)
    torch.manual_seed(0)
    first, second = (built.see(images(4), FreshNoise(4)) for _ in range(2))
    assert not torch.equal(first.x, second.x)
    assert torch.equal(first.r.mean, second.r.mean) == (sees == "intensities")
    assert torch.equal(first.features[0], second.features[0]) == (sees == "intensities")


# ---------------------------------------------------------------------- bounds
@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    places = DataPlaces((), tmp_path_factory.mktemp("data"))
    return load("digits", "train", places).images


@pytest.fixture(scope="module")
def fitted(digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[DVPVAE, list]:  # type: ignore[type-arg]
    recipe = resolve(find_recipe("dvp-D"), "smoke", "dvp")
    built, run = train(
        lambda: recipe.config.build(SHAPE), digits, recipe.training, seed=0,
        scratch=tmp_path_factory.mktemp("fit"), runtime=Runtime(), progress=QUIET,
    )  # fmt: skip
    assert isinstance(built, DVPVAE)
    return built, run.rows


def test_the_loss_falls_on_digits(fitted: tuple[DVPVAE, list[dict[str, float]]]) -> None:
    rows = fitted[1]
    assert rows[-1]["bits_per_dim"] < rows[0]["bits_per_dim"] - 0.3
    assert {"nll_0", "kl_1", "kl_2", "kl_u"} <= set(rows[0])
    parts = [rows[-1][name] for name in ("nll_0", "kl_1", "kl_2", "kl_u")]
    assert rows[-1]["loss"] == pytest.approx(sum(parts), rel=1e-5)


def test_importance_samples(
    fitted: tuple[DVPVAE, list[dict[str, float]]], digits: np.ndarray
) -> None:
    """S = 1 is the one-sample ELBO; more samples raise the estimate; passes may be cut anyhow."""
    built, x = fitted[0], torch.from_numpy(digits[:60].copy())
    noise = KeyedNoise(0, np.arange(60))
    one, many = (built.log_prob(x, noise, s) for s in (1, 30))
    with torch.no_grad():
        seen = built.see(x, noise)
        u, eps = built.draw_u(seen.r, noise), built.prior.draws(noise)
        (trail,) = built.trails(seen, u, noise)
        log_r = torch.distributions.Normal(*seen.r).log_prob(u).double().flatten(1).sum(1)
        parts = built.log_likelihood(trail, seen.x) - sum(
            trail.kl[g].double().sum(1) for g in range(2)
        )
        by_hand = parts - built.surprise(u, eps) - log_r
    torch.testing.assert_close(one, by_hand, rtol=1e-6, atol=1e-4)
    assert many.mean() > one.mean() + 1.0
    # 30 samples of 60 images take several passes; of 7 images, one.
    few = built.log_prob(x[:7], KeyedNoise(0, np.arange(7)), 30)
    torch.testing.assert_close(few, many[:7], rtol=1e-5, atol=1e-3)


def test_the_layers_as_other_models_give_them(
    fitted: tuple[DVPVAE, list[dict[str, float]]], digits: np.ndarray
) -> None:
    built, x = fitted[0], torch.from_numpy(digits[:5].copy())
    out = built.all_branches(x)
    assert out.nll.shape == (2, 5)
    assert (out.kl_layers()[1, :, 0] == 0).all()
    assert [q.mean.shape for q in built.posteriors(x)] == [(5, 32), (5, 8)]
    for k in range(3):
        mean = built.reconstruct(x, k)
        assert mean.shape == (5, *SHAPE)
        assert 0 <= mean.min() <= mean.max() <= 1
    blank = torch.zeros_like(x)
    noise = KeyedNoise(0, np.arange(5))
    assert not torch.equal(built.reconstruct(x, 1, noise), built.reconstruct(blank, 1, noise))
    assert built.prior_means(3).shape == (3, *SHAPE)


def test_reconstructions_from_u_alone_are_those_that_llr_all_rests_on(
    fitted: tuple[DVPVAE, list[dict[str, float]]], digits: np.ndarray
) -> None:
    """k = G: u from r(u|x), every z from p(z|u)."""
    built, x = fitted[0], torch.from_numpy(digits[:5].copy())
    noise = KeyedNoise(0, np.arange(5))
    seen = built.see(x, noise)
    u = built.draw_u(seen.r, noise)
    with torch.no_grad():
        (trail,) = built.trails(seen, u, noise, [2], lower="mode")
        expected = built.likelihood.mean(built.head(trail))
    torch.testing.assert_close(built.reconstruct(x, 2, noise), expected)
    assert not torch.equal(expected, built.reconstruct(torch.zeros_like(x), 2, noise))


def test_every_partial_bound_pays_for_u(
    fitted: tuple[DVPVAE, list[dict[str, float]]], digits: np.ndarray
) -> None:
    """−NLL_k − Σ_(g>k) KL_g − E[log r(u|x) − log p(u)], the last by the diffusion's own bound."""
    built, x = fitted[0], torch.from_numpy(digits[:40].copy())
    noise = KeyedNoise(3, np.arange(40))
    out = built.all_branches(x, noise)
    with torch.no_grad():
        u = built.draw_u(built.see(x, noise).r, noise)
        kl_u = built.surprise(u, built.prior.draws(noise)) + built.pseudo.negative_entropy()
    kl = [[out.kl[k][g].double().sum(1) for g in range(k, 2)] for k in range(2)]
    for k in range(2):
        expected = -out.nll[k] - torch.stack(kl[k]).sum(0) - kl_u
        torch.testing.assert_close(out.elbo()[k], expected)
    assert float(kl_u.mean()) > 1.0


def test_a_resumed_run_gives_the_same_bits(digits: np.ndarray, tmp_path: Path) -> None:
    """Weights, their running average, and the scale of the pseudo-inputs."""
    recipe = resolve(find_recipe("dvp-D"), "smoke", "dvp", {"training": {"epochs": 1}})
    parts = (lambda: recipe.config.build(SHAPE), digits[:300], recipe.training)
    for name in "ab":
        (tmp_path / name).mkdir()
    loop = _Loop(*parts, 0, tmp_path / "a", Runtime())
    loop.resume()
    for step in range(3):
        loop._one_step(step)
        loop.state.step = step + 1
    loop.save()
    states = []
    for name in "ab":
        built, run = train(
            *parts, seed=0, scratch=tmp_path / name, runtime=Runtime(), progress=QUIET
        )
        assert run.resumed == (name == "a")
        states.append(built.state_dict())
    assert float(states[0]["pseudo.scale"].max()) > 1
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

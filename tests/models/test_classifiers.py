"""Classifiers: sizes of the published networks, Gaussians of features, losses, bottleneck."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.covariance import EmpiricalCovariance
from torch.nn import functional as F

from oodbench.models.classifiers.class_gaussians import ClassGaussians, Moments
from oodbench.models.classifiers.config import ClassifierConfig, MixtureVIBConfig, VIBConfig
from oodbench.models.classifiers.image_classifier import ImageClassifier
from oodbench.models.classifiers.mixture_vib import MixtureVIBClassifier
from oodbench.rank.metrics import evaluate

CONV = {"kind": "conv", "channels": (4, 8), "hidden": 6}


def classifier(network: dict[str, object] = CONV, **more: object) -> ImageClassifier:
    torch.manual_seed(0)
    return ClassifierConfig(network=network, **more).build((1, 8, 8)).eval()  # type: ignore[arg-type]


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        # The counts of the public CIFAR-10 codes of both papers' networks.
        ({"kind": "resnet", "blocks": (3, 4, 6, 3)}, 21_282_122),
        ({"kind": "resnet", "blocks": (2, 2, 2, 2)}, 11_173_962),
        ({"kind": "densenet", "blocks": (16, 16, 16), "growth": 12}, 769_162),
    ],
)
def test_networks_are_those_of_the_papers(network: dict[str, object], parameters: int) -> None:
    config = ClassifierConfig(network=network)  # type: ignore[arg-type]
    with torch.device("meta"):
        model = config.build((3, 32, 32))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert config.network.stages == len(model.backbone.sizes)


@pytest.mark.parametrize(
    "network",
    [
        CONV,
        {"kind": "resnet", "blocks": (1, 1, 1, 1), "stem_stride": 2},
        {"kind": "densenet", "blocks": (1, 2), "growth": 4},
    ],
)
def test_features_have_the_sizes_that_are_promised(network: dict[str, object]) -> None:
    model = classifier(network)
    features = model.features(torch.rand(3, 1, 8, 8))
    assert [h.shape for h in features] == [(3, size) for size in model.backbone.sizes]
    assert model.logits(pixels(3)).shape == (3, 10)
    # uint8 and [0, 1] are the same images.
    torch.testing.assert_close(model.logits(pixels(3)), model(pixels(3).float() / 255))


def test_a_network_too_deep_for_the_images_says_so() -> None:
    for network in (
        {"kind": "conv", "channels": (2,) * 4},
        {"kind": "densenet", "blocks": (1,) * 5},
    ):
        with pytest.raises(ValueError, match="to nothing"):
            classifier(network)


# ---------------------------------------------------------------------- Gaussians of features
def fitted(features: np.ndarray, labels: np.ndarray, classes: int) -> ClassGaussians:
    moments = Moments(classes, features.shape[1], torch.device("cpu"))
    for part in np.array_split(np.arange(len(labels)), 7):
        moments.add(torch.from_numpy(features[part]), torch.from_numpy(labels[part]))
    gaussian = ClassGaussians(classes, features.shape[1])
    gaussian.fit(moments)
    return gaussian


def test_distances_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 400)
    mixing = generator.normal(size=(5, 5))
    features = generator.normal(size=(400, 5)) @ mixing + labels[:, None] * 2.0
    gaussian, new = fitted(features, labels, 3), generator.normal(size=(20, 5)) * 3
    means = np.stack([features[labels == c].mean(0) for c in range(3)])
    within = EmpiricalCovariance(assume_centered=True).fit(features - means[labels])
    expected = np.min([0.5 * within.mahalanobis(new - mean) for mean in means], axis=0)
    found = gaussian.distance(torch.from_numpy(new)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    whole = 0.5 * EmpiricalCovariance().fit(features).mahalanobis(new)
    relative = gaussian.relative_distance(torch.from_numpy(new)).numpy()
    np.testing.assert_allclose(relative, expected - whole, rtol=1e-6, atol=1e-8)


def test_a_class_without_images_is_nobody_s_nearest() -> None:
    generator = np.random.default_rng(0)
    labels = np.array([1, 4, 7])[generator.integers(0, 3, 300)]
    features = generator.normal(size=(300, 4)) + 5 * labels[:, None]
    few, many = fitted(features, np.searchsorted([1, 4, 7], labels), 3), fitted(features, labels, 9)
    middle = torch.from_numpy(np.stack([features.mean(0), features[0]]))
    for name in ("distance", "relative_distance"):
        torch.testing.assert_close(getattr(many, name)(middle), getattr(few, name)(middle))
    assert many.seen().nonzero().flatten().tolist() == [1, 4, 7]
    # A class in the very middle of all, and a single class, have images all the same.
    symmetric = fitted(np.array([[-1.0], [-3.0], [0.0], [0.0], [1.0], [3.0]]),
                       np.array([0, 0, 1, 1, 2, 2]), 4)  # fmt: skip
    assert symmetric.seen().tolist() == [True, True, True, False]
    assert float(symmetric.distance(torch.tensor([[0.0]]))) < 1e-12
    assert fitted(features, np.zeros(300, int), 3).seen().tolist() == [True, False, False]


def test_a_dead_feature_does_not_count() -> None:
    features = np.random.default_rng(0).normal(size=(100, 3))
    features[:, 1] = 0.0
    gaussian = fitted(features, np.zeros(100, int), 1)
    one, other = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[1.0, 9.0, 1.0]])
    torch.testing.assert_close(gaussian.distance(one), gaussian.distance(other))


def test_the_auroc_of_two_gaussians_is_the_analytic_one() -> None:
    size, shift, generator = 4, 2.0, np.random.default_rng(0)
    train, test = generator.normal(size=(20_000, size)), generator.normal(size=(20_000, size))
    far = generator.normal(size=(20_000, size))
    far[:, 0] += shift
    gaussian = fitted(train, np.zeros(len(train), int), 1)
    scores = [gaussian.distance(torch.from_numpy(x)).numpy() for x in (test, far)]
    # Twice the distance is χ² for ID images, non-central χ² for the others.
    expected, _ = integrate.quad(
        lambda t: stats.chi2.pdf(t, size) * stats.ncx2.sf(t, size, shift**2), 0, np.inf
    )
    assert evaluate(*scores).auroc.value == pytest.approx(expected, abs=0.006)


def test_the_last_look_keeps_the_gaussians_of_every_stage() -> None:
    model, images = classifier(), pixels(60)
    labels = torch.arange(60) % 10
    with torch.no_grad():
        model.complete([(images[:30], labels[:30]), (images[30:], labels[30:])])
        features = model.features(images.float() / 255)
    for gaussian, h in zip(model.stage_gaussians(), features, strict=True):
        expected = fitted(h.double().numpy(), labels.numpy(), 10)
        torch.testing.assert_close(gaussian.means, expected.means)
    restored = classifier()
    restored.load_state_dict(model.state_dict())
    torch.testing.assert_close(restored.distances(images / 255), model.distances(images / 255))


# ---------------------------------------------------------------------- losses
def test_uniform_exposure_is_the_divergence_from_the_uniform_distribution() -> None:
    model = classifier(exposure="uniform", exposure_weight=0.5)
    images, outliers, labels = pixels(4), pixels(6, 1), torch.tensor([0, 3, 9, 3])
    found = model.loss(images, 1, labels=labels, outliers=outliers)
    log_p = model.logits(outliers).log_softmax(1)
    divergence = F.kl_div(log_p, torch.full_like(log_p, 0.1), reduction="batchmean")
    expected = F.cross_entropy(model.logits(images), labels) + 0.5 * (divergence + np.log(10))
    torch.testing.assert_close(found["loss"], expected)


def test_an_outlier_class_is_one_more() -> None:
    model = classifier(exposure="class")
    images, outliers, labels = pixels(4), pixels(4, 1), torch.tensor([0, 3, 9, 3])
    found = model.loss(images, 1, labels=labels, outliers=outliers)
    assert model.logits(images).shape == (4, 11)
    both = torch.cat([images, outliers])
    target = torch.cat([labels, torch.full((4,), 10)])
    torch.testing.assert_close(found["loss"], 2 * F.cross_entropy(model.logits(both), target))


def test_the_rate_is_the_divergence_of_torch() -> None:
    torch.manual_seed(0)
    model = VIBConfig(network=CONV, latent=5, rate_weight=0.1).build((1, 8, 8)).eval()  # type: ignore[arg-type]
    images = pixels(6)
    q = model.posterior(images)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(q.mean, q.scale), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(model.rate(q), expected)
    out = model.loss(images, 1, labels=torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(out["loss"], out["cross_entropy"] + 0.1 * out["rate"])


def mixture_vib(components: int) -> MixtureVIBClassifier:
    torch.manual_seed(0)
    config = MixtureVIBConfig(network=CONV, components=components, rate_weight=0.1)  # type: ignore[arg-type]
    model = config.build((1, 8, 8)).eval()
    with torch.no_grad():
        for parameter in (model.weights, model.means, model.factors):
            parameter.copy_(0.1 * torch.randn_like(parameter))
    return model


def test_the_trained_marginal_is_scipys_mixture() -> None:
    model = mixture_vib(4)
    mixture = model.marginal()
    weights = mixture.mixture_distribution.probs.detach().numpy()
    assert weights.std() > 0.05
    parts = mixture.component_distribution
    z = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    expected = np.log(sum(
        weight * stats.multivariate_normal(mean, factor @ factor.T).pdf(z)
        for weight, mean, factor in zip(
            weights, parts.mean.detach().numpy(), parts.scale_tril.detach().numpy(), strict=True
        )
    ))  # fmt: skip
    np.testing.assert_allclose(mixture.log_prob(torch.from_numpy(z)).detach(), expected, rtol=1e-4)


def test_samples_of_the_rate_average_to_the_divergence() -> None:
    model = mixture_vib(1)
    q = model.posterior(pixels(5))
    kl = torch.distributions.kl_divergence(q, model.marginal().component_distribution.expand([5]))
    with torch.no_grad():
        drawn = model.sample(q, torch.randn(20_000, 5, 3))[1]
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - kl).abs() < 4 * error).all()
    assert (q.covariance_matrix.detach()[:, 0, 1].abs() > 1e-4).all()  # full, not diagonal


def test_the_rate_of_a_flat_posterior_is_that_of_float64() -> None:
    model = mixture_vib(2)
    with torch.no_grad():
        model.posterior_head.weight.zero_()
        model.posterior_head.bias.copy_(torch.tensor([9.0, 9, 9, -8, 3e3, -8, 2e3, 1e3, -8]))
        q, noise = model.posterior(pixels(1)), torch.randn(1, 3)
        found = model.sample(q, noise)[1]
        factor = q.scale_tril.double()
        exact_q = torch.distributions.MultivariateNormal(q.mean.double(), scale_tril=factor)
        z = q.mean.double() + (factor @ noise.double()[..., None])[..., 0]
        naive = q.log_prob(z.float())
        expected = exact_q.log_prob(z) - model.double().marginal().log_prob(z)
    assert abs(naive - exact_q.log_prob(z)) > 1e3  # why log q is computed from the noise
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)


def test_the_loss_of_the_mixture_trains_all_its_parts() -> None:
    model = mixture_vib(3)
    out = model.loss(pixels(6), 1, labels=torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(out["loss"], out["cross_entropy"] + 0.1 * out["rate"])
    out["loss"].backward()
    for part in (model.weights, model.means, model.factors, model.posterior_head.weight):
        assert part.grad is not None
        assert part.grad.abs().sum() > 0

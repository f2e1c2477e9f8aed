"""Keyed noise: the reference's words, the laws of the draws, and what they do not depend on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from oodbench import philox, seeding
from oodbench.models.layers.noise import AtMeans, FreshNoise, Noise, Stacked, scopes
from oodbench.seeding import KeyedNoise

WORD = st.integers(0, 2**32 - 1)
#: Counter, key and words of the reference implementation (Random123, kat_vectors, philox4x32 10).
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def by_integers(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds as the paper writes them, on Python's integers."""
    a, b, c, d = counter
    k, m = key
    for step in range(10):
        if step:
            k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
        high_a, low_a = divmod(0xD2511F53 * a, 2**32)
        high_c, low_c = divmod(0xCD9E8D57 * c, 2**32)
        a, b, c, d = high_c ^ b ^ k, low_c, high_a ^ d ^ m, low_a
    return [a, b, c, d]


def in_numpy(counter: list[int], key: list[int]) -> list[int]:
    arrays = [np.full(3, word, np.uint64) for word in counter]
    return [int(word[1]) for word in philox.philox((*arrays,), (key[0], key[1]))]  # type: ignore[misc, arg-type]


def in_torch(counter: list[int], key: list[int]) -> list[int]:
    arrays = [torch.full((3,), word) for word in counter]
    return [int(word[1]) for word in philox.philox((*arrays,), (key[0], key[1]))]  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("generator", [by_integers, in_numpy, in_torch])
@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_words_are_those_of_the_reference(
    generator: Callable[[list[int], list[int]], list[int]], counter: str, key: str, words: str
) -> None:
    given_words, keys = ([int(word, 16) for word in text.split()] for text in (counter, key))
    assert generator(given_words, keys) == [int(word, 16) for word in words.split()]


@given(st.lists(WORD, min_size=4, max_size=4), st.lists(WORD, min_size=2, max_size=2))
def test_arrays_of_both_libraries_hold_the_words_of_exact_integers(
    counter: list[int], key: list[int]
) -> None:
    assert in_numpy(counter, key) == in_torch(counter, key) == by_integers(counter, key)


def test_a_gpus_arithmetic_gives_the_numbers_of_the_cpus() -> None:
    """The tensors that another device computes with, here on the CPU: equal, bit for bit."""
    streams = [philox.Stream(3, 2**32 - 1, 5), philox.Stream(2**31, 7, 2**32 - 2)]
    index = torch.tensor([0, 1, 2**33 + 5, 2**62 + 2**40 + 3])
    one, other = (
        words(streams, index, 6) for words in (philox.words_of_arrays, philox.words_of_tensors)
    )
    for ours, theirs in zip(one, other, strict=True):
        assert ours.shape == (2, 4, 6)
        assert torch.equal(ours, theirs)


def test_a_number_is_where_its_counter_says() -> None:
    """Number n of image i is of word n mod 4 of the block whose counter holds ⌊n / 4⌋ and i."""
    noise, index = KeyedNoise(7, np.array([3, 2**32 + 9])), 2**32 + 9
    stream = noise.stream("z", "uniform")
    drawn = noise.uniform("z", (2, 5))[1].flatten()
    for n, value in enumerate(drawn.tolist()):
        counter = [n // 4, index >> 32, index % 2**32, stream.word]
        word = by_integers(counter, [stream.key0, stream.key1])[n % 4]
        assert value == (word >> 8) / 2**24
    pair = noise.stream("z", "normal")
    words = by_integers([1, 1, 9, pair.word], [pair.key0, pair.key1])
    radius = np.sqrt(-2 * np.log((words[2] + 0.5) / 2**32))
    expected = [radius * f(2 * np.pi * words[3] / 2**32) for f in (np.cos, np.sin)]
    np.testing.assert_allclose(noise.normal("z", (8,))[1, 6:], expected, rtol=1e-7)


# ---------------------------------------------------------------------- what a draw depends on
def draw(seed: int, indices: list[int], name: str = "z1") -> torch.Tensor:
    return KeyedNoise(seed, np.array(indices)).normal(name, (2, 3))


def test_noise_is_keyed_by_seed_image_name_and_kind() -> None:
    assert torch.equal(draw(0, [5, 9, 2])[1], draw(0, [9])[0])
    for other in (draw(1, [5]), draw(0, [6]), draw(0, [5 + 2**32]), draw(0, [5], "z2")):
        assert not torch.equal(draw(0, [5]), other)
    noise = KeyedNoise(0, np.array([5]))
    assert not torch.equal(draw(0, [5]), noise.scope("s1").normal("z1", (2, 3)))
    assert torch.equal(noise.scope("a").normal("b", (3,)), noise.normal("a/b", (3,)))
    uniform = noise.uniform("z1", (2, 3))
    assert not torch.equal(stats_of(draw(0, [5])), uniform)


def stats_of(normal: torch.Tensor) -> torch.Tensor:
    return torch.special.ndtr(normal)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (70_001,)])
def test_a_draw_is_the_same_in_every_batch(kind: str, shape: tuple[int, ...]) -> None:
    """Alone, in any order, and where what is made at once ends between images or within one."""
    index = np.array([4, 0, 2**40, 7, 1])
    whole = getattr(KeyedNoise(1, index), kind)("z", shape)
    assert whole.shape == (5, *shape)
    assert whole.dtype == torch.float32
    for row, image in enumerate(index):
        alone = getattr(KeyedNoise(1, np.array([image])), kind)("z", shape)
        assert torch.equal(alone[0], whole[row])
    back = getattr(KeyedNoise(1, index[::-1].copy()), kind)("z", shape)
    assert torch.equal(back.flip(0), whole)


@pytest.mark.parametrize("together", [1, 40, 10**6])
@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_scopes_hold_the_draws_of_each_scope(
    together: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "DRAWN_TOGETHER", {"cpu": together})
    monkeypatch.setattr(philox, "AT_ONCE", {"cpu": at_once})
    noise = KeyedNoise(2, np.array([6, 1, 9])).scope("outer")
    names = ["", *(f"s{s}" for s in range(1, 12))]
    found = noise.scopes(names)
    for name, source in zip(names, found, strict=True):
        alone = noise.scope(name) if name else noise
        for kind, shape in (("normal", (2, 5)), ("uniform", (3,)), ("normal", ())):
            expected = getattr(alone, kind)("z", shape)
            assert torch.equal(getattr(source, kind)("z", shape), expected)
        assert torch.equal(source.scope("x").normal("z", (4,)), alone.scope("x").normal("z", (4,)))
    assert torch.equal(found[3].normal("z", (2, 5)), noise.scope("s3").normal("z", (2, 5)))


def test_scopes_of_any_source() -> None:
    noise = KeyedNoise(0, np.arange(3))
    for source in (Stacked([noise, noise.scope("b")]), AtMeans(noise)):
        first, second = scopes(source, ["", "s"])
        assert torch.equal(first.uniform("u", (2,)), source.uniform("u", (2,)))
        assert torch.equal(second.uniform("u", (2,)), source.scope("s").uniform("u", (2,)))
    fresh: Noise = FreshNoise(4)
    assert scopes(fresh, ["", "s"]) == [fresh, fresh]


# ---------------------------------------------------------------------- the laws
@pytest.fixture(scope="module")
def normals() -> np.ndarray:
    """(images, names, numbers)."""
    noise = KeyedNoise(11, np.arange(400))
    return torch.stack([n.normal("z", (250,)) for n in noise.scopes(["a", "b", "c"])], 1).numpy()


def test_normal_draws_have_the_moments_of_the_normal_law(normals: np.ndarray) -> None:
    x, count = normals.astype(np.float64).ravel(), normals.size
    # Standard errors of the sample moments of N(0, 1); five of them.
    assert abs(x.mean()) < 5 / count**0.5
    assert abs(x.var() - 1) < 5 * (2 / count) ** 0.5
    assert abs((x**3).mean()) < 5 * (15 / count) ** 0.5
    assert abs((x**4).mean() - 3) < 5 * (96 / count) ** 0.5
    assert 4 < np.abs(x).max() < 6.8


def test_draws_follow_their_laws(normals: np.ndarray) -> None:
    """Kolmogorov and Smirnov's test, all numbers and those of each place of a block alone."""
    flat = normals.astype(np.float64)
    assert stats.kstest(flat.ravel(), "norm").pvalue > 1e-3
    for place in range(4):
        assert stats.kstest(flat[..., place::4].ravel(), "norm").pvalue > 1e-3
    uniform = KeyedNoise(11, np.arange(400)).uniform("u", (750,)).double().numpy()
    assert 0 <= uniform.min() < uniform.max() < 1
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-3
    low_bits = (uniform.ravel() * 2**24).astype(np.int64) % 16
    assert stats.chisquare(np.bincount(low_bits, minlength=16)).pvalue > 1e-3


def test_draws_are_uncorrelated(normals: np.ndarray) -> None:
    """Between images, names (samples), numbers, and the two of one radius, squares included."""
    bound = 5 / normals.size**0.5
    for power in (1, 2):
        x = normals.astype(np.float64) ** power
        x = (x - x.mean()) / x.std()
        pairs = [
            x[1:] * x[:-1], x[7:] * x[:-7], x[:, 1:] * x[:, :-1], x[:, 2:] * x[:, :-2],
            x[..., 1:] * x[..., :-1], x[..., 4:] * x[..., :-4], x[..., ::2] * x[..., 1::2],
        ]  # fmt: skip
        assert max(abs(product.mean()) for product in pairs) < 2 * bound
    seeds = [KeyedNoise(seed, np.arange(400)).normal("z", (250,)).numpy() for seed in (0, 1)]
    assert abs(np.mean(seeds[0] * seeds[1])) < 5 / seeds[0].size ** 0.5

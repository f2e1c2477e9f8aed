"""Random numbers from counters: Philox 4×32-10, the same on every device.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.  A block of four
32-bit words is a keyed bijection of four 32-bit counters: nothing is carried from one block to the
next, so that any part of a draw can be made anywhere and in any order.  It is integer arithmetic on
whole arrays: of numpy (uint64) on the CPU, where that is the faster, and of torch (int64, whose
products wrap to the same bits) elsewhere.

Uniform numbers are the upper 24 bits of a word.  Normal ones come by Box and Muller's transform in
float64, rounded once at the end, so that the logarithms and cosines of two devices give the same
float32 but for one draw in millions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
#: Added to the key from round to round: the fractions of the golden ratio and of √3.
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
#: Blocks that are made at once: what belongs to them stays in a core's cache, or fits a GPU.
AT_ONCE = {"cpu": 1 << 14}
AT_ONCE_ELSEWHERE = 1 << 22

Words = TypeVar("Words", np.ndarray, Tensor)
#: Four int64 tensors of 32-bit words, the first of every block, the second, …
Block = tuple[Tensor, Tensor, Tensor, Tensor]


class Stream(NamedTuple):
    """What a named draw is keyed by: the two words of Philox's key, and one of its counter."""

    key0: int
    key1: int
    word: int


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[Words | int, Words | int]
) -> tuple[Words, Words, Words, Words]:
    """The four words of every block.

    Counter and key: integers below 2³², in arrays that broadcast (uint64 in numpy, int64 in torch).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        # c1 and c3 are the lower halves of products; the upper ones are masked away with the key.
        c0, c2 = ((p1 >> 32) ^ k0 ^ c1) & MASK, ((p0 >> 32) ^ k1 ^ c3) & MASK
        c1, c3 = p1, p0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1 & MASK, c2, c3 & MASK


def uniform(words: Block, out: Tensor) -> None:
    """U[0, 1) of words (…), into `out` (…, 4) float32."""
    upper = torch.empty(out.shape, dtype=torch.int32, device=out.device)
    for place, word in enumerate(words):
        upper[..., place] = word >> 8
    torch.mul(upper, 2.0**-24, out=out)


def normal(words: Block, out: Tensor) -> None:
    """N(0, 1) of words (…), two of the first two and two of the others, into `out` (…, 4)."""
    for place in (0, 2):
        radius = words[place].double().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = words[place + 1].double().mul_(2.0 * math.pi * 2.0**-32)
        out[..., place] = torch.cos(angle).mul_(radius)
        out[..., place + 1] = angle.sin_().mul_(radius)


def draw(
    transform: Callable[[Block, Tensor], None],
    streams: Sequence[Stream],
    index: Tensor,
    count: int,
) -> Tensor:
    """(streams, B, count) float32: of every stream `count` numbers for the images `index`.

    `index` (B,) int64, not negative, on the device of the result.  Number n of an image is number
    n mod 4 of its block ⌊n / 4⌋; a draw depends on stream, index and n alone.
    """
    device, images = index.device, len(index)
    blocks = -(-count // 4)
    out = torch.empty(len(streams), images, blocks, 4, device=device)
    words = words_of_arrays if device.type == "cpu" else words_of_tensors
    rows = max(1, AT_ONCE.get(device.type, AT_ONCE_ELSEWHERE) // max(1, blocks))
    for some in _cut(len(streams), rows // max(1, images)):
        for part in _cut(images, rows):
            transform(words(streams[some], index[part], blocks), out[some, part])
    return out.flatten(2)[..., :count]


def _cut(count: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, start + size) for start in range(0, count, size))


def words_of_arrays(streams: Sequence[Stream], index: Tensor, blocks: int) -> Block:
    """The words of streams × images × blocks, by numpy."""
    key0, key1, word = np.array(streams, dtype=np.uint64).T[:, :, None, None]
    image = index.numpy().astype(np.uint64)[None, :, None]
    block = np.arange(blocks, dtype=np.uint64)[None, None]
    found = philox((block, image >> 32, image & MASK, word), (key0, key1))
    first, second, third, fourth = (torch.from_numpy(w.view(np.int64)) for w in found)
    return first, second, third, fourth


def words_of_tensors(streams: Sequence[Stream], index: Tensor, blocks: int) -> Block:
    """The same on the device of `index`, for which nothing waits."""
    keys = torch.tensor(streams, dtype=torch.int64).to(index.device, non_blocking=True)
    key0, key1, word = keys.T[:, :, None, None]
    image = index[None, :, None]
    block = torch.arange(blocks, device=index.device)[None, None]
    return philox((block, image >> 32, image & MASK, word), (key0, key1))

"""Seeds derived from names, and random draws keyed by image.

Python's `hash` is salted per process, so every seed here is taken from SHA-256 of its name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.philox import Stream

#: Which draws `KeyedNoise` gives; part of the key of everything that is measured with them.
NOISE_REVISION = 2
#: Which images a seeded subset of a split holds; part of the key of what was measured on one.
SUBSET_REVISION = 2
#: Numbers of one name that `KeyedNoise.scopes` makes at once.
DRAWN_TOGETHER = {"cpu": 1 << 16}
DRAWN_TOGETHER_ELSEWHERE = 1 << 24


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def training_split(count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the `limit` of `count` images that are trained on, and of those left out.

    The same for every fit with `Training.max_images` = `limit`, whatever its seed.
    """
    import numpy as np

    order = np.random.default_rng(derive_seed("subset", count)).permutation(count)
    return np.sort(order[:limit]), np.sort(order[limit:])


class KeyedNoise:
    """Draws keyed by (seed, image index, name): the `Noise` that measuring hands to models.

    A draw depends neither on the batch size, nor on which other images are present, nor on the
    device.  Seed and name make the key of a Philox generator, the index is part of its counter
    (`oodbench.philox`).  NOISE_REVISION says which draws these are.
    """

    def __init__(
        self, seed: int, indices: np.ndarray, device: torch.device | str = "cpu", prefix: str = ""
    ) -> None:
        self.seed, self.indices, self.device, self.prefix = seed, indices, device, prefix
        self._index: torch.Tensor | None = None
        self._together: tuple[_Together, int] | None = None

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """(B, *shape) independent N(0, 1), float32."""
        return self._draw(name, shape, "normal")

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """(B, *shape) independent U[0, 1), float32."""
        return self._draw(name, shape, "uniform")

    def scope(self, name: str) -> KeyedNoise:
        """The same source under another name: independent draws."""
        return self._under(f"{name}/")

    def scopes(self, names: Sequence[str]) -> list[KeyedNoise]:
        """What `scope` gives for every name ("": this source itself), to be used in that order.

        A draw is made for several of them at once, which for small draws is many times as fast.
        """
        prefixes = [f"{name}/" if name else "" for name in names]
        together = _Together([self._under(prefix) for prefix in prefixes])
        found = [self._under(prefix) for prefix in prefixes]
        for place, noise in enumerate(found):
            noise._together = (together, place)
        return found

    def rows(self, chosen: slice) -> KeyedNoise:
        """The same draws for some of the images."""
        return KeyedNoise(self.seed, self.indices[chosen], self.device, self.prefix)

    def _under(self, prefix: str) -> KeyedNoise:
        under = KeyedNoise(self.seed, self.indices, self.device, self.prefix + prefix)
        under._index = self._on_device()
        return under

    def _on_device(self) -> torch.Tensor:
        import numpy as np
        import torch

        if self._index is None:
            index = torch.from_numpy(np.asarray(self.indices, dtype=np.int64))
            self._index = index.to(self.device, non_blocking=True)
        return self._index

    def _draw(self, name: str, shape: tuple[int, ...], kind: str) -> torch.Tensor:
        if self._together is not None:
            together, place = self._together
            return together.draw(place, name, shape, kind)
        return _draws([self], name, shape, kind)[0]

    def stream(self, name: str, kind: str) -> Stream:
        """What the draws of a name are keyed by; `kind`: normal or uniform."""
        from oodbench.philox import Stream

        digest = hashlib.sha256(f"{self.seed}/{self.prefix}{name}/{kind}".encode()).digest()
        return Stream(*(int.from_bytes(digest[i : i + 4], "little") for i in (0, 4, 8)))


class _Together:
    """Sources that are asked for the same draws one after the other."""

    def __init__(self, sources: Sequence[KeyedNoise]) -> None:
        self.sources = sources
        self._made: dict[tuple[str, tuple[int, ...], str], tuple[int, torch.Tensor]] = {}

    def draw(self, place: int, name: str, shape: tuple[int, ...], kind: str) -> torch.Tensor:
        """(B, *shape), of the source at `place`."""
        import torch

        first, made = self._made.get((name, shape, kind), (0, None))
        if made is None or not first <= place < first + len(made):
            size = max(1, len(self.sources[place].indices) * math.prod(shape))
            device = torch.device(self.sources[place].device).type
            most = DRAWN_TOGETHER.get(device, DRAWN_TOGETHER_ELSEWHERE)
            some = self.sources[place : place + max(1, most // size)]
            first, made = place, _draws(some, name, shape, kind)
            self._made[name, shape, kind] = first, made
        return made[place - first]


def _draws(
    sources: Sequence[KeyedNoise], name: str, shape: tuple[int, ...], kind: str
) -> torch.Tensor:
    """(sources, B, *shape)."""
    from oodbench import philox

    streams = [source.stream(name, kind) for source in sources]
    transform = philox.normal if kind == "normal" else philox.uniform
    drawn = philox.draw(transform, streams, sources[0]._on_device(), math.prod(shape))
    return drawn.reshape(*drawn.shape[:2], *shape)

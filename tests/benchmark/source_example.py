"""A plug-in of three files, whose source the tests of fingerprints edit."""

MINE = '''\
"""A detector."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from helper import scaled
from oodbench import Detector, register

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = {"a": 0.5}
WEIGHTS["b"] = 2.0


class Base(Detector):
    """What two detectors share."""

    def score(self, statistics):
        return statistics["value"] * WEIGHTS["a"]


@register("first", cite="somebody, 2020", title="First")
class First(Base):
    """The first."""

    cost = "0"
    revision = 1
    power = 2

    def measure(self, images: torch.Tensor, samples: int = 3) -> Mapping[str, torch.Tensor]:
        if images.ndim != 4:
            raise ValueError("images must have four axes")
        values = [scaled(image.double()) for image in images]
        count: int = len(values)
        return {"value": F.softplus(torch.stack(values) ** self.power) / (samples + count)}


@register("second", cite="somebody else")
class Second(Base):
    def measure(self, images):
        return {"value": images.double().flatten(1).amax(1)}
'''
HELPER = '''\
"""What detectors share."""
import torch

from constants import SCALE

UNUSED = 7


def scaled(image, offset=1.0):
    """The mean, scaled."""
    return _centred(image).mean() * SCALE + offset


def _centred(image):
    return image - torch.mean(image)


def unused(image):
    return image
'''
CONSTANTS = "SCALE = 3.0\nOTHER = 4.0\n"
FILES = {"mine.py": MINE, "helper.py": HELPER, "constants.py": CONSTANTS}

"""Imports under earlier names of modules go on working, and give the very same module."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from oodbench.renamed import RENAMED

PLUGIN = """
from oodbench.detector import Detector, register
from oodbench.metrics import evaluate
from oodbench.models.noise import FreshNoise
import oodbench.rank.metrics, oodbench.detect.detector

assert Detector is oodbench.detect.detector.Detector
assert evaluate is oodbench.rank.metrics.evaluate
assert oodbench.rank.metrics.__spec__.name == "oodbench.rank.metrics"
assert callable(oodbench.run) and callable(oodbench.leaderboard)
"""


@pytest.mark.parametrize("earlier", sorted(RENAMED))
def test_an_earlier_name_is_the_module_of_today(earlier: str) -> None:
    module = importlib.import_module(f"oodbench.{RENAMED[earlier]}")
    assert importlib.import_module(f"oodbench.{earlier}") is module
    assert module.__spec__ is not None
    assert module.__spec__.name == module.__name__ == f"oodbench.{RENAMED[earlier]}"


def test_a_plug_in_with_earlier_names_runs() -> None:
    subprocess.run([sys.executable, "-c", PLUGIN], check=True)


def test_configurations_are_found_where_they_were() -> None:
    from oodbench.models import config
    from oodbench.models.hierarchical.config import HVAEConfig

    assert config.HVAEConfig is HVAEConfig
    for names in config._FAMILIES.values():
        assert all(isinstance(getattr(config, name), type) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'HVAEConfg'"):
        _ = config.HVAEConfg


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"oodbench\.metrix"):
        importlib.import_module("oodbench.metrix")

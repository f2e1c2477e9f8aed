"""What pages quote from `results/published` is what stands there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hook() -> Iterator[ModuleType]:
    """What fills the figures in when the site is built."""
    sys.path.insert(0, str(ROOT / "docs" / "hooks"))
    yield importlib.import_module("site_published")
    sys.path.pop(0)


def test_every_quoted_figure_is_the_published_one(hook: ModuleType) -> None:
    used = set()
    for page in hook.PAGES:
        text = page.read_text("utf-8")
        assert hook.with_published(text) == text, (
            f"{page.name}: `python docs/hooks/site_published.py` writes what is published now"
        )
        assert text.count("<!-- from ") == len(hook.QUOTED.findall(text))
        used |= {found[1] for found in hook.QUOTED.findall(text)}
    assert used == set(hook.FIGURES)


def test_a_figure_that_moved_is_seen(hook: ModuleType) -> None:
    text = "at <!-- from dvp-nll -->1.00<!-- end --> nats"
    shown = hook.with_published(text)
    number = shown.removeprefix("at <!-- from dvp-nll -->").removesuffix("<!-- end --> nats")
    assert number != "1.00"
    assert f" {number} " in (hook.PUBLISHED / "dvp-lvae.txt").read_text("utf-8")
    with pytest.raises(KeyError):
        hook.with_published("<!-- from nowhere -->1<!-- end -->")

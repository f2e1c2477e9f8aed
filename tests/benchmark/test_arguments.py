"""Arguments of the Python API in the types that people give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oodbench.datasets.pairs import Pair, get_pair
from oodbench.detect.detector import DETECTORS, Detector
from oodbench.errors import ConfigError
from oodbench.flow import arguments

PAIR = get_pair("digits-photos")


@pytest.mark.parametrize("value", [
    ["a", "b"], ("a", "b"), np.array(["a", "b"]), (x for x in "ab"), {"a": 1, "b": 2},
    [Path("a"), "b"],
])  # fmt: skip
def test_several_names_in_any_row_of_things(value: object) -> None:
    assert arguments.texts("ood", value) == ["a", "b"]


def test_one_name_is_a_list_of_it_and_the_home_folder_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert arguments.texts("data", "home") == arguments.texts("data", Path("home")) == ["home"]
    assert arguments.texts("data", None) == []
    assert arguments.text("in_dist", "~/id@grey@resize(8)") == "/home/me/id@grey@resize(8)"
    assert arguments.text("in_dist", Path("~/id")) == "/home/me/id"
    assert arguments.text("in_dist", "a~b") == "a~b"
    assert arguments.optional("suite", None) is None


def test_pairs_are_names_or_pairs() -> None:
    assert arguments.pairs(PAIR) == [PAIR]
    assert arguments.pairs([PAIR, "china-flower"]) == [PAIR, "china-flower"]
    assert arguments.pairs(()) == []
    assert isinstance(arguments.pairs(PAIR)[0], Pair)


def test_a_registered_detector_is_its_name() -> None:
    cls = DETECTORS.get("mean-intensity")
    assert arguments.detectors(cls) == arguments.detectors([cls]) == ["mean-intensity"]
    assert arguments.detectors([cls, "knn@classifier-D"]) == ["mean-intensity", "knn@classifier-D"]


@pytest.mark.parametrize(("value", "found"), [
    (2, [0, 1]), (np.int64(2), [0, 1]), (np.arange(3), [0, 1, 2]), (range(1, 3), [1, 2]),
    ((3, np.uint8(7)), [3, 7]), ({5}, [5]), ((i for i in (1, 0)), [1, 0]),
])  # fmt: skip
def test_seeds_are_a_number_or_numbers(value: object, found: list[int]) -> None:
    assert arguments.seeds(value) == found
    assert all(type(seed) is int for seed in arguments.seeds(found))


@pytest.mark.parametrize(("read", "value", "message"), [
    (lambda v: arguments.text("in_dist", v), np.zeros((3, 8, 8)), "in_dist holds images .*savez"),
    (lambda v: arguments.text("in_dist", v), [1, 2], "in_dist holds images or other values"),
    (lambda v: arguments.text("in_dist", v), 7, "in_dist=7: give a name or a path, not int"),
    (lambda v: arguments.texts("ood", v), 7, "ood=7: give one name or several"),
    (lambda v: arguments.texts("ood", v), b"a", "ood=b'a': give one name or several"),
    (lambda v: arguments.texts("ood", v), [None], "ood=None: give a name or a path"),
    (arguments.pairs, 3, "pairs=3: give one name or several"),
    (arguments.detectors, Detector, "detectors=<class .* classes that are registered"),
    (arguments.detectors, [int], "detectors=<class 'int'>"),
    (arguments.detectors, 3.5, "detectors=3.5: give one name or several"),
    *((arguments.seeds, v, "seeds=.*: give how many") for v in
      (0, -1, [], [-1], [1.0], "3", b"3", None, True, [True], 2.0, object(), [None])),
])  # fmt: skip
def test_anything_else_is_refused_in_one_line(
    read: Callable[[object], object], value: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 250

"""Published scores: as few bits as no metric notices, order kept, infinities too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.share.rounded_scores import packed, rounded
from oodbench.store.payload import unpack_table

FLOATS = st.lists(st.floats(allow_nan=False), min_size=2, max_size=30)


@given(FLOATS, st.sampled_from([14, 17, 20, 24]))
def test_no_two_scores_change_places(values: list[float], bits: int) -> None:
    given_ = np.sort(np.array(values))
    found = rounded(given_, bits)
    assert (np.diff(found[np.isfinite(found)]) >= 0).all()
    assert (np.isinf(found) == np.isinf(given_)).all() or np.abs(given_).max() > 1e300
    finite = np.isfinite(given_) & (np.abs(given_) > 1e-300) & (np.abs(given_) < 1e300)
    error = np.abs(found[finite] - given_[finite])
    assert (error <= np.abs(given_[finite]) * 2.0**-bits).all()


def test_a_rounded_number_has_so_many_bits() -> None:
    assert rounded(np.array([1 + 2.0**-13, 1 + 2.0**-14, -3.0, 0.0, np.inf]), 14).tolist() == [
        1 + 2.0**-13, 1.0, -3.0, 0.0, np.inf,
    ]  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 1e-60, 1e60])
def test_a_table_comes_back_as_it_was_rounded(scale: float) -> None:
    values = scale * np.random.default_rng(0).normal(size=1000)
    found = unpack_table(packed({"L": values, "n": np.arange(1000.0)}, 17))
    np.testing.assert_array_equal(found["L"].astype(np.float64), rounded(values, 17))
    np.testing.assert_array_equal(found["n"], np.arange(1000.0))


def test_rounded_scores_take_about_their_bits() -> None:
    values = 2000 + 100 * np.random.default_rng(0).normal(size=10_000)
    assert len(packed({"L": values}, 17)) < 3 * 10_000
    assert len(packed({"L": values}, 53)) > 6 * 10_000

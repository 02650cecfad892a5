"""Ranks as SciPy gives them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from epgfn.gflownet.measure.ranks import mean_ranks


@given(
    arrays(
        np.float64, st.integers(0, 12), elements=st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 2.0, np.inf])
    )
)
def test_equal_numbers_share_their_mean_rank(values: np.ndarray) -> None:
    assert mean_ranks(values).tolist() == rankdata(values).tolist()


def test_they_are_what_anyone_would_count() -> None:
    assert mean_ranks([3.0, 1.0, 3.0, 2.0]).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_with_a_nan_nothing_is_known() -> None:
    assert mean_ranks([1.0, np.nan]).tolist() == pytest.approx([np.nan, np.nan], nan_ok=True)

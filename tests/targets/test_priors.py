"""Priors over graphs: each number of parents as likely as any other, and the sets of one size among themselves."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epgfn.gflownet.spaces.parent_sets import parent_sets
from epgfn.learn.scores import prior_table, study_masks
from epgfn.study import Study
from epgfn.study.settings import PriorSettings
from epgfn.targets.priors import fan_in


@given(st.integers(2, 12), st.data())
def test_every_fan_in_weighs_the_same(v: int, data: st.DataObject) -> None:
    sets = parent_sets(v, data.draw(st.integers(1, v - 1)))
    table, own = fan_in(sets, v, PriorSettings()), sets.T
    assert table.shape == (v, len(sets)) and bool(torch.isfinite(table).all())
    for j in range(v):
        for size in range(int(sets.sum(1).max()) + 1):
            chosen = table[j][~own[j] & (sets.sum(1) == size)]
            assert float(chosen.exp().sum()) == pytest.approx(1.0)
            assert float(chosen.max() - chosen.min()) == 0.0


def test_by_hand() -> None:
    assert fan_in(parent_sets(4, 2), 4, PriorSettings())[0].tolist() == pytest.approx(
        [0.0, *[-math.log(3)] * 10]
    )


def test_a_set_of_all_variables_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves out"):
        fan_in(parent_sets(3, 3), 3, PriorSettings())


def test_a_study_may_ask_for_every_number_of_parents_alike() -> None:
    study = Study.model_validate(
        {
            "name": "s",
            "roster": ["north", "south"],
            "variables": [{"name": name} for name in "abcd"],
            "space": {"max_parents": 2},
            "prior": {"kind": "fan-in"},
        }
    )
    table, masks = prior_table(study), study_masks(study)
    for j in range(4):
        rows = [(int(m), float(p)) for m, p in zip(masks, table[j], strict=True) if not int(m) >> j & 1]
        by_size = {size: sum(math.exp(p) for m, p in rows if m.bit_count() == size) for size in range(3)}
        assert by_size == pytest.approx({0: 1.0, 1: 1.0, 2: 1.0})

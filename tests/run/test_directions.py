"""How probable it is that a direction can be told, from samples."""

from __future__ import annotations

import numpy as np

from epgfn.run.directions import adjacent_probabilities, compelled_probabilities
from epgfn.study import Study


def test_shares_of_the_samples_in_which_an_edge_is_compelled(small_study: Study) -> None:
    # a collider; two chains of one class; no edge
    counts = {"a->c;b->c": 1, "a->b;b->c": 1, "c->b;b->a": 1, "": 1}
    expected = np.zeros((3, 3))
    expected[0, 2] = expected[1, 2] = 0.25
    assert np.allclose(compelled_probabilities(counts, small_study), expected)
    often = compelled_probabilities({**counts, "a->c;b->c": 5}, small_study)
    assert np.allclose(often, expected * 0.625 / 0.25)


def test_two_variables_are_adjacent_by_one_edge_or_the_other() -> None:
    assert adjacent_probabilities(np.array([[0, 0.4], [0.5, 0]])).tolist() == [[0, 0.9], [0.9, 0]]

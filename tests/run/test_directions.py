"""How probable it is that a direction can be told, from samples."""

from __future__ import annotations

import numpy as np

from epgfn.run.directions import adjacent_probabilities, compelled_probabilities
from epgfn.study import Study


def test_without_a_summary_that_says_it_samples_tell_how_often_an_edge_is_compelled(
    small_study: Study,
) -> None:
    # a collider; two chains of one class; no edge
    counts = {"a->c;b->c": 1, "a->b;b->c": 1, "c->b;b->a": 1, "": 1}
    shares = np.array([[0, 0.25, 0.25], [0.25, 0, 0.5], [0, 0.25, 0]])
    expected = np.zeros((3, 3))
    expected[0, 2] = expected[1, 2] = 0.25
    found = compelled_probabilities({}, counts, shares, small_study)
    assert found is not None and np.allclose(found, expected)
    # Published edges are exact or weighted: an edge is compelled no more often than it is there.
    published = np.array([[0, 0.3, 0.1], [0.2, 0, 0.4], [0, 0.3, 0]])
    found = compelled_probabilities({}, counts, published, small_study)
    assert found is not None and np.allclose(found[:, 2], [0.1, 0.2, 0]) and (found <= published).all()
    assert compelled_probabilities({}, {}, published, small_study) is None


def test_what_a_summary_says_of_compelled_edges_goes_first(small_study: Study) -> None:
    told = [[0, 0, 0.1], [0, 0, 0.2], [0, 0, 0]]
    found = compelled_probabilities(
        {"compelled_probabilities": told}, {"": 1}, np.array(told) * 2, small_study
    )
    assert found is not None and found.tolist() == told


def test_two_variables_are_adjacent_by_one_edge_or_the_other() -> None:
    assert adjacent_probabilities(np.array([[0, 0.4], [0.5, 0]])).tolist() == [[0, 0.9], [0.9, 0]]

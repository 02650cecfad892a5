"""How probable it is that a direction can be told, from a file of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from epgfn.run.directions import adjacent_probabilities, compelled_probabilities


def test_shares_of_the_samples_in_which_an_edge_is_compelled(tmp_path: Path) -> None:
    graphs = ["a->c;b->c", "a->b;b->c", "c->b;b->a", ""]  # a collider; two chains of one class; no edge
    path = tmp_path / "samples.parquet"
    pd.DataFrame({"edges": graphs, "log_prob": 0.0}).to_parquet(path, index=False)
    found = compelled_probabilities(path, ["a", "b", "c"])
    expected = np.zeros((3, 3))
    expected[0, 2] = expected[1, 2] = 0.25
    assert found is not None and np.allclose(found, expected)


def test_a_file_of_something_else_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    assert compelled_probabilities(path, ["a", "b"]) is None
    path.write_bytes(b"PAR1 damaged")
    assert compelled_probabilities(path, ["a", "b"]) is None
    for texts in (["a->z"], ["a->b->a"], ["a"]):
        pd.DataFrame({"edges": texts}).to_parquet(path, index=False)
        assert compelled_probabilities(path, ["a", "b"]) is None


def test_two_variables_are_adjacent_by_one_edge_or_the_other() -> None:
    assert adjacent_probabilities(np.array([[0, 0.4], [0.5, 0]])).tolist() == [[0, 0.9], [0.9, 0]]

"""What a node's BGe table tells whoever opens its model, in privacy mode none: how many records there are, and how they correlate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import score_table
from epgfn.privacy.attacks.score_table import from_bge
from epgfn.sealing.model_file import write_model
from epgfn.sealing.model_header import read_header
from epgfn.study import Study
from epgfn_node.exposure import exposed, in_words
from small import PRIVATE_STUDY, SMALL_STUDY

MORE = "".join(f'\n[[variables]]\nname = "{name}"\ncentre = 0.0\nscale = 1.0\n' for name in "de")
FIVE = Study.from_bytes((SMALL_STUDY + MORE).encode())


def world(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of a random linear network, and their score table."""
    draw, v = np.random.default_rng(seed), len(FIVE.variables)
    mixing = np.tril(draw.normal(size=(v, v)), -1) + np.eye(v)
    records = draw.normal(size=(n, v)) @ mixing.T + draw.normal(size=v)
    return records, score_table(FIVE, records, 2).numpy()


@pytest.mark.parametrize(("seed", "n"), [(100, 30), (102, 200), (103, 600)])
def test_number_variances_and_correlations_come_out_of_differences_of_scores(seed: int, n: int) -> None:
    records, table = world(seed, n)
    table += np.random.default_rng(0).normal(
        size=(len(table), 1)
    )  # a constant of each variable's own tells nothing
    found = from_bge(table, alpha_w=7.0, t=1.0)
    assert found is not None and found.n == n
    assert np.abs(found.correlations - np.abs(np.corrcoef(records.T))).max() < 1e-9
    assert np.allclose(found.variances, records.var(0, ddof=1), rtol=1e-6)


def test_what_the_scores_do_not_tell_is_not_made_up() -> None:
    _, table = world(0, 60)
    assert from_bge(table[:4, :11], alpha_w=6.0, t=1.0) is None  # four variables
    assert from_bge(table[:, :6], alpha_w=7.0, t=1.0) is None  # one parent


def test_a_node_is_shown_what_its_own_model_file_tells() -> None:
    records, table = world(102, 200)
    tensors = initial_policy(FIVE, torch.from_numpy(table), torch.Generator().manual_seed(0))
    raw = write_model(tensors, {"study_digest": FIVE.digest, "role": "local"})
    found = exposed(FIVE, raw, read_header(raw)[0])
    assert found["records"] == len(records)
    one, other, value = found["correlation"]
    i, j = (FIVE.variable_names.index(name) for name in (one, other))
    assert value == pytest.approx(abs(np.corrcoef(records.T)[i, j]), abs=1e-6)
    assert "there are 200 of them" in " ".join(in_words(found))


def test_under_privacy_nothing_is_tried_and_nothing_is_said() -> None:
    study = Study.from_bytes(
        (PRIVATE_STUDY + MORE.replace("scale = 1.0", "scale = 1.0\nlower = -5.0\nupper = 5.0")).encode()
    )
    found = exposed(study, b"", {})
    assert found["records"] is None and in_words(found) == []

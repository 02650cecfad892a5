"""A global model is graded by the sum of the nodes' score tables: a model that missed it is never called good."""

from __future__ import annotations

import numpy as np
import torch

from epgfn.gflownet.device import seeded
from epgfn.gflownet.measure.exact import edge_marginals
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.spaces.parent_sets import parent_masks
from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import score_table
from epgfn.learn.trust import trust_in_graphs
from epgfn.study.objects import space_of
from worlds import BY_SINKS as STUDY
from worlds import records


def test_a_model_around_the_table_is_close_and_one_around_another_table_is_not() -> None:
    space = space_of(STUDY)
    right = score_table(STUDY, torch.from_numpy(records(0)), 1)
    wrong = score_table(STUDY, torch.from_numpy(np.random.default_rng(5).normal(size=(500, 4))), 1)
    for around, verdicts in ((right, ("good", "usable after weighting")), (wrong, ("not to be relied on",))):
        finite = torch.where(torch.isfinite(around), around - around.amax(1, keepdim=True), 0.0)
        policy = make_policy(space, [initial_policy(STUDY, finite, seeded(1))])
        found = trust_in_graphs(policy, space, right, seeded(2))
        assert found["verdict"] in verdicts, found
    exact = edge_marginals(right, parent_masks(space.n_variables, space.max_parents))
    assert found["exact_largest_error"] > 0.1 and exact.shape == (4, 4)

"""How far a global model over graphs may be believed, by what its nodes sent: the sum of their score tables.

A policy by sinks carries its node's score table, which says log R_n exactly; what the local networks add to it is error. The sum over
nodes is therefore the best known target, and the product of the policies is not: it holds every local error.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.measure.estimates import own_samples
from epgfn.gflownet.measure.exact import MAX_VARIABLES, edge_errors, edge_marginals
from epgfn.gflownet.measure.trust import pareto_khat, verdict_of
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces import DagSpace
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_matrix
from epgfn.gflownet.training.loop import table_reward

SAMPLES: Final = 4096


@torch.no_grad()
def trust_in_graphs(
    policy: Policy, space: DagSpace, table: Tensor, generator: torch.Generator
) -> dict[str, Any]:
    """`policy`, a model by sinks, against the (V, K) float64 log-scores `table` (nats), in main memory.

    Returns:
        `samples`, `effective_share` and `khat` of their weights towards the table; `moved_by_weights`, the most that weighting changes
        the probability of any edge; up to 14 variables `exact_mean_error` and `exact_largest_error` of the unweighted ones, from the
        exact answer; and the `verdict` in `measure.trust`.
    """
    masks = parent_masks(space.n_variables, space.max_parents)
    own_set = parent_matrix(masks, space.n_variables).T
    known = table.double().cpu().masked_fill(own_set, -torch.inf)
    best = known.amax(1, keepdim=True)
    scores = torch.where(own_set, 0.0, known - best)
    own = own_samples(policy, space, table_reward(space, scores), SAMPLES, generator)
    weight = torch.softmax(own.log_weight.double(), 0)
    graphs = own.final.adjacency.double()
    plain, weighted = graphs.mean(0).numpy(), torch.einsum("b,bij->ij", weight, graphs).numpy()
    khat, moved = pareto_khat(own.log_weight), float(np.abs(weighted - plain).max())
    found: dict[str, Any] = {
        "samples": SAMPLES,
        "effective_share": own.effective_share,
        "khat": khat if np.isfinite(khat) else None,  # JSON has no infinity: all weights alike
        "moved_by_weights": moved,
    }
    largest = None
    if space.n_variables <= MAX_VARIABLES:
        mean, largest = edge_errors(plain, edge_marginals(known, masks))
        found |= {"exact_mean_error": mean, "exact_largest_error": largest}
    found["verdict"] = verdict_of(
        effective_samples=own.effective_share * SAMPLES, khat=khat, moved=moved, largest_error=largest
    )
    return found

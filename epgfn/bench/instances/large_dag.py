"""DAGs of 25 and 46 variables: 1,000 records of a linear-Gaussian network with at most three parents, BGe, grown by sinks.

All graphs can no longer be listed. What is measured instead, of one trained model:

    correlation           of log p_T with log R over its own samples; log p_T by importance weights over backward trajectories
    log_p_t_error         median standard error of those log p_T, nats
    effective_share       of its own samples once weighted towards the target, 0 to 1
    log_z_gap             log Z by those weights minus the ELBO, nats
    edge_error_mean, _max of edge frequencies over its own samples against the self-normalised importance weights of as many others:
                          only as good as `effective_share` is large
    chains_error_mean, _max  of the same against Markov chains on the score table, and chains_apart: how far halves of those are apart
    auroc                 of those frequencies against the graph that the records were drawn from
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.bench.instances.instance import Instance
from epgfn.gflownet.measure.estimates import Own, correlation, log_terminating, own_samples
from epgfn.gflownet.measure.exact import auroc, edge_errors
from epgfn.gflownet.measure.structure_chains import Chains, annealed
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.dag_by_sinks import State
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.gflownet.training.loop import fit
from epgfn.learn.local import local_loss
from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import score_table
from epgfn.study import Study
from epgfn.study.objects import space_of

RECORDS = 1000
MAX_PARENTS = 3
MEAN_PARENTS = 1.75
OBJECTS = 500
"""Own samples whose p_T is estimated, each by `TRAJECTORIES`."""
TRAJECTORIES = 8


def large_dag(n_variables: int, steps: int, batch: int, graphs: int) -> Instance:
    """`graphs` are drawn for the edge frequencies, and as many again for the reference."""
    study = _study(n_variables, steps, batch)
    records, truth = linear_gaussian(n_variables, seed=0)
    table = score_table(study, records, n_parties=1)
    table = table - table.amax(1, keepdim=True)
    space = space_of(study)

    def log_reward(state: State) -> Tensor:
        return modular_score(table, state.adjacency, MAX_PARENTS)

    def train(seed: int, steps: int) -> Policy[Any]:
        generator = torch.Generator().manual_seed(seed)
        policy = make_policy(space, [initial_policy(study, table, generator)])
        settings = study.training.model_copy(update={"steps": steps})
        fit(policy, space, settings, local_loss(space, table, settings), generator)
        return policy

    def measure(policy: Policy[Any]) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        own = own_samples(policy, space, log_reward, graphs, generator)
        other = own_samples(policy, space, log_reward, graphs, generator)
        edges = own.final.adjacency.double().mean(0).numpy()
        mean, largest = edge_errors(edges, weighted_edges(other))
        some = torch.arange(OBJECTS)
        log_p_t = log_terminating(policy, space, take(own.final, some), TRAJECTORIES, generator)
        chains = annealed(Chains(table, MAX_PARENTS))
        by_chains, at_most = edge_errors(edges, chains.edges.numpy())
        return {
            "correlation": correlation(log_p_t.value, own.log_reward[some]),
            "log_p_t_error": float(log_p_t.error.median()),
            "effective_share": own.effective_share,
            "log_z_gap": own.log_z - own.elbo.value,
            "edge_error_mean": mean,
            "edge_error_max": largest,
            "chains_error_mean": by_chains,
            "chains_error_max": at_most,
            "chains_apart": chains.apart,
            "auroc": auroc(edges, truth),
        }

    return Instance(space, study.training.objective, steps, train, measure, None, budget=900.0)


def weighted_edges(own: Own[Any]) -> npt.NDArray[np.float64]:
    """(V, V) edge probabilities under the target, by self-normalised importance weights."""
    weighted = own.final.adjacency.double() * own.log_weight.softmax(0)[:, None, None]
    edges: npt.NDArray[np.float64] = weighted.sum(0).numpy()
    return edges


def linear_gaussian(
    n_variables: int, seed: int, n: int = RECORDS
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """(n, V) records with columns of unit variance, and the graph (V, V), [i, j] = i -> j.

    A random order; each variable has Binomial(3, `MEAN_PARENTS` / 3) parents among those before it, as far as there are so
    many; weights of random sign and uniform size from .4 to 1.2; standard normal noise.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_variables)
    weights = np.zeros((n_variables, n_variables))
    for place, j in enumerate(order):
        count = min(place, rng.binomial(MAX_PARENTS, MEAN_PARENTS / MAX_PARENTS))
        for i in rng.choice(order[:place], size=count, replace=False) if count else []:
            weights[i, j] = rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
    records = np.zeros((n, n_variables))
    for j in order:
        records[:, j] = records @ weights[:, j] + rng.normal(size=n)
    return records / records.std(0), weights != 0


def _study(n_variables: int, steps: int, batch: int) -> Study:
    return Study.model_validate(
        {
            "name": f"linear-Gaussian, {n_variables} variables",
            "roster": ["one"],
            "variables": [{"name": f"x{i}", "centre": 0.0, "scale": 1.0} for i in range(n_variables)],
            "space": {"max_parents": MAX_PARENTS},
            "training": {"steps": steps, "batch": batch, "learning_rate": 3e-3, "temperature": 1.0},
        }
    )

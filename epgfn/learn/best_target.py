"""The best target that is known of a global model, to judge it by and, where its own training did not reach it, to train it on.

score tables       graphs by sinks: the sum of the nodes' tables, and the absent nodes' share of the prior, is log R exactly
listed objects     the product of what the nodes' models sample, each worked out over all objects
anything else      the product again, each model's log p_T estimated over several trajectories
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.device import seeded
from epgfn.gflownet.measure.diagnostics import log_mean, log_ratios
from epgfn.gflownet.measure.tree_chains import TreeMoves
from epgfn.gflownet.policies import SplitTable
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces.base import LogReward
from epgfn.learn.elsewhere import Elsewhere, GraphChains, Start, TreeChains, chains_of_walks, of_others
from epgfn.learn.exact import Exact, exact_of_list, exact_of_table, listed
from epgfn.learn.target import ListedReward, of_trees
from epgfn.learn.trust import SAMPLES, table_target
from epgfn.study import Study
from epgfn.study.objects import space_of

Kind = Literal["score tables", "product of the models"]
TRAJECTORIES, FEW_SAMPLES = 4, 2048
"""Into each object, and own samples of the global model, where each log-reward takes that many evaluations of every model."""
LEAST: Final = 1e-300


class Best(NamedTuple):
    """`log_reward` (nats, up to a constant) and what it is made of; `exact()`: what it implies, where that is in reach; `elsewhere`
    draws from it, `others` gives objects that the nodes' models drew; `samples`: how many to judge a model by."""

    kind: Kind
    log_reward: LogReward[Any]
    exact: Callable[[], Exact | None]
    elsewhere: Elsewhere
    others: Start
    samples: int = SAMPLES


def of_tables(study: Study, table: Tensor, local: Sequence[Policy[Any]], seed: int) -> Best:
    """From the (V, K) sum of score tables (nats)."""
    others = of_others(study, local, seed)
    return Best(
        "score tables",
        table_target(space_of(study), table),
        lambda: exact_of_table(study, table),
        GraphChains(study, table),
        others,
    )


def moves_of(stack: Policy[Any]) -> TreeMoves | None:
    """Of Markov chains on the product of the models in `stack`, where they are over trees and say log p_T exactly."""
    if not isinstance(stack, SplitTable):
        return None
    return stack.moves()


def of_models(
    study: Study,
    stack: Policy[Any],
    local: Sequence[Policy[Any]],
    prior: LogReward[Any] | None,
    seed: int,
    moves: TreeMoves | None = None,
) -> Best:
    """From the nodes' models, together in `stack` and one by one in `local`; `prior` is the absent nodes' share. `moves` are those of
    `moves_of`."""
    kind: Kind = "product of the models"
    others = of_others(study, local, seed)
    if moves is not None:
        return Best(kind, partial(of_trees, moves), lambda: None, TreeChains(study, moves), others)
    found = listed(study)
    if found is not None:
        log_mass = torch.stack([found.mass(one).clamp_min(LEAST).log() for one in local]).sum(0)
        values = log_mass if prior is None else log_mass + prior(found.state).double()
        reward = ListedReward(space_of(study), found.state, values)
        chains = chains_of_walks(study, reward, others, seed)
        return Best(kind, reward, lambda: exact_of_list(found, values), chains, others)
    space, generator = space_of(study), seeded(seed)

    def log_reward(state: Any) -> Tensor:
        total = log_mean(log_ratios(stack, space, state, TRAJECTORIES, generator)).sum(0)
        return total if prior is None else total + prior(state).double()

    chains = chains_of_walks(study, log_reward, others, seed)
    return Best(kind, log_reward, lambda: None, chains, others, FEW_SAMPLES)

"""Policies: what a study's model files hold, and the networks that read them.

A policy is one file and one entry in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.policies import (
    edge_attention,
    edge_net,
    mlp_net,
    order_potential,
    tree_net,
)
from epgfn.gflownet.policies.base import Choices, Policy
from epgfn.gflownet.policies.canonical import policy as canonical
from epgfn.gflownet.policies.canonical.policy import Canonical
from epgfn.gflownet.policies.edge_attention import EdgeAttention
from epgfn.gflownet.policies.edge_net import EdgeNet
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.policies.order_potential import OrderPotential
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.policies.split_table import policy as split_table
from epgfn.gflownet.policies.split_table import tables as split_tables
from epgfn.gflownet.policies.split_table.policy import SplitTable
from epgfn.gflownet.policies.subset_potential import MAX_VARIABLES
from epgfn.gflownet.policies.tree_net import TreeNet
from epgfn.gflownet.policies.variable_first import FEW_VARIABLES, VariableFirst
from epgfn.gflownet.spaces import DagByEdges, DagBySinks, Phylogeny
from epgfn.gflownet.spaces.base import LogReward, Space, pack_bits
from epgfn.gflownet.spaces.dag_by_sinks import State as SinksState
from epgfn.gflownet.spaces.phylogeny import State as TreeState

Models = Sequence[Mapping[str, Tensor]]

ANY_WIDTH = 8  # names of tensors are the same for every width


class Family(NamedTuple):
    """One kind of policy. `over`: the spaces it is made for. `spec(space, hidden)`: what a model file holds.
    `initial(space, hidden, scores, generator)`: an untrained model around `scores` in nats, where the policy carries any.
    `make(space, models)`: N models as one. `scores`: the name of the tensor that adds up over models, if there is one.
    `together`: takes states of different steps at once, all actions listed in order.

    Where a family has them: `fitted(space, log_reward, generator)`: scores to start from where no table is given. `check(space, tensors)`
    refuses stored scores that have no meaning. `require_room(space, batch)` refuses what takes too much memory. `key(state)`: equal where
    all that the policy sees of two states is. `taught`: whether models over the space are taught when they are made, by Markov
    chains, so that training afterwards is a touch and no search. `by_chains(space, moves, generator, multiplied)`: an untrained
    model of the target that `moves` of Markov chains are on, for kinds of objects that have such; `multiplied`: its probabilities go into
    a product with those of others. `touch`: steps of training after that."""

    over: type
    spec: Callable[[Any, int], dict[str, TensorSpec]]
    initial: Callable[[Any, int, Tensor | None, torch.Generator], dict[str, Tensor]]
    make: Callable[[Any, Models], Policy[Any]]
    scores: str | None = None
    together: bool = False
    fitted: Callable[[Any, LogReward[Any], torch.Generator], Tensor | None] | None = None
    check: Callable[[Any, Mapping[str, Tensor]], None] | None = None
    require_room: Callable[[Any, int], None] | None = None
    key: Callable[[Any], Tensor] | None = None
    taught: Callable[[Any], bool] | None = None
    by_chains: Callable[[Any, Any, torch.Generator, bool], dict[str, Tensor]] | None = None
    touch: int | None = None


def _potential_spec(space: DagBySinks, hidden: int) -> dict[str, TensorSpec]:
    if _is_canonical(space):
        return canonical.spec(space, hidden)
    return order_potential.spec(space, hidden)


def _potential_initial(
    space: DagBySinks, hidden: int, scores: Tensor | None, generator: torch.Generator
) -> dict[str, Tensor]:
    if scores is None:
        raise ValueError("this policy is made around a table of scores")
    if _is_canonical(space):
        return canonical.initial_tensors(space, hidden, scores, generator)
    return order_potential.initial_tensors(space, hidden, scores, generator)


def _potential(space: DagBySinks, models: Models) -> OrderPotential | Canonical:
    if _is_canonical(space):
        return Canonical(space, models)
    few = space.n_variables <= FEW_VARIABLES
    return OrderPotential(space, models) if few else VariableFirst(space, models)


def _is_canonical(space: DagBySinks) -> bool:
    return space.n_variables > MAX_VARIABLES


def _sink_key(state: SinksState) -> Tensor:
    """By sinks a policy sees which variables are in, and which of them are sinks; not the rest of the graph."""
    return pack_bits(torch.cat([state.members, state.sinks], 1))


def _split_scores(
    space: Phylogeny, log_reward: LogReward[TreeState], generator: torch.Generator
) -> Tensor | None:
    from epgfn.gflownet.policies.split_regression import split_scores  # which samples from policies

    return split_scores(space, log_reward, generator) if tree_net.has_scores(space) else None


def _split_table_of(
    space: Phylogeny, moves: Any, generator: torch.Generator, multiplied: bool
) -> dict[str, Tensor]:
    from epgfn.gflownet.policies.split_table.learning import taught  # which samples from policies

    return taught(space, moves, generator, multiplied)


FAMILIES: dict[str, Family] = {
    "edge-attention": Family(
        DagByEdges,
        edge_attention.spec,
        lambda s, h, _, g: edge_attention.initial_tensors(s, h, g),
        EdgeAttention,
    ),
    "edge-net": Family(
        DagByEdges, edge_net.spec, lambda s, h, _, g: edge_net.initial_tensors(s, h, g), EdgeNet
    ),
    "mlp": Family(
        object,
        mlp_net.spec,
        lambda s, h, _, g: mlp_net.initial_tensors(s, h, g),
        MlpNet,
        together=True,
        require_room=mlp_net.require_room,
    ),
    "order-potential": Family(
        DagBySinks,
        _potential_spec,
        _potential_initial,
        _potential,
        scores=order_potential.SCORES,
        check=order_potential.check_scores,
        key=_sink_key,
        taught=_is_canonical,
    ),
    "split-table": Family(
        Phylogeny,
        split_table.spec,
        lambda s, _, scores, g: split_table.initial_tensors(s),
        SplitTable,
        check=split_tables.check,
        taught=lambda s: True,
        by_chains=_split_table_of,
        touch=split_table.TOUCH,
    ),
    "tree-net": Family(
        Phylogeny,
        tree_net.spec,
        lambda s, h, scores, g: tree_net.initial_tensors(s, h, g, scores),
        TreeNet,
        scores=tree_net.SCORES,
        fitted=_split_scores,
    ),
}
"""By the policy's kind in a study."""


def make_policy(space: Space[Any], models: Models) -> Policy[Any]:
    """N models of one shape as one object that evaluates them together.

    Raises:
        ValueError: no policy over this space has tensors of these names.
    """
    for family in FAMILIES.values():
        if isinstance(space, family.over) and family.spec(space, ANY_WIDTH).keys() == models[0].keys():
            return family.make(space, models)
    raise ValueError("no policy over this space has tensors of these names")


def apart(space: Any, stack: Policy[Any], models: Models) -> list[Policy[Any]]:
    """Each model of `stack`, made of `models`, by itself."""
    if isinstance(stack, OrderPotential):
        return [stack.of_model(number) for number in range(stack.n_models)]
    return [make_policy(space, [tensors]) for tensors in models]


def untrained(policy: Policy[Any]) -> Policy[Any] | None:
    """What `policy` was before its training where that covers all of its target, as graphs by sinks with an exact potential do."""
    if not isinstance(policy, OrderPotential):
        return None
    return policy.untrained()


__all__ = [
    "Canonical",
    "Choices",
    "EdgeAttention",
    "EdgeNet",
    "FAMILIES",
    "Family",
    "MlpNet",
    "OrderPotential",
    "Policy",
    "SplitTable",
    "TensorSpec",
    "TreeNet",
    "apart",
    "make_policy",
    "untrained",
]

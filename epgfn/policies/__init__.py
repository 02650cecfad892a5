"""Policies: what a study's model files hold, and the networks that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from epgfn.policies import edge_attention, edge_net, learned_potential, order_potential
from epgfn.policies.base import Choices, Policy
from epgfn.policies.edge_attention import EdgeAttention
from epgfn.policies.edge_net import EdgeNet
from epgfn.policies.learned_potential import LearnedPotential
from epgfn.policies.order_potential import OrderPotential
from epgfn.policies.spec import TensorSpec
from epgfn.policies.subset_potential import MAX_VARIABLES
from epgfn.policies.validation import check_policy, check_tensors
from epgfn.policies.variable_first import FEW_VARIABLES, VariableFirst
from epgfn.spaces import DagBySinks, DagSpace, make_space

if TYPE_CHECKING:
    from epgfn.study import Study


def space_of(study: Study) -> DagSpace:
    """The study's state graph.

    Raises:
        UsageError: the settings make no sense.
    """
    space: DagSpace = make_space(
        study.space.kind, n_variables=len(study.variables), max_parents=study.space.max_parents
    )
    return space


def policy_spec(study: Study) -> dict[str, TensorSpec]:
    """Names, shapes and dtypes of the tensors in a model file of `study`; nothing but the study decides them."""
    return _spec(space_of(study), study)


def initial_policy(study: Study, table: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Tensors of an untrained model; `table` (V, K) float64 log scores (nats), used where the policy carries them."""
    space = space_of(study)
    if isinstance(space, DagBySinks):
        if space.n_variables > MAX_VARIABLES:
            return learned_potential.initial_tensors(space, study.policy.hidden, table, generator)
        return order_potential.initial_tensors(space, study.policy.hidden, table, generator)
    if study.policy.kind == "edge-attention":
        return edge_attention.initial_tensors(space, study.policy.hidden, generator)
    return edge_net.initial_tensors(space, study.policy.hidden, generator)


def make_policy(space: DagSpace, models: Sequence[Mapping[str, Tensor]]) -> Policy:
    """N models of one shape as one object that evaluates them together."""
    if isinstance(space, DagBySinks):
        if space.n_variables > MAX_VARIABLES:
            return LearnedPotential(space, models)
        few = space.n_variables <= FEW_VARIABLES
        return OrderPotential(space, models) if few else VariableFirst(space, models)
    return EdgeAttention(space, models) if edge_attention.VARIABLES in models[0] else EdgeNet(space, models)


def validate_policy(study: Study, tensors: Mapping[str, Tensor]) -> None:
    """Check that `tensors` are a usable policy of `study`, before anything is computed from them.

    Checked: names, shapes, dtypes; every number finite and of bounded size; no score stored where a variable would be its
    own parent; and on states sampled from the policy, that it names an action and that its probabilities sum to one.

    Raises:
        RefusedError: with reason `model-tensors` (wrong names, shapes or dtypes), `model-not-finite`, `model-magnitude`,
            `model-illegal-score` or `model-not-a-policy`.
    """
    space = space_of(study)
    check_tensors(tensors, _spec(space, study))
    if isinstance(space, DagBySinks):
        order_potential.check_scores(space, tensors)
    check_policy(make_policy(space, [tensors]), space)


def _spec(space: DagSpace, study: Study) -> dict[str, TensorSpec]:
    hidden = study.policy.hidden
    if isinstance(space, DagBySinks):
        if space.n_variables > MAX_VARIABLES:
            return learned_potential.spec(space, hidden)
        return order_potential.spec(space, hidden)
    if study.policy.kind == "edge-attention":
        return edge_attention.spec(space, hidden)
    return edge_net.spec(space, hidden)


__all__ = [
    "Choices",
    "EdgeAttention",
    "EdgeNet",
    "OrderPotential",
    "Policy",
    "TensorSpec",
    "initial_policy",
    "make_policy",
    "policy_spec",
    "space_of",
    "validate_policy",
]

"""Policies: what a study's model files hold, and the networks that read them.

A policy is one file and one entry in `FAMILIES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from epgfn.errors import UsageError
from epgfn.objects import space_of
from epgfn.policies import edge_attention, edge_net, learned_potential, mlp_net, order_potential, tree_net
from epgfn.policies.base import Choices, Policy
from epgfn.policies.edge_attention import EdgeAttention
from epgfn.policies.edge_net import EdgeNet
from epgfn.policies.learned_potential import LearnedPotential
from epgfn.policies.mlp_net import MlpNet
from epgfn.policies.order_potential import OrderPotential
from epgfn.policies.spec import TensorSpec
from epgfn.policies.subset_potential import MAX_VARIABLES
from epgfn.policies.tree_net import TreeNet
from epgfn.policies.validation import check_policy, check_tensors
from epgfn.policies.variable_first import FEW_VARIABLES, VariableFirst
from epgfn.spaces import DagByEdges, DagBySinks, Phylogeny

if TYPE_CHECKING:
    from epgfn.study import Study

Models = Sequence[Mapping[str, Tensor]]


class Family(NamedTuple):
    """One kind of policy. `spec(space, hidden)`: what a model file holds. `initial(space, hidden, scores, generator)`: an untrained model
    around `scores` in nats, where the policy carries any. `make(space, models)`: N models as one. `scores`: the name of the tensor
    that adds up over models, if there is one. `together`: takes states of different steps at once, all actions listed in order."""

    spec: Callable[[Any, int], dict[str, TensorSpec]]
    initial: Callable[[Any, int, Tensor | None, torch.Generator], dict[str, Tensor]]
    make: Callable[[Any, Models], Policy]
    scores: str | None = None
    together: bool = False


def _potential_spec(space: DagBySinks, hidden: int) -> dict[str, TensorSpec]:
    if space.n_variables > MAX_VARIABLES:
        return learned_potential.spec(space, hidden)
    return order_potential.spec(space, hidden)


def _potential_initial(
    space: DagBySinks, hidden: int, scores: Tensor | None, generator: torch.Generator
) -> dict[str, Tensor]:
    if scores is None:
        raise ValueError("this policy is made around a table of scores")
    if space.n_variables > MAX_VARIABLES:
        return learned_potential.initial_tensors(space, hidden, scores, generator)
    return order_potential.initial_tensors(space, hidden, scores, generator)


def _potential(space: DagBySinks, models: Models) -> Policy:
    if space.n_variables > MAX_VARIABLES:
        return LearnedPotential(space, models)
    few = space.n_variables <= FEW_VARIABLES
    return OrderPotential(space, models) if few else VariableFirst(space, models)


FAMILIES: dict[str, Family] = {
    "edge-attention": Family(
        edge_attention.spec, lambda s, h, _, g: edge_attention.initial_tensors(s, h, g), EdgeAttention
    ),
    "edge-net": Family(edge_net.spec, lambda s, h, _, g: edge_net.initial_tensors(s, h, g), EdgeNet),
    "mlp": Family(mlp_net.spec, lambda s, h, _, g: mlp_net.initial_tensors(s, h, g), MlpNet, together=True),
    "order-potential": Family(_potential_spec, _potential_initial, _potential, scores=order_potential.SCORES),
    "tree-net": Family(
        tree_net.spec,
        lambda s, h, scores, g: tree_net.initial_tensors(s, h, g, scores),
        TreeNet,
        scores=tree_net.SCORES,
    ),
}
"""By the policy's kind in a study."""


def family_of(study: Study) -> Family:
    """The study's kind of policy."""
    return FAMILIES[study.policy.kind]


def policy_spec(study: Study) -> dict[str, TensorSpec]:
    """Names, shapes and dtypes of the tensors in a model file of `study`; nothing but the study decides them."""
    return family_of(study).spec(space_of(study), study.policy.hidden)


def initial_policy(study: Study, scores: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
    """Tensors of an untrained model; `scores` in float64 nats, (V, K) of parent sets or (S,) of splits, where the policy carries them."""
    return family_of(study).initial(space_of(study), study.policy.hidden, scores, generator)


def make_policy(space: Any, models: Models) -> Policy:
    """N models of one shape as one object that evaluates them together."""
    if isinstance(space, DagBySinks):
        return _potential(space, models)
    if isinstance(space, Phylogeny):
        return TreeNet(space, models)
    if edge_attention.VARIABLES in models[0]:
        return EdgeAttention(space, models)
    return EdgeNet(space, models) if isinstance(space, DagByEdges) else MlpNet(space, models)


def model_bytes(study: Study) -> int:
    """How many bytes the numbers in a model file of `study` take."""
    return sum(4 * math.prod(entry.shape) for entry in policy_spec(study).values())


def require_possible(study: Study) -> None:
    """Refuse what would run out of memory, or could not be sent, before anyone trains.

    Raises:
        UsageError: the settings make no sense, the space has too many actions for the policy, its batches are too large, or a
            model is larger than what the study lets a node send.
    """
    space = space_of(study)
    if study.policy.kind == "mlp":
        if space.n_actions > mlp_net.MAX_ACTIONS:
            raise UsageError(
                f"the space has {space.n_actions} actions and policy 'mlp' takes {mlp_net.MAX_ACTIONS} at most; merge categories"
            )
        batch = max(study.training.batch, study.aggregation.batch)
        features = 4 * batch * space.max_steps * space.n_features
        if features > mlp_net.MAX_BYTES:
            raise UsageError(
                f"a batch would take {features / 2**30:.0f} GiB, with up to {space.max_steps} steps of {space.n_features} features; "
                "choose smaller objects or a smaller batch"
            )
    if model_bytes(study) > study.transport.max_upload_bytes:
        raise UsageError(
            f"a model of this study has {model_bytes(study)} bytes and transport.max_upload_bytes is "
            f"{study.transport.max_upload_bytes}; choose a smaller policy.hidden or a larger transport.max_upload_bytes"
        )


def validate_policy(study: Study, tensors: Mapping[str, Tensor]) -> None:
    """Check that `tensors` are a usable policy of `study`, before anything is computed from them.

    Checked: names, shapes, dtypes; every number finite and of bounded size; no score stored where a variable would be its
    own parent; and on states sampled from the policy, that it names an action and that its probabilities sum to one.

    Raises:
        RefusedError: with reason `model-tensors` (wrong names, shapes or dtypes), `model-not-finite`, `model-magnitude`,
            `model-illegal-score` or `model-not-a-policy`.
    """
    space = space_of(study)
    check_tensors(tensors, policy_spec(study))
    if isinstance(space, DagBySinks):
        order_potential.check_scores(space, tensors)
    check_policy(make_policy(space, [tensors]), space)


__all__ = [
    "Choices",
    "EdgeAttention",
    "EdgeNet",
    "FAMILIES",
    "Family",
    "MlpNet",
    "OrderPotential",
    "Policy",
    "TensorSpec",
    "TreeNet",
    "family_of",
    "initial_policy",
    "make_policy",
    "model_bytes",
    "policy_spec",
    "require_possible",
    "space_of",
    "validate_policy",
]

"""Sampling by look-up says what step-by-step sampling says: the same trajectories, probabilities and gradients, every time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.mlp import frozen_layers, mlp, mlp_init, relu_layers, relu_mlp_of
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.sampling import listed_walk, open_walk, rollout
from epgfn.gflownet.sampling.rollout import Rollout, evaluate, sample, sample_once
from epgfn.gflownet.sampling.state_graph import state_graph
from epgfn.gflownet.spaces import DagByEdges, Hypergrid, Multiset, Sequence
from epgfn.gflownet.spaces.enumeration import explore
from made_up import random_policy

SPACES = [Hypergrid(3, 4), Multiset(4, 4), Sequence(3, 3)]
HOW = pytest.mark.parametrize(
    "how", [{}, {"temperature": 2.0, "exploration": 0.3}], ids=["plain", "exploring"]
)
EACH = pytest.mark.parametrize("space", SPACES, ids=lambda s: type(s).__name__)


def draw(method: Any, policy: MlpNet, space: Any, **how: float) -> Rollout:
    found: Rollout = method(policy, space, 64, generator=torch.Generator().manual_seed(1), **how)
    return found


def gradients(policy: MlpNet, found: Rollout) -> list[Tensor]:
    """Of something that depends on every log probability."""
    values = [v for v in found.evaluated if v is not None]
    total = torch.stack([v.square().sum() for v in values]).sum()
    return list(torch.autograd.grad(total, [policy.weights[name] for name in sorted(policy.weights)]))


@EACH
@pytest.mark.parametrize("few", [0, 10**6], ids=["as-met", "all-at-once"])
@HOW
@pytest.mark.parametrize("where", ["processor", "accelerator"])
def test_looking_up_is_walking(
    space: Any, few: int, how: dict[str, float], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_walk, "FEW_STATES", few)
    if where == "accelerator":
        monkeypatch.setattr(listed_walk, "_by_numpy", listed_walk._by_torch)
    assert_alike(space, how)


def assert_alike(space: Any, how: dict[str, float]) -> None:
    """`sample_once` does what `sample` does, gradients by autograd included."""
    policy = random_policy(space)
    for tensor in policy.parameters():
        tensor.requires_grad_(True)
    walked, looked_up = (draw(method, policy, space, **how) for method in (sample, sample_once))
    one, other = walked.trajectories, looked_up.trajectories
    assert torch.equal(one.active, other.active)
    assert torch.equal(one.actions[one.active], other.actions[one.active])
    for mine, theirs in zip([*one.states, one.final], [*other.states, other.final], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert torch.allclose(one.log_pb, other.log_pb)
    assert torch.allclose(walked.log_q, looked_up.log_q, atol=1e-4)
    for mine, theirs in zip(walked.evaluated, looked_up.evaluated, strict=True):
        assert mine is theirs is None or torch.allclose(mine, theirs, atol=1e-4)
    for mine, theirs in zip(gradients(policy, walked), gradients(policy, looked_up), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-2)


@EACH
@HOW
@pytest.mark.parametrize("by", ["rows", "features"])
def test_a_space_too_large_to_list_is_walked(
    space: Any, how: dict[str, float], by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its features are sums of rows or anything, and however many states fall into a slot."""
    monkeypatch.setattr(rollout, "state_graph", lambda space: None)
    monkeypatch.setattr(open_walk, "SLOTS", 4)
    if by == "features":
        monkeypatch.setattr(rollout, "row_table", lambda space: None)
    assert_alike(space, how)


@pytest.mark.parametrize("space", [Hypergrid(8, 16), Multiset(30, 20), Sequence(6, 20), DagByEdges(10, 3)])
def test_a_large_space_is_walked(space: Any) -> None:
    assert state_graph(space) is None
    assert_alike(space, {"exploration": 0.1})


def test_only_what_fits_is_listed() -> None:
    assert state_graph(Hypergrid(12, 64)) is None
    assert state_graph(Multiset(500, 500)) is None
    assert state_graph(DagByEdges(10, 9)) is None


@EACH
def test_a_listed_graph_is_the_space(space: Any) -> None:
    """Every state once, every allowed step as the space takes it, and finished states stay."""
    graph = state_graph(space)
    assert graph is not None
    assert len(graph.log_pb) == sum(len(level.state[0]) for level in explore(space))
    assert len(torch.unique(space.key(graph.state), dim=0)) == len(graph.log_pb)
    assert torch.equal(space.is_terminating(graph.state), torch.arange(len(graph.log_pb)) >= graph.n_acting)
    assert torch.equal(space.key(space.initial(1)), space.key(graph.state)[:1])
    state, action = space.forward_mask(graph.state).nonzero(as_tuple=True)
    before = type(graph.state)(*(field[state] for field in graph.state))
    assert torch.equal(
        space.key(space.step(before, action)), space.key(graph.state)[graph.after[state, action]]
    )
    stay = torch.arange(graph.n_acting, len(graph.log_pb))
    assert (graph.after[stay] == stay[:, None]).all()


@EACH
def test_objects_come_as_often_as_the_policy_says(space: Any) -> None:
    """Frequencies of 20,000 draws against the exact p_T, within five standard deviations; impossible actions never."""
    policy = random_policy(space)
    objects, mass = terminating_mass(space, policy)
    found = sample_once(policy, space, 20_000, generator=torch.Generator().manual_seed(2))
    _, number = torch.unique(
        torch.cat([space.key(objects), space.key(found.trajectories.final)]), dim=0, return_inverse=True
    )
    counts = torch.bincount(number[len(mass) :], minlength=len(mass))[number[: len(mass)]]
    assert int(counts.sum()) == 20_000
    deviation = (counts / 20_000 - mass) / (mass * (1 - mass) / 20_000).sqrt().clamp_min(2e-4)
    assert float(deviation.abs().max()) < 5
    assert torch.isfinite(evaluate(policy, space, found.trajectories).log_pf).all()


def test_a_policy_that_is_none_gives_no_number_for_training_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = random_policy(SPACES[0])
    policy.weights["net.0.bias"].fill_(torch.nan)
    assert draw(sample_once, policy, SPACES[0]).evaluated.log_pf.isnan().any()
    monkeypatch.setattr(rollout, "state_graph", lambda space: None)
    assert draw(sample_once, policy, SPACES[0]).evaluated.log_pf.isnan().any()


def test_known_layers_give_the_gradients_of_the_network() -> None:
    generator = torch.Generator().manual_seed(3)
    weights = {name: tensor[None].double() for name, tensor in mlp_init(7, 12, 5, generator).items()}
    for name in weights:
        weights[name] = weights[name].normal_(generator=generator).requires_grad_(True)
    x = torch.randn(9, 7, generator=generator, dtype=torch.float64)
    hidden = [torch.empty(9, 12, dtype=torch.float64) for _ in range(2)]
    out = relu_layers(frozen_layers(weights), x, hidden)
    known, anew = relu_mlp_of(weights, x, hidden, out).T, mlp(weights, x, torch.relu)[0]
    assert torch.allclose(known, anew)
    target = torch.randn(anew.shape, generator=generator, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad((known * target).sum(), list(weights.values())),
        torch.autograd.grad((anew * target).sum(), list(weights.values())),
        strict=True,
    ):
        assert torch.allclose(mine, theirs)

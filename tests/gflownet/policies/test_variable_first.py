"""Many variables by sinks: the variable first and its parents second is one distribution, however it is followed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.order_potential import OrderPotential, initial_tensors
from epgfn.gflownet.policies.variable_first import VariableFirst
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward
from epgfn.gflownet.spaces import DagBySinks


def model(space: DagBySinks, seed: int, spread: float = 20.0) -> dict[str, Tensor]:
    """Random scores and weights everywhere, as after training."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(space.n_variables, space.n_sets, dtype=torch.float64, generator=generator) * spread
    fresh = initial_tensors(space, 16, table, generator)
    noise = {name: torch.randn(t.shape, generator=generator) * 0.3 for name, t in fresh.items()}
    return {name: t if name == "score_table" else t + noise[name] for name, t in fresh.items()}


@pytest.mark.parametrize(("v", "fan_in"), [(3, 1), (6, 2), (7, 4)])
def test_what_a_walk_says_is_what_all_actions_listed_say(v: int, fan_in: int) -> None:
    space = DagBySinks(v, fan_in)
    policy = VariableFirst(space, [model(space, 0), model(space, 1)])
    drawn = sample(
        policy, space, 32, generator=torch.Generator().manual_seed(0), temperature=2.0, exploration=0.3
    )
    again = evaluate(policy, space, drawn.trajectories)
    listed = torch.zeros_like(drawn.evaluated.log_pf)
    for t, (state, action) in enumerate(
        zip(drawn.trajectories.states, drawn.trajectories.actions, strict=True)
    ):
        choices = policy.choices(state)
        assert torch.allclose(choices.log_prob.exp().sum(2), torch.ones(2, 32), atol=1e-5)
        dense = torch.full((2, 32, space.n_actions), -torch.inf)
        dense.scatter_(2, choices.action.expand(2, -1, -1), choices.log_prob)
        assert torch.equal(torch.isfinite(dense[0]), space.forward_mask(state))
        listed[:, t] = dense.gather(2, action.expand(2, -1).unsqueeze(2))[:, :, 0]
    assert torch.allclose(drawn.evaluated.log_pf, listed, atol=1e-3)
    assert torch.allclose(again.log_pf, listed, atol=1e-3)


def test_gradients_of_a_walk_are_those_of_all_actions_listed() -> None:
    space = DagBySinks(5, 3)
    policy = VariableFirst(space, [model(space, 2)])
    for tensor in policy.parameters():
        tensor.requires_grad_(True)
    drawn = sample(policy, space, 16, generator=torch.Generator().manual_seed(0), temperature=2.0)
    walked = torch.autograd.grad(drawn.evaluated.log_pf.sum(1).square().mean(), policy.parameters())
    total = torch.zeros(())
    for state, action in zip(drawn.trajectories.states, drawn.trajectories.actions, strict=True):
        choices = policy.choices(state)
        total = total + choices.log_prob[0][choices.action == action[:, None]]
    listed = torch.autograd.grad(total.square().mean(), policy.parameters())
    for one, other in zip(walked, listed, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_samples_of_a_walk_come_as_often_as_the_exact_sweep_says() -> None:
    space = DagBySinks(3, 2)
    policy = VariableFirst(space, [model(space, 3, spread=1.0)])
    state, mass = terminating_mass(space, policy)
    drawn = sample(policy, space, 40_000, generator=torch.Generator().manual_seed(1)).trajectories.final
    same = space.key(state)[:, None, 0] == space.key(drawn)[None, :, 0]
    frequency = same.double().mean(1)
    assert torch.isclose(frequency.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert float((frequency - mass).abs().max()) < 5 * 0.5 / 40_000**0.5


def test_backward_trajectories_are_followed_too() -> None:
    space = DagBySinks(6, 2)
    policy, generator = VariableFirst(space, [model(space, 4)]), torch.Generator().manual_seed(0)
    final = sample(policy, space, 64, generator=generator).trajectories.final
    back = sample_backward(space, final, generator=generator)
    assert torch.isfinite(evaluate(policy, space, back).log_pf).all()


def test_the_form_is_chosen_by_the_number_of_variables() -> None:
    few, many = DagBySinks(12, 1), DagBySinks(13, 1)
    assert type(make_policy(few, [model(few, 0)])) is OrderPotential
    assert type(make_policy(many, [model(many, 0)])) is VariableFirst

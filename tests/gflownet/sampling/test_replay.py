"""Replay remembers the best distinct objects, leads trajectories into them, and leaves the target what it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.mlp_net import MlpNet, initial_tensors
from epgfn.gflownet.rewards.rewards import HypergridReward
from epgfn.gflownet.sampling.replay import Replay, with_replayed
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_once
from epgfn.gflownet.spaces import Hypergrid, Multiset, Sequence
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward

GRID, BAGS, WORDS = Hypergrid(2, 5), Multiset(4, 4), Sequence(3, 3)


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 24), min_size=1, max_size=30), min_size=1, max_size=5))
def test_it_holds_the_best_distinct_objects_it_was_given(batches: list[list[int]]) -> None:
    memory = Replay(GRID, 6)
    for batch in batches:
        numbers = torch.tensor(batch)
        memory.add(GRID.terminal(torch.stack([numbers // 5, numbers % 5], 1)), numbers.float())
    held = (memory.state.position * torch.tensor([5, 1])).sum(1)
    given_once = sorted({number for batch in batches for number in batch})
    assert sorted(held.tolist()) == given_once[-6:]
    assert torch.equal(memory.log_reward, held.float())


@pytest.mark.parametrize("space", [GRID, BAGS, WORDS], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("draw", [sample, sample_once])
def test_replayed_trajectories_are_trajectories_into_remembered_objects(space: Any, draw: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = initial_tensors(space, 8, generator)
    policy = MlpNet(space, [{n: w + torch.randn(w.shape, generator=generator) for n, w in tensors.items()}])
    memory, objects = Replay(space, 9), terminating_states(space, explore(space))
    memory.add(objects, torch.arange(len(objects[0])))
    fresh = draw(policy, space, 16, generator=generator)
    both = with_replayed(fresh, memory, 24, policy, draw, generator)
    paths = both.trajectories
    assert paths.active.shape[1] == len(both.log_q) == 40
    known = {tuple(key) for key in space.key(memory.state).tolist()}
    assert all(tuple(key) in known for key in space.key(paths.final)[16:].tolist())
    assert torch.equal(both.log_q[:16], fresh.log_q) and both.log_q[16:].isnan().all()
    state = space.initial(40)
    for expected, action, active in zip(paths.states, paths.actions, paths.active, strict=True):
        assert torch.equal(space.key(state)[active], space.key(expected)[active])
        assert space.forward_mask(state).gather(1, action[:, None])[active].all()
        after = space.step(state, action)
        state = type(state)(
            *(
                torch.where(active.view(-1, *[1] * (a.dim() - 1)), a, b)
                for a, b in zip(after, state, strict=True)
            )
        )
    assert torch.equal(space.key(state), space.key(paths.final))
    again = evaluate(policy, space, paths)
    assert torch.allclose(both.evaluated.log_pf, again.log_pf, atol=1e-5)
    if again.log_stop is not None:
        assert torch.allclose(both.evaluated.log_stop, again.log_stop, atol=1e-5)


def test_a_buffer_is_restored_as_it_was() -> None:
    memory, other = Replay(WORDS, 5), Replay(WORDS, 5)
    objects = terminating_states(WORDS, explore(WORDS))
    memory.add(objects, torch.arange(len(objects[0])))
    other.restore(memory.tensors())
    assert torch.equal(other.log_reward, memory.log_reward)
    assert all(torch.equal(a, b) for a, b in zip(other.state, memory.state, strict=True))


@pytest.mark.parametrize("objective", ["contrastive", "trajectory", "detailed", "modified-detailed"])
def test_with_half_of_each_batch_replayed_the_model_still_samples_its_target(objective: str) -> None:
    reward = HypergridReward(GRID, r0=1e-3)
    train = RewardSettings(objective, steps=250, batch=64, hidden=64, replay=0.5)
    result = train_reward(GRID, reward, seed=1, settings=train)
    state, mass = terminating_mass(GRID, MlpNet(GRID, [result.tensors]))
    assert l1(mass, exact_distribution(reward(state))) < 0.05
    assert all(0 < row["ess"] <= 1 for row in result.history)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_fresh_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="replay"):
        RewardSettings(replay=share)

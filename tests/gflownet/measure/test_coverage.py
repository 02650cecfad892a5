"""Objects from elsewhere show what a model lacks: a mode that it never visits, and nothing where it lacks nothing."""

from __future__ import annotations

import pytest
import torch

from epgfn.gflownet.measure.coverage import different, lacking, missing_from
from epgfn.gflownet.measure.estimates import own_samples
from epgfn.gflownet.policies import mlp_net
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces import Multiset
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward

SPACE = Multiset(4, 4)


def two_modes(state: object) -> torch.Tensor:
    """Four of the first item, or four of the last; else 12 nats less."""
    counts = state.counts  # type: ignore[attr-defined]
    return torch.where((counts == 4)[:, [0, 3]].any(1), 0.0, -12.0).double()


def one_mode(state: object) -> torch.Tensor:
    return two_modes(state) - 12.0 * (state.counts[:, 3] == 4)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("reward", "expected"), [(one_mode, 0.5), (two_modes, 0.0)])
def test_a_mode_never_visited_is_found_among_objects_of_others(reward: object, expected: float) -> None:
    settings = RewardSettings(steps=300, batch=64, hidden=32, exploration=0.3)
    model = MlpNet(SPACE, [train_reward(SPACE, reward, seed=1, settings=settings).tensors])  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    own = own_samples(model, SPACE, two_modes, 2000, generator)
    objects = terminating_states(SPACE, explore(SPACE))
    drawn = torch.multinomial(two_modes(objects).exp(), 512, replacement=True, generator=generator)
    target, none = take(objects, drawn), take(objects, torch.tensor([0]))
    for chains, others in ((target, none), (none, objects)):
        found = missing_from(model, SPACE, two_modes, own, chains, others, generator)
        assert found.share == pytest.approx(expected, abs=0.05)
        if expected:
            assert SPACE.decode(found.lacking) == SPACE.decode(take(objects, objects.counts[:, 3] == 4))
        else:
            assert found.lacking is None
    assert own.effective_share > 0.9  # own weights say nothing of it


def test_what_lacks_is_a_share_of_the_whole() -> None:
    log_p = torch.tensor([0.5, 1e-9]).log()
    assert lacking(torch.tensor([0.5, 0.5]).log(), log_p) == pytest.approx(1 / 3)
    assert lacking(torch.tensor([0.5, 1e6]).log(), log_p) == pytest.approx(1.0, abs=1e-5)
    assert lacking(torch.tensor([0.9, 1e-9]).log(), log_p) == 0.0


def test_objects_count_once() -> None:
    model = MlpNet(SPACE, [mlp_net.initial_tensors(SPACE, 8, torch.Generator().manual_seed(0))])
    state = sample(model, SPACE, 500, generator=torch.Generator().manual_seed(0)).trajectories.final
    found, which = different(SPACE, state)
    keys = SPACE.key(found)
    assert (keys[which] == SPACE.key(state)).all()
    assert len(keys) == len(torch.unique(SPACE.key(state), dim=0)) == len(torch.unique(keys, dim=0))

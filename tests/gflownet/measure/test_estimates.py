"""Estimates for spaces too large to list agree with the exact sweep where both can be had."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.measure import estimates
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import mlp_net
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.policies.order_potential import initial_tensors
from epgfn.gflownet.policies.variable_first import VariableFirst
from epgfn.gflownet.rewards.rewards import HypergridReward
from epgfn.gflownet.spaces import DagBySinks, Hypergrid
from epgfn.gflownet.spaces.base import Space, take
from epgfn.gflownet.spaces.parent_index import modular_score

SPACES = ["hypergrid", "dag"]


def world(name: str) -> tuple[Space, estimates.LogReward, object]:
    """A space, its log-reward, and an untrained policy with random weights."""
    generator = torch.Generator().manual_seed(0)
    if name == "hypergrid":
        grid = Hypergrid(2, 6)
        fresh = mlp_net.initial_tensors(grid, 16, generator)
        noisy = {key: t + 0.3 * torch.randn(t.shape, generator=generator) for key, t in fresh.items()}
        return grid, HypergridReward(grid), MlpNet(grid, [noisy])
    space = DagBySinks(4, 2)
    table = torch.randn(4, space.n_sets, dtype=torch.float64, generator=generator)
    fresh = initial_tensors(space, 16, table, generator)
    noisy = {
        key: t if key == "score_table" else t + 0.2 * torch.randn(t.shape, generator=generator)
        for key, t in fresh.items()
    }
    return space, lambda s: modular_score(table, s.adjacency, 2), VariableFirst(space, [noisy])


@pytest.mark.parametrize("name", SPACES)
def test_log_p_t_is_that_of_the_sweep_within_its_own_error(name: str) -> None:
    space, _, policy = world(name)
    state, mass = terminating_mass(space, policy)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    some = torch.arange(min(len(mass), 40))
    found = estimates.log_terminating(policy, space, take(state, some), 400, generator)  # type: ignore[arg-type]
    off = (found.value - mass[some].log()).abs()
    assert float((off / (found.error + 1e-6)).max()) < 5
    assert float(off.mean()) < 0.05


@pytest.mark.parametrize("name", SPACES)
def test_the_bounds_hold_and_the_weights_find_log_z(name: str) -> None:
    space, log_reward, policy = world(name)
    state, _ = terminating_mass(space, policy)  # type: ignore[arg-type]
    score = log_reward(state).double()
    log_z = float(score.logsumexp(0))
    generator = torch.Generator().manual_seed(2)
    own = estimates.own_samples(policy, space, log_reward, 20_000, generator)  # type: ignore[arg-type]
    rows = torch.multinomial(score.softmax(0), 20_000, replacement=True, generator=generator)
    above = estimates.upper_bound(policy, space, log_reward, take(state, rows), generator)  # type: ignore[arg-type]
    assert own.elbo.value < log_z < above.value
    assert own.log_z == pytest.approx(log_z, abs=0.1)
    assert 0 < own.effective_share < 1


def test_the_exact_flow_has_no_gap() -> None:
    """Two variables and no scores: every trajectory into a graph has the same weight under the exact policy."""
    space = DagBySinks(2, 1)
    table = torch.zeros(2, space.n_sets, dtype=torch.float64)

    class Exact:
        """log p_F of the exact flow, worked out by hand: three graphs, each with probability 1/3."""

        n_models = 1

        def choices(self, state: object) -> object:
            from epgfn.gflownet.policies.base import Choices

            members = state.members  # type: ignore[attr-defined]
            b = len(members)
            dense = torch.full((b, space.n_actions), -torch.inf)
            allowed = space.forward_mask(state)  # type: ignore[arg-type]
            # from the empty state either variable: 1/2; then no parent 1/3 (half of the empty graph), the other 2/3
            dense[allowed] = -torch.log(torch.tensor(2.0))
            for row in members.any(1).nonzero()[:, 0].tolist():
                number = (torch.arange(space.n_actions) % space.n_sets)[allowed[row]]
                dense[row, allowed[row]] = torch.where(number == 0, 1 / 3, 2 / 3).log()
            return Choices(torch.arange(space.n_actions).expand(b, -1), dense[None])

        def parameters(self) -> list[Tensor]:
            return []

        def tensors(self, model: int = 0) -> dict[str, Tensor]:
            return {}

    generator = torch.Generator().manual_seed(0)
    policy, score = Exact(), lambda s: modular_score(table, s.adjacency, 1)
    own = estimates.own_samples(policy, space, score, 500, generator)  # type: ignore[arg-type]
    above = estimates.upper_bound(policy, space, score, own.final, generator)  # type: ignore[arg-type]
    assert own.elbo.value == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-5)
    assert above.value == pytest.approx(own.elbo.value, abs=1e-5)
    assert own.effective_share == pytest.approx(1.0)


def test_the_best_objects_are_different_and_in_order() -> None:
    space, log_reward, policy = world("dag")
    generator = torch.Generator().manual_seed(3)
    own = estimates.own_samples(policy, space, log_reward, 2000, generator)  # type: ignore[arg-type]
    best = estimates.top(policy, space, own, 5, 50, generator)  # type: ignore[arg-type]
    assert len({tuple(key) for key in space.key(best.final).tolist()}) == 5
    assert best.log_reward.tolist() == sorted(set(own.log_reward.tolist()), reverse=True)[:5]
    assert torch.equal(best.log_reward, log_reward(best.final).double())


def test_correlation_is_one_for_a_power_of_the_reward() -> None:
    score = torch.tensor([0.0, 1.0, 5.0])
    assert estimates.correlation(2 * score - 7, score) == pytest.approx(1.0)


def test_a_reward_that_is_not_finite_is_refused() -> None:
    space, _, policy = world("dag")
    with pytest.raises(EpgfnError, match="not finite"):
        estimates.own_samples(
            policy,  # type: ignore[arg-type]
            space,
            lambda s: torch.full((len(s.members),), torch.nan),
            8,
            torch.Generator().manual_seed(0),
        )

"""Losses: values worked out by hand, zero at the exact flow, and blind to constants where they must be."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn import objectives as loss
from epgfn.judges import edges_of
from epgfn.policies.base import Choices
from epgfn.rollout import Rollout, Trajectories, sample
from epgfn.spaces import DagByEdges, DagBySinks, DagSpace
from epgfn.spaces.base import take
from epgfn.spaces.parent_index import modular_score
from epgfn.sweep import explore


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_trajectory_balance_by_hand() -> None:
    # residuals 1 - 2 + 0.5 - (-0.5) = 0 and 1 - 1 + 1 - 3 = -2; mean square (0 + 4) / 2
    value = loss.trajectory_balance(torch.tensor(1.0), t(-2, -1), t(-0.5, -1), t(-0.5, 3))
    assert value.item() == pytest.approx(2.0)


def test_contrastive_balance_is_the_mean_over_all_pairs() -> None:
    a = t(0.0, 1.0, 3.0)  # pairs differ by 1, 3, 2: mean square (1 + 9 + 4) / 3
    assert loss.contrastive_balance(a, t(0, 0, 0), t(0, 0, 0)).item() == pytest.approx(14 / 3)
    assert loss.contrastive_balance(a, a, t(0, 0, 0)).item() == pytest.approx(0.0)


def test_robust_contrastive_balance_by_hand() -> None:
    # about the median 1: -1, 0, 5; squares 1, 0 and linear 2 * 2 * (5 - 1) = 16
    value = loss.robust_contrastive_balance(t(0, 1, 6), t(0, 0, 0), t(0, 0, 0), delta=2.0)
    assert value.item() == pytest.approx((1 + 0 + 16) / 3)


def test_detailed_balance_by_hand() -> None:
    value = loss.detailed_balance(t(2.0, 0.0), t(-1.0, -1.0), t(0.5, -1.5), t(0.0, -0.5))
    assert value.item() == pytest.approx((0.5**2 + 1.0**2) / 2)


def test_modified_detailed_balance_by_hand() -> None:
    # -1 + (-0.5) - (-0.25) - (-2) - 0.5 = 0.25
    value = loss.modified_detailed_balance(t(-1.0), t(-0.25), t(-2.0), t(-0.5), t(0.5))
    assert value.item() == pytest.approx(0.0625)


def test_aggregating_balance_by_hand() -> None:
    # locals say (1 + 2, 0 + 1) = (3, 1) beyond p_B; the global model says (3, 2): a = (0, 1), twice its variance is 1
    locals_pf, pb = torch.stack([t(1, 0), t(2, 1)]), t(0, 0)
    assert loss.aggregating_balance(t(3, 2), pb, locals_pf, pb).item() == pytest.approx(1.0)
    assert loss.aggregating_balance(t(3, 2), pb, locals_pf, pb, t(5, 6)).item() == pytest.approx(0.0)


def test_edge_wise_aggregation_by_hand() -> None:
    ratios = torch.stack([t(0.5), t(0.25)])
    value = loss.aggregating_modified_detailed_balance(t(-1.0), t(-0.25), t(-2.0), t(-0.5), ratios)
    assert value.item() == pytest.approx(0.0)
    shifted = loss.aggregating_modified_detailed_balance(t(-1.0), t(-0.25), t(-2.0), t(-0.5), ratios, t(1.0))
    assert shifted.item() == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8), st.floats(-1e3, 1e3))
def test_a_constant_in_log_reward_changes_nothing(values: list[float], constant: float) -> None:
    a, zero = t(*values), torch.zeros(len(values), dtype=torch.float64)
    for contrastive in (loss.contrastive_balance, lambda *x: loss.robust_contrastive_balance(*x, delta=2.0)):
        expected = contrastive(a, zero, zero).item()
        assert contrastive(a, zero, zero + constant).item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8))
def test_twice_the_variance_is_the_mean_over_pairs(values: list[float]) -> None:
    a, zero = t(*values), torch.zeros(len(values), dtype=torch.float64)
    squares = (a[:, None] - a).square().sum() / (len(a) * (len(a) - 1))
    assert loss.contrastive_balance(a, zero, zero).item() == pytest.approx(float(squares), rel=1e-6, abs=1e-6)


class ExactPolicy:
    """p_F from the exact flow F(s) = sum over s' of F(s') p_B(s | s'), worked out by one sweep back from R."""

    n_models = 1

    def __init__(self, space: DagSpace, table: Tensor) -> None:
        self.space, self.rows = space, {}
        levels = explore(space)
        log_flow = torch.zeros(0, dtype=torch.float64)
        for level in reversed(levels):
            state = level.state
            log_reward = modular_score(table, state.adjacency, space.max_parents)
            log_prob = torch.full((len(state[0]), space.n_actions), -torch.inf, dtype=torch.float64)
            if len(level.source):
                after = space.step(take(state, level.source), level.action)
                log_pb = -space.backward_mask(after).sum(1).double().log()
                log_prob[level.source, level.action] = log_flow[level.target] + log_pb
            log_flow = torch.where(space.is_terminating(state), log_reward, log_prob.logsumexp(1))
            self.log_z = log_flow[0]
            for key, row in zip(space.key(state).tolist(), log_prob - log_flow[:, None], strict=True):
                self.rows[tuple(key)] = row

    def choices(self, state: object) -> Choices:
        rows = torch.stack([self.rows[tuple(key)] for key in self.space.key(state).tolist()])
        rows[:, -1] = torch.where(
            torch.isfinite(rows).any(1), rows[:, -1], 0.0
        )  # a finished row's is not used
        return Choices(torch.arange(self.space.n_actions).expand(len(rows), -1), rows[None])


def drawn(space: DagSpace, seed: int) -> tuple[ExactPolicy, Tensor, Rollout, Trajectories]:
    table = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    policy = ExactPolicy(space, table)
    rollout = sample(policy, space, 32, generator=torch.Generator().manual_seed(seed), exploration=0.5)  # type: ignore[arg-type]
    return policy, table, rollout, rollout.trajectories


@pytest.mark.parametrize("space", [DagBySinks(3, 1), DagByEdges(3, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_loss_is_zero_at_the_exact_flow(space: DagSpace, seed: int) -> None:
    policy, table, rollout, paths = drawn(space, seed)
    log_pf, log_pb = rollout.evaluated.log_pf[0].sum(0), paths.log_pb.sum(0)
    log_reward = modular_score(table, paths.final.adjacency, 1)
    assert math.isclose(policy.log_z.item(), (log_reward + log_pb - log_pf)[0].item(), abs_tol=1e-5)
    assert loss.trajectory_balance(policy.log_z, log_pf, log_pb, log_reward).item() < 1e-9
    assert loss.contrastive_balance(log_pf, log_pb, log_reward).item() < 1e-9
    twice = torch.stack([log_pf / 2 + log_pb / 2, log_pf / 2 + log_pb / 2])  # two nodes, half the target each
    assert loss.aggregating_balance(log_pf, log_pb, twice, log_pb).item() < 1e-9


def test_the_edge_wise_losses_are_zero_at_the_exact_flow() -> None:
    space = DagByEdges(3, 1)
    _, table, rollout, paths = drawn(space, 4)
    log_reward = torch.stack([modular_score(table, state.adjacency, 1) for state in paths.states])
    edges = edges_of(rollout)
    ratio = (log_reward[1:] - log_reward[:-1])[edges.mask]
    named = edges.log_pf[0], edges.log_pb, edges.log_stop[0], edges.log_stop_next[0]
    assert len(ratio) > 0
    assert loss.modified_detailed_balance(*named, ratio).item() < 1e-9
    assert loss.aggregating_modified_detailed_balance(*named, torch.stack([ratio / 2] * 2)).item() < 1e-9

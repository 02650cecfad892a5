"""Losses: values worked out by hand, zero at the exact flow, and blind to constants where they must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.gflownet import losses as loss
from epgfn.gflownet.losses import LOSSES, make_loss
from epgfn.gflownet.losses.modified_detailed import edges_of
from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.rewards.rewards import HypergridReward, MultisetReward, SequenceReward
from epgfn.gflownet.sampling.rollout import Rollout, sample
from epgfn.gflownet.spaces import DagByEdges, DagBySinks, DagSpace, Hypergrid, Multiset, Phylogeny, Sequence
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.enumeration import explore
from epgfn.gflownet.spaces.parent_index import modular_score


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


def test_subtrajectory_balance_by_hand() -> None:
    # Two trajectories, of two steps and of one; lambda 1/2.
    log_flow, log_pf, log_pb = (
        torch.stack([t(1, 2), t(0.5, math.nan)]),
        torch.stack([t(-1, -1), t(-0.5, math.nan)]),
        torch.stack([t(0, 0), t(-0.5, math.nan)]),
    )
    active = torch.tensor([[True, True], [True, False]])
    # first: edges .. 1 - 1 - .5 = -.5 and .5 - .5 + .5 - .5 = 0, whole: 1 - 1 + 0 - .5 = -.5; weights 1/2, 1/2, 1/4
    first = (0.5 * 0.25 + 0.5 * 0.0 + 0.25 * 0.25) / 1.25
    second = (2.0 - 1.0 - 3.0) ** 2  # one edge, whatever its weight
    value = loss.subtrajectory_balance(log_flow, log_pf, log_pb, active, t(0.5, 3.0), 0.5)
    assert value.item() == pytest.approx((first + second) / 2)
    robust = loss.subtrajectory_balance(log_flow, log_pf, log_pb, active, t(0.5, 3.0), 0.5, delta=1.0)
    assert robust.item() == pytest.approx((first + 2 * 1.0 * (2.0 - 0.5)) / 2)


def test_subtrajectories_of_one_step_are_detailed_balance() -> None:
    log_flow, log_pf, log_pb = (torch.randn(4, 8, dtype=torch.float64) for _ in range(3))
    final, active = torch.randn(8, dtype=torch.float64), torch.ones(4, 8, dtype=torch.bool)
    following = torch.cat([log_flow[1:], final[None]])
    edges = loss.detailed_balance(*(x.flatten() for x in (log_flow, log_pf, following, log_pb)))
    assert loss.subtrajectory_balance(log_flow, log_pf, log_pb, active, final, 1e-9).item() == pytest.approx(
        edges.item(), rel=1e-6
    )


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


@settings(max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8), st.floats(-1e3, 1e3))
def test_a_constant_in_log_reward_changes_nothing(values: list[float], constant: float) -> None:
    a, zero = t(*values), torch.zeros(len(values), dtype=torch.float64)
    for contrastive in (loss.contrastive_balance, lambda *x: loss.robust_contrastive_balance(*x, delta=2.0)):
        expected = contrastive(a, zero, zero).item()
        assert contrastive(a, zero, zero + constant).item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8))
def test_twice_the_variance_is_the_mean_over_pairs(values: list[float]) -> None:
    a, zero = t(*values), torch.zeros(len(values), dtype=torch.float64)
    squares = (a[:, None] - a).square().sum() / (len(a) * (len(a) - 1))
    assert loss.contrastive_balance(a, zero, zero).item() == pytest.approx(float(squares), rel=1e-6, abs=1e-6)


class ExactPolicy:
    """p_F from the exact flow F(s) = sum over s' of F(s') p_B(s | s'), worked out by one sweep back from R."""

    n_models = 1

    def __init__(self, space: Any, reward: Callable[[Any], Tensor]) -> None:
        self.space = space
        self.rows: dict[tuple[int, ...], Tensor] = {}
        self.flows: dict[tuple[int, ...], Tensor] = {}
        levels = explore(space)
        log_flow = torch.zeros(0, dtype=torch.float64)
        for level in reversed(levels):
            state = level.state
            log_reward = reward(state).double()
            log_prob = torch.full((len(state[0]), space.n_actions), -torch.inf, dtype=torch.float64)
            if len(level.source):
                after = space.step(take(state, level.source), level.action)
                log_pb = -space.backward_mask(after).sum(1).double().log()
                log_prob[level.source, level.action] = log_flow[level.target] + log_pb
            log_flow = torch.where(space.is_terminating(state), log_reward, log_prob.logsumexp(1))
            self.log_z = log_flow[0]
            rows = zip(space.key(state).tolist(), log_prob - log_flow[:, None], log_flow, strict=True)
            for key, row, flow in rows:
                self.rows[tuple(key)], self.flows[tuple(key)] = row, flow

    def log_flow(self, state: object) -> Tensor:
        """(B,) log F(s)."""
        return torch.stack([self.flows[tuple(key)] for key in self.space.key(state).tolist()])

    def choices(self, state: object) -> Choices:
        rows = torch.stack([self.rows[tuple(key)] for key in self.space.key(state).tolist()])
        rows[:, -1] = torch.where(
            torch.isfinite(rows).any(1), rows[:, -1], 0.0
        )  # a finished row's is not used
        return Choices(torch.arange(self.space.n_actions).expand(len(rows), -1), rows[None])


def table_reward(space: DagSpace) -> Callable[[Any], Tensor]:
    table = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return lambda state: modular_score(table, state.adjacency, space.max_parents)


SINKS, EDGES, GRID, BAGS, WORDS = (
    DagBySinks(3, 1),
    DagByEdges(3, 1),
    Hypergrid(2, 4),
    Multiset(3, 3),
    Sequence(2, 3),
)
TREES = Phylogeny(4)
WORLDS: list[tuple[Any, Callable[[Any], Tensor]]] = [
    (SINKS, table_reward(SINKS)),
    (EDGES, table_reward(EDGES)),
    (GRID, HypergridReward(GRID)),
    (BAGS, MultisetReward(BAGS, t(0.5, -1, 2))),
    (WORDS, SequenceReward(WORDS, t(0.2, 1, 0.5), t(-1, 2))),
    (TREES, lambda state: state.nodes.double().log1p().sum(1)),
]
NAMES = [type(space).__name__ for space, _ in WORLDS]


def drawn(
    space: Any, reward: Callable[[Any], Tensor], shift: float = 0.0
) -> tuple[ExactPolicy, Rollout, Tensor]:
    """The exact policy of a reward, trajectories from it and from exploring, and their (B,) log R + shift."""
    policy = ExactPolicy(space, lambda state: reward(state) + shift)
    rollout = sample(policy, space, 32, generator=torch.Generator().manual_seed(1), exploration=0.5)
    return policy, rollout, reward(rollout.trajectories.final).double() + shift


@pytest.mark.parametrize(("space", "reward"), WORLDS, ids=NAMES)
@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_every_loss_is_zero_at_the_exact_flow(
    space: Any, reward: Callable[[Any], Tensor], shift: float
) -> None:
    """Also after a constant is added to log R, which the flow takes up: log Z of TB and log F of DB and SubTB."""
    policy, rollout, log_reward = drawn(space, reward, shift)
    paths, steps_pf = rollout.trajectories, rollout.evaluated.log_pf[0]
    log_pf, log_pb = steps_pf.sum(0), paths.log_pb.sum(0)
    log_flow = torch.stack([policy.log_flow(state) for state in paths.states])
    after = torch.cat([log_flow[1:], log_reward[None]])
    on = paths.active
    assert math.isclose(policy.log_z.item(), (log_reward + log_pb - log_pf)[0].item(), abs_tol=1e-5)
    assert loss.trajectory_balance(policy.log_z, log_pf, log_pb, log_reward).item() < 1e-9
    assert loss.contrastive_balance(log_pf, log_pb, log_reward).item() < 1e-9
    assert loss.detailed_balance(log_flow[on], steps_pf[on], after[on], paths.log_pb[on]).item() < 1e-9
    pieces = loss.subtrajectory_balance(log_flow, steps_pf, paths.log_pb, on, log_reward, 0.9)
    assert pieces.item() < 1e-9
    twice = torch.stack([log_pf / 2 + log_pb / 2, log_pf / 2 + log_pb / 2])  # two nodes, half the target each
    assert loss.aggregating_balance(log_pf, log_pb, twice, log_pb).item() < 1e-9


@pytest.mark.parametrize(
    ("space", "reward"), [w for w in WORLDS if w[0].stop_action is not None], ids=lambda w: type(w).__name__
)
@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_the_edge_wise_losses_are_zero_at_the_exact_flow(
    space: Any, reward: Callable[[Any], Tensor], shift: float
) -> None:
    _, rollout, _ = drawn(space, reward, shift)
    log_reward = torch.stack([reward(state) for state in rollout.trajectories.states]) + shift
    edges = edges_of(rollout)
    ratio = (log_reward[1:] - log_reward[:-1])[edges.mask]
    named = edges.log_pf[0], edges.log_pb, edges.log_stop[0], edges.log_stop_next[0]
    assert len(ratio) > 0
    assert loss.modified_detailed_balance(*named, ratio).item() < 1e-9
    assert loss.aggregating_modified_detailed_balance(*named, torch.stack([ratio / 2] * 2)).item() < 1e-9


@pytest.mark.parametrize("objective", LOSSES)
def test_a_constant_in_log_reward_changes_no_gradient_of_the_first_step(objective: str) -> None:
    """Log Z, and the level of a flow, start where the first batch says they are, so that training need not find them."""
    space, reward = GRID, HypergridReward(GRID)
    losses = []
    for shift in (0.0, 700.0):
        loss = make_loss(space, lambda state, by=shift: reward(state) + by, objective, hidden=8)
        policy = ExactPolicy(space, lambda state: torch.zeros(len(state.position)))
        rollout = sample(policy, space, 32, generator=torch.Generator().manual_seed(1))
        losses.append(float(loss.of_batch(rollout).loss))
    assert losses[0] > 0.01
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)

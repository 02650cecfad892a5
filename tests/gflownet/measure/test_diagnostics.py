"""What is told of models without rewards: figures that follow from their own trajectories, and a bound that really bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.gflownet.measure.diagnostics import inconsistency, log_mean, log_ratios
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.sampling.rollout import sample
from epgfn.learn.policy import initial_policy
from epgfn.study import Study
from epgfn.study.objects import space_of


def jeffreys(log_p: Tensor, log_q: Tensor) -> float:
    """KL in both directions, added, of two distributions given up to constants (nats)."""
    p, q = log_p.log_softmax(0), log_q.log_softmax(0)
    return float(((p.exp() - q.exp()) * (p - q)).sum())


@settings(max_examples=100)
@given(seed=st.integers(0, 10_000), nodes=st.integers(1, 4), scale=st.floats(0.01, 3.0))
def test_the_bound_holds_for_an_exactly_balanced_global_model(seed: int, nodes: int, scale: float) -> None:
    """Whose p_T(x) is then the mean over trajectories of the product of the locals' p_F / p_B."""
    draw = torch.Generator().manual_seed(seed)
    ratio = scale * torch.randn(nodes, 12, 8, generator=draw, dtype=torch.float64)
    ratio += 2 * torch.randn(nodes, 12, 1, generator=draw, dtype=torch.float64)
    product_of_marginals = log_mean(ratio).sum(0)
    balanced = log_mean(ratio.sum(0, keepdim=True))[0]
    low, high = inconsistency(ratio, tail=0.0)
    assert jeffreys(product_of_marginals, balanced) <= float((high - low).sum()) + 1e-12


def test_a_model_without_contradictions_has_a_bound_of_zero_and_a_contradiction_shows() -> None:
    steady = torch.randn(2, 50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = inconsistency(steady.expand(2, 50, 8))
    assert torch.allclose(high - low, torch.zeros(2, dtype=torch.float64), atol=1e-12)
    contradicting = steady.expand(2, 50, 8).clone()
    contradicting[1, :, :4] += math.log(
        3
    )  # p_F / p_B is p_T / 2 on half of the trajectories and 3/2 p_T on the others
    low, high = inconsistency(contradicting)
    assert float(low[1].exp()) == pytest.approx(0.5) and float(high[1].exp()) == pytest.approx(1.5)
    assert float(high[0] - low[0]) == pytest.approx(0, abs=1e-12)


def test_the_log_of_the_mean_ratio_is_the_log_probability_of_the_object(small_study: Study) -> None:
    space = space_of(small_study)
    draw = torch.Generator().manual_seed(1)
    table = torch.randn((space.n_variables, space.n_sets), generator=draw, dtype=torch.float64)
    policy = make_policy(space, [initial_policy(small_study, table, draw)])
    final = sample(policy, space, 20, generator=draw).trajectories.final
    states, mass = terminating_mass(space, policy)
    exact = {
        bytes(graph.flatten().tolist()): float(m) for graph, m in zip(states.adjacency, mass, strict=True)
    }
    found = log_mean(log_ratios(policy, space, final, 4000, draw))[0]
    for graph, estimate in zip(final.adjacency, found, strict=True):
        assert float(estimate) == pytest.approx(math.log(exact[bytes(graph.flatten().tolist())]), abs=0.03)

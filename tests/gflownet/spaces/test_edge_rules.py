"""Rules for edges: spaces hold exactly the DAGs that keep them, without dead ends, and every policy draws those alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.gflownet.measure.distances import exact_distribution
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import FAMILIES, make_policy
from epgfn.gflownet.policies.canonical import corrections
from epgfn.gflownet.policies.canonical import policy as canonical
from epgfn.gflownet.policies.canonical.policy import Canonical
from epgfn.gflownet.policies.order_potential import SCORES, OrderPotential, scores_of, stored
from epgfn.gflownet.policies.variable_first import VariableFirst
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward
from epgfn.gflownet.spaces import DagByEdges, DagBySinks, EdgeRules
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.gflownet.spaces.parent_index import modular_score
from rules import as_set, drawn_rules, kept

SIZES = st.sampled_from([(2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)])


def drawn_scores(space: DagBySinks, seed: int, spread: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    table = spread * torch.randn(space.n_variables, space.n_sets, dtype=torch.float64, generator=generator)
    return table.masked_fill(~space.admissible, -torch.inf)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 10_000))
def test_a_space_holds_the_graphs_that_keep_its_rules_and_no_dead_ends(
    size: tuple[int, int], seed: int
) -> None:
    rules = drawn_rules(*size, seed)
    every = as_set(kept(rules, size[1]))
    for space in (DagBySinks(*size, rules), DagByEdges(*size, rules)):
        levels = explore(space)
        for level in levels:
            ended = space.is_terminating(level.state)
            assert bool((ended | space.forward_mask(level.state).any(1)).all())
        assert as_set(terminating_states(space, levels).adjacency) == every


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(0, 10_000))
def test_ways_back_from_any_graph_are_ways_forward_too(size: tuple[int, int], seed: int) -> None:
    rules, generator = drawn_rules(*size, seed), torch.Generator().manual_seed(seed)
    for space in (DagBySinks(*size, rules), DagByEdges(*size, rules)):
        back = sample_backward(space, space.terminal(kept(rules, size[1])), generator=generator)
        for state, action, active in zip(back.states, back.actions, back.active, strict=True):
            allowed = space.forward_mask(state).gather(1, action[:, None])[:, 0]
            assert bool((allowed | ~active).all())


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(0, 10_000), st.booleans())
def test_by_sinks_the_policy_draws_all_of_them_and_no_other(
    size: tuple[int, int], seed: int, joint: bool
) -> None:
    """Untrained already, and near their scores; a model file holds a score for each admissible set and for nothing else."""
    rules = drawn_rules(*size, seed)
    space = DagBySinks(*size, rules)
    table, generator = drawn_scores(space, seed), torch.Generator().manual_seed(seed)
    tensors = FAMILIES["order-potential"].initial(space, 8, table, generator)
    assert tensors[SCORES].shape == (int(space.admissible.sum()),)
    held = scores_of(space, tensors[SCORES])
    assert torch.equal(stored(space, held), tensors[SCORES])
    policy = (OrderPotential if joint else VariableFirst)(space, [tensors])
    state, mass = terminating_mass(space, policy)
    assert as_set(state.adjacency) == as_set(kept(rules, size[1]))
    assert abs(float(mass.sum()) - 1) < 1e-5 and float(mass.min()) > 0
    assert torch.allclose(held[space.admissible], (table - table.amax(1, keepdim=True))[space.admissible])
    best = exact_distribution(modular_score(table, state.adjacency, size[1]))
    assert float((mass / best).log().abs().max()) < 2 * size[0], "nats: what counting orders costs"
    drawn = sample(policy, space, 64, generator=generator, temperature=2.0, exploration=0.5).trajectories
    assert bool(rules.admits(drawn.final.adjacency).all())
    assert bool(torch.isfinite(evaluate(policy, space, drawn).log_pf).all())


@settings(max_examples=12, deadline=None)
@given(SIZES, st.integers(0, 10_000), st.sampled_from(["edge-net", "edge-attention"]))
def test_by_edges_every_policy_draws_them_alone(size: tuple[int, int], seed: int, name: str) -> None:
    space = DagByEdges(*size, drawn_rules(*size, seed))
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        key: 0.5 * torch.randn(tensor.shape, generator=generator)
        for key, tensor in FAMILIES[name].initial(space, 16, None, generator).items()
    }
    state, mass = terminating_mass(space, make_policy(space, [tensors]))
    assert space.rules is not None and bool(space.rules.admits(state.adjacency).all())
    assert abs(float(mass.sum()) - 1) < 1e-5


@settings(max_examples=5, deadline=None)
@given(st.sampled_from([(3, 2), (4, 2), (4, 3)]), st.integers(0, 10_000))
def test_with_many_variables_what_is_barred_is_thrown_away(size: tuple[int, int], seed: int) -> None:
    """Of one way into each graph too: log p_F of graphs that keep the rules is that of their distribution up to a constant."""
    rules, generator = drawn_rules(*size, seed), torch.Generator().manual_seed(seed)
    space = DagBySinks(*size, rules)
    tensors = {
        SCORES: stored(space, drawn_scores(space, seed, 1.0)),
        canonical.ORDER: torch.rand(size[0], generator=generator),
    }
    for name, entry in corrections.spec(size[0], 16).items():
        tensors[canonical.PREFIX + name] = torch.zeros(entry.shape)
    policy = Canonical(space, [tensors])
    drawn = sample(policy, space, 2000, generator=generator)
    graphs = drawn.trajectories.final.adjacency
    assert len(graphs) == 2000 and bool(rules.admits(graphs).all())
    every = kept(rules, size[1])
    back = sample_backward(policy.ways, space.terminal(every), generator=generator)
    expected = exact_distribution(evaluate(policy, space, back).log_pf[0].double().sum(0))
    number = {tuple(graph): i for i, graph in enumerate(every.flatten(1).tolist())}
    counts = torch.zeros(len(every), dtype=torch.float64)
    for graph in graphs.flatten(1).tolist():
        counts[number[tuple(graph)]] += 1
    assert float((counts / 2000 - expected).abs().max()) < 0.06


@pytest.mark.parametrize(
    ("allowed", "required", "why"),
    [
        ([(0, 1)], [(1, 0)], "required and not allowed"),
        ([(0, 1), (1, 0)], [(0, 1), (1, 0)], "cycle"),
        ([(0, 0)], [], "to itself"),
        ([(0, 2), (1, 2)], [(0, 2), (1, 2)], "more parents"),
    ],
)
def test_rules_that_no_graph_keeps_are_refused(
    allowed: list[tuple[int, int]], required: list[tuple[int, int]], why: str
) -> None:
    both = torch.zeros(2, 3, 3, dtype=torch.bool)
    for number, edges in enumerate((allowed, required)):
        for i, j in edges:
            both[number, i, j] = True
    with pytest.raises(ValueError, match=why):
        DagBySinks(3, 1, EdgeRules(*both))

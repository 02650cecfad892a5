"""Corrections of greatest likelihood: what they add up to, and a chain of variables that turns round."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epgfn.gflownet.measure import exact
from epgfn.gflownet.policies.canonical import likelihood
from epgfn.gflownet.policies.canonical.corrections import corrections_of, zero
from epgfn.gflownet.policies.canonical.few import prepared
from epgfn.gflownet.policies.canonical.ordered import Ordered
from epgfn.gflownet.policies.canonical.set_sums import SetSums
from epgfn.gflownet.spaces import DagBySinks
from epgfn.gflownet.spaces.parent_index import modular_score


def turning(v: int, tie: float) -> tuple[DagBySinks, Tensor]:
    """A chain of variables that are worth `tie` nats to each other, either way round, so that each of its 2 x v/2 orientations without a
    collider is as probable as the other."""
    space = DagBySinks(v, 1)
    table = torch.zeros(v, space.n_sets, dtype=torch.float64)
    for j in range(v):
        for number, parents in enumerate(space.parents):
            held = parents.nonzero()[:, 0].tolist()
            near = [i for i in held if abs(i - j) == 1]
            table[j, number] = (
                tie * len(near) - 20 * (len(held) - len(near)) if len(held) <= 1 else -torch.inf
            )
    return space, table.masked_fill(space.parents.T, -torch.inf)


def model(space: DagBySinks, table: Tensor, generator: torch.Generator) -> Ordered:
    sums = SetSums(table, torch.arange(space.n_variables), space.max_parents)
    return Ordered(prepared(sums), corrections_of(zero(space.n_variables, 16, generator)))


def test_what_is_fitted_is_what_the_corrections_say() -> None:
    generator, v, n = torch.Generator().manual_seed(1), 6, 40
    by = corrections_of(zero(v, 16, generator))
    numbers = torch.randn(sum(likelihood._sizes(v).values()), generator=generator).double().numpy() - 3
    late = torch.rand(n, v, generator=generator) < 0.4
    sinks = late & (torch.rand(n, v, generator=generator) < 0.6)
    t = torch.randint(v, (n,), generator=generator)
    likelihood._put(by, numbers, 50.0)
    said = by.of(t, late.float(), sinks.float())
    expected = torch.from_numpy(likelihood._features(t, late, sinks) @ numbers) - 50
    assert torch.allclose(said.double(), expected, atol=1e-4)


def test_a_chain_that_turns_round_is_found_whole() -> None:
    """Graphs against the order of places: too unlikely by many nats before, each with its own probability after."""
    generator, v = torch.Generator().manual_seed(2), 5
    space, table = turning(v, 30.0)
    every = torch.as_tensor(exact.enumerate_dags(v)).bool()
    every = every[(every.sum(1) <= 1).all(1)]
    score = modular_score(table, every, 1)
    p = (score - score.logsumexp(0)).exp()
    of_chains = every[torch.multinomial(p, 600, replacement=True, generator=generator)]
    policy = model(space, table, generator)

    def off() -> float:
        said = (score - likelihood.log_weights(policy, every)).exp()
        assert abs(float(said.sum()) - 1) < 1e-6
        return float((said - p).abs().sum() / 2)

    before = off()
    assert likelihood.fitted(policy, of_chains, generator)
    assert before > 0.1
    assert off() < 0.03, "600 graphs of five kinds say no more"


def test_where_ways_have_too_little_in_common_nothing_is_done(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(3)
    space, table = turning(5, 3.0)
    policy = model(space, table, generator)
    monkeypatch.setattr(likelihood, "MANY", 3)
    every = torch.as_tensor(exact.enumerate_dags(5)).bool()
    assert not likelihood.fitted(policy, every[(every.sum(1) <= 1).all(1)], generator)
    assert all(not tensor.any() for tensor in policy.corrections[:7])


def test_what_few_graphs_tell_of_is_not_believed() -> None:
    """40 graphs, and a policy that is right already: what the graphs held back deny is left."""
    generator, v = torch.Generator().manual_seed(4), 5
    space = DagBySinks(v, 2)
    table = (
        torch.randn(v, space.n_sets, generator=generator).double().masked_fill(~space.admissible, -torch.inf)
    )
    every = torch.as_tensor(exact.enumerate_dags(v)).bool()
    every = every[(every.sum(1) <= 2).all(1)]
    score = modular_score(table, every, 2)
    p = (score - score.logsumexp(0)).exp()
    few = every[torch.multinomial(p, 40, replacement=True, generator=generator)]

    def off(ridges: tuple[float, ...] | None) -> float:
        policy = model(space, table, generator)
        if ridges is not None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(likelihood, "RIDGES", ridges)
                patch.setattr(likelihood, "OWN_ROUNDS", 0)
                assert likelihood.fitted(policy, few, generator)
        return float(p @ likelihood.log_weights(policy, every) - score.logsumexp(0))

    untrained, weak, chosen = off(None), off((0.003,)), off(likelihood.RIDGES)
    assert untrained < 0.1 < weak
    assert chosen < weak / 2

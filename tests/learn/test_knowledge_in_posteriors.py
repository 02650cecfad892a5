"""Knowledge of a study in its posteriors: what is ruled out has no probability in local models, products and samples, and all else is what
enumeration says, with absent nodes and their powers of the soft prior."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.gflownet.measure import exact
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.sampling.rollout import sample
from epgfn.learn.aggregate import absent_prior_share, train_global
from epgfn.learn.exact import exact_of_table
from epgfn.learn.local import train_local, train_on_moments
from epgfn.learn.scores import score_table, study_masks, study_sets
from epgfn.privacy.of_study.networks import GaussianNetwork
from epgfn.privacy.of_study.synthetic import worlds_of
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.targets import TARGETS
from epgfn.targets.gaussian import Moments
from rules import as_set, drawn_rules, kept


def made(v: int, prior: str, more: str = "", nodes: int = 3) -> Study:
    told = ", ".join(f'{{name = "v{j}", centre = 0, scale = 1}}' for j in range(v))
    roster = ", ".join(f'"n{i}"' for i in range(nodes))
    return Study.from_bytes(
        f'name = "t"\nroster = [{roster}]\nvariables = [{told}]\n{more}\n[prior]\n{prior}\n'.encode()
    )


def records(v: int, nodes: int, n: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(v)
    network = GaussianNetwork(v, rng)
    return [network.draw(n, rng) for _ in range(nodes)]


def prior_text(v: int, fan_in: int, seed: int) -> str:
    """Rules at random as lists of edges."""
    rules = drawn_rules(v, fan_in, seed)
    named = {
        "forbidden": (~rules.allowed & ~torch.eye(v, dtype=torch.bool)).nonzero().tolist(),
        "required": rules.required.nonzero().tolist(),
    }
    return "\n".join(f"{key} = {[[f'v{i}', f'v{j}'] for i, j in edges]}" for key, edges in named.items())


def independent(study: Study, parts: list[np.ndarray], log_prior: Tensor, graphs: Tensor) -> Tensor:
    """(V, V) edge probabilities: the sum over graphs one by one, of log-likelihoods and the whole prior once."""
    total = torch.zeros(len(graphs), dtype=torch.float64)
    masks = study_masks(study)
    for part in parts:
        moments = Moments.of_records(torch.from_numpy(part))
        scores = TARGETS["bge"](moments, study_sets(study), study.target)
        for number, graph in enumerate(graphs):
            column, _ = exact.table_columns(masks, graph[None])
            total[number] += float(scores[torch.arange(len(graph)), column[0]].sum())
    weight = torch.softmax(total + log_prior, 0)
    return torch.einsum("d,dij->ij", weight, graphs.double())


@pytest.mark.parametrize("seed", [3, 8])
def test_tables_summed_give_the_posterior_over_graphs_that_keep_the_rules(seed: int) -> None:
    """With one of three nodes absent: the soft prior is there once, and the rules as they are."""
    v, fan_in, p = 4, 2, 0.2
    soft = f'kind = "edge"\nedge_probability = {p}\nedge_probabilities = [["v0", "v1", 0.7]]\n'
    study = made(v, soft + prior_text(v, fan_in, seed), f"space.max_parents = {fan_in}")
    parts = records(v, 3)[:2]
    graphs = kept(drawn_rules(v, fan_in, seed), fan_in)
    odds = torch.full((v, v), math.log(p / (1 - p)), dtype=torch.float64)
    odds[0, 1] = math.log(0.7 / 0.3)
    expected = independent(study, parts, (graphs * odds).sum((1, 2)), graphs)
    table = torch.stack([score_table(study, part, 3) for part in parts]).sum(0) + absent_prior_share(study, 2)
    found = exact_of_table(study, table)
    assert found is not None
    edges = list(found.probabilities.values())
    off = ~torch.eye(v, dtype=torch.bool)
    assert torch.allclose(torch.tensor(edges, dtype=torch.float64), expected[off], atol=1e-9)
    assert found.drawn is not None and as_set(found.drawn(500, 1)) <= as_set(graphs)


@pytest.mark.parametrize("space", ["dag-by-sinks", "dag-by-edges"])
def test_models_draw_nothing_else_and_are_right(space: str) -> None:
    v, fan_in, seed = 4, 2, 5
    more = f'[space]\nkind = "{space}"\nmax_parents = {fan_in}\n'
    study = made(v, prior_text(v, fan_in, seed), more, nodes=2)
    parts, rules = records(v, 2), drawn_rules(v, fan_in, seed)
    graphs = kept(rules, fan_in)
    assert 3 < len(graphs) < 200
    local = {node: train_local(study, part, seed=1) for node, part in zip(study.roster, parts, strict=True)}
    result = train_global(study, {node: found.tensors for node, found in local.items()}, seed=1)
    expected = independent(study, parts, torch.zeros(len(graphs)), graphs)
    for tensors in (*(found.tensors for found in local.values()), result.tensors):
        policy = make_policy(space_of(study), [tensors])
        drawn = sample(policy, space_of(study), 2000, generator=torch.Generator().manual_seed(1))
        assert bool(rules.admits(drawn.trajectories.final.adjacency).all())
    shares = drawn.trajectories.final.adjacency.double().mean(0)
    assert float((shares - expected).abs().max()) < 0.05
    published = torch.tensor(list(result.judged.probabilities.values()), dtype=torch.float64)
    off = ~torch.eye(v, dtype=torch.bool)
    assert float((published - expected[off]).abs().max()) < (1e-6 if space == "dag-by-sinks" else 0.05)


def test_six_variables_by_inclusion_and_exclusion_over_sinks() -> None:
    """`epgfn.gflownet.measure.exact` against Robinson's recursion, in plain Python, with tiers and candidates."""
    v, fan_in = 6, 2
    study = made(
        v,
        'tiers = [["v5", "v0"], ["v2"], ["v3", "v4"]]\ncandidates = {v4 = ["v0", "v1", "v2"]}\nrequired = [["v1", "v4"]]',
        f"space.max_parents = {fan_in}",
    )
    table = torch.stack([score_table(study, part, 3) for part in records(v, 3)]).sum(0)
    found = exact_of_table(study, table)
    assert found is not None
    weights = (table - table.amax(1, keepdim=True)).exp().numpy()
    masks = study_masks(study).tolist()
    full = (1 << v) - 1
    within = [
        [sum(w for w, m in zip(weights[j], masks, strict=True) if m & ~s == 0) for s in range(1 << v)]
        for j in range(v)
    ]
    z_all = _sum_over_dags(within, full)
    for i, j in ((0, 4), (1, 4), (2, 3), (3, 4), (0, 5)):
        without = [list(row) for row in within]
        without[j] = [
            sum(w for w, m in zip(weights[j], masks, strict=True) if m & ~s == 0 and not m >> i & 1)
            for s in range(1 << v)
        ]
        expected = 1 - _sum_over_dags(without, full) / z_all
        assert found.probabilities[f"v{i}->v{j}"] == pytest.approx(expected, abs=1e-9)
    barred = [f"v{i}->v{j}" for i in (2, 3, 4) for j in (0, 5)] + ["v3->v2", "v4->v2", "v3->v4", "v5->v4"]
    assert all(found.probabilities[name] == 0 for name in barred)


def _sum_over_dags(within: list[list[float]], full: int) -> float:
    """Inclusion and exclusion over sinks: Robinson's recursion with weights (Tian & He, UAI 2009)."""
    v, z = len(within), {0: 1.0}
    for s in sorted(range(1, full + 1), key=int.bit_count):
        total, sinks = 0.0, s
        while sinks:
            rest = s & ~sinks
            product = z[rest]
            for j in range(v):
                if sinks >> j & 1:
                    product *= within[j][rest]
            total += -product if sinks.bit_count() % 2 == 0 else product
            sinks = (sinks - 1) & s
        z[s] = total
    return z[full]


def test_a_noisy_statistic_is_scored_under_the_rules_too() -> None:
    study = made(4, 'roots = ["v2"]\nrequired = [["v2", "v0"]]', nodes=1)
    moments = Moments.of_records(torch.from_numpy(records(4, 1)[0]))
    result = train_on_moments(study, moments, seed=1)
    policy = make_policy(space_of(study), [result.tensors])
    drawn = sample(policy, space_of(study), 500, generator=torch.Generator().manual_seed(1))
    graphs = drawn.trajectories.final.adjacency
    assert not bool(graphs[:, :, 2].any()) and bool(graphs[:, 2, 0].all())


def test_planning_makes_up_worlds_that_keep_the_rules() -> None:
    study = made(4, 'roots = ["v2"]\nrequired = [["v2", "v0"]]', nodes=1)
    worlds = worlds_of(study)
    prior = worlds.prior(1)
    assert prior.objects is not None and worlds.objects == int((prior.objects > 0).sum())
    rules = space_of(study).rules
    for seed in range(5):
        mixing = GaussianNetwork(4, np.random.default_rng(seed), rules).mixing
        assert mixing[2, 0] != 0, "the required edge is there"
        assert not np.delete(mixing[:, 2], 2).any(), "nothing leads to a root"

"""The global model samples the product of what the local ones sample, whoever is absent, and sees no reward."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.learn.aggregate import absent_prior_share, train_global
from epgfn.learn.local import train_local
from epgfn.learn.policy import validate_policy
from epgfn.learn.scores import prior_table, score_table
from epgfn.study import Study
from epgfn.study.objects import space_of
from worlds import BY_EDGES, BY_SINKS, l1, records

Models = dict[str, dict[str, Tensor]]


def trained(study: Study) -> Models:
    return {node: train_local(study, records(i), seed=i).tensors for i, node in enumerate(study.roster)}


@pytest.fixture(scope="module")
def by_sinks() -> Models:
    return trained(BY_SINKS)


@pytest.fixture(scope="module")
def by_edges() -> Models:
    return trained(BY_EDGES)


def distance(study: Study, tensors: Mapping[str, Tensor], table: Tensor) -> float:
    space = space_of(study)
    state, mass = terminating_mass(space, make_policy(space, [tensors]))
    return l1(mass, modular_score(table, state.adjacency, space.max_parents))


def pooled(study: Study, present: int = 3) -> Tensor:
    """log posterior given the records of the first `present` nodes, with the whole prior."""
    likelihoods = [
        score_table(study, records(i), n_parties=3) - prior_table(study) / 3 for i in range(present)
    ]
    return torch.stack(likelihoods).sum(0) + prior_table(study)


def test_by_sinks_the_global_model_samples_the_posterior(by_sinks: Models) -> None:
    result = train_global(BY_SINKS, by_sinks, seed=9)
    assert distance(BY_SINKS, result.tensors, pooled(BY_SINKS)) < 0.06


@pytest.mark.parametrize(("objective", "limit"), [("aggregating", 0.12), ("aggregating-edges", 0.12)])
def test_by_edges_the_global_model_samples_the_posterior(
    by_edges: Models, objective: str, limit: float
) -> None:
    study = BY_EDGES.with_changes({"aggregation": {"objective": objective}})
    result = train_global(study, by_edges, seed=9)
    assert distance(study, result.tensors, pooled(study)) < limit


def test_the_prior_counts_once_whoever_is_absent() -> None:
    study = BY_SINKS.with_changes({"prior": {"kind": "edge", "edge_probability": 0.1}})
    models = trained(study)
    present = {node: models[node] for node in study.roster[:2]}
    result = train_global(study, present, seed=9)
    assert distance(study, result.tensors, pooled(study, present=2)) < 0.06


def test_an_open_roster_settles_the_prior_at_the_close_by_who_has_come() -> None:
    """Every node carries 1/5 of the prior, whoever comes; with three of at most five the other two fifths are added."""
    study = BY_SINKS.with_changes(
        {
            "prior": {"kind": "edge", "edge_probability": 0.1},
            "roster": BY_SINKS.roster[:2],
            "largest_roster": 5,
        }
    )
    come = [*study.named, "added-4"]
    models = {node: train_local(study, records(i), seed=i).tensors for i, node in enumerate(come)}
    result = train_global(study, models, seed=9)
    assert distance(study, result.tensors, pooled(study)) < 0.06
    # Without networks and their training: the tables add up to the posterior over all graphs, to rounding.
    total = torch.stack([models[node]["score_table"].double() for node in come]).sum(0)
    exact = pooled(study)
    told = torch.isfinite(exact)
    wrong = torch.where(told, total, 0.0)
    space = space_of(study)
    states, _ = terminating_mass(space, make_policy(space, [result.tensors]))
    mass = [
        modular_score(table, states.adjacency, space.max_parents).softmax(0)
        for table in (wrong + absent_prior_share(study, len(come)), torch.where(told, exact, 0.0), wrong)
    ]
    assert (mass[0] - mass[1]).abs().sum() < 1e-4
    assert (mass[2] - mass[1]).abs().sum() > 0.1  # and it would not do without


@pytest.mark.parametrize("come", [1, 2, 4])
def test_the_target_of_an_open_roster_is_that_of_a_closed_one_of_those_who_came(come: int) -> None:
    """By enumeration of all graphs: log R of N = 4 with K present, and of N = K with all present, are the same up to rounding."""
    prior = {"prior": {"kind": "edge", "edge_probability": 0.2}}
    opened = BY_SINKS.with_changes({**prior, "roster": ["north"], "largest_roster": 4})
    closed = BY_SINKS.with_changes({**prior, "roster": [f"n{i}" for i in range(come)]})
    space = space_of(opened)
    graphs, _ = terminating_mass(space, make_policy(space, [train_local(opened, records(0), seed=0).tensors]))

    def score(study: Study) -> Tensor:
        tables = [score_table(study, records(i), n_parties=len(study.roster)) for i in range(come)]
        table = torch.stack(tables).sum(0) + absent_prior_share(study, come)
        return modular_score(table, graphs.adjacency, space.max_parents)

    assert (score(opened) - score(closed)).abs().max() < 1e-8


def test_one_node_alone_and_the_order_of_nodes_do_not_matter(by_sinks: Models) -> None:
    study = BY_SINKS.with_changes({"aggregation": {"steps": 3}})
    backwards = dict(reversed(by_sinks.items()))
    one, other = (train_global(study, models, seed=2).tensors for models in (by_sinks, backwards))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    alone = train_global(BY_SINKS, {"west": by_sinks["west"]}, seed=2)
    assert distance(BY_SINKS, alone.tensors, score_table(BY_SINKS, records(2), n_parties=3)) < 0.06


def test_the_loss_sees_the_policies_and_not_the_tables(by_sinks: Models) -> None:
    """A model whose network says something else than its table is believed: its log p_F - log p_B count."""
    study = BY_SINKS.with_changes(
        {"roster": ["north"], "aggregation": {"steps": 150, "objective": "aggregating"}}
    )
    tensors = {name: tensor.clone() for name, tensor in by_sinks["north"].items()}
    tensors["net.2.bias"][4 + 1] += 1.0  # favour the edge a -> b whenever a is a sink, and whoever adds b
    space = space_of(study)
    _, mass = terminating_mass(space, make_policy(space, [tensors]))
    _, before = terminating_mass(space, make_policy(space, [by_sinks["north"]]))
    result = train_global(study, {"north": tensors}, seed=1).tensors
    _, after = terminating_mass(space, make_policy(space, [result]))
    moved, left = (before - mass).abs().sum(), (after - mass).abs().sum()
    assert left < 0.5 * moved


def test_towards_scores_no_error_of_a_local_network_is_left(by_sinks: Models) -> None:
    """The default by sinks: networks that say anything at all leave the product of the nodes' rewards what it is."""
    assert BY_SINKS.aggregating_objective == "aggregating-scores"
    generator = torch.Generator().manual_seed(0)
    odd = {
        node: {
            name: tensor if name == "score_table" else torch.randn(tensor.shape, generator=generator)
            for name, tensor in model.items()
        }
        for node, model in by_sinks.items()
    }
    found = {
        name: train_global(BY_SINKS, models, seed=9) for name, models in (("odd", odd), ("own", by_sinks))
    }
    assert distance(BY_SINKS, found["odd"].tensors, pooled(BY_SINKS)) < 0.06
    own = found["own"].tensors.items()
    assert all(torch.equal(tensor, found["odd"].tensors[name]) for name, tensor in own)


def test_scores_are_not_asked_of_models_that_carry_none() -> None:
    with pytest.raises(UsageError, match="score tables"):
        BY_EDGES.with_changes({"aggregation": {"objective": "aggregating-scores"}})


def test_diagnostics_name_each_node(by_sinks: Models) -> None:
    result = train_global(BY_SINKS.with_changes({"aggregation": {"steps": 2}}), by_sinks, seed=1)
    found = result.diagnostics
    assert set(found["nodes"]) == set(BY_SINKS.roster)
    assert 0 < found["effective_share"] <= 1
    for node in found["nodes"].values():
        assert 0 <= node["spread_nats"] < 1
        assert node["disagreement_nats"] > 0


def test_an_inconsistent_model_shows_in_its_spread(by_sinks: Models) -> None:
    odd = {name: tensor.clone() for name, tensor in by_sinks["south"].items()}
    noise = torch.Generator().manual_seed(0)
    odd["net.2.weight"] += torch.randn(odd["net.2.weight"].shape, generator=noise)
    result = train_global(
        BY_SINKS.with_changes({"aggregation": {"steps": 2}}), {**by_sinks, "south": odd}, seed=1
    )
    spread = {node: value["spread_nats"] for node, value in result.diagnostics["nodes"].items()}
    assert spread["south"] > 3 * max(spread["north"], spread["west"])


def test_models_that_do_not_fit_are_refused_by_name(by_sinks: Models, by_edges: Models) -> None:
    with pytest.raises(EpgfnError, match="no local model"):
        train_global(BY_SINKS, {}, seed=1)
    with pytest.raises(RefusedError, match="south") as refused:
        train_global(BY_SINKS, {**by_sinks, "south": by_edges["south"]}, seed=1)
    assert refused.value.reason == "model-tensors"
    with pytest.raises(RefusedError, match="east") as refused:
        train_global(BY_SINKS, {**by_sinks, "east": by_sinks["south"]}, seed=1)
    assert refused.value.reason == "not-in-roster"


def test_a_model_of_extreme_numbers_cannot_keep_the_others_from_a_result(by_sinks: Models) -> None:
    """Whatever is accepted can be aggregated: else one node could stop a round for ever."""
    first, second, *_ = by_sinks
    generator = torch.Generator().manual_seed(0)
    extreme = {
        name: (tensor != 0).to(tensor.dtype)
        * (9.9e8 if tensor.dtype == torch.float64 else 9.9e6)
        * (2 * torch.rand(tensor.shape, generator=generator).round() - 1)
        for name, tensor in by_sinks[second].items()
    }
    validate_policy(BY_SINKS, extreme)
    study = BY_SINKS.with_changes({"aggregation": {"steps": 2}})
    result = train_global(study, {first: by_sinks[first], second: extreme}, seed=1)
    validate_policy(study, result.tensors)
    json.dumps([result.history, result.diagnostics], allow_nan=False, default=Tensor.tolist)


def test_it_stops_when_told_to(by_sinks: Models) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(EpgfnError, match="stopped"):
        train_global(BY_SINKS, by_sinks, seed=1, stop=stop)

"""The policy whose size does not grow with pairs of variables: a distribution at any size, and no variable is special."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epgfn.base.errors import RefusedError, UsageError
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.edge_attention import VARIABLES
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward
from epgfn.gflownet.spaces.dag_by_edges import closure_of
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.policy import initial_policy, policy_spec, validate_policy
from epgfn.learn.scores import score_table
from epgfn.study import Study
from epgfn.study.objects import space_of
from small import SMALL_STUDY
from worlds import BY_EDGES, l1, records


def study_of(n_variables: int, max_parents: int) -> Study:
    return Study.from_bytes(SMALL_STUDY.encode()).with_changes(
        {
            "space": {"kind": "dag-by-edges", "max_parents": max_parents},
            "policy": {"kind": "edge-attention", "hidden": 64},
            "variables": [{"name": f"x{i}"} for i in range(n_variables)],
        }
    )


def model(study: Study, seed: int = 0) -> dict[str, Tensor]:
    """Random weights everywhere, as after training."""
    generator = torch.Generator().manual_seed(seed)
    tensors = initial_policy(study, torch.zeros(0), generator)
    return {name: t + torch.randn(t.shape, generator=generator) * 0.1 for name, t in tensors.items()}


@pytest.mark.parametrize(("v", "fan_in"), [(2, 1), (5, 4), (25, 3), (50, 2)])
def test_it_is_a_distribution_over_the_allowed_edges_at_any_size(v: int, fan_in: int) -> None:
    study = study_of(v, fan_in)
    space, models = space_of(study), [model(study, 0), model(study, 1)]
    policy = make_policy(space, models)
    state, generator = space.initial(4), torch.Generator().manual_seed(0)
    for _ in range(4):
        choices, mask = policy.choices(state), space.forward_mask(state)
        assert torch.allclose(choices.log_prob.exp().sum(2), torch.ones(2, 4), atol=1e-5)
        running = ~space.is_terminating(state)
        assert torch.equal(torch.isfinite(choices.log_prob[1])[running], mask[running])
        for i, tensors in enumerate(models):
            alone = make_policy(space, [tensors]).choices(state).log_prob[0]
            assert torch.allclose(choices.log_prob[i], alone, atol=1e-4)
        column = torch.multinomial(choices.log_prob[0].exp(), 1, generator=generator)[:, 0]
        state = space.step(state, column)


def test_a_fresh_model_is_uniform_and_what_the_study_prescribes() -> None:
    study = study_of(6, 2)
    tensors = initial_policy(study, torch.zeros(0), torch.Generator().manual_seed(1))
    assert {n: (tuple(t.shape), "float32") for n, t in tensors.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in policy_spec(study).items()
    }
    validate_policy(study, tensors)
    space = space_of(study)
    log_prob = make_policy(space, [tensors]).choices(space.initial(1)).log_prob[0, 0]
    allowed = torch.isfinite(log_prob)
    assert allowed.sum() == 6 * 5 + 1
    assert torch.allclose(log_prob[allowed], -torch.tensor(31.0).log())


def test_only_the_embeddings_grow_with_the_variables() -> None:
    small, large = policy_spec(study_of(5, 2)), policy_spec(study_of(50, 2))
    assert {n: s for n, s in small.items() if n != VARIABLES} == {
        n: s for n, s in large.items() if n != VARIABLES
    }


def test_a_model_of_the_other_kind_is_refused() -> None:
    study = study_of(4, 2)
    other = study.with_changes({"policy": {"kind": "edge-net"}})
    for ours, theirs in ((study, other), (other, study)):
        with pytest.raises(RefusedError) as refused:
            validate_policy(ours, initial_policy(theirs, torch.zeros(0), torch.Generator().manual_seed(0)))
        assert refused.value.reason == "model-tensors"
    with pytest.raises(UsageError, match="edge-attention"):
        study.with_changes({"space": {"kind": "dag-by-sinks"}})


def test_renaming_variables_renames_the_probabilities() -> None:
    study = study_of(7, 3)
    space, tensors = space_of(study), model(study)
    generator = torch.Generator().manual_seed(3)
    states = sample(
        make_policy(space, [tensors]), space, 16, generator=generator, exploration=1.0
    ).trajectories.states
    order = torch.randperm(7, generator=generator)
    renamed = make_policy(space, [{**tensors, VARIABLES: tensors[VARIABLES][order]}])
    for state in states:
        adjacency = state.adjacency[:, order][:, :, order]
        other = type(state)(adjacency, closure_of(adjacency), state.stopped)
        running = ~state.stopped
        before = make_policy(space, [tensors]).choices(state).log_prob[0]
        after = renamed.choices(other).log_prob[0]
        edges = before[:, :-1].view(-1, 7, 7)[:, order][:, :, order].flatten(1)
        assert torch.allclose(after[:, :-1][running], edges[running], atol=1e-4)
        assert torch.allclose(after[:, -1][running], before[:, -1][running], atol=1e-4)


def test_fifty_variables_there_and_back_again() -> None:
    """Trajectories into sampled graphs, drawn backward, are possible forward, and a training step changes the policy."""
    study = study_of(50, 2)
    space = space_of(study)
    policy = make_policy(space, [model(study)])
    generator = torch.Generator().manual_seed(0)
    final = sample(policy, space, 2, generator=generator).trajectories.final
    assert int(final.adjacency.sum()) > 0
    back = sample_backward(space, final, generator=generator)
    assert torch.isfinite(evaluate(policy, space, back).log_pf).all()


def test_it_learns_a_posterior_and_aggregates() -> None:
    """Sum over all 543 graphs of |p_T - p|, locally and for two nodes together."""
    loop = {"steps": 120, "batch": 64, "learning_rate": 1e-2, "exploration": 0.2}
    study = BY_EDGES.with_changes(
        {
            "roster": ["north", "south"],
            "policy": {"kind": "edge-attention", "hidden": 128},
            "training": {**loop, "objective": "contrastive"},
            "aggregation": {**loop, "objective": "aggregating"},
        }
    )
    space = space_of(study)
    models = {node: train_local(study, records(i), seed=i).tensors for i, node in enumerate(study.roster)}
    tables = [score_table(study, records(i), n_parties=2) for i in range(2)]

    def distance(tensors: dict[str, Tensor], table: Tensor) -> float:
        state, mass = terminating_mass(space, make_policy(space, [tensors]))
        return l1(mass, modular_score(table, state.adjacency, space.max_parents))

    assert distance(models["north"], tables[0]) < 0.2
    assert distance(train_global(study, models, seed=9).tensors, tables[0] + tables[1]) < 0.3

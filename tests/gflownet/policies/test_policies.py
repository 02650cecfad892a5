"""A policy is a distribution, one model evaluated alone or in a stack, and nothing else passes for one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.base.errors import RefusedError
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.subset_potential import order_potential
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward
from epgfn.gflownet.spaces import DagBySinks
from epgfn.gflownet.spaces.parent_sets import parent_masks
from epgfn.learn.policy import initial_policy, policy_spec, validate_policy
from epgfn.study import Study
from epgfn.study.objects import space_of
from small import SMALL_STUDY

BY_SINKS = Study.from_bytes(SMALL_STUDY.encode())
BY_EDGES = BY_SINKS.with_changes(
    {
        "space": {"kind": "dag-by-edges"},
        "policy": {"kind": "edge-net"},
        "training": {"objective": "modified-detailed"},
    }
)
STUDIES = [BY_SINKS, BY_EDGES]


def model(study: Study, seed: int) -> dict[str, Tensor]:
    """Random weights everywhere, as after training."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(3, space_sets(study), dtype=torch.float64, generator=generator) * 5
    tensors = initial_policy(study, table, generator)
    noise = {
        n: torch.randn(t.shape, generator=generator) * 0.3 for n, t in tensors.items() if n != "score_table"
    }
    return {name: tensor + noise[name] if name in noise else tensor for name, tensor in tensors.items()}


def space_sets(study: Study) -> int:
    return len(parent_masks(len(study.variables), study.space.max_parents))


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.space.kind)
def test_a_fresh_model_is_what_the_study_prescribes(study: Study) -> None:
    tensors = model(study, 0)
    assert {n: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in tensors.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in policy_spec(study).items()
    }
    validate_policy(study, tensors)
    policy = make_policy(space_of(study), [tensors])
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in policy.tensors().items())


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.space.kind)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_mass_sums_to_one_on_exactly_the_allowed_actions(study: Study, seed: int) -> None:
    space = space_of(study)
    policy = make_policy(space, [model(study, seed), model(study, seed + 1)])
    drawn = sample(policy, space, 16, generator=torch.Generator().manual_seed(seed), exploration=0.5)
    for state, active in zip(drawn.trajectories.states, drawn.trajectories.active, strict=True):
        choices = policy.choices(state)
        assert torch.allclose(choices.log_prob.exp().sum(2), torch.ones(2, 16), atol=1e-5)
        dense = torch.full((16, space.n_actions), -torch.inf).scatter(1, choices.action, choices.log_prob[1])
        assert torch.equal(torch.isfinite(dense)[active], space.forward_mask(state)[active])


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.space.kind)
def test_a_stack_says_what_each_model_says_alone(study: Study) -> None:
    space, models = space_of(study), [model(study, seed) for seed in range(3)]
    stack = make_policy(space, models)
    drawn = sample(stack, space, 32, generator=torch.Generator().manual_seed(0), temperature=2.0)
    together = evaluate(stack, space, drawn.trajectories)
    assert torch.allclose(together.log_pf, drawn.evaluated.log_pf, atol=1e-5)
    for i, tensors in enumerate(models):
        alone = evaluate(make_policy(space, [tensors]), space, drawn.trajectories)
        assert torch.allclose(together.log_pf[i], alone.log_pf[0], atol=1e-5)


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.space.kind)
def test_backward_trajectories_are_forward_trajectories(study: Study) -> None:
    space, policy = space_of(study), make_policy(space_of(study), [model(study, 1)])
    generator = torch.Generator().manual_seed(2)
    final = sample(policy, space, 64, generator=generator).trajectories.final
    back = sample_backward(space, final, generator=generator)
    state = space.initial(64)
    for t, (expected, action) in enumerate(zip(back.states, back.actions, strict=True)):
        assert (space.key(state) == space.key(expected)).all()
        assert space.forward_mask(state).gather(1, action[:, None])[back.active[t]].all()
        state = space.step(state, action)
    assert (space.key(state) == space.key(final)).all()
    assert torch.isfinite(evaluate(policy, space, back).log_pf).all()


@pytest.mark.parametrize(("v", "fan_in", "block_bits"), [(3, 2, 14), (4, 1, 14), (5, 3, 2), (5, 2, 3)])
def test_the_order_potential_is_the_sum_over_orders(v: int, fan_in: int, block_bits: int) -> None:
    space, masks = DagBySinks(v, fan_in), parent_masks(v, fan_in).tolist()
    table = torch.randn(v, len(masks), dtype=torch.float64)
    potential = order_potential(space, table, block_bits)
    for start in range(1 << v):
        rest, total = [j for j in range(v) if not start >> j & 1], 0.0
        for order in itertools.permutations(rest):
            before, product = start, 1.0
            for j in order:
                product *= sum(math.exp(table[j, k]) for k, pa in enumerate(masks) if pa & before == pa)
                before |= 1 << j
            total += product
        assert potential[start].item() == pytest.approx(math.log(total))


def test_a_blocked_order_potential_loses_no_precision_to_scores_of_thousands_of_nats() -> None:
    space = DagBySinks(9, 3)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(9, space.n_sets, dtype=torch.float64, generator=generator) * 3000
    whole, blocked = order_potential(space, table), order_potential(space, table, 3)
    assert torch.isfinite(whole).all()
    assert torch.allclose(whole, blocked, rtol=1e-14)


def test_tables_of_hundreds_of_nats_keep_their_precision() -> None:
    """A constant per variable cancels, however large: phi + 5000 is the same policy."""
    table = torch.randn(3, space_sets(BY_SINKS), dtype=torch.float64) * 100
    models = [initial_policy(BY_SINKS, t, torch.Generator().manual_seed(0)) for t in (table, table + 5e3)]
    assert torch.allclose(models[0]["score_table"], models[1]["score_table"], rtol=0, atol=1e-11)


def spoiled(study: Study, how: str) -> dict[str, Any]:
    tensors: dict[str, Any] = {name: tensor.clone() for name, tensor in model(study, 3).items()}
    if how == "missing":
        del tensors["net.0.bias"]
    elif how == "extra":
        tensors["secret"] = torch.zeros(3)
    elif how == "shape":
        tensors["net.0.bias"] = tensors["net.0.bias"][:-1]
    elif how == "dtype":
        tensors["net.0.bias"] = tensors["net.0.bias"].double()
    elif how == "nan":
        tensors["net.1.weight"][0, 0] = math.nan
    elif how == "huge":
        tensors["net.1.weight"][0, 0] = 1e30
    return tensors


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.space.kind)
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "model-tensors"),
        ("extra", "model-tensors"),
        ("shape", "model-tensors"),
        ("dtype", "model-tensors"),
        ("nan", "model-not-finite"),
        ("huge", "model-magnitude"),
    ],
)
def test_what_is_no_policy_is_refused(study: Study, how: str, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        validate_policy(study, spoiled(study, how))
    assert refused.value.reason == reason


def test_nothing_hides_in_scores_that_mean_nothing() -> None:
    tensors = model(BY_SINKS, 0)
    tensors["score_table"][0, 1] = 1.0  # variable 0 as its own parent
    with pytest.raises(RefusedError) as refused:
        validate_policy(BY_SINKS, tensors)
    assert refused.value.reason == "model-illegal-score"

"""No file that `check_tensors` takes makes a policy say what is not a number, in any state; and honest models say what they said before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from epgfn.gflownet.measure import structure_chains
from epgfn.gflownet.policies import FAMILIES, bounds, make_policy
from epgfn.gflownet.policies.canonical import learning
from epgfn.gflownet.policies.split_table import tables
from epgfn.gflownet.policies.validation import MAX_MAGNITUDE, check_policy, check_tensors
from epgfn.gflownet.sampling.rollout import evaluate, sample
from epgfn.gflownet.spaces import SPACES, Phylogeny, make_space
from split_tables import drawn_tensors

EXAMPLES: dict[str, list[dict[str, int]]] = {
    "dag-by-sinks": [
        {"n_variables": 4, "max_parents": 2},
        {"n_variables": 13, "max_parents": 1},  # variable first
        {"n_variables": 26, "max_parents": 1},  # with more than exact sums can take
    ],
    "dag-by-edges": [{"n_variables": 4, "max_parents": 2}],
    "hypergrid": [{"n_dimensions": 3, "side": 6}],
    "multiset": [{"n_items": 4, "size": 5}],
    "phylogeny": [{"n_leaves": 6}, {"n_leaves": 13}],
    "sequence": [{"n_letters": 4, "max_length": 5}],
}
WAYS = [("all", 2048), ("signs", 2048), ("few", 8)]
WIDE_ENOUGH = 256
"""For spaces that take a minute at the full width: the bounds are of layers of any width."""


@pytest.fixture(autouse=True)
def learned_in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of many variables is taught when it is made; of these only the form counts."""
    for name, value in {"ROUNDS": 1, "OWN": 8, "STEPS": 1}.items():
        monkeypatch.setattr(learning, name, value)
    for name, value in {"CHAINS": 4, "ROUNDS": 1}.items():
        monkeypatch.setattr(structure_chains, name, value)


def cases() -> list[Any]:
    return [
        pytest.param(
            family, make_space(kind, **settings), id=f"{family}-{kind}-{next(iter(settings.values()))}"
        )
        for family in FAMILIES
        for kind, each in EXAMPLES.items()
        for settings in each
        if isinstance(make_space(kind, **settings), FAMILIES[family].over)
    ]


def largest(family: str, space: Any, hidden: int, way: str) -> dict[str, Tensor]:
    """Tensors of the largest size allowed: all alike, of random signs, or few of them among ordinary ones."""
    generator = torch.Generator().manual_seed(7)
    table = None
    if family == "order-potential":
        shape = (space.n_variables, space.n_sets)
        table = torch.randn(shape, generator=generator, dtype=torch.float64)
    if family == "split-table":  # of which only scores may be large, the rest says which splits there are
        tensors = drawn_tensors(space, 7)
        given = {name: tensors[name] for name in set(tensors) - {tables.SCORE, tables.PAIR_SCORE}}
    else:
        tensors, given = FAMILIES[family].initial(space, hidden, table, generator), {}
    out = {}
    for name, tensor in tensors.items():
        coin = torch.rand(tensor.shape, generator=generator)
        if way == "all":
            out[name] = torch.full_like(tensor, MAX_MAGNITUDE)
        elif way == "signs":
            out[name] = torch.where(coin < 0.5, -MAX_MAGNITUDE, MAX_MAGNITUDE)
        else:
            out[name] = torch.where(coin < 0.1, MAX_MAGNITUDE, torch.randn(tensor.shape, generator=generator))
        if family == "order-potential" and name == "score_table":
            out[name] = out[name].masked_fill(space.parents.T, 0.0)
        if family == "split-table":
            out[name] = out[name].masked_fill(tensor == 0, 0.0)
    return out | given


def test_every_kind_of_policy_and_space_is_tried() -> None:
    assert set(EXAMPLES) == set(SPACES)
    assert {case.values[0] for case in cases()} == set(FAMILIES)


@pytest.mark.parametrize(("way", "hidden"), WAYS)
@pytest.mark.parametrize(("family", "space"), cases())
def test_the_largest_weights_allowed_never_overflow(family: str, space: Any, way: str, hidden: int) -> None:
    if isinstance(space, Phylogeny) or space.max_steps > 20:
        hidden = min(hidden, WIDE_ENOUGH)
    tensors = largest(family, space, hidden, way)
    check_tensors(tensors, FAMILIES[family].spec(space, hidden))
    check = FAMILIES[family].check
    if check is not None:
        check(space, tensors)
    policy = make_policy(space, [tensors])
    n = 32 if space.max_steps <= 20 else 8
    with torch.no_grad():
        check_policy(policy, space)
        for exploration in (0.0, 1.0):  # where it would go, and anywhere
            rollout = sample(
                policy, space, n, generator=torch.Generator().manual_seed(1), exploration=exploration
            )
            for state in rollout.trajectories.states:
                said = policy.choices(state).log_prob
                assert not said.isnan().any()
                torch.testing.assert_close(said.logsumexp(2), torch.zeros(said.shape[:2]), atol=1e-3, rtol=0)
            total = evaluate(policy, space, rollout.trajectories).log_pf.sum(1)
            # A hundred such models and the squares of what they say together are still numbers.
            assert bool(torch.isfinite((100 * total) ** 2).all())


@pytest.mark.parametrize(("family", "space"), cases())
def test_an_honest_model_says_bit_for_bit_what_it_said_without_bounds(
    family: str, space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    table = None
    if family == "order-potential":
        table = 100 * torch.randn(space.n_variables, space.n_sets, generator=generator, dtype=torch.float64)
    tensors = FAMILIES[family].initial(space, 64, table, generator)
    trained = {
        name: tensor if name in ("score_table", "reference_orders")
        else tensor + torch.randn(tensor.shape, generator=generator)
        for name, tensor in tensors.items()
    }  # fmt: skip
    policy = make_policy(space, [trained])
    with torch.no_grad():
        draw = sample(policy, space, 64, generator=torch.Generator().manual_seed(1), temperature=2.0)
        bounded = evaluate(policy, space, draw.trajectories).log_pf
        monkeypatch.setattr(Tensor, "clamp", _unless_bound(Tensor.clamp))
        free = evaluate(policy, space, draw.trajectories).log_pf
    assert torch.equal(bounded, free)


def _unless_bound(clamp: Any) -> Any:
    def changed(self: Tensor, *limits: Any, **named: Any) -> Tensor:
        if limits in ((-bounds.LOGIT, bounds.LOGIT), (-bounds.HIDDEN, bounds.HIDDEN)):
            return self
        result: Tensor = clamp(self, *limits, **named)
        return result

    return changed

"""What cannot work is refused before it starts, in a sentence that says what to change: never a NaN after ten minutes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.rewards.rewards import HypergridReward, MultisetReward, SequenceReward
from epgfn.gflownet.spaces import Hypergrid, Multiset, Phylogeny, Sequence, make_space
from epgfn.gflownet.spaces.enumeration import explore
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward
from epgfn.gflownet.training.trees import train_trees
from epgfn.learn.local import train_local
from epgfn.study import Study
from epgfn.targets.jc69 import Jc69
from worlds import BY_SINKS, records

TINY = RewardSettings(steps=1, batch=8, hidden=8)


def study(text: str) -> Callable[[], Study]:
    return lambda: Study.from_bytes(b'name = "s"\nroster = ["one"]\n' + text.encode())


TWO = 'variables = [{ name = "a" }, { name = "b" }]\n'
IMPOSSIBLE: dict[str, tuple[Callable[[], Any], str]] = {
    "fan-in 0": (study(TWO + "[space]\nmax_parents = 0\n"), "max_parents"),
    "fan-in of all variables": (study(TWO + "[space]\nmax_parents = 2\n"), "max_parents"),
    "one variable": (study('variables = [{ name = "a" }]\n[space]\nmax_parents = 1\n'), "variables"),
    "space of one variable": (
        lambda: make_space("dag-by-sinks", n_variables=1, max_parents=1),
        "2 variables",
    ),
    "space of fan-in 0": (lambda: make_space("dag-by-edges", n_variables=5, max_parents=0), "fan-in"),
    "grid of one cell": (lambda: make_space("hypergrid", n_dimensions=2, side=1), "side"),
    "empty multisets": (lambda: make_space("multiset", n_items=3, size=0), "size"),
    "no letters": (lambda: make_space("sequence", n_letters=0, max_length=3), "letters"),
    "one leaf": (lambda: make_space("phylogeny", n_leaves=1), "leaves"),
    "sizes that are no numbers": (lambda: make_space("multiset", n_item=3, size=2), "multiset"),
    "too many states to list": (lambda: explore(Multiset(200, 300)), "smaller instance"),
    "too many scores": (
        lambda: train_local(
            study(
                "variables = ["
                + ", ".join(f'{{ name = "v{i}" }}' for i in range(60))
                + ']\n[space]\nkind = "dag-by-edges"\nmax_parents = 8\n[policy]\nkind = "edge-net"\n'
            )(),
            np.zeros((3, 60)),
            seed=1,
        ),
        "max_parents",
    ),
    "a network larger than memory": (
        lambda: train_reward(Hypergrid(1, 10**9), lambda s: s.position[:, 0].double(), seed=1, settings=TINY),
        "GiB",
    ),
    "batches larger than memory": (
        lambda: train_reward(Sequence(6, 20_000), lambda s: s.letters[:, 0].double(), seed=1, settings=TINY),
        "GiB",
    ),
}


@pytest.mark.parametrize(("make", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_instance_is_a_sentence(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


GRID, BAGS, WORDS = Hypergrid(2, 5), Multiset(4, 4), Sequence(3, 3)
TREES = Jc69(Phylogeny(5), torch.ones(5, 3, dtype=torch.uint8), 0.1)
OTHER_SPACE: dict[str, Callable[[], Any]] = {
    "grid of another side": lambda: train_reward(
        Hypergrid(2, 6), HypergridReward(GRID), seed=1, settings=TINY
    ),
    "grid of more dimensions": lambda: train_reward(
        Hypergrid(3, 5), HypergridReward(GRID), seed=1, settings=TINY
    ),
    "multisets of another size": lambda: train_reward(
        Multiset(4, 5), MultisetReward(BAGS, torch.zeros(4)), seed=1, settings=TINY
    ),
    "shorter sequences": lambda: train_reward(
        Sequence(3, 2), SequenceReward(WORDS, torch.zeros(3), torch.zeros(3)), seed=1, settings=TINY
    ),
    "multisets scored as a grid": lambda: train_reward(BAGS, HypergridReward(GRID), seed=1, settings=TINY),
    "trees over more leaves": lambda: train_trees(Phylogeny(6), TREES.log_likelihood, seed=1),
}


@pytest.mark.parametrize("make", OTHER_SPACE.values(), ids=OTHER_SPACE)
def test_a_target_made_for_another_space_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(UsageError, match="was made for"):
        make()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_ends_training_at_its_first_step(value: float) -> None:
    seen: list[Any] = []
    with pytest.raises(EpgfnError, match="not finite"):
        train_reward(
            GRID,
            lambda state: torch.full((len(state.position),), value),
            seed=1,
            settings=TINY,
            progress=seen.append,
        )
    assert not seen


@pytest.mark.parametrize("spoil", [math.nan, math.inf, 1e200])
@pytest.mark.parametrize("target", ["bge", "bic", "profile-likelihood", "max-likelihood"])
def test_records_that_give_no_finite_score_end_training_before_it_begins(spoil: float, target: str) -> None:
    data, seen = records(0), []
    data[3, 1] = spoil
    changed = BY_SINKS.with_changes({"target": {"kind": target}})
    with pytest.raises(EpgfnError) as error:
        train_local(changed, data, seed=1, progress=seen.append)
    assert not seen
    assert "check" in str(error.value)


def test_records_of_another_number_of_columns_are_refused() -> None:
    with pytest.raises((EpgfnError, ValueError), match="column"):
        train_local(BY_SINKS, records(0)[:, :3], seed=1)

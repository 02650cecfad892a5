"""The product of frozen local models: the same numbers as evaluating each, each state once, and a target that is met."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.memo import Memo, mixed
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import mlp_net
from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.product import FrozenProduct, product_loss, train_product
from epgfn.gflownet.rewards.multiset import random_values
from epgfn.gflownet.rewards.rewards import MultisetReward
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward, sample_once
from epgfn.gflownet.spaces import Hypergrid, Multiset, Sequence
from epgfn.gflownet.spaces.base import Space
from epgfn.gflownet.spaces.enumeration import explore
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward

SPACES: list[Any] = [Hypergrid(2, 4), Multiset(4, 3), Sequence(3, 3)]


def stack(space: Space, n: int) -> MlpNet:
    """`n` models with random last layers, so that no two agree."""
    models = []
    for seed in range(n):
        generator = torch.Generator().manual_seed(seed)
        tensors = mlp_net.initial_tensors(space, 16, generator)
        models.append(
            {name: t + 0.3 * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}
        )
    return MlpNet(space, models)


@given(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=30), min_size=1, max_size=8),
    st.integers(200, 4000),
)
def test_a_memo_gives_what_was_computed_and_asks_for_each_key_once(
    batches: list[list[int]], room: int
) -> None:
    roomy, tight = Memo(), Memo(room)
    asked: list[int] = []
    for batch in batches:
        keys = torch.tensor(batch)[:, None]
        expected = keys.double() * 3 + torch.arange(5)

        def compute(which: Tensor, rows: Tensor = expected) -> Tensor:
            return rows[which]

        def counted(which: Tensor, rows: Tensor = expected, keys: Tensor = keys) -> Tensor:
            asked.extend(keys[which, 0].tolist())
            return rows[which]

        assert torch.equal(roomy.rows(keys, counted), expected)
        assert torch.equal(tight.rows(keys, compute), expected)
    assert sorted(asked) == sorted({key for batch in batches for key in batch})


def test_keys_of_several_words_stay_apart_where_they_differ_in_one_high_bit() -> None:
    bits = 1 << torch.arange(62)
    keys = torch.cartesian_prod(
        torch.cat([torch.zeros(1, dtype=torch.int64), bits]),
        torch.cat([torch.zeros(1, dtype=torch.int64), bits]),
    )
    assert len(set(mixed(keys).tolist())) == len(keys)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
@pytest.mark.parametrize("together", [True, False])
def test_the_sum_over_models_is_what_evaluating_each_gives(space: Space, together: bool) -> None:
    policy = stack(space, 3)
    product = FrozenProduct(space, policy, together=together)
    for seed in range(3):
        drawn = sample(policy, space, 40, generator=torch.Generator().manual_seed(seed)).trajectories
        each = evaluate(policy, space, drawn)
        summed = product.summed(drawn)
        torch.testing.assert_close(summed.log_pf[0], each.log_pf.sum(0))
        if each.log_stop is not None and summed.log_stop is not None:
            torch.testing.assert_close(summed.log_stop[0], each.log_stop.sum(0))
    states = sum(len(level.state[0]) for level in explore(space))
    assert product.computed <= states


def test_no_model_is_asked_twice_about_one_state() -> None:
    space = Multiset(4, 3)
    product = FrozenProduct(space, stack(space, 2), together=True)
    drawn = sample(product.policy, space, 200, generator=torch.Generator().manual_seed(1)).trajectories
    product.log_target(drawn)
    before = product.computed
    product.log_target(drawn)
    assert product.computed == before <= 1 + 4 + 10


@pytest.mark.parametrize("objective", ["aggregating", "aggregating-marginal"])
def test_the_global_model_samples_the_product_of_what_the_locals_sample(objective: str) -> None:
    space = Multiset(4, 4)
    rewards = [MultisetReward(space, random_values(space, seed)) for seed in range(3)]
    short = RewardSettings(steps=150, batch=128, hidden=64, exploration=0.3)
    locals_ = MlpNet(
        space, [train_reward(space, r, seed=i, settings=short).tensors for i, r in enumerate(rewards)]
    )
    levels = explore(space)
    masses = [terminating_mass(space, MlpNet(space, [locals_.tensors(i)]), levels) for i in range(3)]
    target = exact_distribution(torch.stack([mass.mass.log() for mass in masses]).sum(0))
    generator = torch.Generator().manual_seed(5)
    policy = MlpNet(space, [mlp_net.initial_tensors(space, 64, generator)])
    product = FrozenProduct(space, locals_, together=True)
    train_product(policy, product, short, generator, objective=objective, draw=sample_once)
    assert l1(terminating_mass(space, policy, levels).mass, target) < 0.03


def test_edge_wise_losses_are_zero_at_a_single_model_itself() -> None:
    """With one node the product is that node's own flow."""
    space = Hypergrid(2, 3)
    policy, other = stack(space, 1), MlpNet(space, [stack(space, 2).tensors(1)])
    rollout = sample(policy, space, 64, generator=torch.Generator().manual_seed(1))

    def loss(target: MlpNet) -> float:
        loss = product_loss(FrozenProduct(space, target, together=True), "aggregating-edges")
        return float(loss.of_batch(rollout).loss)

    assert loss(policy) < 1e-10
    assert loss(other) > 1e-3


def test_what_no_model_can_mean_is_refused() -> None:
    space = Multiset(3, 2)
    product = FrozenProduct(space, stack(space, 2), together=True)
    with pytest.raises(UsageError, match="aggregating-marginal"):
        product_loss(product, "mean")
    with pytest.raises(UsageError, match="every state may stop"):
        product_loss(product, "aggregating-edges")

    class Forbidding:
        """A model that allows the first action alone."""

        n_models = 1

        def choices(self, state: Any) -> Choices:
            b = len(state[0])
            log_prob = torch.full((1, b, space.n_actions), -torch.inf)
            log_prob[:, :, 0] = 0
            return Choices(torch.arange(space.n_actions).expand(b, -1), log_prob)

        def parameters(self) -> list[Tensor]:
            return []

        def tensors(self, model: int = 0) -> dict[str, Tensor]:
            return {}

    every = sample_backward(
        space, space.terminal(torch.tensor([[0, 1, 1]])), generator=torch.Generator().manual_seed(0)
    )
    with pytest.raises(EpgfnError, match="no probability"):
        FrozenProduct(space, Forbidding(), together=True).log_target(every)

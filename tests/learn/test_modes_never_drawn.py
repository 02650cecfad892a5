"""A mode that a model never draws: its own weights are all equal, and its verdict is not good all the same.

A chain of three variables may run either way or out of the middle, each with probability 1/3. The models here never draw the way from
the third variable to the first, which leaves edges off by a third.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from epgfn.gflownet.device import on_cpu, seeded
from epgfn.gflownet.losses import make_loss
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.spaces.parent_sets import parent_masks
from epgfn.gflownet.training.loop import Options, Parts, draw_of, fit, table_reward
from epgfn.learn.elsewhere import GraphChains, chains_of_walks, without_edges
from epgfn.learn.model import Model
from epgfn.learn.policy import family_of, initial_policy
from epgfn.learn.trust import Judge
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.settings import TrainingSettings

LACKED = "v2->v1"


_WEIGHTS: dict[tuple[str, int, int], tuple[list[Tensor], Tensor]] = {}
"""Of what was trained already, and how its chance goes on: several tests begin with the same world."""


class World:
    """V variables of which three form the chain and the others no edge; a model of it trained for so many steps, never on the mode."""

    def __init__(self, kind: str, v: int, steps: int) -> None:
        names = ", ".join(f'{{ name = "v{j}" }}' for j in range(v))
        text = f'name = "t"\nroster = ["a"]\nvariables = [{names}]\nspace = {{ kind = "{kind}", max_parents = 2 }}\n'
        self.study = Study.from_bytes(text.encode())
        self.space = space_of(self.study)
        masks = parent_masks(v, 2)
        self.table = torch.full((v, len(masks)), -25.0, dtype=torch.float64)
        self.table[:, masks == 0] = 0.0
        for i, j in ((0, 1), (1, 2)):
            self.table[j, masks == 1 << i] = self.table[i, masks == 1 << j] = 12.0
        self.reward = table_reward(self.space, self.table)
        self.settings = TrainingSettings(
            steps=steps, batch=128, learning_rate=3e-3, objective=self.study.training.objective
        )
        self.generator = seeded(1)
        self.policy = make_policy(
            self.space, [initial_policy(self.study, self.table.clone(), self.generator)]
        )
        what = (kind, v, steps)
        if what not in _WEIGHTS:
            self.train(self._without)
            _WEIGHTS[what] = (
                [tensor.clone() for tensor in self.policy.parameters()],
                self.generator.get_state(),
            )
        weights, state = _WEIGHTS[what]
        with torch.no_grad():
            for tensor, kept in zip(self.policy.parameters(), weights, strict=True):
                tensor.copy_(kept)
        self.generator.set_state(state)

    def _without(self, state: Any) -> Tensor:
        reversed_chain = state.adjacency[:, 2, 1] & state.adjacency[:, 1, 0]
        return self.reward(state) - 20.0 * reversed_chain.double()

    def train(self, reward: Any, parts: Parts | None = None) -> None:
        loss = make_loss(self.space, reward, self.settings.loss, generator=self.generator)
        options = Options(draw_of(family_of(self.study).together))
        fit(self.policy, self.space, self.settings, loss, self.generator, options=options, parts=parts)

    def judge(self, *, walks: bool = False) -> Judge:
        start = without_edges(self.study)
        chains = (
            chains_of_walks(self.study, self.reward, start, 1)
            if walks
            else GraphChains(self.study, self.table)
        )
        return Judge(self.study, self.policy, self.reward, 1, lambda: None, chains, start, 2048)


@pytest.fixture(scope="module", params=[("dag-by-edges", 3, 600), ("dag-by-sinks", 16, 60)], ids=str)
def world(request: pytest.FixtureRequest) -> World:
    return World(*request.param)


@pytest.mark.parametrize("walks", [False, True])
def test_no_verdict_is_good_while_a_mode_is_never_drawn(world: World, walks: bool) -> None:
    found = world.judge(walks=walks).last()
    assert found.trust["verdict"] == "not to be relied on"
    assert 0.2 < found.trust["missing_share"] < 0.5
    if world.study.space.kind == "dag-by-edges":  # its own samples look perfect, weights and all
        assert found.trust["effective_share"] > 0.999
        assert not walks or found.probabilities[LACKED] < 0.01
    if not walks:  # so it is what chains over graphs say that is given
        assert found.basis == "chains" and found.trust["chains_apart"] < 0.1
        assert found.probabilities[LACKED] == pytest.approx(1 / 3, abs=0.05)
        assert found.trust["chains_largest_error"] > 0.2
    mode = world.table.new_zeros(len(world.table), len(world.table)).bool()
    mode[2, 1] = mode[1, 0] = True
    assert any(torch.equal(graph, mode) for graph in found.lacking.adjacency)


@pytest.mark.parametrize(("v", "n"), [(6, 2000), (16, 100)])
def test_whoever_asks_such_a_model_is_not_given_what_it_draws(v: int, n: int) -> None:
    """From Python too, where nobody judges it: the scores that it carries answer, exactly or by chains."""
    world = World("dag-by-sinks", v, 60)
    model = Model(world.study, on_cpu(world.policy.tensors()))
    assert abs(model.marginals(n, weighted=False)[LACKED] - 1 / 3) > 0.2
    assert model.marginals(n)[LACKED] == pytest.approx(1 / 3, abs=0.05)


def test_what_is_found_to_be_lacking_goes_into_training_and_the_verdict_is_good() -> None:
    world = World("dag-by-edges", 3, 600)
    judge = world.judge()
    assert not judge.is_good()
    world.train(world.reward, Parts([600, 600], judge.is_good, judge.lacking))
    found = judge.last()
    assert found.trust["verdict"] == "good", found.trust
    assert found.probabilities[LACKED] == pytest.approx(1 / 3, abs=0.05)


def test_without_those_objects_training_alone_does_not_find_it() -> None:
    world = World("dag-by-edges", 3, 600)
    judge = world.judge()
    world.train(world.reward, Parts([600, 600], judge.is_good))
    assert judge.last().trust["verdict"] != "good"

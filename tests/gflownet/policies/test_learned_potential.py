"""Beyond 25 variables: a potential completed in reference orders and learned, chosen by the number of variables alone."""

from __future__ import annotations

import torch

from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.learned_potential import LearnedPotential, initial_tensors
from epgfn.gflownet.policies.reference_orders import completion, log_completions
from epgfn.gflownet.sampling.rollout import evaluate, sample
from epgfn.gflownet.spaces import DagBySinks
from epgfn.gflownet.training.loop import fit
from epgfn.learn.local import local_loss
from epgfn.learn.policy import initial_policy, policy_spec, validate_policy
from epgfn.learn.scores import study_masks
from epgfn.study import Study
from epgfn.study.objects import space_of

STUDY = Study.model_validate(
    {
        "name": "thirty",
        "roster": ["one"],
        "variables": [{"name": f"x{i}"} for i in range(30)],
        "space": {"max_parents": 2},
        "policy": {"hidden": 16},
        "training": {"steps": 40, "batch": 64, "learning_rate": 1e-2, "temperature": 1.0},
    }
)


def scores() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    table = 5 * torch.randn(30, len(study_masks(STUDY)), dtype=torch.float64, generator=generator)
    return table.masked_fill(DagBySinks(30, 2).parents.T, -torch.inf)


def test_completions_are_those_of_each_order_worked_out_one_by_one() -> None:
    space = DagBySinks(5, 2)
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(5, space.n_sets, dtype=torch.float64, generator=generator) * 3
    ranks = torch.rand(3, 5, generator=generator)
    members = torch.tensor([[False, True, False, False, False], [True, False, True, True, False]])
    found = log_completions(completion(space, table, ranks), members)
    for row, member in enumerate(members):
        for k in (~member).nonzero()[:, 0].tolist():
            totals = []
            for rank in ranks:
                total = torch.zeros((), dtype=torch.float64)
                for j in range(5):
                    if member[j] or j == k:
                        continue
                    there = (member | (rank < rank[j])).clone()
                    there[k], there[j] = True, False
                    within = ~(space.parents & ~there).any(1)
                    total += table[j, within].logsumexp(0)
                totals.append(total)
            assert torch.isclose(found[row, k], torch.stack(totals).logsumexp(0))


def test_thirty_variables_by_sinks_are_a_study() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = initial_policy(STUDY, scores(), generator)
    assert {n: tuple(t.shape) for n, t in tensors.items()} == {
        n: spec.shape for n, spec in policy_spec(STUDY).items()
    }
    validate_policy(STUDY, tensors)
    policy = make_policy(space_of(STUDY), [tensors])
    assert isinstance(policy, LearnedPotential)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in policy.tensors().items())


def test_training_brings_the_loss_down() -> None:
    space, generator = DagBySinks(8, 2), torch.Generator().manual_seed(3)
    table = 5 * torch.randn(8, space.n_sets, dtype=torch.float64, generator=generator)
    table = table.masked_fill(space.parents.T, -torch.inf)
    policy = LearnedPotential(space, [initial_tensors(space, 16, table, generator)])
    table = table - table.amax(1, keepdim=True)
    loss = local_loss(space, table, STUDY.training)
    loss = [step["loss"] for step in fit(policy, space, STUDY.training, loss, generator)]
    assert sum(loss[-8:]) < 0.8 * sum(loss[:8])


def test_a_stack_says_what_each_model_says_alone() -> None:
    space, generator = DagBySinks(7, 2), torch.Generator().manual_seed(4)
    tables = torch.randn(2, 7, space.n_sets, dtype=torch.float64, generator=generator) * 5
    models = [initial_tensors(space, 8, table, generator) for table in tables]
    stack = LearnedPotential(space, models)
    drawn = sample(stack, space, 16, generator=generator, temperature=2.0)
    for i, tensors in enumerate(models):
        alone = evaluate(LearnedPotential(space, [tensors]), space, drawn.trajectories)
        assert torch.allclose(drawn.evaluated.log_pf[i], alone.log_pf[0], atol=1e-4)

"""Studies of unrooted trees: what a file means, how splits are named, and that a trained model is the posterior."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from epgfn.base.errors import UsageError
from epgfn.base.files import sha256_hex
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.spaces.base import take
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.model import Model, terminating_distribution
from epgfn.learn.target import target_of
from epgfn.study import Study
from epgfn.study.objects import marginals, questions, space_of, written
from epgfn.testing import made_up_records

LOOP = "steps = 200\nbatch = 128\nlearning_rate = 5e-3\n"


def study_of(taxa: int, target: str = 'branch_lengths = "own"', more: str = "") -> Study:
    names = ", ".join(f'{{name = "{name}"}}' for name in (*"abcdefghijklmnop", *range(16, taxa))[:taxa])
    text = f'name = "t"\nroster = ["north", "south"]\nvariables = [{names}]\n[space]\nkind = "phylogeny"\n'
    return Study.from_bytes(
        f"{text}[target]\n{target}\n[policy]\nhidden = 16\n[training]\n{LOOP}[aggregation]\n{LOOP}{more}".encode()
    )


def records_of(study: Study, sites: int, seed: int) -> torch.Tensor:
    """Sites along (((a, b), c), (d, (e, f))), for as many taxa as there are."""
    generator = torch.Generator().manual_seed(seed)

    def changed(base: torch.Tensor) -> torch.Tensor:
        other = torch.randint(4, (sites,), generator=generator)
        return torch.where(torch.rand(sites, generator=generator) < 0.85, base, other)

    top = torch.randint(4, (sites,), generator=generator)
    left, right = changed(top), changed(top)
    inner, last = changed(left), changed(right)
    bases = [changed(x) for x in (inner, inner, left, right, last, last)][: len(study.variables)]
    return (1 << torch.stack(bases, 1)).to(torch.uint8)


def test_a_file_that_does_not_say_keeps_its_meaning_and_its_digest() -> None:
    text = (
        b'name = "t"\nroster = ["n"]\nvariables = [{name = "a"}, {name = "b"}, {name = "c"}, {name = "d"}]\n'
        b'[space]\nkind = "phylogeny"\n[target]\nkind = "jc69"\nbranch_length = 0.2\n'
    )
    old = Study.from_bytes(text)
    assert old.digest == sha256_hex(text) and old.target.branch_lengths == "equal"
    assert space_of(old).n_leaves == 4 and old.number_of_objects == 15 and old.kind.asked(old) == "clade"
    assert old.target_kind.mechanisms and old.target_kind.likelihood is not None
    assert written(old, take(space_of(old).trees(), torch.tensor([0])))[0].count(",") == 3


def test_trees_have_no_root_and_splits_are_named_by_their_smaller_side() -> None:
    study = study_of(5)
    state = space_of(study).trees()
    assert len(state.nodes) == study.number_of_objects == 15 and study.kind.asked(study) == "split"
    texts = written(study, state)
    assert len(set(texts)) == 15 and "(((a,b),c),d,e);" in texts and "((a,b),(c,d),e);" in texts
    names, answers = questions(study, state)
    assert len(set(names)) == len(names) == 10 and all(name.count(",") == 1 for name in names)
    assert (answers.sum(1) == 2).all()  # inner branches
    row = texts.index("(((a,b),c),d,e);")
    assert {name for name, yes in zip(names, answers[row].tolist(), strict=True) if yes} == {
        "{a, b}",
        "{d, e}",
    }
    four = study_of(4)
    assert questions(four, space_of(four).trees()).names == ["{a, b}", "{a, c}", "{a, d}"]


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ('branch_lengths = "own"\nbranch_length = 0.1', "branch_length has no meaning"),
        ("gamma_shape = 0.5", "gamma_shape has no meaning"),
        ("branch_rate = 2.0", "branch_rate has no meaning"),
        ('kind = "hky"\nbranch_lengths = "equal"', "own"),
        ('kind = "hky"\nfrequencies = [0.5, 0.5]', "frequencies"),
        ('kind = "jc69"\nbranch_lengths = "own"\nkappa = 2.0', "kappa has no meaning"),
    ],
)
def test_settings_that_belong_to_another_target_are_refused(target: str, names: str) -> None:
    with pytest.raises(UsageError, match=names):
        study_of(5, target)


def test_three_taxa_too_many_and_privacy_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 4 taxa"):
        study_of(3)
    with pytest.raises(UsageError, match="65 taxa at most"):
        study_of(66)
    assert space_of(study_of(65)).n_leaves == 64
    for mode in ("answers", "statistic"):
        with pytest.raises(UsageError, match="has no mechanism for target 'jc69 with branch_lengths"):
            study_of(5, more=f'[privacy]\nmode = "{mode}"\nepsilon = 1.0\ndelta = 1e-5\n')


def test_the_taxon_at_the_root_counts_among_those_that_can_be_trusted() -> None:
    assert study_of(13).caution == "" and "beyond 13 taxa" in study_of(14).caution


@pytest.mark.parametrize(
    ("taxa", "target"),
    [
        (6, 'branch_lengths = "own"'),
        (5, 'kind = "hky"\nkappa = 3.0\nfrequencies = [0.2, 0.3, 0.3, 0.2]\ngamma_shape = 0.7'),
    ],
)
def test_models_are_the_exact_posteriors_of_unrooted_trees(taxa: int, target: str, tmp_path: Path) -> None:
    study = study_of(taxa, target)
    records = {node: records_of(study, 40, seed) for seed, node in enumerate(study.roster)}
    models = {node: train_local(study, found.numpy(), seed=1).tensors for node, found in records.items()}
    rewards = {}
    for node, tensors in models.items():
        state, mass = terminating_distribution(Model(study, tensors))
        rewards[node] = target_of(study, records[node]).log_reward(state)
        assert len(mass) == study.number_of_objects
        assert l1(mass, exact_distribution(rewards[node])) < 0.03
    together = Model(study, train_global(study, models, seed=2).tensors)
    state, mass = terminating_distribution(together)
    exact = exact_distribution(torch.stack(list(rewards.values())).sum(0))
    assert l1(mass, exact) < 0.06
    expected = marginals(study, state, exact)
    assert expected["{a, b}"] > 0.5
    drawn = together.marginals(4000, seed=1)
    assert max(abs(drawn[name] - expected[name]) for name in expected) < 0.05


def test_records_are_made_up_for_a_target_of_all_records_together() -> None:
    found = made_up_records(study_of(5), 1, 20)
    assert found.shape == (20, 5) and found.dtype == torch.uint8

"""Answers about records that can only have listed values: looked up, they are what each record's own likelihoods say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.learn.likelihoods import likelihood_of
from epgfn.privacy.mechanisms.answers import AnswersMechanism
from epgfn.privacy.of_study.releases import maker_of
from epgfn.study.objects import space_of
from epgfn.targets import jc69
from kinds import private_study, study

SUMMED = ["multiset", "sequence", "hypergrid", "phylogeny"]


def drawn(kind: str, n: int) -> Tensor:
    """`n` made-up records of the last object of the tiny study."""
    space = space_of(study(kind))
    objects = terminating_states(space, explore(space))
    last = take(objects, torch.tensor([-1]))
    return likelihood_of(study(kind), space).draw(last, n, torch.Generator().manual_seed(1))


def mechanism(kind: str) -> AnswersMechanism:
    return maker_of(private_study(kind), "north").mechanism  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("kind", SUMMED)
def test_the_exact_answers_are_the_sums_of_what_each_record_says(kind: str) -> None:
    asked, records = mechanism(kind), drawn(kind, 300)
    said = asked.per_record(records, asked.objects).double()
    expected = (said - said.mean(1, keepdim=True)).sum(0)
    (exact,) = asked.values(records).values()
    found = asked.finish(({"answers": exact},)).log_likelihood
    assert float(expected.abs().max()) > 3
    torch.testing.assert_close(found, expected, atol=300 * asked.radius * 1e-5, rtol=0)


@pytest.mark.parametrize("kind", SUMMED)
def test_a_value_that_is_looked_up_adds_what_it_would_add_by_itself(kind: str) -> None:
    asked, records = mechanism(kind), drawn(kind, 200)
    alone = replace(asked, listed=None)
    (found,), (expected,) = asked.values(records).values(), alone.values(records).values()
    # A last bit may round to the next grid step, of which a clip has a million.
    np.testing.assert_allclose(found, expected, atol=200)


def test_sites_with_unknown_bases_are_answered_for_as_well() -> None:
    asked, records = mechanism("phylogeny"), drawn("phylogeny", 50)
    records[:7, 2] = 15
    said = asked.per_record(records, asked.objects).double()
    expected = (said - said.mean(1, keepdim=True)).sum(0)
    (exact,) = asked.values(records).values()
    assert asked.basis is not None
    inside = asked.basis @ (asked.basis.T @ expected.numpy())
    found = asked.finish(({"answers": exact},)).log_likelihood.numpy()
    np.testing.assert_allclose(found, inside, atol=50 * asked.radius * 1e-5)


def test_what_a_record_adds_hangs_on_no_other_record() -> None:
    """To the last bit, whoever stands beside it."""
    for kind in SUMMED:
        asked, records = mechanism(kind), drawn(kind, 30)
        (together,) = asked.values(records).values()
        alone = [next(iter(asked.values(records[i : i + 1]).values())) for i in range(30)]
        np.testing.assert_array_equal(together, sum(alone))


def test_more_values_and_objects_than_fit_are_refused() -> None:
    asked = mechanism("multiset")
    many = torch.zeros(1 << 23, dtype=torch.int64)
    with pytest.raises(UsageError, match="too many values"):
        AnswersMechanism.for_domain(asked.per_record, asked.objects, many, 1.0, 1e-5)


def test_no_record_at_all_is_a_sum_of_nothing() -> None:
    for kind in SUMMED:
        (exact,) = mechanism(kind).values(drawn(kind, 1)[:0]).values()
        assert not exact.any()


@pytest.mark.parametrize("taxa", [3, 4, 6])
def test_every_site_is_found_up_to_the_names_of_its_bases(taxa: int) -> None:
    patterns = jc69.site_patterns(taxa)
    torch.testing.assert_close(jc69.pattern_of(patterns), torch.arange(len(patterns)))
    codes = (1 << torch.randint(4, (500, taxa), generator=torch.Generator().manual_seed(2))).to(torch.uint8)
    like = patterns[jc69.pattern_of(codes)]
    assert torch.equal(codes[:, :, None] == codes[:, None], like[:, :, None] == like[:, None])
    codes[3, 1] = 5  # A or G
    assert int(jc69.pattern_of(codes)[3]) == -1

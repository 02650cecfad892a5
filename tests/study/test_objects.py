"""What is said of objects: a text for each that no other has, and marginals that are sums over all objects."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.study import Study
from epgfn.study.objects import marginals, questions, space_of, written

NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True), min_size=2, max_size=4, unique=True)
LETTERS = st.lists(st.sampled_from("ABCDEFG"), min_size=2, max_size=3, unique=True)


def study_of(space: dict[str, Any], variables: list[dict[str, Any]]) -> Study:
    return Study.model_validate({"name": "t", "roster": ["n"], "space": space, "variables": variables})


def one_variable(kind: str, categories: list[str], **sizes: int) -> Study:
    return study_of({"kind": kind, **sizes}, [{"name": "shown", "categories": categories}])


MULTISETS = st.builds(
    lambda items, size: one_variable("multiset", items, size=size), NAMES, st.integers(1, 4)
)
SEQUENCES = st.builds(
    lambda letters, length: one_variable("sequence", letters, max_length=length),
    LETTERS | NAMES,
    st.integers(1, 3),
)
POINTS = st.builds(
    lambda names, side, log: study_of(
        {"kind": "hypergrid", "side": side},
        [{"name": n, "lower": 1, "upper": 50, **({"transform": "log"} if log else {})} for n in names[:3]],
    ),
    NAMES,
    st.integers(2, 5),
    st.booleans(),
)
TREES = st.builds(
    lambda n: study_of({"kind": "phylogeny"}, [{"name": f"taxon-{i}"} for i in range(n)]), st.integers(3, 5)
)


def all_of(study: Study) -> Any:
    space = space_of(study)
    return terminating_states(space, explore(space))


@settings(max_examples=25)
@given(MULTISETS | SEQUENCES | POINTS | TREES, st.integers(0, 2**31))
def test_every_object_has_a_text_of_its_own_and_marginals_are_sums(study: Study, seed: int) -> None:
    state = all_of(study)
    texts = written(study, state)
    assert len(set(texts)) == len(texts) == study.number_of_objects
    weight = torch.rand(len(texts), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weight /= weight.sum()
    names, answers = questions(study, state)
    found = marginals(study, state, weight)
    assert list(found) == names and len(set(names)) == len(names)
    for i, name in enumerate(names):
        yes = answers[:, i].nonzero()[:, 0].tolist()
        assert found[name] == pytest.approx(sum(float(weight[k]) for k in yes), abs=1e-12)
    # The answers tell objects apart, so that nothing about them is left unasked.
    assert len(torch.unique(answers, dim=0)) == len(texts)


def test_the_answers_are_what_the_texts_say() -> None:
    fruit = one_variable("multiset", ["apple", "pear", "fig"], size=3)
    state = all_of(fruit)
    for text, yes in zip(written(fruit, state), questions(fruit, state).answers, strict=True):
        counts = {item: int(n) for item, n in re.findall(r"(\w+) (\d)", text)}
        expected = [counts.get(item, 0) >= k for item in ("apple", "pear", "fig") for k in (1, 2, 3)]
        assert yes.tolist() == expected and sum(counts.values()) == 3
    words = one_variable("sequence", ["A", "B"], max_length=2)
    state = all_of(words)
    names, answers = questions(words, state)
    for text, yes in zip(written(words, state), answers.tolist(), strict=True):
        said = {name for name, answer in zip(names, yes, strict=True) if answer}
        letters = {f"{place}. letter is {letter}" for place, letter in enumerate(text, start=1)}
        assert said == letters | {f"length >= {place}" for place in range(1, len(text) + 1)}
    trees = study_of({"kind": "phylogeny"}, [{"name": name} for name in "abcd"])
    state = all_of(trees)
    names, answers = questions(trees, state)
    at = written(trees, state).index("(((a,b),c),d);")
    assert {n for n, yes in zip(names, answers[at].tolist(), strict=True) if yes} == {"{a, b}", "{a, b, c}"}


def test_places_lie_evenly_on_the_studys_scale_between_the_bounds() -> None:
    study = study_of(
        {"kind": "hypergrid", "side": 3},
        [
            {"name": "x", "lower": 0, "upper": 10},
            {"name": "dose", "lower": 1, "upper": 100, "transform": "log"},
        ],
    )
    texts = written(study, all_of(study))
    assert {"x=0, dose=1", "x=5, dose=10", "x=10, dose=100"} <= set(texts) and len(texts) == 9


def test_letters_that_would_make_two_sequences_read_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="holds no space"):
        one_variable("sequence", ["A", "A A"], max_length=2)


def test_places_that_lie_close_together_are_told_apart() -> None:
    study = study_of({"kind": "hypergrid", "side": 11}, [{"name": "year", "lower": 20_000, "upper": 20_001}])
    texts = written(study, all_of(study))
    assert len(set(texts)) == 11 and "year=20000.1" in texts
    assert len(marginals(study, all_of(study))) == 11


def test_every_kind_has_words_for_people() -> None:
    for study in (one_variable("multiset", ["a", "b"], size=1), one_variable("sequence", ["a", "b"], max_length=1)):  # fmt: skip
        kind = study.kind
        assert kind.noun.endswith("s") and kind.question

"""What [prior] rules out and requires: every mistake named at once, by the names of the variables; and what each setting comes to."""

from __future__ import annotations

import itertools

import pytest

from epgfn.base.errors import UsageError
from epgfn.learn.scores import admissible, prior_table, study_sets
from epgfn.study import Study
from epgfn.study.check import check_study
from epgfn.study.knowledge import in_words, knowledge_of, prior_in_words

NAMES = ("age", "sex", "smoking", "bmi", "hba1c")
_VARIABLES = ", ".join(f'{{name = "{name}", centre = 0, scale = 1}}' for name in NAMES)


def text(prior: str = "", more: str = "") -> bytes:
    return (
        f'name = "t"\nroster = ["a", "b", "c"]\nvariables = [{_VARIABLES}]\n{more}\n[prior]\n{prior}\n'
    ).encode()


def study(prior: str = "", more: str = "") -> Study:
    return Study.from_bytes(text(prior, more))


def edges(*pairs: str) -> set[tuple[int, int]]:
    """Of "age-bmi"."""
    found = [pair.split("-") for pair in pairs]
    return {(NAMES.index(a), NAMES.index(b)) for a, b in found}


def test_nothing_said_is_nothing_known() -> None:
    assert knowledge_of(study()) is None and in_words(study()) == ""
    assert knowledge_of(study('kind = "edge"\nedge_probability = 0.2')) is None


@pytest.mark.parametrize(
    ("prior", "barred", "required"),
    [
        ('forbidden = [["age", "sex"], ["*", "smoking"]]',
         edges("age-sex", "age-smoking", "sex-smoking", "bmi-smoking", "hba1c-smoking"), edges()),
        ('tiers = [["age", "sex"], ["bmi"]]', edges("bmi-age", "bmi-sex"), edges()),
        ('candidates = {hba1c = ["age", "bmi"]}', edges("sex-hba1c", "smoking-hba1c"), edges()),
        ('roots = ["age"]', edges("sex-age", "smoking-age", "bmi-age", "hba1c-age"), edges()),
        ('leaves = ["age"]', edges("age-sex", "age-smoking", "age-bmi", "age-hba1c"), edges()),
        ('required = [["age", "bmi"]]', edges(), edges("age-bmi")),
        ('required = [["age", "*"]]', edges(), edges("age-sex", "age-smoking", "age-bmi", "age-hba1c")),
    ],
)  # fmt: skip
def test_what_a_setting_comes_to(
    prior: str, barred: set[tuple[int, int]], required: set[tuple[int, int]]
) -> None:
    known = knowledge_of(study(prior))
    assert known is not None
    assert set(known.barred) == barred and known.required == required


def test_the_sets_that_a_variable_may_have_are_between_what_is_required_and_what_is_allowed() -> None:
    one = study('required = [["age", "bmi"]]\ncandidates = {bmi = ["age", "smoking"], sex = []}')
    found = admissible(one)
    of = {
        name: {
            frozenset(NAMES[i] for i in members.nonzero()[:, 0].tolist())
            for members in study_sets(one)[found[j]]
        }
        for j, name in enumerate(NAMES)
    }
    assert of["bmi"] == {frozenset({"age"}), frozenset({"age", "smoking"})}
    assert of["sex"] == {frozenset()}
    assert len(of["age"]) == 15, "all sets of at most three others"


def test_all_contradictions_are_named_at_once_and_the_cycle_by_its_variables() -> None:
    found = check_study(
        text(
            'required = [["age", "bmi"], ["bmi", "hba1c"], ["hba1c", "age"], ["sex", "smoking"], ["age", "smoking"], ["bmi", "smoking"]]\n'
            'forbidden = [["sex", "smoking"]]\ntiers = [["hba1c"], ["smoking", "bmi", "bmi"]]\nroots = ["ages"]',
            "space.max_parents = 2",
        )
    )
    said = [str(mistake) for mistake in found.mistakes]
    assert said == [
        "prior.roots: 'ages' is no variable of the study (did you mean 'age'?)",
        "prior.tiers: 'bmi' is listed twice",
    ]
    found = check_study(
        text(
            'required = [["age", "bmi"], ["bmi", "hba1c"], ["hba1c", "age"], ["sex", "smoking"], ["age", "smoking"], ["bmi", "smoking"]]\n'
            'forbidden = [["sex", "smoking"]]\ntiers = [["hba1c"], ["smoking", "bmi"]]',
            "space.max_parents = 2",
        )
    )
    said = [str(mistake) for mistake in found.mistakes]
    assert said[:3] == [
        "prior.required: the edge 'sex' -> 'smoking' is ruled out by forbidden",
        "prior.required: the edge 'bmi' -> 'hba1c' is ruled out by tiers",
        "prior.required: 'smoking' would have 3 parents, and space.max_parents is 2",
    ]
    (cycle,) = said[3:]
    start = "prior.required: no graph without a cycle has all of these edges: "
    assert cycle.startswith(start)
    names = cycle.removeprefix(start).split(" -> ")
    assert names[0] == names[-1] and set(names) == {"age", "bmi", "hba1c"}
    steps = set(itertools.pairwise(names))
    assert steps == {("age", "bmi"), ("bmi", "hba1c"), ("hba1c", "age")}


@pytest.mark.parametrize(
    ("prior", "more", "why"),
    [
        ('forbidden = [["age"]]', "", "prior.forbidden"),
        ('forbidden = [["age", "age"]]', "", "to itself"),
        ('candidates = {age = ["age"]}', "", "its own parent"),
        ('forbidden = [["*", "*"]]', "", "nothing to find out"),
        ('required = [["*", "*"]]', "", "parents, and space.max_parents"),
        ('kind = "fan-in"\nedge_probabilities = [["age", "bmi", 0.9]]', "", "not with 'fan-in'"),
        ("expected_parents = 1.0", "", "set kind"),
        ('kind = "edge"\nexpected_parents = 4.0', "", "below the number of other variables"),
        ('kind = "edge"\nexpected_parents = 1.0\nedge_probability = 0.1', "", "in place of edge_probability"),
        ('edge_probabilities = [["age", "bmi", 1.0]]', "", "prior.edge_probabilities"),
        ('tier = [["age"]]', "", "did you mean 'tiers'"),
    ],
)
def test_what_makes_no_sense_is_refused(prior: str, more: str, why: str) -> None:
    said = " ".join(str(mistake) for mistake in check_study(text(prior, more)).mistakes)
    assert why in said
    with pytest.raises(UsageError):
        study(prior, more)


def test_objects_without_edges_take_no_such_knowledge() -> None:
    raw = (
        b'name = "t"\nroster = ["a"]\nvariables = [{name = "item", categories = ["x", "y", "z"]}]\n'
        b'[space]\nkind = "multiset"\nsize = 2\n[prior]\nforbidden = [["x", "y"]]\nroots = ["x"]\n'
    )
    said = [str(mistake) for mistake in check_study(raw).mistakes]
    assert [line.split(":")[0] for line in said] == ["prior.forbidden", "prior.roots"]


def test_probabilities_of_single_edges_take_the_place_of_the_kinds() -> None:
    one = study(
        'kind = "edge"\nexpected_parents = 1.0\nedge_probabilities = [["*", "bmi", 0.5], ["age", "bmi", 0.9]]'
    )
    table, sets = prior_table(one), study_sets(one)
    odds = 0.25 / 0.75  # 1 of 4 others
    for j, name in enumerate(NAMES):
        for k, members in enumerate(sets.tolist()):
            expected = 1.0
            for i, there in enumerate(members):
                if there:
                    expected *= {"bmi": 9.0 if NAMES[i] == "age" else 1.0}.get(name, odds)
            if not sets[k, j]:
                assert float(table[j, k].exp()) == pytest.approx(expected)


def test_words() -> None:
    assert prior_in_words(study(), "graphs") == "uniform over graphs"
    one = study('kind = "edge"\nexpected_parents = 1.5\nroots = ["age"]\nrequired = [["age", "bmi"]]')
    assert prior_in_words(one, "graphs") == (
        "1.5 parents expected; 4 of 20 edges cannot be there, and 1 has to be (required, roots)"
    )

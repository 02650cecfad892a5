"""All mistakes of a study file at once, by the names of its variables, with what may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.check import advice, check_study
from epgfn.study.new import require_new
from small import PRIVATE_STUDY, SMALL_STUDY

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/study*.toml"))

MANY = """
name = "many"
roster = ["North", "south", "south"]
sead = 3

[space]
kind = "dag-by-sink"
max_parent = 3

[target]
kind = "bgee"
tt = 1

[training]
steps = "many"
max_parents = 3

[aggregation]
quorum = 9

[[variables]]
name = "LDL"
transform = "logg"
center = 3
scale = 1.0

[[variables]]
name = "HDL"
centre = "?"
scale = 1.0

[[variables]]
name = "age"
lower = 3
upper = 1

[[variables]]
name = "dose"
centre = 1.0

[[variables]]
name = "weight"
centre = 1.0
scale = 2.0

[[variables]]
name = "weight"
centre = 1.0
scale = 2.0
"""
SAID = """\
roster: node id 'North': use lower-case letters, digits and hyphens, at most 63
roster: node id 'south' is listed twice
variable 'LDL', transform: must be 'none', 'arcsinh' or 'log' (did you mean 'log'?)
variable 'LDL', center: there is no such setting (did you mean 'centre'?)
variable 'HDL', centre: is still to be filled in
variable 'age': lower must be below upper
training.steps: must be a whole number
training.max_parents: there is no such setting here; it belongs under [space]
sead: there is no such setting (did you mean 'seed'?)
space.max_parent: there is no such setting (did you mean 'max_parents'?)
target.tt: there is no such setting (did you mean 't'?)
variable 'weight': a variable name is listed twice
aggregation.quorum is larger than the roster
variable 'dose': scale is missing"""


def said(text: str) -> list[str]:
    return [str(mistake) for mistake in check_study(text.encode()).mistakes]


def test_all_mistakes_of_a_file_are_listed_and_nothing_else() -> None:
    """Also those that hide behind one another, as the setting of a space whose kind is misspelt."""
    found = said(MANY)
    kinds = [text for text in found if text.startswith(("space:", "target:"))]
    assert [text for text in found if text not in kinds] == SAID.splitlines()
    assert "(did you mean 'dag-by-sinks'?)" in kinds[0] and "(did you mean 'bge'?)" in kinds[1]
    assert len(kinds) == 2


TWO = SMALL_STUDY.replace("max_parents = 2", "max_parents = 1").rsplit("[[variables]]", 1)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TWO, []),
        (TWO + "[target]\nalpha_w = 2\n", ["target.alpha_w: must be above the number of variables plus one (3)"]),
        (TWO + "[target]\nalpha_w = 1e12\n", ["target.alpha_w: must be above the number of variables plus one (3) and at most 1,000,000"]),
        (TWO + "[target]\nalpha_w = 3.5\n", []),
        (TWO + "[target]\nkind = 'bic'\nt = 5\nalpha_w = 20\n", [
            "target.alpha_w: has no meaning for target 'bic'", "target.t: has no meaning",
        ]),
        (TWO + "[target]\nsigma = 2.0\n", ["target.sigma: has no meaning for target 'bge'; take it out"]),
        (TWO + "[target]\nkind = 'max-likelihood'\nsigma = 2.0\n", []),
        (TWO.replace('name = "b"', 'name = "b"\nlower = 50\nupper = 60'), [
            "variable 'b': every value between its bounds is at least 50 scales",
        ]),
        (TWO.replace('name = "b"', 'name = "b"\nlower = -9000\nupper = -31'), [
            "variable 'b': every value between its bounds is at least 31 scales",
        ]),
        (TWO.replace('name = "b"', 'name = "b"\nlower = 0\nupper = 60'), []),
        (TWO.replace("seed = 3", "seed = true"), ["seed: must be a number, not true"]),
        (TWO.replace("steps = 12", 'steps = "12"', 1), ["training.steps: must be a number, without quotation marks"]),
        (TWO.replace("scale = 1.0", 'scale = "1"', 1), ["variable 'a'.scale: must be a number, without quotation marks"]),
        (TWO.replace("max_parents = 1", "max_parents = 0"), ["space.max_parents: must be greater than or equal to 1"]),
        (TWO.replace("max_parents = 1", "max_parent = 1"), ["space.max_parent: there is no such setting (did you mean 'max_parents'?)"]),
        (TWO.replace("max_parents = 1", ""), ["space.max_parents must be below the number of variables (2)"]),
        (TWO.replace('["north", "south"]', "[]"), ["roster: must not be empty"]),
        (TWO.replace('name = "b"', f'name = "{"b" * 65}"'), [f"variable '{'b' * 65}', name: must have at most 64 characters"]),
    ],
)  # fmt: skip
def test_what_no_training_comes_to_an_end_with_is_said_before_it(text: str, expected: list[str]) -> None:
    found = said(text)
    assert len(found) == len(expected), found
    assert all(sentence.startswith(start) for sentence, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    "more", ["[target]\nkind = 'bic'\nt = 5\n", "[target]\nalpha_w = 2\n", "[target]\nsigma = 2.0\n"]
)
def test_a_study_of_before_still_reads_and_nothing_new_is_begun_with_it(more: str) -> None:
    study = Study.from_bytes((TWO + more).encode())
    assert study.raw == (TWO + more).encode() and said(TWO + more)
    with pytest.raises(UsageError, match=r"study: target\..*correct it and run again"):
        require_new(study)
    require_new(Study.from_bytes(TWO.encode()))


def test_how_to_choose_a_scale_is_said_where_one_is_missing() -> None:
    found = check_study(SMALL_STUDY.replace("scale = 1.0", "").encode())
    assert [str(m) for m in found.mistakes] == [f"variable '{name}': scale is missing" for name in "abc"]
    assert "never from anyone's records" in advice(found.mistakes) and found.all_found
    assert advice(check_study(SMALL_STUDY.replace("seed", "sead").encode()).mistakes) == ""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_examples_have_no_mistakes(path: Path) -> None:
    found = check_study(path.read_bytes())
    assert found.mistakes == [] and found.study == Study.load(path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[a", "it is not valid TOML"),
        ("", "roster: is missing"),
        ("space = 3", "space: must be a table"),
        ("variables = 3", "variables: must be a list: write [[variables]]"),
        ("variables = [3]", "variable number 1: must be a table"),
        ('[[variables]]\ncentre = 1.0', "variable number 1, name: is missing"),
        ('roster = ["?"]', "roster: is still to be filled in"),
        ('name = "x"\n[space]\nkind = "multisets"', "(did you mean 'multiset'?)"),
        ('name = "x"\n[space]\nkind = "galaxy"', "space: there is no space 'galaxy'"),
        ('name = "x"\n[space]\nkind = "multiset"', "space 'multiset' needs space.size"),
    ],
)  # fmt: skip
def test_whatever_a_file_holds_is_answered_in_sentences(text: str, what: str) -> None:
    found = check_study(text.encode())
    assert found.study is None
    assert any(what in str(mistake) for mistake in found.mistakes)


def test_mistakes_of_several_variables_are_one_each() -> None:
    text = PRIVATE_STUDY.replace("upper = 5.0", "").replace(
        'name = "b"', 'name = "b"\ncategories = ["x", "y"]'
    )
    assert said(text) == [
        "variable 'b': target 'bge' takes numbers, so it has no categories; use target.kind = 'bdeu'",
        *(
            f"variable '{name}': privacy needs public bounds: set lower and upper, from the literature or the instrument, never from "
            "anyone's records"
            for name in "ac"
        ),
    ]


def test_who_reads_a_study_is_told_the_first_mistake_and_how_many_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"variable 'a', transform: must be .* \(1 more: epgfn study check lists"
    ) as caught:
        Study.from_bytes(
            SMALL_STUDY.replace("seed", "sead")
            .replace('name = "a"', 'name = "a"\ntransform = "Log"')
            .encode()
        )
    assert "(did you mean 'log'?)" in str(caught.value)

"""Which studies can have masked sums, and what is said of them before anybody agrees."""

from __future__ import annotations

import pytest

from epgfn.base.errors import UsageError
from epgfn.sealing.binding import MASKED_PAYLOAD
from epgfn.study import Study
from epgfn.study.check import check_study
from epgfn.study.exposure import exposure_of
from epgfn.study.parameters import is_masked, payload_of, privacy_in_words
from small import PRIVATE_STUDY, SMALL_STUDY

SHARED = '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]'
MASKED = '[aggregation]\nsums = "masked"\nquorum = 3'


def study_of(text: str = SMALL_STUDY, rules: str = MASKED, roster: str = '["a", "b", "c", "d"]') -> Study:
    text = text.replace('["north", "south"]', roster).replace("[policy]", SHARED, 1)
    return Study.from_bytes(text.replace("[aggregation]", rules, 1).encode())


def test_a_study_with_all_conditions_is_one_and_others_are_not() -> None:
    study = study_of()
    assert is_masked(study) and payload_of(study) == MASKED_PAYLOAD
    assert not is_masked(study_of(rules="[aggregation]"))
    three = study_of(roster='["a", "b", "c"]')
    assert three.aggregation.quorum == 3


@pytest.mark.parametrize(
    ("why", "changed"),
    [
        ("quorum of at least 3", {"rules": MASKED.replace("quorum = 3", "quorum = 2")}),
        ("more than half of the roster, here 4 of 6", {"roster": '["a", "b", "c", "d", "e", "f"]'}),
        ("take aggregation.close_when out", {"rules": f'{MASKED}\nclose_when = "quorum"'}),
        ("take aggregation.leave_one_out out", {"rules": f"{MASKED}\nleave_one_out = true"}),
        ("take transport.keep_round_key out", {"rules": f"[transport]\nkeep_round_key = true\n{MASKED}"}),
        (
            "take aggregation.late out",
            {"rules": f'[transport]\nkeep_round_key = true\n{MASKED}\nlate = "new-aggregate"'},
        ),
        ("of exact numbers; take privacy.mode out", {"text": PRIVATE_STUDY}),
        ("closed roster", {"text": SMALL_STUDY.replace("seed = 3", "seed = 3\nlargest_roster = 5"), "rules": MASKED}),
        ("at most 100 nodes", {"roster": str([f"n{i}" for i in range(101)]).replace("'", '"'),
                               "rules": MASKED.replace("quorum = 3", "quorum = 60")}),
    ],
)  # fmt: skip
def test_what_it_cannot_be_is_said_in_a_sentence(why: str, changed: dict[str, str]) -> None:
    with pytest.raises(UsageError) as error:
        study_of(**changed)
    every = [str(error.value)]
    if why not in every[0]:  # the first of several mistakes
        every = [str(each) for each in check_study(study_text(**changed)).mistakes]
    assert any(why in each for each in every), every


def study_text(text: str = SMALL_STUDY, rules: str = MASKED, roster: str = '["a", "b", "c", "d"]') -> bytes:
    text = text.replace('["north", "south"]', roster).replace("[policy]", SHARED, 1)
    return text.replace("[aggregation]", rules, 1).encode()


def test_parameters_of_each_site_have_no_sum() -> None:
    text = SMALL_STUDY.replace('["north", "south"]', '["a", "b", "c"]').replace("[aggregation]", MASKED)
    with pytest.raises(UsageError, match=r"needs target\.parameters = 'shared'"):
        Study.from_bytes(text.encode())


def test_what_the_coordinator_learns_is_said_and_not_more() -> None:
    told = exposure_of(study_of())
    assert "no node sends a model" in told and "the coordinator reads the total alone" in told
    assert "fewer than 3 nodes side with a coordinator that keeps to the protocol, or fewer than 2" in told
    assert "take their own numbers off the total" in told and "Nobody can check" in told
    assert "can compute the same of all nodes' records together" in told
    assert "the coordinator, who can read it" not in privacy_in_words(study_of())

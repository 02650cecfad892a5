"""A study that is not what the parties meant must not start; one that is has one digest, that of its file."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from small import PRIVATE_STUDY, SMALL_STUDY


def test_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMALL_STUDY)
    assert Study.load(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_any_changed_byte_changes_the_digest() -> None:
    raw = bytearray(SMALL_STUDY.encode())
    position = random.Random(0).randrange(len(raw))
    before = Study.from_bytes(bytes(raw)).digest
    raw[position:position] = b" " if raw[position] == ord("\n") else b""
    raw += b"# a comment\n"
    assert Study.from_bytes(bytes(raw)).digest != before


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('name = "small"', 'name = "small', "not valid TOML"),
        ("seed = 3", "sead = 3", "sead"),
        ("seed = 3", "seed = -3", "seed"),
        ('"south"', '"north"', "is listed twice"),
        ('"south"', '"../south"', "node id"),
        ("max_parents = 2", "max_parents = 3", "max_parents"),
        ('name = "c"', 'name = "a"', "is listed twice"),
        ("hidden = 16", 'kind = "edge-net"', "does not go with"),
        ("steps = 12", 'steps = 12\nobjective = "detailed"', "every state may stop"),
        ("samples = 200", "quorum = 3", "quorum"),
        ("samples = 200", "deadline = 2027-01-01T00:00:00", "time zone"),
        ("scale = 1.0", "scale = 0.0", "scale"),
        ('name = "c"', 'name = "b->c"', "edges"),
        ('name = "c"', 'name = "c\\u001b[2J"', "control characters"),
        ('name = "small"', 'name = "small\\u202e"', "control characters"),
        ('name = "small"', 'name = "small\\nDigest 0123"', "control characters"),
        ("centre = 0.0", "centre = nan", "centre"),
        ("[policy]", '[privacy]\nmode = "statistical"\n[policy]', "privacy.mode"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused_in_one_sentence(old: str, new: str, names: str) -> None:
    assert old in SMALL_STUDY
    with pytest.raises(UsageError) as caught:
        Study.from_bytes(SMALL_STUDY.replace(old, new, 1).encode(), source="mine.toml")
    message = str(caught.value)
    assert names in message and "mine.toml" in message and "\n" not in message


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200f", "\x85", "\u2028", "\x00", "\x1b"])
def test_nothing_hides_in_a_comment(hidden: str) -> None:
    """What reads as a comment to one could be settings to another."""
    text = SMALL_STUDY.replace("[space]", f"# agreed{hidden} by all\n[space]")
    with pytest.raises(UsageError) as caught:
        Study.from_bytes(text.encode(), source="mine.toml")
    assert "mine.toml" in str(caught.value) and hidden not in str(caught.value)
    Study.from_bytes(
        ("\ufeff" + SMALL_STUDY.replace("[space]", "# vereinbart für alle \u05d0\n[space]")).encode()
    )


def test_binary_junk_is_refused() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        Study.from_bytes(b"\xff\xfe\x00")


def test_a_byte_order_mark_is_part_of_the_digest_and_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMALL_STUDY, encoding="utf-8-sig")
    study = Study.load(path)
    assert study.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert study.with_changes({"seed": 9}).seed == 9


def test_names_that_look_alike_are_one(small_study: Study) -> None:
    """A file could have only one of them."""
    for one, other in (("dose", " dose"), ("caf\u00e9", "cafe\u0301")):
        with pytest.raises(UsageError, match="listed twice"):
            small_study.with_changes({"variables": [{"name": one}, {"name": other}, {"name": "c"}]})


def test_with_changes_keeps_the_rest(small_study: Study) -> None:
    changed = small_study.with_changes({"seed": 9, "training": {"steps": 5}})
    assert (changed.seed, changed.training.steps, changed.training.batch) == (9, 5, 64)
    assert changed.digest != small_study.digest and changed.variable_names == small_study.variable_names
    assert Study.from_bytes(changed.raw).digest == changed.digest


def test_a_size_that_was_measured_to_be_inaccurate_is_said_to_be() -> None:
    """Nobody should believe a posterior over 26 variables or more because training ended without an error."""
    many = {"variables": [{"name": f"x{i}"} for i in range(26)], "roster": ["one"], "name": "many"}
    assert "often not to be relied on" in Study.model_validate(many).caution
    assert Study.model_validate({**many, "variables": many["variables"][:25]}).caution == ""


def test_the_old_word_for_modified_detailed_balance_means_the_same_and_is_noticed() -> None:
    text = SMALL_STUDY.replace('kind = "dag-by-sinks"', 'kind = "dag-by-edges"')
    old, new = (
        Study.from_bytes(text.encode()).with_changes(
            {
                "space": {"kind": "dag-by-edges"},
                "policy": {"kind": "edge-net"},
                "training": {"objective": word},
            }
        )
        for word in ("detailed", "modified-detailed")
    )
    assert old.training.loss == new.training.loss == "modified-detailed"
    assert "old word" in old.notice and not new.notice


def test_an_open_roster_has_places_up_to_its_largest_number() -> None:
    raw = SMALL_STUDY.replace("seed = 3", "seed = 3\nlargest_roster = 4")
    study = Study.from_bytes(raw.encode())
    assert study.roster == ["north", "south", "added-3", "added-4"]
    assert (study.named, study.added) == (["north", "south"], ["added-3", "added-4"])
    assert study.raw == raw.encode()  # the places are in no file
    again = study.with_changes({"seed": 4})
    assert again.roster == study.roster and again.digest != study.digest
    assert (
        Study.from_bytes(Study.model_validate(study.model_dump(exclude_unset=True)).raw).roster
        == study.roster
    )
    full = study.with_changes({"largest_roster": 2})
    assert (full.roster, full.added) == (["north", "south"], [])
    closed = Study.from_bytes(SMALL_STUDY.encode())
    assert (closed.roster, closed.named, closed.added) == (["north", "south"], ["north", "south"], [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"largest_roster": 1}, "more than largest_roster"),
        ({"largest_roster": 2000}, "less than or equal to 1024"),
        ({"largest_roster": 4, "roster": ["added-3", "north"]}, "listed twice"),
        ({"largest_roster": 4, "aggregation": {"quorum": 5}}, "larger than the roster"),
    ],
)
def test_what_an_open_roster_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Study.from_bytes(SMALL_STUDY.encode()).with_changes(changes)


def test_public_numbers_of_records_need_a_closed_roster() -> None:
    private = Study.from_bytes(PRIVATE_STUDY.encode())
    public = {"privacy": {"adjacency": "replace-one", "records": {"north": 60, "south": 60}}}
    assert private.with_changes(public).privacy.records
    with pytest.raises(UsageError, match="still to be added"):
        private.with_changes({"largest_roster": 3, **public})

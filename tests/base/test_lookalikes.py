"""Names that nobody can tell apart are one to a reader, and names that people do tell apart are not."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.invisible import hidden_in
from epgfn.base.lookalikes import alike, difference, glimpse, look, look_of_node, mixed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("age", "\u0430ge"), ("age", "\u0430\u0261\u0435"), ("TP53", "\u03a4\u03a153"), ("\u00e9t\u00e9", "e\u0301te\u0301"),
        ("age", "age\u3164"), ("age", "a\ufe0fge"), ("age", "ag\u200be"), ("LDL mg", "LDL  mg"), ("age", " age"), ("\u00b5g", "\u03bcg"),
        ("a-b", "a\u2010b"), ("d'or", "d\u2019or"), ("\u00e0", "\u0430\u0300"), ("\u97d3", "\u97d3\U000e0100"),
    ],
)  # fmt: skip
def test_these_look_the_same(one: str, other: str) -> None:
    assert one != other and look(one) == look(other) and glimpse(one) == glimpse(other)
    assert alike([one, "z", other], look) == [(one, other)]
    assert difference(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("age", "AGE"), ("x1", "xl"), ("O2", "02"), ("m2", "m\u00b2"), ("age", "\uff41\uff47\uff45"), ("IL", "1L"),
    ],
)  # fmt: skip
def test_these_are_taken_for_each_other_at_a_glance(one: str, other: str) -> None:
    assert look(one) != look(other) and glimpse(one) == glimpse(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "b"), ("\u03c1", "p"), ("\u03b1", "a"), ("\u00e9", "e"), ("\u0438", "\u0439"), ("\u5927", "\u592a"), ("\u0627", "\u0628"),
        ("pre", "post"), ("a-b", "ab"), ("x1", "x2"), ("TNF-\u03b1", "TNF-\u03b2"),
    ],
)  # fmt: skip
def test_these_do_not(one: str, other: str) -> None:
    assert look(one) != look(other) and glimpse(one) != glimpse(other)


@pytest.mark.parametrize(
    "pair",
    [("alice", "a1ice"), ("bob", "b0b"), ("burn", "bum"), ("wien", "vvien"), ("a-b", "a--b"), ("0l", "o1")],
)
def test_nodes_that_are_taken_for_each_other(pair: tuple[str, str]) -> None:
    assert look_of_node(pair[0]) == look_of_node(pair[1])


def test_nodes_that_are_not() -> None:
    names = [
        *(f"node-{n}" for n in range(200)),
        *(f"site-{c}" for c in "abcdefghijkmnpqrstuvwxyz"),
        "north",
        "south",
        "added-3",
        "added-4",
    ]
    assert alike(names, look_of_node) == []


def test_a_word_that_looks_latin_and_is_not_is_named_by_its_letter() -> None:
    assert mixed("my \u0430ge") == "U+0430 (Cyrillic small letter a)"
    for name in (
        "age",
        "\u0432\u043e\u0437\u0440\u0430\u0441\u0442",
        "TNF-\u03b1",
        "\u03b2HCG",
        "\u00b5g",
        "\u6570",
        "\u0440\u043e\u0441\u0442",
        "\u0394H",
        "\u00e9t\u00e9",
    ):
        assert mixed(name) is None, name


def test_what_nobody_sees_is_found_and_variants_of_ideographs_and_symbols_are_not() -> None:
    for char in ("\u3164", "\u034f", "\u115f", "\u2800", "\u200b", "\ufeff", "\ufe0f", "\U000e0101"):
        assert hidden_in(f"age{char}") == char == hidden_in(f"{char}age")
    for name in ("age", "\u845b\U000e0100", "\u2764\ufe0f", "\u1820\u180b", "\u00e9", "e\u0301", "\u6570"):
        assert hidden_in(name) is None, ascii(name)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=12))
def test_a_look_does_not_depend_on_normalisation_and_is_its_own(name: str) -> None:
    assert look(name) == look(unicodedata.normalize("NFD", name)) == look(unicodedata.normalize("NFC", name))
    assert look(look(name)) == look(name)

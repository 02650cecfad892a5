"""Promise: no bytes that a stranger sends make a reader fail otherwise than with its own sentence, or end its process.

Files of a true run, altered at random, and the kept corpus are given to every parser of what parties exchange (tests/support/parsers.py).
Each must take them or refuse them. `make fuzz` looks further.
"""

from __future__ import annotations

import random

import pytest

from parsers import CORPUS, NAMES, Parser, corpus, parsers
from run_directory import RunDirectory

ROUNDS = 150
TOKENS = [
    b'"', b"{", b"[", b"}", b"]", b"=", b"\n", b".", b",", b"\0", b"\xff", b"1e999", b"NaN", b"-1", b"true", b"null", b"\\u0000", b"9" * 24,
    b"[[", b"2030-13-01", b"'''", b"0x", b"inf", b"\xe2\x80\xae", b"1979-05-27T07:32:00Z", b"{}", b"[]", b'""', b"1.5", b"+", b"\n\n",
]  # fmt: skip


def altered(raw: bytes, chance: random.Random) -> bytes:
    """`raw` with one to eight changes: a bit, a token more, bytes less, others twice."""
    new = bytearray(raw)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        at, what = chance.randrange(len(new) + 1), chance.random()
        if what < 0.25 and new:
            new[at % len(new)] ^= 1 << chance.randrange(8)
        elif what < 0.55:
            new[at:at] = chance.choice(TOKENS)
        elif what < 0.75:
            del new[at : at + chance.choice([1, 2, 8, 64])]
        elif what < 0.85:
            new[at : at + chance.choice([1, 4, 16])] = chance.choice(TOKENS)
        else:
            other = chance.randrange(len(new) + 1)
            new[at:at] = new[other : other + chance.choice([4, 16, 64])]
    return bytes(new)


@pytest.fixture(scope="module")
def all_parsers(run: RunDirectory) -> dict[str, Parser]:
    return parsers(run)


def test_the_registry_is_whole_and_no_corpus_is_forgotten(all_parsers: dict[str, Parser]) -> None:
    assert tuple(all_parsers) == NAMES
    assert {path.name for path in CORPUS.iterdir()} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_it_is_given_it_takes_or_refuses_it(all_parsers: dict[str, Parser], name: str) -> None:
    parser, chance = all_parsers[name], random.Random(1)
    for raw in [*parser.examples, *corpus(name)]:
        parser.holds(raw)
    for _ in range(ROUNDS):
        parser.holds(altered(chance.choice(parser.examples), chance))

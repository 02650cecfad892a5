"""Promise: no bytes that a stranger sends make a reader fail otherwise than with its own sentence, or end its process.

Files of a true run, altered at random, and the kept corpus are given to every parser of what parties exchange (tests/support/parsers.py).
Each must take them or refuse them. `make fuzz` looks further.
"""

from __future__ import annotations

import random

import pytest

from altered import altered
from parsers import CORPUS, NAMES, Parser, corpus, parsers
from run_directory import RunDirectory

ROUNDS = 150


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

"""Uploads over a network that is slow, cuts, resets, half-closes: every byte arrives, each once. A thousand accidents in `make soak`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bad_line import CUT, HALF_CLOSE, RESET, BadLine, Manners, at_random, transfer
from coordinator_client import FakeNode, InProcess, make_home, tiny_study
from epgfn.base.files import sha256_file, sha256_hex
from epgfn.study import Study
from epgfn_coordinator.home import Home

SIZE = 1 << 20


@pytest.fixture(scope="module")
def study() -> Study:
    return tiny_study(hidden=400, limit=16 << 20)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[Home]:
    made = make_home(tmp_path_factory.mktemp("coordinator") / "home", study)
    with InProcess(made):
        yield made


@pytest.fixture(scope="module")
def node(home: Home) -> FakeNode:
    return FakeNode.enrolled(home, "a")


@pytest.mark.parametrize(
    ("manners", "accidents"),
    [
        (Manners(latency=0.005, slices=1000), []),
        (Manners(rate=2 << 20, slices=1 << 14), [(CUT, SIZE // 2)]),
        (Manners(), [(CUT, 1), (CUT, 600), (CUT, 5000), (CUT, SIZE // 3)]),
        (Manners(), [(RESET, SIZE // 3), (RESET, SIZE // 3)]),
        (Manners(), [(HALF_CLOSE, SIZE // 3), (HALF_CLOSE, 3000)]),
        (Manners(), [(CUT, 150_000)] * 40),
        (Manners(latency=0.001), at_random(random.Random(1), SIZE, 6)),
    ],
    ids=["slow", "thin", "cuts", "resets", "half-closed", "often", "everything"],
)
def test_every_byte_arrives(
    home: Home,
    node: FakeNode,
    study: Study,
    tmp_path: Path,
    manners: Manners,
    accidents: list[tuple[str, int]],
) -> None:
    upload = node.make_upload(study, plaintext=os.urandom(SIZE))
    with BadLine(node.invitation["address"], manners) as line:
        line.plan(*accidents)
        name = transfer(node, upload, line, tmp_path)
        assert sum(line.happened.values()) >= min(len(accidents) // 2, 6)
    assert node.status(name).offset == len(upload.sealed)
    assert sha256_file(home.part(name)) == sha256_hex(upload.sealed)

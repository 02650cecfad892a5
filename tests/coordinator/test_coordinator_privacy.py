"""The coordinator recomputes what a node claims, and takes nothing that promises less than the study asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordinator_client import FakeNode, InProcess, ledger_kinds, make_home, reason_of
from epgfn.study import Study
from epgfn_coordinator.home import Home
from made_claims import dishonest, honest
from small import PRIVATE_STUDY

STUDY = Study.from_bytes(PRIVATE_STUDY.encode())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = make_home(tmp_path_factory.mktemp("coordinator") / "home", STUDY)
    with InProcess(home):
        yield home


@pytest.fixture(scope="module")
def node(home: Home) -> FakeNode:
    return FakeNode.enrolled(home, "north")


@pytest.mark.parametrize("which", dishonest())
def test_a_claim_that_does_not_count_is_refused_before_a_byte_is_taken(
    home: Home, node: FakeNode, which: str
) -> None:
    claim, reason = dishonest()[which]
    assert reason_of(lambda: node.begin(node.make_upload(STUDY, privacy=claim).bundle)) == reason
    assert not list(home.uploads.iterdir())
    assert "refused" in ledger_kinds(home)


def test_an_honest_claim_is_taken(home: Home, node: FakeNode) -> None:
    assert node.send(node.make_upload(STUDY, privacy=honest())).receipt
    assert "accepted" in ledger_kinds(home)

"""Promise: a node that does not keep to the protocol of a masked sum can spoil its round, and nothing beyond it: a total of no records is
published by nobody, whoever deals shares that are none is named, and the coordinator serves on. What nobody can see, numbers that records
could have and that no records have, is said to be each node's own word.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coordinator_client import InProcess, make_home
from epgfn.base.errors import RefusedError
from epgfn.learn.local import train_local
from epgfn.learn.masked import numbers_in
from epgfn.masking.masks import Vector
from epgfn.masking.messages import Keys, Shares
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.conclusion import conclusion
from epgfn.sealing.model_file import read_model
from epgfn.study import Study
from epgfn.v1 import study_pb2
from masked_peers import Peer, played
from parties import on_coordinator
from small import SMALL_STUDY

STUDY = Study.from_bytes(
    SMALL_STUDY.replace('["north", "south"]', '["east", "north", "south"]')
    .replace("[policy]", '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]', 1)
    .replace("[aggregation]", '[aggregation]\nsums = "masked"\nquorum = 3', 1)
    .encode()
)


@pytest.fixture(scope="module")
def numbers() -> dict[str, Vector]:
    """What each sends that is honest."""
    rng = np.random.default_rng(1)
    records = {node: rng.normal(size=(40 + i, 3)).cumsum(1) for i, node in enumerate(STUDY.roster)}
    return {node: numbers_in(train_local(STUDY, x, seed=1).tensors) for node, x in records.items()}


class Round:
    """One that is served, and its nodes."""

    def __init__(self, folder: Path, served: InProcess) -> None:
        self.folder, self.served = folder, served
        self.peers = {node: Peer(served.home, STUDY, node) for node in STUDY.roster}

    def ended(self) -> str:
        """How, by what nodes are told."""
        self.served.events.wait_for("failed", "published", "ended")
        for _ in range(100):
            answer = self.peers["east"].node.round()  # it still serves
            if answer.state in (study_pb2.ROUND_STATE_FAILED, study_pb2.ROUND_STATE_PUBLISHED):
                return str(answer.detail)
        raise AssertionError("the round does not end")

    def exported(self) -> Path:
        done = on_coordinator(
            "export", "--home", str(self.served.home.root), "--out", str(self.folder / "run")
        )
        assert done.returncode == 0, done.stderr
        return self.folder / "run"


@pytest.fixture
def round_(tmp_path: Path) -> Iterator[Round]:
    with contextlib.ExitStack() as stack:
        yield Round(tmp_path, stack.enter_context(InProcess(make_home(tmp_path / "home", STUDY))))


def words_of(run: Path) -> str:
    report = audit_run(run)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    return " ".join(str(line) for line in conclusion(report))


@pytest.mark.parametrize("what", ["fewer records than none", "a sum that wraps", "a scatter of no records"])
def test_a_total_of_no_records_ends_the_round_and_nothing_else(
    round_: Round, numbers: dict[str, Vector], what: str
) -> None:
    poison = np.zeros(len(numbers["north"]), np.uint64)
    place, by = {
        "fewer records than none": (0, -(1 << 40)),
        "a sum that wraps": (1, (1 << 63) - 1),
        "a scatter of no records": (4, -(1 << 50)),
    }[what]
    poison[place] = np.uint64(by % (1 << 64))
    played(round_.peers.values(), {**numbers, "north": numbers["north"] + poison})
    said = round_.ended()
    assert "the masked sum has no total" in said and "run another round" in said
    assert ("that of no records" in said) != ("gives no score" in said)
    assert not any(node in said for node in STUDY.roster)  # nobody can know whose fault it is
    assert not list(round_.served.home.root.rglob("total.safetensors"))
    run = round_.exported()
    assert "the round ended as failed; whatever is shown as its result is not" in words_of(run)


def test_made_up_numbers_that_records_could_have_pass_and_that_is_said(
    round_: Round, numbers: dict[str, Vector]
) -> None:
    """A thousand records that nobody has, in which the first two variables are one."""
    made_up = np.random.default_rng(2).normal(size=(1000, 3))
    made_up[:, 1] = made_up[:, 0] + 1e-3 * made_up[:, 1]
    poison = numbers_in(train_local(STUDY, made_up, seed=1).tensors)
    played(round_.peers.values(), {**numbers, "north": numbers["north"] + poison})
    round_.served.events.wait_for("published", "failed", "ended")
    run = round_.exported()
    words = words_of(run)
    assert "each node: that what it put under its masks is the statistic of its own records" in words
    tensors, _ = read_model((run / "global" / "total.safetensors").read_bytes())
    wanted = sum(numbers.values(), poison)
    assert np.array_equal(numbers_in(tensors), wanted) and wanted[0] == 1000 + 40 + 41 + 42


def test_who_deals_shares_that_do_not_open_is_named_by_who_finds_it(
    round_: Round, numbers: dict[str, Vector]
) -> None:
    def spoilt(raw: bytes) -> bytes:
        said = Shares.parse(raw, "north", STUDY.roster)
        wrong = dataclasses.replace(said.to["south"], sealed=bytes(len(said.to["south"].sealed)))
        return dataclasses.replace(said, to={**said.to, "south": wrong}).encode()

    round_.peers["north"].dealing = spoilt
    for step in (Peer.begin, Peer.deal):
        for peer in round_.peers.values():
            step(peer)
    round_.peers["east"].upload(numbers["east"])
    with pytest.raises(
        RefusedError, match="what north is said to have sealed for this node does not open"
    ) as error:
        round_.peers["south"].upload(numbers["south"])
    assert error.value.reason == "share-wrong"


def test_who_deals_shares_that_do_not_fit_each_other_is_named_and_the_round_ends(
    round_: Round, numbers: dict[str, Vector]
) -> None:
    """Each opens and is what it was said to be, and together they are those of no seed."""
    north = round_.peers["north"]

    def of_two_lines(raw: bytes) -> bytes:
        keys = {node: Keys.parse(said) for node, said in north.heard("keys").items()}
        other = dataclasses.replace(north.party, keys=None).with_keys(keys, secrets.token_bytes).shares
        first, second = (Shares.parse(one, "north", keys) for one in (raw, other or b""))
        return dataclasses.replace(first, to={**first.to, "south": second.to["south"]}).encode()

    north.dealing = of_two_lines
    played(round_.peers.values(), numbers)
    said = round_.ended()
    assert "the masked sum has no total" in said and "ask that node" in said
    assert "north has dealt shares that do not fit each other" in said
    words_of(round_.exported())

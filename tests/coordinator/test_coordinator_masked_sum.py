"""What the coordinator keeps of a masked sum: made again from its state at any moment, and nothing taken that its node has not signed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator_client import make_home
from epgfn.base.console import Reporter
from epgfn.base.errors import RefusedError
from epgfn.ledger.entries import AcceptedEntry, SumListEntry, SumStep, encode, parse
from epgfn.masking.masks import Terms, Vector
from epgfn.masking.messages import Keys, Shares, encode_list
from epgfn.masking.party import Party
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.predicates import SumPartPredicate
from epgfn.sealing.sum_part import sign_part
from epgfn.study import Study
from epgfn_coordinator.home import Home
from epgfn_coordinator.identity import Caller
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.keys import Keys as CoordinatorKeys
from epgfn_coordinator.masked_sum import MaskedSum
from epgfn_coordinator.people import enter
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.store import Store
from small import SMALL_STUDY

NODES = ("east", "north", "south", "west")
STUDY = Study.from_bytes(
    SMALL_STUDY.replace('["north", "south"]', '["east", "north", "south", "west"]')
    .replace("[policy]", '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]', 1)
    .replace("[aggregation]", '[aggregation]\nsums = "masked"\nquorum = 3', 1)
    .encode()
)
LENGTH = 6


class Sum:
    """A coordinator's part, which is made anew from its state before each use, and nodes that talk to it."""

    def __init__(self, home: Home) -> None:
        self.home, self.store = home, Store(home.state)
        self.round_id = self.store.text("round_id")
        self.random = np.random.default_rng(1).bytes
        self.keys = {node: SigningKey.generate() for node in NODES}
        terms = Terms(STUDY.digest, self.round_id, NODES, 3, LENGTH)
        self.parties = {node: Party.begin(terms, node, self.random) for node in NODES}
        self.masked: dict[str, Vector] = {}
        self.log = PublishedLog(home, self.store, CoordinatorKeys.load(home))
        with self.store.transaction():
            for node, key in self.keys.items():
                enter(
                    self.store,
                    node,
                    {
                        "tls_fingerprint": key.public.fingerprint,
                        "signing_fingerprint": key.public.fingerprint,
                        "signing_key": key.public.pem,
                        "certificate": b"",
                    },
                )

    @property
    def coordinator(self) -> MaskedSum:
        return MaskedSum(STUDY, self.round_id, self.store, self.log, Journal(_Silent()), lambda: None)

    def caller(self, node: str) -> Caller:
        return Caller(node, self.keys[node].public)

    def signed(self, at: Any, node: str, payload: bytes, **other: Any) -> bytes:
        said = {
            "study_digest": STUDY.digest,
            "round_id": self.round_id,
            "node_id": node,
            "sender_fingerprint": self.keys[node].public.fingerprint,
            "step": at,
        }
        return sign_part(SumPartPredicate(**{**said, **other}), payload, self.keys[node])

    def send(self, step: SumStep, node: str, payload: bytes) -> None:
        self.coordinator.send(self.caller(node), step, self.signed(step, node, payload), payload)

    def listed(self, step: SumStep) -> list[str]:
        for each in self.coordinator.lists():
            entry = parse(each.entry)
            assert isinstance(entry, SumListEntry)
            if entry.step == step:
                return sorted(entry.statements)
        return []

    def send_keys(self, nodes: tuple[str, ...] = NODES) -> None:
        for node in nodes:
            self.send("keys", node, self.parties[node].public.encode())

    def send_shares(self, nodes: tuple[str, ...] = NODES) -> None:
        for node in nodes:
            found = {
                one: Keys.parse(self.coordinator.statement("keys", one).payload)
                for one in self.listed("keys")
            }
            self.parties[node] = self.parties[node].with_keys(found, self.random)
            self.send("shares", node, self.parties[node].shares or b"")

    def upload(self, nodes: tuple[str, ...]) -> None:
        """As `Intake` does once it has looked at it."""
        for number, node in enumerate(nodes):
            mine = {
                one: Shares.parse(
                    self.coordinator.statement("shares", one).payload, one, self.listed("keys")
                ).to[node]
                for one in self.listed("shares")
            }
            party = self.parties[node].with_shares(mine)
            self.parties[node], self.masked[node] = party.masked(
                np.arange(LENGTH, dtype=np.uint64) + np.uint64(number)
            )
            self.coordinator.require_upload(node)
            digest = f"{number}" * 64
            with self.store.transaction():
                position = self.store.append_entry(
                    encode(
                        AcceptedEntry(
                            round_id=self.round_id,
                            node_id=node,
                            sealed_sha256=digest,
                            bundle_sha256=digest,
                            size=1,
                        )
                    )
                )
                self.store.write(
                    "INSERT INTO artifacts (node_id, upload_id, bundle, bundle_sha256, sealed_sha256, sealed_size, model_size, position) "
                    "VALUES (?, ?, x'', ?, ?, 1, 1, ?)",
                    node,
                    node,
                    digest,
                    digest,
                    position,
                )

    def close_round(self) -> None:
        with self.store.transaction():
            self.coordinator.close_uploads()
            self.store.set_fact("state", "aggregating")

    def sign(self, nodes: tuple[str, ...], of: tuple[str, ...]) -> None:
        for node in nodes:
            self.parties[node] = self.parties[node].signing(of)
            self.send("signing", node, encode_list(of))

    def unmask(self, nodes: tuple[str, ...], of: tuple[str, ...]) -> None:
        for node in nodes:
            self.parties[node] = self.parties[node].unmasking(of, self.listed("signing"))
            self.send("unmasking", node, self.parties[node].said or b"")


class _Silent(Reporter):
    def event(self, *_: Any, **__: Any) -> None:
        return

    def close(self) -> None:
        return


@pytest.fixture
def sum_(tmp_path: Path) -> Iterator[Sum]:
    made = Sum(make_home(tmp_path / "home", STUDY))
    with contextlib.closing(made.store):
        yield made


def reason(error: pytest.ExceptionInfo[RefusedError]) -> str:
    return error.value.reason


def test_the_total_from_a_state_that_was_read_again_at_each_step(sum_: Sum) -> None:
    assert sum_.coordinator.due() == "keys" and sum_.coordinator.missing() == NODES
    sum_.send_keys(NODES[:3])
    assert sum_.coordinator.missing() == ("west",) and not sum_.coordinator.lists()
    with sum_.store.transaction():
        assert "without west" in sum_.coordinator.close_early()
    three, due = NODES[:3], sum_.coordinator.due()
    assert due == "shares" and sum_.listed("keys") == list(three)
    with sum_.store.transaction():
        assert sum_.coordinator.close_early() == ""  # nobody has sent shares yet
    sum_.send_shares(three)
    sum_.upload(three)
    sum_.close_round()
    sum_.sign(three, three)
    sum_.unmask(three[:2], three)
    assert not sum_.coordinator.is_complete and sum_.coordinator.missing() == ("south",)
    sum_.unmask(three[2:], three)
    assert sum_.coordinator.is_complete and sum_.coordinator.due() is None
    wanted = 3 * np.arange(LENGTH, dtype=np.uint64) + np.uint64(0 + 1 + 2)
    assert np.array_equal(sum_.coordinator.total(LENGTH, sum_.masked), wanted)
    kinds = [parse(each.entry).kind for each in sum_.coordinator.lists()]
    assert kinds == ["sum-list"] * 5


def test_nothing_is_taken_that_its_node_has_not_signed_for_this_very_step(sum_: Sum) -> None:
    payload = sum_.parties["north"].public.encode()
    caller = sum_.caller("north")
    for other in (
        {"round_id": "another"},
        {"step": "shares"},
        {"study_digest": "0" * 64},
        {"node_id": "south"},
    ):
        with pytest.raises(RefusedError) as error:
            sum_.coordinator.send(caller, "keys", sum_.signed("keys", "north", payload, **other), payload)
        assert reason(error) == "wrong-part"
    with pytest.raises(RefusedError) as error:  # signed by somebody else
        sum_.coordinator.send(caller, "keys", sum_.signed("keys", "south", payload), payload)
    assert reason(error) in ("bad-signature", "wrong-key", "wrong-part")
    with pytest.raises(RefusedError) as error:  # of other bytes
        other_bytes = sum_.parties["south"].public.encode()
        sum_.coordinator.send(caller, "keys", sum_.signed("keys", "north", payload), other_bytes)
    assert reason(error) == "wrong-part"
    with pytest.raises(RefusedError) as error:
        sum_.send("keys", "north", b"no keys")
    assert sum_.store.count("sum_parts") == 0
    with pytest.raises(RefusedError) as error:
        sum_.send("signing", "north", encode_list(NODES))
    assert reason(error) == "sum-order"


def test_each_says_each_thing_once_and_only_members_read_what_takes_no_masks_off(sum_: Sum) -> None:
    sum_.send_keys(NODES[:2])
    sum_.send_keys(NODES[:2])  # the same again, after a lost answer
    assert sum_.store.count("sum_parts") == 2
    again = Party.begin(sum_.parties["north"].terms, "north", sum_.random)
    with pytest.raises(RefusedError) as error:
        sum_.send("keys", "north", again.public.encode())
    assert reason(error) == "said-before"
    with pytest.raises(RefusedError) as error:
        sum_.coordinator.statement("keys", "north")  # before the list is closed
    assert reason(error) == "unknown-statement"
    with pytest.raises(RefusedError) as error:
        sum_.coordinator.require_upload("north")
    assert reason(error) == "sum-order"
    sum_.send_keys(NODES[2:])
    sum_.send_shares()
    sum_.upload(NODES)
    sum_.close_round()
    sum_.sign(NODES, NODES)
    sum_.unmask(NODES[:3], NODES)
    with pytest.raises(RefusedError) as error:
        sum_.coordinator.statement("unmasking", "north")
    assert reason(error) == "unknown-statement"
    with pytest.raises(RefusedError) as error:
        sum_.send("keys", "north", again.public.encode())
    assert reason(error) == "round-closed"


def test_a_node_that_changes_its_key_sits_the_rest_out(sum_: Sum) -> None:
    """The others would refuse what another key has signed, and the round would stop."""
    sum_.send_keys()
    new = SigningKey.generate()
    with sum_.store.transaction():
        sum_.store.write("DELETE FROM nodes WHERE node_id = 'north'")
        enter(
            sum_.store,
            "north",
            {
                "tls_fingerprint": new.public.fingerprint,
                "signing_fingerprint": new.public.fingerprint,
                "signing_key": new.public.pem,
                "certificate": b"",
            },
        )
    sum_.keys["north"] = new
    with pytest.raises(RefusedError) as error:
        sum_.send_shares(("north",))
    assert reason(error) == "other-key"
    three = ("east", "south", "west")
    sum_.send_shares(three)
    with sum_.store.transaction():
        assert "without north" in sum_.coordinator.close_early()


def test_another_list_than_that_of_the_uploads_cannot_be_signed(sum_: Sum) -> None:
    sum_.send_keys()
    sum_.send_shares()
    sum_.upload(NODES)
    sum_.close_round()
    with pytest.raises(RefusedError) as error:
        sum_.send("signing", "north", encode_list(NODES[:3]))
    assert reason(error) == "other-list"
    with pytest.raises(RefusedError) as error:
        sum_.send("unmasking", "north", b"{}")
    assert reason(error) == "sum-order"

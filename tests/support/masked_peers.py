"""Nodes of a masked sum made of stubs and keys, against a coordinator that really serves: honest but for what a test changes of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import Any

from coordinator_client import FakeNode
from epgfn.learn.masked import length, tensors_of
from epgfn.ledger.entries import SumListEntry, SumStep, parse
from epgfn.masking.masks import Terms, Vector
from epgfn.masking.messages import Keys, Shares, encode_list
from epgfn.masking.party import Party
from epgfn.sealing.binding import MASKED_PAYLOAD
from epgfn.sealing.model_file import FORMAT, write_model
from epgfn.sealing.predicates import SumPartPredicate
from epgfn.sealing.sum_part import sign_part
from epgfn.study import Study
from epgfn.v1 import sum_pb2, sum_pb2_grpc
from epgfn_coordinator.home import Home
from epgfn_coordinator.services.masked_sum import BY_NUMBER, NUMBERS


class Peer:
    """One node. `dealing`: what becomes of its shares on their way."""

    def __init__(self, home: Home, study: Study, name: str) -> None:
        self.study, self.name = study, name
        self.node = FakeNode.enrolled(home, name)
        self.round_id = self.node.manifest().round_id
        terms = Terms(
            study.digest, self.round_id, tuple(study.roster), study.aggregation.quorum, length(study)
        )
        self.party = Party.begin(terms, name, secrets.token_bytes)
        self.dealing: Callable[[bytes], bytes] = lambda raw: raw

    def lists(self) -> dict[SumStep, list[str]]:
        """Nodes of each closed list."""
        answer = self.node._call(sum_pb2_grpc.SumServiceStub, "GetSum", sum_pb2.GetSumRequest())
        found: dict[SumStep, list[str]] = {}
        for each in answer.lists:
            entry = parse(bytes(each.entry))
            assert isinstance(entry, SumListEntry)
            found[BY_NUMBER[each.step]] = sorted(entry.statements)
        return found

    def heard(self, step: SumStep) -> dict[str, bytes]:
        """What the nodes of a closed list have said."""
        found = {}
        for node in self.lists()[step]:
            request = sum_pb2.GetStatementRequest(step=NUMBERS[step], node_id=node)
            answer = self.node._call(sum_pb2_grpc.SumServiceStub, "GetStatement", request)
            found[node] = bytes(answer.payload)
        return found

    def send(self, step: SumStep, payload: bytes) -> None:
        said = SumPartPredicate(
            study_digest=self.study.digest,
            round_id=self.round_id,
            node_id=self.name,
            sender_fingerprint=self.node.signing.public.fingerprint,
            step=step,  # type: ignore[arg-type]
        )
        bundle = sign_part(said, payload, self.node.signing)
        request = sum_pb2.SendRequest(step=NUMBERS[step], bundle=bundle, payload=payload)
        self.node._call(sum_pb2_grpc.SumServiceStub, "Send", request)

    def begin(self) -> None:
        self.send("keys", self.party.public.encode())

    def deal(self) -> None:
        keys = {node: Keys.parse(raw) for node, raw in self.heard("keys").items()}
        self.party = self.party.with_keys(keys, secrets.token_bytes)
        self.send("shares", self.dealing(self.party.shares or b""))

    def upload(self, numbers: Vector) -> Any:
        """The receipt."""
        keyed = self.lists()["keys"]
        dealt = {node: Shares.parse(raw, node, keyed) for node, raw in self.heard("shares").items()}
        mine = {node: one.to[self.name] for node, one in dealt.items()}
        self.party, masked = self.party.with_shares(mine).masked(numbers)
        metadata = {"format": FORMAT, "study_digest": self.study.digest, "role": "local"}
        plaintext = write_model(tensors_of(masked), metadata)
        return self.node.send(
            self.node.make_upload(self.study, plaintext=plaintext, payload_type=MASKED_PAYLOAD)
        )

    def sign(self) -> None:
        nodes = self.lists()["uploads"]
        self.party = self.party.signing(nodes)
        self.send("signing", encode_list(nodes))

    def unmask(self) -> None:
        now = self.lists()
        self.party = self.party.unmasking(now["uploads"], now["signing"])
        self.send("unmasking", self.party.said or b"")


def played(peers: Collection[Peer], numbers: dict[str, Vector]) -> None:
    """The whole sum; the total is with the coordinator then."""
    for peer in peers:
        peer.begin()
    for peer in peers:
        peer.deal()
    for peer in peers:
        peer.upload(numbers[peer.name])
    for peer in peers:
        peer.sign()
    for peer in peers:
        peer.unmask()

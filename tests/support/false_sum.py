"""A coordinator that plays a whole masked sum towards one real node, from a history of its own that it signs with its true keys: the other
nodes are its own, and say what it likes."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import AcceptedEntry, EnrolledEntry, Entry, SumListEntry, SumStep, encode, parse
from epgfn.masking.masks import Terms, Vector, pair_mask, self_mask
from epgfn.masking.messages import Keys, Shares, encode_list
from epgfn.masking.party import Party
from epgfn.masking.shamir import join
from epgfn.sealing.binding import MASKED_PAYLOAD, Binding
from epgfn.sealing.envelope import open_sealed
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.predicates import SumPartPredicate
from epgfn.sealing.sum_part import sign_part
from epgfn.study import Study
from epgfn.v1 import artifact_pb2, ledger_pb2, sum_pb2
from epgfn_coordinator.keys import read_round_key
from epgfn_coordinator.services.masked_sum import BY_NUMBER, NUMBERS
from epgfn_coordinator.sum_lists import STEPS
from epgfn_node.masked_sum import numbers_of
from lying_coordinator import Liar, Lie


class FalseSum:
    """Towards `node`, which is enrolled with `liar`. `length`: of the study's numbers."""

    def __init__(self, liar: Liar, study: Study, node: str, round_id: str, length: int) -> None:
        self.liar, self.study, self.node, self.round_id = liar, study, node, round_id
        self.terms = Terms(study.digest, round_id, tuple(study.roster), study.aggregation.quorum, length)
        self.others = [one for one in study.roster if one != node]
        self.entries = liar.entries()
        self.log = liar.fork(self.entries)
        self.keys = {one: SigningKey.generate() for one in self.others}
        self.parties = {one: Party.begin(self.terms, one, secrets.token_bytes) for one in self.others}
        self.entry_of = {node: self._enrolment_of(node)}
        for one, key in self.keys.items():
            self.enrol(one, key)
        self.said: dict[tuple[str, str], sum_pb2.GetStatementResponse] = {}
        self.lists: dict[SumStep, int] = {}
        self.due: SumStep = "keys"
        self.heard: dict[str, bytes] = {}
        self.uploaded, self.upload_bundle = b"", b""

    def _enrolment_of(self, node: str) -> int:
        for index, raw in enumerate(self.entries):
            entry = parse(raw)
            if isinstance(entry, EnrolledEntry) and entry.node_id == node:
                return index
        raise AssertionError(f"{node} is not enrolled")

    def append(self, entry: Entry) -> int:
        """Its place."""
        self.entries.append(encode(entry))
        self.log.publish(self.entries)
        return len(self.entries) - 1

    def enrol(self, node: str, key: SigningKey) -> None:
        """From now on statements are signed with this key."""
        self.keys[node] = key
        pem = key.public.pem.decode()
        entry = EnrolledEntry(node_id=node, signing_key=pem, fingerprint=key.public.fingerprint)
        self.entry_of[node] = self.append(entry)

    # What it makes up -------------------------------------------------------------------------------------------

    def make(
        self, step: SumStep, node: str, payload: bytes, /, **changes: Any
    ) -> sum_pb2.GetStatementResponse:
        """A statement of one of its own nodes, as it is asked for."""
        key = self.keys[node]
        said = {
            "study_digest": self.study.digest,
            "round_id": self.round_id,
            "node_id": node,
            "sender_fingerprint": key.public.fingerprint,
            "step": step,
            **changes,
        }
        bundle = sign_part(SumPartPredicate(**said), payload, key)
        return self._shown(node, bundle, payload)

    def _shown(self, node: str, bundle: bytes, payload: bytes) -> sum_pb2.GetStatementResponse:
        at = self.entry_of[node]
        return sum_pb2.GetStatementResponse(
            bundle=bundle, payload=payload, key_entry=self.entries[at], key_receipt=self.log.receipt(at)
        )

    def say(self, step: SumStep, nodes: Iterable[str] | None = None) -> None:
        """What its nodes say at a step, honestly."""
        for one in self.others if nodes is None else nodes:
            party = self.parties[one]
            if step == "keys":
                payload = party.public.encode()
            elif step == "shares":
                self.parties[one] = party.with_keys(self._all_keys(), secrets.token_bytes)
                payload = self.parties[one].shares or b""
            else:
                payload = encode_list(self.terms.roster)
            self.said[step, one] = self.make(step, one, payload)

    def _all_keys(self) -> dict[str, Keys]:
        return {one: Keys.parse(bytes(self.said["keys", one].payload)) for one in self.terms.roster}

    def close(self, step: SumStep, nodes: Iterable[str] | None = None, /, **changes: Any) -> None:
        """The list of a step, of everybody unless `nodes` says of whom."""
        among = self.terms.roster if nodes is None else tuple(nodes)
        if step == "uploads":
            digests = {one: sha256_hex(one.encode()) for one in among}
            if self.node in among:
                digests[self.node] = sha256_hex(self.upload_bundle)
        else:
            digests = {one: sha256_hex(bytes(self.said[step, one].bundle)) for one in among}
        entry = {"round_id": self.round_id, "step": step, "statements": digests, **changes}
        self.lists[step] = self.append(SumListEntry.model_validate(entry))
        later = STEPS.index(step) + 1
        self.due = STEPS[min(later, len(STEPS) - 1)]

    # What it answers --------------------------------------------------------------------------------------------

    def lies(self, **others: Lie) -> dict[str, Lie]:
        """For `Liar.telling`."""
        return {
            "GetCheckpoint": self._checkpoint,
            "GetSum": self._sum,
            "GetStatement": lambda request, *_: self.said[BY_NUMBER[request.step], request.node_id],
            "Send": self._send,
            "Begin": self._begin,
            "Upload": self._upload,
            "Commit": self._commit,
            **others,
        }

    def _checkpoint(self, request: Any, *_: Any) -> Any:
        known = int(request.known_size)
        proof = self.log.consistency_proof(known) if 0 < known < self.log.checkpoint.size else []
        return ledger_pb2.GetCheckpointResponse(checkpoint=self.log.note, consistency_proof=proof)

    def _sum(self, *_: Any) -> Any:
        lists = [
            sum_pb2.SumList(step=NUMBERS[step], entry=self.entries[at], receipt=self.log.receipt(at))
            for step, at in self.lists.items()
        ]
        return sum_pb2.GetSumResponse(due=NUMBERS[self.due], lists=lists)

    def _send(self, request: Any, *_: Any) -> Any:
        step = BY_NUMBER[request.step]
        self.heard[step] = bytes(request.payload)
        if (step, self.node) not in self.said:  # what is said again is signed anew, and the first counts
            self.said[step, self.node] = self._shown(self.node, bytes(request.bundle), bytes(request.payload))
        return sum_pb2.SendResponse()

    def _begin(self, request: Any, *_: Any) -> Any:
        self.upload_bundle = bytes(request.bundle)
        return artifact_pb2.BeginResponse(upload_id="a")

    def _upload(self, request: Any, *_: Any) -> Any:
        self.uploaded = b"".join(bytes(piece.data) for piece in request)
        return artifact_pb2.UploadResponse(offset=len(self.uploaded))

    def _commit(self, *_: Any) -> Any:
        at = self.append(
            AcceptedEntry(
                round_id=self.round_id,
                node_id=self.node,
                sealed_sha256=sha256_hex(self.uploaded),
                bundle_sha256=sha256_hex(self.upload_bundle),
                size=len(self.uploaded),
            )
        )
        return artifact_pb2.CommitResponse(receipt=self.log.receipt(at), entry=self.entries[at])

    # What it knows ----------------------------------------------------------------------------------------------

    def masked(self, fingerprint: str) -> Vector:
        """What the node, whose signing key has this fingerprint, has sent, opened with the round key."""
        key = read_round_key(self.liar.home)
        binding = Binding(
            self.study.digest, self.round_id, self.node, fingerprint, key.key_id, MASKED_PAYLOAD
        )
        return numbers_of(open_sealed(self.uploaded, key, binding))

    def bare(self, masked: Vector, known: Iterable[str] | None = None) -> Vector:
        """Without the masks that are known by what its nodes `known`, and no others, were told."""
        nodes = list(self.others if known is None else known)
        public = Keys.parse(self.heard["keys"]).masking
        for one in nodes:
            masked = masked + pair_mask(self.terms, self.parties[one].masking_secret, public, one, self.node)
        sent = Shares.parse(self.heard["shares"], self.node, self.terms.roster)
        shares = {}
        for one in nodes:
            dealt = {
                other: Shares.parse(bytes(self.said["shares", other].payload), other, self.terms.roster).to[
                    one
                ]
                for other in self.others
                if other != one
            }
            held = self.parties[one].with_shares({**dealt, self.node: sent.to[one]}).held
            assert held is not None
            shares[self.terms.place(one)] = held[self.node][1]
        seed = join(dict(itertools.islice(shares.items(), self.terms.threshold)))
        return masked - self_mask(self.terms, seed, self.node)


Altering = Callable[[FalseSum], None]
"""What a false coordinator changes of what it is about to show."""

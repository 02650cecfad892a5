"""This node's part in a masked sum: it acts on lists that the ledger proves, keeps what it is about to say before it says it, and says no
more than `epgfn.masking.party` lets it, whoever asks and however often.

    part.mask(wait)      keys and shares, then its numbers under masks, sealed into the outbox; `submit` sends them
    part.unmask()        once the uploads are in: whose total it is, signed; then what takes the masks off that total
    part.forget()        once there is a result: the secrets

Each may be called again at any point; what has been said is said again as it was.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

import numpy as np

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError, WaitingError
from epgfn.base.files import read_secret, sha256_file, sha256_hex, write_secret
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import EnrolledEntry, RotatedEntry, SumListEntry, SumStep
from epgfn.ledger.entries import parse as parse_entry
from epgfn.masking.masks import Terms, Vector
from epgfn.masking.messages import Keys, Shares, encode_list
from epgfn.masking.party import Party
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.model_header import read_header, write_header
from epgfn.sealing.predicates import SumPartPredicate
from epgfn.sealing.sum_part import require_part, sign_part
from epgfn.study import Study
from epgfn.v1 import sum_pb2
from epgfn_node import ledger
from epgfn_node.client import Coordinator, plain
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.outbox import approved_to_mask, seal_masked
from epgfn_node.receipts import verified_receipt
from epgfn_node.settings import NodeSettings
from epgfn_node.study import Agreement

POLL: Final = 1.0  # seconds between two looks
STEPS: Final[dict[sum_pb2.SumStep, SumStep]] = {
    sum_pb2.SUM_STEP_KEYS: "keys",
    sum_pb2.SUM_STEP_SHARES: "shares",
    sum_pb2.SUM_STEP_UPLOADS: "uploads",
    sum_pb2.SUM_STEP_SIGNING: "signing",
    sum_pb2.SUM_STEP_UNMASKING: "unmasking",
}
_NUMBERS: Final = {step: number for number, step in STEPS.items()}


class SumPart:
    """One node's, in one command. What it has verified once it does not ask for again."""

    def __init__(
        self, connection: Connection, agreement: Agreement, coordinator: Coordinator, report: Reporter
    ) -> None:
        self._connection, self._agreement = connection, agreement
        self._coordinator, self._report = coordinator, report
        self._home, self._me = connection.home, connection.node_id
        self._lists: dict[SumStep, SumListEntry] = {}
        self._payloads: dict[tuple[SumStep, str], bytes] = {}
        self._sent: set[SumStep] = set()
        self._due: SumStep | None = None
        self._missing: list[str] = []

    def mask(self, wait: float) -> None:
        """Have the approved numbers under masks in the outbox, as soon as keys and shares of all who take part are there; wait for these up
        to `wait` seconds.

        Raises:
            WaitingError: "not-approved"; "sum-waiting": others are still to send theirs.
            RefusedError: "sum-list": the sum goes on without this node; or the coordinator shows what must not be acted on.
        """
        until, told = time.monotonic() + wait, list[str]()
        while not self._mask():
            left = until - time.monotonic()
            names = ", ".join(self._missing)
            if left <= 0:
                raise WaitingError(
                    "sum-waiting",
                    f"the masked sum waits for {names or 'the coordinator'}, and nothing of this node's numbers was sent yet; run "
                    f"epgfn-node submit --home {self._home.root} again later, or wait with --wait SECONDS",
                )
            if self._missing != told:
                told = self._missing
                self._report.event("sum-waiting", f"the masked sum waits for {names}")
            time.sleep(min(POLL, left))

    def unmask(self) -> None:
        """Say what is due of this node after its upload, if anything is: first whose total it is, then what takes the masks off it.

        Raises:
            RefusedError: "left-out", "other-list", "swapped" and others: the coordinator asks for another total, and gets nothing.
        """
        party = kept(self._home)
        if party is None or party.is_over or party.input_sha256 is None or self._home.withdrawal.exists():
            return
        self._look()
        uploads = self._lists.get("uploads")
        if uploads is None or self._due is None:
            return
        if self._me not in uploads.statements and not self._home.receipt.exists():
            return  # it was not sent in time, or withdrawn
        nodes = tuple(sorted(uploads.statements))
        new = party.signing(nodes)
        sent = self._home.upload_bundle
        if not sent.exists() or uploads.statements[self._me] != sha256_file(sent):
            raise RefusedError(
                "swapped",
                "the masked sum is to be of another upload in this node's name than the one it has sent; nothing is said that takes masks "
                "off, tell the other nodes",
            )
        self._keep(party, new)
        self._send("signing", encode_list(nodes))
        if "signing" not in self._lists:
            self._look()
        if "signing" not in self._lists or self._due is None:
            return
        signers = [
            node
            for node in self._lists["signing"].statements
            if self._said("signing", node) == encode_list(nodes)
        ]
        told = new.unmasking(nodes, signers)
        self._keep(new, told)
        assert told.said is not None
        self._send("unmasking", told.said)
        self._report.event("sum-unmasked", f"said what takes the masks off the total of {', '.join(nodes)}")

    def forget(self) -> None:
        """There is a result: no secret of the sum is of use any more."""
        party = kept(self._home)
        if party is not None:
            self._keep(party, party.without_secrets())

    # Steps ------------------------------------------------------------------------------------------------------

    def _mask(self) -> bool:
        """What can be done now; whether the masked numbers are in the outbox."""
        raw, approval = approved_to_mask(self._connection, self._agreement)
        party = self._party(raw)
        self._look()
        self._require_open()
        if "keys" not in self._lists:
            self._send("keys", party.public.encode())
            self._look()
        if not self._take_part("keys"):
            return False
        everybody = self._lists["keys"].statements
        keys = {node: Keys.parse(self._said("keys", node)) for node in everybody}
        party = self._keep(party, party.with_keys(keys, secrets.token_bytes))
        if "shares" not in self._lists:
            assert party.shares is not None
            self._send("shares", party.shares)
            self._look()
        if not self._take_part("shares"):
            return False
        mine = {}
        for node in self._lists["shares"].statements:
            mine[node] = Shares.parse(self._said("shares", node), node, everybody).to[self._me]
        party = self._keep(party, party.with_shares(mine))
        new, masked = party.masked(numbers_of(raw))
        self._keep(party, new)
        ledger.follow(self._home, self._coordinator, self._connection.trust)  # what the upload will quote
        seal_masked(self._connection, self._agreement, masked_file(raw, masked), approval)
        self._report.event("masked", "the numbers are under masks, and sealed")
        return True

    def _take_part(self, step: SumStep) -> bool:
        """Whether the list of this step is closed, which names this node.

        Raises:
            RefusedError: "sum-list": it does not.
        """
        found = self._lists.get(step)
        if found is None:
            return False
        if self._me not in found.statements:
            raise RefusedError(
                "sum-list",
                f"the masked sum of this round goes on without {self._me}, whose {step} were not there when the coordinator's operator "
                "went on; nothing of this node's numbers was sent, ask whether another round opens",
            )
        return True

    def _require_open(self) -> None:
        if self._due is None or self._due in ("signing", "unmasking"):
            raise RefusedError(
                "round-closed",
                "the round takes no more; ask the coordinator's operator whether another one opens",
            )

    def _party(self, raw: bytes) -> Party:
        """This node's part as it is kept, or a new one, kept before anything of it is said."""
        terms = terms_of(self._agreement.study, self._agreement.round.round_id, len(numbers_of(raw)))
        party = kept(self._home)
        if party is None:
            party = Party.begin(terms, self._me, secrets.token_bytes)
            write_secret(self._home.masked_sum, party.encode())
        if party.is_over:
            raise RefusedError(
                "sum-over",
                "this node's part in the masked sum is over, and its secrets are gone; nothing is sent",
            )
        if (party.terms, party.node) != (terms, self._me):
            raise RefusedError(
                "other-round",
                f"{self._home.masked_sum} is of another round or study; use a home of its own for each round",
            )
        return party

    def _keep(self, old: Party, new: Party) -> Party:
        if new != old:
            write_secret(self._home.masked_sum, new.encode())
        return new

    # Talking to the coordinator ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """What is due, and the closed lists, each proved to be in the one ledger that this node follows."""
        answer = self._coordinator.call(self._coordinator.sum.GetSum, sum_pb2.GetSumRequest())
        self._due = STEPS.get(answer.due)
        self._missing = [plain(node) for node in answer.missing][:100]
        found, shown = dict[SumStep, SumListEntry](), list[Checkpoint]()
        for each in answer.lists:
            entry = parse_entry(bytes(each.entry))
            if not isinstance(entry, SumListEntry) or entry.round_id != self._agreement.round.round_id:
                raise _not_a_list()
            if entry.step in found or STEPS.get(each.step) != entry.step:
                raise _not_a_list()
            if not set(entry.statements) <= set(self._agreement.study.roster):
                raise _not_a_list()  # before anything is asked about each of them
            found[entry.step] = entry
            if self._lists.get(entry.step) != entry:
                shown.append(verified_receipt(bytes(each.receipt), bytes(each.entry), self._connection.trust))
        for step, entry in self._lists.items():
            if found.get(step) != entry:
                raise RefusedError(
                    "other-list",
                    f"the coordinator shows another list of {step} of the masked sum than before; nothing is sent, tell the other nodes "
                    "and your auditor",
                )
        self._follow(shown)
        self._lists = found

    def _follow(self, shown: list[Checkpoint]) -> None:
        different = {(each.size, each.root): each for each in shown}
        if different:
            ledger.follow(self._home, self._coordinator, self._connection.trust, tuple(different.values()))

    def _said(self, step: SumStep, node: str) -> bytes:
        """What a node of a closed list has said, as its enrolled key has signed it."""
        known = self._payloads.get((step, node))
        if known is not None:
            return known
        self._fetch_all(step)
        return self._payloads[step, node]

    def _fetch_all(self, step: SumStep) -> None:
        shown, prints = list[Checkpoint](), dict[str, str]()
        for node, digest in sorted(self._lists[step].statements.items()):
            answer = self._coordinator.call(
                self._coordinator.sum.GetStatement,
                sum_pb2.GetStatementRequest(step=_NUMBERS[step], node_id=node),
            )
            bundle, payload = bytes(answer.bundle), bytes(answer.payload)
            key, checkpoint = self._key_of(node, bytes(answer.key_entry), bytes(answer.key_receipt))
            shown.append(checkpoint)
            prints[node] = key.fingerprint
            if sha256_hex(bundle) != digest:
                raise RefusedError(
                    "wrong-part",
                    f"what the coordinator shows of {node} in the masked sum is not what the ledger lists; nothing is sent, tell the other "
                    "nodes",
                )
            require_part(bundle, payload, self._predicate(step, node, key.fingerprint), key)
            self._payloads[step, node] = payload
        self._follow(shown)
        self._require_signers(step, prints)

    def _require_signers(self, step: SumStep, prints: dict[str, str]) -> None:
        """Each node's statements are signed with one key from the first to the last, which is the one that this node's operator says it is.

        Otherwise a coordinator that enters further keys of others in its ledger could have their lists signed by itself.

        Raises:
            RefusedError: "wrong-key": one is signed with another.
        """
        file = self._home.sum_signers
        known: dict[str, str] = parse_canonical_json(read_secret(file)) if file.exists() else {}
        said = NodeSettings.of(self._home).sum_keys
        others = {node: key for node, key in prints.items() if node != self._me}
        if step == "keys":
            shown = "; ".join(f"{node} {key}" for node, key in others.items())
            self._report.event(
                "sum-nodes",
                "the masked sum is with nodes of these signing keys, which the coordinator has enrolled; whether they are theirs, only "
                f"they can tell you: {shown}; this node's own is {prints.get(self._me, '')}",
            )
            if said:
                for node, key in others.items():
                    if said.get(node, "").lower() != key:
                        what = "another key than" if node in said else "a key, and you have not set one, in"
                        raise RefusedError(
                            "wrong-key",
                            f"the coordinator shows {node} with {what} [sum_keys] of {self._home.settings.name}: {key}; nothing of this "
                            f"node's numbers is sent. Ask {node} which is its own, and set that one if it says so",
                        )
            if not known:
                write_secret(file, canonical_json(prints))
                return
        for node, key in others.items():
            if known.get(node, key) != key:
                raise RefusedError(
                    "wrong-key",
                    f"what the coordinator shows of {node} in the step '{step}' of the masked sum is signed with another key than what it "
                    "said first; nothing is sent, tell the other nodes and your auditor",
                )

    def _key_of(self, node: str, entry: bytes, receipt: bytes) -> tuple[VerifyKey, Checkpoint]:
        """A key that is the node's by the ledger, and the checkpoint under which it is."""
        checkpoint = verified_receipt(receipt, entry, self._connection.trust)
        said = parse_entry(entry)
        if not isinstance(said, EnrolledEntry | RotatedEntry) or said.node_id != node:
            raise RefusedError(
                "wrong-key",
                f"the coordinator does not show the ledger entry of the key of {node}; nothing is sent, tell the other nodes",
            )
        key = VerifyKey.from_pem(said.signing_key.encode("ascii"))
        if key.fingerprint != said.fingerprint:
            raise RefusedError("wrong-key", f"the ledger gives {node} a wrong fingerprint; tell your auditor")
        return key, checkpoint

    def _send(self, step: SumStep, payload: bytes) -> None:
        """Say it, once in this command; the coordinator takes a repetition for what it is."""
        if step in self._sent:
            return
        key = self._connection.keys.signing
        bundle = sign_part(self._predicate(step, self._me, key.public.fingerprint), payload, key)
        self._coordinator.call(
            self._coordinator.sum.Send,
            sum_pb2.SendRequest(step=_NUMBERS[step], bundle=bundle, payload=payload),
        )
        self._sent.add(step)

    def _predicate(self, step: SumStep, node: str, fingerprint: str) -> SumPartPredicate:
        return SumPartPredicate(
            study_digest=self._agreement.study.digest,
            round_id=self._agreement.round.round_id,
            node_id=node,
            sender_fingerprint=fingerprint,
            step=step,  # type: ignore[arg-type]
        )


def terms_of(study: Study, round_id: str, length: int) -> Terms:
    """What all parties of this round's sum agree on."""
    return Terms(study.digest, round_id, tuple(study.roster), study.aggregation.quorum, length)


def kept(home: NodeHome) -> Party | None:
    """This node's part so far; None before it has begun.

    Raises:
        EpgfnError: it is damaged.
    """
    return Party.parse(read_secret(home.masked_sum)) if home.masked_sum.exists() else None


def numbers_of(raw: bytes) -> Vector:
    """(L,) those in a file of numbers, without loading torch."""
    forms, _ = read_header(raw)
    (_, shape), *others = forms.values()
    if others or len(shape) != 1:
        raise EpgfnError("the file does not hold the numbers of a masked sum; train again")
    return np.frombuffer(raw, "<i8", shape[0], len(raw) - 8 * shape[0]).astype(np.int64).view(np.uint64)


def masked_file(raw: bytes, masked: Vector) -> bytes:
    """The same file with other numbers in it."""
    forms, metadata = read_header(raw)
    return write_header(forms, metadata) + masked.view(np.int64).astype("<i8").tobytes()


def _not_a_list() -> RefusedError:
    return RefusedError(
        "malformed", "what the coordinator shows is no list of this round's masked sum; tell its operator"
    )

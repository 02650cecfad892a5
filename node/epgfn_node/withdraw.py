"""`epgfn-node withdraw`: takes back what was sent, by a signed statement, before it is aggregated. Safe to repeat at any point."""

from __future__ import annotations

import contextlib
import os

from epgfn.base.console import Reporter
from epgfn.base.errors import RefusedError, WaitingError
from epgfn.base.files import read_bytes, remove, sha256_file, sha256_hex, write_atomic
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import AcceptedEntry
from epgfn.ledger.entries import parse as parse_entry
from epgfn.run.layout import SEALED
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.encoding import to_base64
from epgfn.sealing.predicates import WITHDRAWAL, WithdrawalPredicate
from epgfn.sealing.statement import CheckpointRef, make_statement, parse_statement
from epgfn.v1 import artifact_pb2
from epgfn_node import ledger
from epgfn_node.client import UNCERTAIN, Coordinator
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.receipts import require_entry, verified_receipt
from epgfn_node.study import Agreement
from epgfn_node.training import withdraw_approval


def withdraw(connection: Connection, agreement: Agreement, report: Reporter, patience: float = 0.0) -> str:
    """Take back the artifact of this node that the coordinator has accepted; its SHA-256.

    Raises:
        RefusedError: nothing of this node is accepted, it is too late, or the coordinator's answer does not prove that it did it.
        EpgfnError: nobody answers; run again.
    """
    home = connection.home
    with connection.open(report, patience) as coordinator:
        ledger.follow(home, coordinator, connection.trust)
        if not home.withdrawal.exists():
            digest, seen = _accepted(connection, agreement, coordinator)
            write_atomic(home.withdrawal, _statement(connection, agreement, digest, seen))
        bundle = read_bytes(home.withdrawal, "signed withdrawal")
        digest = parse_statement(connection.keys.verify_own(bundle)).subjects[SEALED]
        try:
            answer = coordinator.call(
                coordinator.artifact.Withdraw, artifact_pb2.WithdrawRequest(bundle=bundle)
            )
        except RefusedError as error:
            if error.reason not in UNCERTAIN:
                remove(home.withdrawal)  # a plain no: everything is as it was
            raise
        entry, receipt = bytes(answer.entry), bytes(answer.receipt)
        checkpoint = verified_receipt(receipt, entry, connection.trust)
        require_entry(
            entry,
            {
                "kind": "withdrawn-by-node",
                "round_id": agreement.round.round_id,
                "node_id": connection.node_id,
                "sealed_sha256": digest,
                "bundle_sha256": sha256_hex(bundle),
            },
            "the coordinator's ledger does not say that this node's model is withdrawn",
        )
        ledger.follow(home, coordinator, connection.trust, (checkpoint,))
    _keep(home, digest, bundle, entry, receipt)
    report.event(
        "withdrawn", f"withdrawn, and entered in the ledger: {home.withdrawn(digest)}", sealed_sha256=digest
    )
    return digest


def signed_from_receipt(connection: Connection, agreement: Agreement) -> bytes:
    """The signed withdrawal of what this home has a receipt for, where the coordinator cannot be asked; it is under way from now on.

    Raises:
        RefusedError: "not-accepted": there is no receipt.
    """
    home = connection.home
    if not home.withdrawal.exists():
        if not home.receipt.exists():
            raise RefusedError(
                "not-accepted",
                f"{home.root} has no receipt of a model, so there is nothing to withdraw; if one was sent, receive the reply first",
            )
        entry = read_bytes(home.receipt_entry, "receipt's entry")
        verified_receipt(read_bytes(home.receipt, "receipt"), entry, connection.trust)
        said, seen = parse_entry(entry), ledger.last_checkpoint(home, connection.trust)
        assert isinstance(said, AcceptedEntry) and seen is not None
        write_atomic(home.withdrawal, _statement(connection, agreement, said.sealed_sha256, seen))
    return read_bytes(home.withdrawal, "signed withdrawal")


def require_none_under_way(home: NodeHome) -> None:
    """Refuse to approve or send beside a withdrawal that is not finished.

    Raises:
        WaitingError: "withdrawing".
    """
    if home.withdrawal.exists():
        raise WaitingError(
            "withdrawing",
            f"a withdrawal is under way; end it first with epgfn-node withdraw --home {home.root}",
        )


def _accepted(
    connection: Connection, agreement: Agreement, coordinator: Coordinator
) -> tuple[str, Checkpoint]:
    """SHA-256 of what is accepted of this node, as the ledger shows it, and the checkpoint of a ledger that holds it.

    Raises:
        RefusedError: "not-accepted"; "swapped": it is not what this home has a receipt for.
    """
    home = connection.home
    answer = coordinator.call(coordinator.artifact.GetAccepted, artifact_pb2.GetAcceptedRequest())
    entry = bytes(answer.entry)
    if not entry:
        raise RefusedError(
            "not-accepted",
            "the coordinator has accepted no model of this node, so there is nothing to withdraw",
        )
    shown = verified_receipt(bytes(answer.receipt), entry, connection.trust)
    said = parse_entry(entry)
    ours = (agreement.round.round_id, connection.node_id)
    if not isinstance(said, AcceptedEntry) or (said.round_id, said.node_id) != ours:
        raise RefusedError(
            "bad-receipt",
            "the coordinator shows a ledger entry that does not accept this node's model; ask its operator",
        )
    if home.receipt.exists() and read_bytes(home.receipt_entry, "receipt's entry") != entry:
        raise RefusedError(
            "swapped",
            "the coordinator has accepted another artifact of this node than the one this home has a receipt for; keep your files and "
            "tell the other nodes",
        )
    newest = ledger.follow(home, coordinator, connection.trust, (shown,))
    return said.sealed_sha256, newest


def _statement(connection: Connection, agreement: Agreement, digest: str, seen: Checkpoint) -> bytes:
    predicate = WithdrawalPredicate(
        study_digest=agreement.study.digest,
        round_id=agreement.round.round_id,
        node_id=connection.node_id,
        sender_fingerprint=connection.keys.signing.public.fingerprint,
        checkpoint=CheckpointRef(origin=seen.origin, size=seen.size, root=to_base64(seen.root)),
    )
    return sign_statement(make_statement({SEALED: digest}, WITHDRAWAL, predicate), connection.keys.signing)


def _keep(home: NodeHome, digest: str, bundle: bytes, entry: bytes, receipt: bytes) -> None:
    """Proofs first, the note that it is under way last: whatever comes between, the same command ends it."""
    folder = home.withdrawn(digest)
    write_atomic(folder / "withdrawal.sigstore.json", bundle)
    write_atomic(folder / "withdrawn-entry.json", entry)
    write_atomic(folder / "withdrawn.tlog-proof", receipt)
    for path in (home.receipt_entry, home.receipt):
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, folder / path.name)
    if (
        home.sealed.exists() and sha256_file(home.sealed) == digest
    ):  # not another one, approved to take its place
        remove(home.sending)
        withdraw_approval(home)
    remove(home.withdrawal)

"""Fetching the global model, and checking that it was made from exactly what was agreed, ours included."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from epgfn.base import failpoints
from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError, WaitingError
from epgfn.base.files import remove, sha256_file, sha256_hex, write_atomic
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import ExcludedEntry, WithdrawnByNodeEntry
from epgfn.ledger.entries import parse as parse_entry
from epgfn.ledger.proof import verify_proof
from epgfn.rpc import MAX_PIECE
from epgfn.run.layout import SEALED, RunLayout
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.model_header import MAX_HEADER_BYTES
from epgfn.sealing.predicates import WithdrawalPredicate
from epgfn.sealing.statement import GlobalPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.study.lacks import notes_of
from epgfn.study.parameters import is_masked
from epgfn.v1 import result_pb2, study_pb2
from epgfn_node import ledger
from epgfn_node.client import LEAST, Coordinator, plain, stall_guard
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.outbox import Package, load_package
from epgfn_node.receipts import require_entry, verified_receipt
from epgfn_node.study import Agreement

if TYPE_CHECKING:
    from epgfn_node.masked_sum import SumPart

SUBJECT = "model.safetensors"
POLL = 2.0  # seconds between two looks at the round
FOLLOW_EVERY = 60.0  # seconds between two looks at the ledger while waiting
_ELEMENT_BYTES = {"float32": 4, "float64": 8, "int32": 4, "int64": 8}


class _Kept(NamedTuple):
    """Where a global model is kept, with what proves it."""

    model: Path
    bundle: Path
    entry: Path
    receipt: Path


def fetch(
    connection: Connection,
    agreement: Agreement,
    report: Reporter,
    wait: float = 0.0,
    patience: float = 0.0,
    *,
    aggregate: int = 1,
    sent_earlier: str | None = None,
) -> Path:
    """Wait up to `wait` seconds for the global model, verify it and keep it in global/; its path. And with it the whole result: this node's
    copy of the run directory, in result/ (`epgfn_node.result`).

    `aggregate`: a later one, of a study that takes late models, by number; it is kept in aggregates/<number>/. `sent_earlier`: SHA-256 of
    what this node sent under keys that were revoked since, from a home that is lost.

    Raises:
        RefusedError: "round-failed", "no-such-aggregate", or a check failed.
        WaitingError: it is not published yet.
        EpgfnError: nobody answers.
    """
    home, kept = connection.home, _kept(connection.home, aggregate)
    until = time.monotonic() + wait
    package = load_package(connection, agreement) if home.receipt.exists() else None
    with connection.open(report, max(patience, min(wait, 60.0))) as coordinator:
        part = None
        if is_masked(agreement.study) and connection.recorded is None:
            from epgfn_node.masked_sum import SumPart  # numpy, which few need

            part = SumPart(connection, agreement, coordinator, report)
        _wait_until_published(connection, coordinator, report, wait, part)
        answer = _result(coordinator, aggregate, until)
        bundle, entry, receipt = bytes(answer.bundle), bytes(answer.entry), bytes(answer.receipt)
        checkpoint = verified_receipt(receipt, entry, connection.trust)
        position, _ = verify_proof(receipt, entry, connection.trust.ledger, strict=True)
        excluded, shown = _exclusion(connection, agreement, package, answer)
        if not excluded:
            excluded, shown = _withdrawal(connection, agreement, package, answer)
        model_sha256 = verify_global(
            connection,
            agreement,
            package,
            bundle,
            before=position if aggregate == 1 else None,
            excluded=bool(excluded),
            sent_earlier=sent_earlier,
        )
        require_entry(
            entry,
            {
                "kind": "global",
                "round_id": agreement.round.round_id,
                "bundle_sha256": sha256_hex(bundle),
                "model_sha256": model_sha256,
            },
            "the ledger records another global model than the one that is published",
        )
        ledger.follow(home, coordinator, connection.trust, (checkpoint, *shown))
        if excluded:
            report.event("excluded", excluded)
        raw = _download(
            kept.model, coordinator, agreement.study, model_sha256, int(answer.model_size), report, aggregate
        )
        _require_policy(raw, agreement.study)
        write_atomic(kept.entry, entry)
        write_atomic(kept.receipt, receipt)
        write_atomic(kept.bundle, bundle)
        write_atomic(kept.model, raw)
        if part is not None:
            part.forget()
        newest = int(answer.aggregates)
        more = f"; there is a later one, get it with --aggregate {newest}" if newest > aggregate else ""
        report.event("fetched", f"the global model is in {kept.model}{more}", model_sha256=model_sha256)
        place = RunLayout(home.root).aggregate(aggregate).relative_to(home.root).as_posix()
        from epgfn_node.result import bring  # loads NumPy and PyTorch, which no other command needs

        whole = bring(connection, agreement, coordinator, report, place, bundle)
    _tell_result(connection, whole, report)
    for note in notes_of(agreement.study, _took_part(bundle, connection)):
        report.event("caveat", f"{note}.")
    return kept.model


def _tell_result(connection: Connection, whole: Path | None, report: Reporter) -> None:
    root = connection.home.root
    if whole is not None:
        look = f"look at it with epgfn report {root}, check it with epgfn-node audit --home {root}"
        report.event("result", f"the whole result is in {whole}; {look}")
        return
    why = (
        "this coordinator is of an earlier version and hands out"
        if connection.recorded is None
        else "the coordinator is of an earlier version, or the result too large for a letter: the reply holds"
    )
    report.event(
        "model-alone", f"{why} the global model alone; ask its operator for the run directory that it exports"
    )


def _kept(home: NodeHome, aggregate: int) -> _Kept:
    if aggregate == 1:
        return _Kept(home.global_model, home.global_bundle, home.global_entry, home.global_receipt)
    folder = home.root / "aggregates" / str(aggregate)
    return _Kept(
        folder / SUBJECT,
        folder / "model.sigstore.json",
        folder / "entry.json",
        folder / "receipt.tlog-proof",
    )


def _result(coordinator: Coordinator, aggregate: int, until: float) -> Any:
    """The answer to GetResult, for a later global model as soon as there is one."""
    request = result_pb2.GetResultRequest(aggregate=aggregate)
    while True:
        try:
            return coordinator.call(coordinator.result.GetResult, request)
        except RefusedError as error:
            left = until - time.monotonic()
            if error.reason != "no-such-aggregate" or left <= 0:
                raise
            time.sleep(min(POLL, left))


def _wait_until_published(
    connection: Connection, coordinator: Coordinator, report: Reporter, wait: float, part: SumPart | None
) -> None:
    """`part`: this node's in a masked sum, which may be due meanwhile."""
    until = time.monotonic() + wait
    told, follow_at = "", 0.0
    while True:
        if time.monotonic() >= follow_at:
            # Whoever only waits notices a rewritten ledger, too, and tells a restored coordinator what was seen before.
            ledger.follow(connection.home, coordinator, connection.trust)
            follow_at = time.monotonic() + FOLLOW_EVERY
        answer = coordinator.call(coordinator.study.GetRound, study_pb2.GetRoundRequest())
        detail = plain(answer.detail)
        if answer.state == study_pb2.ROUND_STATE_PUBLISHED:
            return
        if answer.state == study_pb2.ROUND_STATE_FAILED:
            raise RefusedError("round-failed", f"the round ended without a global model: {detail}")
        if part is not None:
            part.unmask()
        left = until - time.monotonic()
        if left <= 0:
            raise WaitingError(
                "not-published",
                f"there is no global model yet ({detail}); fetch again later, or wait for it with --wait SECONDS",
            )
        if detail != told:
            told = detail
            report.event("waiting", f"waiting for the global model: {detail}")
        time.sleep(min(POLL, left))


def verify_global(
    connection: Connection,
    agreement: Agreement,
    package: Package | None,
    bundle: bytes,
    *,
    before: int | None = None,
    excluded: bool = False,
    sent_earlier: str | None = None,
) -> str:
    """SHA-256 of the global model's file, if the signed statement is right and treats this node right.

    `package` is what this node sent and has a receipt for; None if it has none. `before`: uploads with a smaller ledger index
    must be in the model; None: those that the checkpoint it quotes holds, which is the rule for a later global model.
    `excluded`: the ledger says that this node's model cannot be combined with the others. `sent_earlier`: see `fetch`.

    Raises:
        RefusedError: "left-out", "swapped", "invented": not what our receipt proves; "wrong-round", "wrong-seed", "wrong-roster"; or the
            signature does not fit.
    """
    statement = parse_statement(verify_bundle(bundle, connection.trust.coordinator))
    predicate = predicate_of(statement, GlobalPredicate)
    if SUBJECT not in statement.subjects:
        raise RefusedError(
            "malformed",
            f"the statement on the global model does not name {SUBJECT}; tell the coordinator's operator",
        )
    named = (predicate.study_digest, predicate.round_id)
    if named != (agreement.study.digest, agreement.round.round_id):
        raise RefusedError(
            "wrong-round", "the global model is of another study or round; ask the coordinator's operator"
        )
    if predicate.seed != agreement.study.seed:
        raise RefusedError(
            "wrong-seed",
            "the global model was made with another seed than the study's, so nobody could make it again; tell the other nodes",
        )
    present = {upload.node_id: upload for upload in predicate.aggregated}
    if sorted([*present, *predicate.absent]) != sorted(agreement.study.roster):
        raise RefusedError(
            "wrong-roster",
            "the global model does not account for every node of the roster; tell the other nodes",
        )
    ours = present.get(connection.node_id)
    if package is None:
        if ours is not None and ours.sealed_sha256 in connection.home.all_withdrawn():
            raise RefusedError(
                "withdrawn-used",
                "the global model was made with this node's model although that was withdrawn; your receipt proves it, keep "
                f"{connection.home.withdrawn(ours.sealed_sha256)} and tell the other nodes",
            )
        _require_nothing_invented(connection, ours.sealed_sha256 if ours is not None else "", sent_earlier)
    elif (
        ours is None
        and not excluded
        and not _came_late(connection, agreement, predicate.checkpoint.size if before is None else before)
    ):
        raise RefusedError(
            "left-out",
            "the coordinator accepted this node's model and left it out of the global one; your receipt proves it, "
            f"keep {connection.home.receipt} and tell the other nodes",
        )
    elif ours is not None and (ours.sealed_sha256, ours.bundle_sha256) != (
        package.sealed_sha256,
        package.bundle_sha256,
    ):
        raise RefusedError(
            "swapped",
            "the global model names another artifact in this node's place than the one it sent; keep your files and "
            "tell the other nodes",
        )
    return statement.subjects[SUBJECT]


def _took_part(bundle: bytes, connection: Connection) -> list[str]:
    """Whose models the global one is of, by a statement that `verify_global` has found right."""
    statement = parse_statement(verify_bundle(bundle, connection.trust.coordinator))
    return sorted(upload.node_id for upload in predicate_of(statement, GlobalPredicate).aggregated)


def _exclusion(
    connection: Connection, agreement: Agreement, package: Package | None, answer: Any
) -> tuple[str, tuple[Checkpoint, ...]]:
    """What to say where the ledger excludes what this node sent, and the checkpoint under which it does; nothing if the coordinator shows
    no such entry.

    Raises:
        RefusedError: the entry is not in the ledger, or is about something else.
    """
    entry = bytes(answer.exclusion)
    if not entry or package is None:
        return "", ()
    checkpoint = verified_receipt(bytes(answer.exclusion_receipt), entry, connection.trust)
    said = parse_entry(entry)
    ours = (agreement.round.round_id, connection.node_id, package.sealed_sha256)
    if not isinstance(said, ExcludedEntry) or (said.round_id, said.node_id, said.sealed_sha256) != ours:
        raise RefusedError(
            "left-out",
            "the coordinator shows a ledger entry that does not exclude what this node sent; tell the other nodes",
        )
    told = (
        f"this node's model is not in the result: the coordinator found that it cannot be combined with the others ({said.reason}) and "
        "says so in the ledger; if you do not believe it, ask the other nodes, and an auditor where the study keeps the round key"
    )
    return told, (checkpoint,)


def _withdrawal(
    connection: Connection, agreement: Agreement, package: Package | None, answer: Any
) -> tuple[str, tuple[Checkpoint, ...]]:
    """The same where what this home has a receipt for was withdrawn all the same: from here, but the answer was lost; from a copy of this
    home; or by whoever has its keys.

    Raises:
        RefusedError: the entry is not in the ledger, or this node's key has not signed what it names.
    """
    entry, bundle = bytes(answer.withdrawal), bytes(answer.withdrawal_bundle)
    if not entry or package is None:
        return "", ()
    checkpoint = verified_receipt(bytes(answer.withdrawal_receipt), entry, connection.trust)
    said = parse_entry(entry)
    if not isinstance(said, WithdrawnByNodeEntry) or said.sealed_sha256 != package.sealed_sha256:
        return "", ()
    statement = parse_statement(connection.keys.verify_own(bundle))
    signed = predicate_of(statement, WithdrawalPredicate)
    ours = (agreement.round.round_id, connection.node_id)
    named = (
        statement.subjects.get(SEALED) == package.sealed_sha256 and sha256_hex(bundle) == said.bundle_sha256
    )
    if not named or {(signed.round_id, signed.node_id), (said.round_id, said.node_id)} != {ours}:
        raise RefusedError(
            "left-out",
            "the coordinator shows a ledger entry that does not withdraw what this node sent; tell the other nodes",
        )
    pending = connection.home.withdrawal
    if pending.exists() and sha256_file(pending) == said.bundle_sha256:
        told = (
            "this node's model is not in the result: it was withdrawn from this home, where the answer was lost; end that with "
            "epgfn-node withdraw"
        )
        return told, (checkpoint,)
    told = (
        "this node's model is not in the result: it was withdrawn, signed with this node's key, and not from this home; if nobody here did "
        "that, somebody else has this node's keys: tell the coordinator's operator"
    )
    return told, (checkpoint,)


def _came_late(connection: Connection, agreement: Agreement, before: int) -> bool:
    """Whether our own receipt says that what we sent came after a model was made, in a study that takes late ones."""
    if agreement.study.aggregation.late != "new-aggregate":
        return False
    home = connection.home
    receipt, entry = home.receipt.read_bytes(), home.receipt_entry.read_bytes()
    index, _ = verify_proof(receipt, entry, connection.trust.ledger, strict=True)
    return index >= before


def _require_nothing_invented(connection: Connection, named: str, sent_earlier: str | None) -> None:
    """Without a receipt we should be absent, unless what we sent arrived and only the receipt was lost, or a home of ours that is lost
    sent it. `named`: SHA-256 of what the global model holds of this node, empty if it holds nothing."""
    if not named or (sent_earlier is not None and sent_earlier.strip().lower() == named):
        return
    home = connection.home
    if home.approved.exists() and home.sealed.exists() and sha256_file(home.sealed) == named:
        raise EpgfnError(
            "the global model names this node but its receipt is missing; run epgfn-node submit to get it, then fetch again"
        )
    raise RefusedError(
        "invented",
        f"the global model names an artifact of this node that {home.root} never sent, {named}; if this node sent it under "
        "keys that were revoked since, fetch it with --sent-earlier and that digest, otherwise tell the other nodes and your auditor",
    )


def _download(
    file: Path,
    coordinator: Coordinator,
    study: Study,
    digest: str,
    size: int,
    report: Reporter,
    aggregate: int,
) -> bytes:
    """The model file's bytes with that SHA-256; a broken transfer goes on where it stopped, in this run or the next."""
    if size > largest_model(study):
        raise RefusedError(
            "too-large",
            "the global model is larger than the study's policy can be; ask the coordinator's operator",
        )
    if file.exists() and sha256_file(file) == digest:
        return file.read_bytes()
    part = file.with_name(f".{digest}.part")
    part.parent.mkdir(parents=True, exist_ok=True)

    def kept() -> int:
        return part.stat().st_size if part.exists() else 0

    def attempt() -> None:
        if kept() > size:
            part.unlink()
        with part.open("ab") as target:
            call = coordinator.result.Download(
                coordinator.about(
                    result_pb2.DownloadRequest(offset=target.tell(), aggregate=aggregate, files_follow=True)
                )
            )
            with stall_guard(call) as fed:
                fed_at = target.tell()
                for piece in call:
                    at = target.tell()
                    # An empty piece would keep the guard content, and a stream of them this node for ever.
                    if piece.offset != at or not 0 < len(piece.data) <= min(MAX_PIECE, size - at):
                        call.cancel()
                        remove(part)  # what came before that is worth no more
                        raise RefusedError(
                            "bad-offset", "the coordinator sends the model out of order; fetch again"
                        )
                    failpoints.at("append", part)
                    target.write(piece.data)
                    if target.tell() - fed_at >= LEAST:
                        fed()
                        fed_at = target.tell()
                    report.event("fetching", step=target.tell(), steps=size)

    def transfer() -> bytes:
        while kept() != size:
            before = kept()
            coordinator.persist(attempt, progress=lambda: kept() // LEAST)
            if kept() == before:
                break
        return part.read_bytes() if part.exists() else b""

    try:
        earlier = kept()
        raw = transfer()
        if earlier and sha256_hex(raw) != digest:
            remove(part)  # the part that was kept before may have been wrong
            raw = transfer()
    except OSError as error:
        raise EpgfnError(
            f"cannot write {part}: {os.strerror(error.errno or 0)}; free some space, then fetch again"
        ) from None
    if sha256_hex(raw) != digest:
        with contextlib.suppress(OSError):
            remove(part)
        raise RefusedError(
            "wrong-digest",
            "the downloaded model is not the one the coordinator has signed; fetch again, and tell its operator if it persists",
        )
    remove(part)
    return raw


def largest_model(study: Study) -> int:
    """How many bytes a model file of the study has at most."""
    from epgfn.learn.policy import policy_spec  # torch, which is loaded once there is a model to look at

    total = MAX_HEADER_BYTES
    for spec in policy_spec(study).values():
        numbers = 1
        for length in spec.shape:
            numbers *= length
        total += numbers * _ELEMENT_BYTES[str(spec.dtype).removeprefix("torch.")]
    return total


def _require_policy(raw: bytes, study: Study) -> None:
    from epgfn.learn.policy import policy_spec, validate_policy
    from epgfn.sealing.model_file import read_model

    tensors, metadata = read_model(raw, policy_spec(study))
    if (metadata["study_digest"], metadata["role"]) != (study.digest, "global"):
        raise RefusedError(
            "wrong-study", "the global model is not one of this study; ask the coordinator's operator"
        )
    validate_policy(study, tensors)

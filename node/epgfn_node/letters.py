"""Letters: enrolling, sending, taking back, changing the signing key and asking for the result where there is no network, by files that
somebody carries.

A letter is written, carried to the coordinator, answered there (`epgfn-coordinator receive`), and the reply is carried back and received.
What comes back goes through the very checks that answers of calls go through. One letter of a home waits for its reply at a time: a newer
one takes the place of an older one, whose reply does not open any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from epgfn.base.console import Reporter
from epgfn.base.encoding import to_base64
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_bytes, remove, sha256_file, sha256_hex, write_atomic
from epgfn.base.passphrase import key_passphrase
from epgfn.rpc import ENROLLMENT_LABEL
from epgfn.run.layout import MODEL as RESULT_MODEL
from epgfn.run.layout import RunLayout
from epgfn.sealing.bundle import sign_statement, verify_bundle
from epgfn.sealing.envelope import open_sealed, sealed_size
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.letter import (
    MAX_MESSAGE_BYTES,
    MAX_RUN_BYTES,
    MESSAGE,
    MODEL,
    SEALED_MESSAGE,
    SEALED_RESULT,
    SEALED_RUN,
    Letter,
    read_letter,
    reply_binding,
    sign_with_token,
    write_letter,
)
from epgfn.sealing.predicates import LETTER, LetterPredicate, ReplyPredicate
from epgfn.sealing.round_key import HYBRID, RoundPrivateKey
from epgfn.sealing.round_key_file import read_private_key, write_private_key
from epgfn.sealing.statement import make_statement, parse_statement, predicate_of
from epgfn.study.parameters import is_masked
from epgfn.v1 import (
    artifact_pb2,
    certificate_pb2,
    enrollment_pb2,
    ledger_pb2,
    letter_pb2,
    result_pb2,
)
from epgfn_node import enroll as enrolling
from epgfn_node import ledger
from epgfn_node.enroll import Connection
from epgfn_node.fetch import fetch, largest_model
from epgfn_node.home import NodeHome
from epgfn_node.keys import load_keys, rotation_statements
from epgfn_node.outbox import load_package
from epgfn_node.recorded import Recorded
from epgfn_node.renew import require_same_node
from epgfn_node.rotation import is_untold, last_change, said_of, tell
from epgfn_node.settings import NodeSettings
from epgfn_node.study import Agreement, load_agreement
from epgfn_node.submit import submit
from epgfn_node.trust import Invitation, Trust, pin
from epgfn_node.withdraw import require_none_under_way, signed_from_receipt, withdraw

ENROLMENT, SUBMISSION, WITHDRAWAL, QUESTION = "enrolment", "submission", "withdrawal", "question"
ROTATION: Final = "rotation"
FORMAT: Final = "epgfn-letter-under-way/v1"


class UnderWay(NamedTuple):
    """The letter whose reply is waited for."""

    kind: str
    number: int
    letter_sha256: str
    aggregate: int


def write_enrolment(home: NodeHome, invitation: Invitation, path: Path, report: Reporter) -> None:
    """Write the letter that enrols this node, or, where it is enrolled and `invitation` renews, gets another certificate for its keys. The
    token does not travel.

    Raises:
        UsageError: this is a further round of a node; there is no node in `home`.
        RefusedError: the home trusts another coordinator.
        EpgfnError: a file cannot be written.
    """
    if home.is_joined:
        raise UsageError(
            f"{home.root} is a further round of the node in {home.base}; letters are for the round that a node has enrolled for"
        )
    home.require_initialised()
    if home.is_enrolled:
        require_same_node(home, invitation)
    keys = load_keys(home)
    pin(home, invitation)
    enrolling.keep_invitation(home, invitation)
    csr = enrolling.kept_request(home, invitation, keys)
    reply_key = _reply_key(home)
    message = letter_pb2.Letter(
        enrolment=enrollment_pb2.EnrollRequest(
            csr_pem=csr,
            signing_key_pem=keys.signing.public.pem,
            signing_key_proof=keys.signing.sign(ENROLLMENT_LABEL + csr),
        ),
        token_signature=sign_with_token(
            invitation.token,
            invitation.study_digest.encode(),
            invitation.ledger_vkey.encode(),
            invitation.node_id.encode(),
            csr,
            keys.signing.public.pem,
            reply_key.public.raw,
        ),
    )
    about = _About(invitation.study_digest, invitation.ledger_vkey, invitation.node_id, keys.signing)
    _write(home, about, ENROLMENT, message, reply_key, path, report)


def write_submission(connection: Connection, agreement: Agreement, path: Path, report: Reporter) -> None:
    """Write the letter that sends what was approved.

    Raises:
        UsageError: a masked sum goes by no letter.
        RefusedError: not approved, or sent and accepted already.
        EpgfnError: a file cannot be written.
    """
    home = connection.home
    if is_masked(agreement.study):
        raise UsageError(
            "a masked sum takes several messages between nodes and coordinator, and none of them goes by letter; run epgfn-node submit "
            "where there is a network"
        )
    require_none_under_way(home)
    package = load_package(connection, agreement)
    if home.receipt.exists():
        raise RefusedError(
            "already-accepted",
            f"what was approved is sent and accepted already; the receipt is {home.receipt}",
        )
    message = letter_pb2.Letter(submission=artifact_pb2.BeginRequest(bundle=package.bundle))
    # Whether it is accepted is uncertain from now on, until a reply says so.
    write_atomic(home.sending, package.sealed_sha256.encode("ascii") + b"\n")
    _write_enrolled(connection, agreement, SUBMISSION, message, path, report, {MODEL: home.sealed})


def write_withdrawal(connection: Connection, agreement: Agreement, path: Path, report: Reporter) -> None:
    """Write the letter that takes back what this home has a receipt for.

    Raises:
        RefusedError: "not-accepted": it has none.
        EpgfnError: a file cannot be written.
    """
    bundle = signed_from_receipt(connection, agreement)
    message = letter_pb2.Letter(withdrawal=artifact_pb2.WithdrawRequest(bundle=bundle))
    _write_enrolled(connection, agreement, WITHDRAWAL, message, path, report)


def write_question(
    connection: Connection, agreement: Agreement, path: Path, report: Reporter, aggregate: int = 1
) -> None:
    """Write the letter that asks where the round stands, and for its global model.

    Raises:
        EpgfnError: a file cannot be written.
    """
    message = letter_pb2.Letter(question=result_pb2.GetResultRequest(aggregate=aggregate, with_files=True))
    _write_enrolled(connection, agreement, QUESTION, message, path, report)


def write_rotation(connection: Connection, agreement: Agreement, path: Path, report: Reporter) -> None:
    """Write the letter that tells the coordinator of all changes of this node's signing key. The present key signs it, which the
    coordinator may not know: that it succeeds the one that counts there, the statements say.

    Raises:
        EpgfnError: a file cannot be written.
    """
    statements = rotation_statements(NodeHome(connection.home.base))
    message = letter_pb2.Letter(rotation=certificate_pb2.RotateKeyRequest(statements=statements))
    _write_enrolled(connection, agreement, ROTATION, message, path, report)


class _About(NamedTuple):
    study_digest: str
    ledger_vkey: str
    node_id: str
    signing: SigningKey


def _write_enrolled(
    connection: Connection,
    agreement: Agreement,
    kind: str,
    message: letter_pb2.Letter,
    path: Path,
    report: Reporter,
    parts: Mapping[str, Path] | None = None,
) -> None:
    trust = connection.trust
    about = _About(agreement.study.digest, trust.ledger_vkey, connection.node_id, connection.keys.signing)
    home = connection.home
    _write(home, about, kind, message, _reply_key(home), path, report, parts)


def _reply_key(home: NodeHome) -> RoundPrivateKey:
    """A key for one reply."""
    key = RoundPrivateKey.generate(HYBRID)
    write_private_key(home.reply_key, key, key_passphrase(home.signing_key))
    return key


def _write(
    home: NodeHome,
    about: _About,
    kind: str,
    message: letter_pb2.Letter,
    reply_key: RoundPrivateKey,
    path: Path,
    report: Reporter,
    parts: Mapping[str, Path] | None = None,
) -> None:
    if kind != ROTATION and is_untold(home):
        raise RefusedError(
            "key-untold",
            "the coordinator may not know yet of this node's new signing key, and would take no letter that it signs; tell it first, "
            f"and receive its reply: epgfn-node rotate-key --home {home.base} --to-file FILE",
        )
    if home.checkpoint.exists():
        note = read_bytes(home.checkpoint, "ledger checkpoint")
        message.ledger.CopyFrom(ledger_pb2.GetCheckpointRequest(known_size=_size_of(note), newest_known=note))
    raw = message.SerializeToString(deterministic=True)
    before = _last(home)
    # The time, so that a home put back from a backup does not write numbers that are spent.
    number = max(int(time.time()), 0 if before is None else before.number + 1)
    predicate = LetterPredicate(
        kind=kind,  # type: ignore[arg-type]
        study_digest=about.study_digest,
        ledger_vkey=about.ledger_vkey,
        node_id=about.node_id,
        sender_fingerprint=about.signing.public.fingerprint,
        number=number,
        suite=HYBRID,
        reply_key=to_base64(reply_key.public.raw),
    )
    subjects = {MESSAGE: sha256_hex(raw)} | {name: sha256_file(each) for name, each in (parts or {}).items()}
    bundle = sign_statement(make_statement(subjects, LETTER, predicate), about.signing)
    under_way = {
        "format": FORMAT,
        "kind": kind,
        "number": number,
        "letter_sha256": sha256_hex(bundle),
        "aggregate": message.question.aggregate,
    }
    write_atomic(home.letter, json.dumps(under_way, indent=2).encode("utf-8") + b"\n")
    write_letter(path, bundle, {MESSAGE: raw, **(parts or {})})
    report.event(
        "written",
        f"{path}: carry it to the coordinator's operator, and receive the reply with epgfn-node receive",
        kind=kind,
    )


def _size_of(note: bytes) -> int:
    return int(note.split(b"\n")[1])


def _last(home: NodeHome) -> UnderWay | None:
    if not home.letter.exists():
        return None
    try:
        said: Any = json.loads(read_bytes(home.letter, "note of the last letter", 1 << 16))
        return UnderWay(
            str(said["kind"]), int(said["number"]), str(said["letter_sha256"]), int(said["aggregate"])
        )
    except (ValueError, KeyError, TypeError):
        raise EpgfnError(f"{home.letter} is damaged; remove it, and have the letter written again") from None


def receive_reply(
    home: NodeHome,
    path: Path,
    settings: NodeSettings,
    report: Reporter,
    sent_earlier: str | None = None,
) -> str:
    """Take the coordinator's reply to the last letter, check it as answers of calls are checked, and do what it was about; its kind.
    `sent_earlier`: as for `fetch`.

    Raises:
        RefusedError: it is no reply of this node's coordinator to that letter, or the coordinator says no, or a check failed.
        EpgfnError: a file cannot be read or written.
    """
    home.require_initialised()
    letter, last = read_letter(path), _last(home)
    if last is None or not home.reply_key.exists():
        raise RefusedError(
            "not-waiting",
            f"no letter of {home.root} waits for a reply; one that was received is not received twice",
        )
    invitation, trust = Invitation.load(home.invitation), Trust(home)
    said = _verified(letter, last, home, invitation, trust)
    answer, model, run = _opened(letter, said, home)
    place = RunLayout(home.root).aggregate(max(last.aggregate, 1)).relative_to(home.root)
    recorded = Recorded(answer, model, "", run, (place / RESULT_MODEL).as_posix())
    if last.kind == ENROLMENT and home.is_enrolled:
        keys = load_keys(home)
        enrolling.get_certificate(home, invitation, settings, keys, trust, report, 0.0, recorded=recorded)
        report.event("renewed", f"this node's certificate is in {home.tls_certificate}")
    elif last.kind == ENROLMENT:
        enrolling.enroll(home, invitation, settings, report, recorded=recorded)
    else:
        connection = replace(Connection.load(home, settings), recorded=recorded)
        agreement = load_agreement(home, connection.trust)
        if last.kind == SUBMISSION:
            submit(connection, agreement, report)
        elif last.kind == WITHDRAWAL:
            withdraw(connection, agreement, report)
        elif last.kind == ROTATION:
            tell(home, recorded)
            ledger.follow(home, recorded, trust)
            made = last_change(home)
            assert made is not None  # the letter told of it
            report.event("key-replaced", said_of(made), fingerprint=made.said.new_fingerprint)
        else:
            fetch(
                connection,
                agreement,
                report,
                aggregate=max(last.aggregate, 1),
                sent_earlier=sent_earlier,
            )
    remove(home.reply_key)
    return last.kind


def _verified(
    letter: Letter, last: UnderWay, home: NodeHome, invitation: Invitation, trust: Trust
) -> ReplyPredicate:
    """What the coordinator has signed, if it is to this node about its last letter."""
    statement = parse_statement(verify_bundle(letter.bundle, trust.coordinator))
    letter.require_size(0, 2 * MAX_MESSAGE_BYTES)
    said = predicate_of(statement, ReplyPredicate)
    for found, expected, reason, what in (
        (said.study_digest, _study_digest(home, invitation), "wrong-study", "of another study"),
        (said.ledger_vkey, trust.ledger_vkey, "wrong-round", "of another round"),
        (said.node_id, invitation.node_id, "wrong-node", "to another node"),
        (
            said.letter_sha256,
            last.letter_sha256,
            "other-letter",
            "to another letter than the last one of this home",
        ),
    ):
        if found != expected:
            raise RefusedError(
                reason,
                f"the reply in {letter.path} is {what}; receive the right one, or write a letter again",
            )
    with_result = last.kind == QUESTION and len(letter.parts) > 1
    if with_result:
        study = load_agreement(home, trust).study
        letter.require_size(1, sealed_size(HYBRID, largest_model(study)))
    names: tuple[str, ...] = (SEALED_MESSAGE, SEALED_RESULT, SEALED_RUN)
    if with_result and len(letter.parts) == len(names):
        # The list beside the files is of one message at most.
        letter.require_size(2, sealed_size(HYBRID, MAX_RUN_BYTES + MAX_MESSAGE_BYTES))
    else:
        names = names[: 2 if with_result else 1]
    letter.require_parts(statement.subjects, names)
    return said


def _study_digest(home: NodeHome, invitation: Invitation) -> str:
    return sha256_file(home.study) if home.study.exists() else invitation.study_digest


def _opened(letter: Letter, said: ReplyPredicate, home: NodeHome) -> tuple[letter_pb2.Reply, bytes, bytes]:
    """What is answered, the global model and the other files of the run; empty what is not there."""
    key = read_private_key(home.reply_key, key_passphrase(home.signing_key), "key of the reply")

    def part(number: int, name: str) -> bytes:
        return open_sealed(letter.part(number), key, reply_binding(said, key.key_id, name))

    answer = letter_pb2.Reply()
    try:
        answer.ParseFromString(part(0, SEALED_MESSAGE))
    except DecodeError:
        raise RefusedError(
            "malformed", f"the reply in {letter.path} does not parse; ask the coordinator's operator"
        ) from None
    model = part(1, SEALED_RESULT) if len(letter.parts) > 1 else b""
    return answer, model, part(2, SEALED_RUN) if len(letter.parts) > 2 else b""

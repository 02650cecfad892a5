"""Letters: what nodes ask where there is no network, answered with what calls are answered with.

A letter is signed by a node's key, or enrols one; the same checks as on calls decide, and the same entries are made in the same ledger. The
answer is sealed to a key that the node has made for it. Who has carried the file decides nothing.

The same letter again gets an answer again, since a reply may be lost. One that is older than the last of its node's key is refused: so a
letter that somebody kept does nothing later.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import remove, sha256_file, sha256_hex
from epgfn.ledger.proof import verify_proof
from epgfn.sealing.bundle import read_unverified, sign_statement, verify_bundle
from epgfn.sealing.envelope import seal
from epgfn.sealing.keys import SigningKey, VerifyKey
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
    write_letter,
)
from epgfn.sealing.predicates import REPLY, LetterPredicate, ReplyPredicate, node_party
from epgfn.sealing.rotation import follow, read_rotation
from epgfn.sealing.statement import make_statement, parse_statement, predicate_of
from epgfn.v1 import artifact_pb2, ledger_pb2, letter_pb2
from epgfn_coordinator.home import Home
from epgfn_coordinator.identity import Caller
from epgfn_coordinator.invitation import digest_of_signer
from epgfn_coordinator.journal import LOG, Journal
from epgfn_coordinator.known_keys import is_replaced, replaced_error, require_not_replaced, signing_keys
from epgfn_coordinator.live_round import LiveRound
from epgfn_coordinator.people import revoked_in
from epgfn_coordinator.revocation import revoked_error
from epgfn_coordinator.services.by_round import Desk
from epgfn_coordinator.services.enrollment import Enrolling, Enrollment
from epgfn_coordinator.store import Store

ENROLMENT: Final = "enrolment"
ROTATION: Final = "rotation"
KINDS: Final = {
    ENROLMENT: "enrolment",
    "submission": "submission",
    "withdrawal": "withdrawal",
    "question": "question",
    ROTATION: "rotation",
}
"""The field of the message that a letter of a kind has."""
CHECKED_AGAIN: Final = 0.2  # seconds between looks at a check that takes long
FOLDER: Final = "letters"


class Answered(NamedTuple):
    """What became of a letter: whose it is, what it asked, and what was said; `reason`: of a no, which its reply says too, else empty."""

    node_id: str
    kind: str
    said: str
    reason: str


class Counter(NamedTuple):
    """A round and what answers for it."""

    live: LiveRound
    desk: Desk


class Letters:
    """Answers letters to the rounds of one coordinator, one at a time."""

    def __init__(
        self,
        rounds: Callable[[], list[Counter]],
        enrollment: Enrollment,
        journal: Journal,
        replace_key: Callable[[str, list[bytes]], None],
    ) -> None:
        """`rounds`: those that can be served now; `replace_key` of a node by what it has signed, in all rounds."""
        self._rounds, self._enrollment = rounds, enrollment
        self._journal, self._replace_key = journal, replace_key

    def answer(self, path: Path, out: Path) -> Answered:
        """Do what the letter in `path` asks, and write the reply into `out`.

        Raises:
            UsageError: it is no letter.
            RefusedError: it is not whole, not by whom it says, for no round here, or an older one: it gets no reply.
            EpgfnError: a file cannot be written.
        """
        letter = read_letter(path)
        said = _unverified(letter)
        current = self._round_of(said)
        try:
            message, signer = self._verified(letter, said, current)
        except RefusedError as error:
            self._journal.decision(
                "refused", f"letter: {error}", warn=True, caller=said.node_id, reason=error.reason
            )
            raise
        signing = current.live.signing  # before anything is done: without it there is no reply
        answer, model, reason = letter_pb2.Reply(), None, ""
        try:
            model, told = self._do(current, said, letter, message, signer, answer)
        except RefusedError as error:
            reason, told = error.reason, str(error)
            answer.refusal.reason, answer.refusal.sentence = reason, told
        self._add_ledger(current, message, answer)
        run = None  # read after the checkpoint, which the ledger in it extends
        if model is not None and message.question.with_files:
            run = current.desk.result.packed(message.question.aggregate, MAX_RUN_BYTES)
        self._write(said, letter, answer, model, run, out, signing)
        return Answered(said.node_id, said.kind, told, reason)

    def _round_of(self, said: LetterPredicate) -> Counter:
        for each in self._rounds():
            if each.live.ledger_vkey == said.ledger_vkey:
                if each.live.study.digest != said.study_digest:
                    break
                return each
        raise RefusedError(
            "unknown-round",
            "the letter is for a study or a round that this coordinator does not have; look whose it is with epgfn inspect",
        )

    def _verified(
        self, letter: Letter, said: LetterPredicate, current: Counter
    ) -> tuple[letter_pb2.Letter, Caller]:
        """The letter's message and who has signed it, once everything about it is checked."""
        store = current.live.store
        message = _message(letter)
        if said.kind == ENROLMENT:
            key = VerifyKey.from_pem(message.enrolment.signing_key_pem)
        elif said.kind == ROTATION:
            key = self._succeeding_key(current.live, said, message)
        else:
            key = _current_key(current.live, said, letter, [each.live for each in self._rounds()])
        payload = verify_bundle(letter.bundle, key)
        verified = predicate_of(parse_statement(payload), LetterPredicate)
        if verified != said or said.sender_fingerprint != key.fingerprint:
            raise RefusedError(
                "wrong-key", "the letter names another signing key than its own; have it written again"
            )
        names = (MESSAGE, MODEL) if said.kind == "submission" else (MESSAGE,)
        if len(letter.parts) > 1:
            letter.require_size(1, current.live.study.transport.max_upload_bytes)
        letter.require_parts(parse_statement(payload).subjects, names)
        asked = [kind for kind, field in KINDS.items() if message.HasField(field)]
        if asked != [said.kind]:
            raise RefusedError(
                "malformed", "the letter asks something else than it says; have it written again"
            )
        if said.kind == ENROLMENT:
            _require_token(store, said, message)
        _require_newest(store, said, letter)
        return message, Caller(said.node_id, key)

    def _do(
        self,
        current: Counter,
        said: LetterPredicate,
        letter: Letter,
        message: letter_pb2.Letter,
        signer: Caller,
        answer: letter_pb2.Reply,
    ) -> tuple[Path | None, str]:
        """What the letter asks; the model's file for the reply, if one belongs in it, and a sentence.

        Raises:
            RefusedError: a check says no.
        """
        live, desk = current
        answer.round.CopyFrom(desk.study.where_it_stands())
        if said.kind == ENROLMENT:
            digest = _token_digest(live.store, said, message)
            enrolling = Enrolling(live.member, live.log)
            answer.enrolment.CopyFrom(
                self._enrollment.enroll(enrolling, said.node_id, digest, message.enrolment)
            )
            answer.study.CopyFrom(desk.study.signed_study())
            return None, f"{said.node_id} is enrolled"
        live.continuity.shown(said.node_id, message.ledger.known_size, message.ledger.newest_known)
        if said.kind == "submission":
            receipt, entry = _submit(live, signer, letter, message)
            answer.receipt.CopyFrom(artifact_pb2.CommitResponse(receipt=receipt, entry=entry))
            return None, f"the model of {said.node_id} is accepted"
        if said.kind == "withdrawal":
            entry, receipt = live.withdrawal.withdraw(signer, message.withdrawal.bundle)
            answer.withdrawal.CopyFrom(artifact_pb2.WithdrawResponse(entry=entry, receipt=receipt))
            return None, f"the model of {said.node_id} is withdrawn"
        if said.kind == ROTATION:
            self._rotate(said, message)
            answer.rotation.SetInParent()
            return None, f"{said.node_id} signs with {signer.signing_key.fingerprint}"
        answer.result.CopyFrom(desk.result.of(said.node_id, message.question.aggregate))
        live.store.note_fetched(said.node_id)
        return desk.result.model(message.question.aggregate), "the global model is in the reply"

    def _succeeding_key(
        self, live: LiveRound, said: LetterPredicate, message: letter_pb2.Letter
    ) -> VerifyKey:
        """The last key of the changes that the letter brings, if they lead on from the key with which the node signs now, or to it.

        Raises:
            RefusedError: they do not; "not-enrolled", "revoked"; as `replace_key`.
        """
        statements = [bytes(each) for each in message.rotation.statements]
        if not statements:
            raise RefusedError(
                "malformed",
                "the letter is to change a signing key and brings no statement of that; have it written again",
            )
        chain = follow(read_rotation(statements[0]).old, statements, node_party(said.node_id))
        row = _enrolled_row(live, said, [each.live for each in self._rounds()])
        if row is None:
            if any(chain.find(old.fingerprint) for old in signing_keys(live.store, said.node_id)):
                raise revoked_error(said.node_id)
            raise _not_enrolled(said.node_id)
        if chain.find(row["signing_fingerprint"]) is None:
            if is_replaced(live.store, said.node_id, chain.keys[-1]):
                raise replaced_error(said.node_id)
            self._replace_key(said.node_id, statements)  # which says why not, and keeps a fork
            raise replaced_error(said.node_id)  # another change came in between
        return chain.keys[-1]

    def _rotate(self, said: LetterPredicate, message: letter_pb2.Letter) -> None:
        try:
            self._replace_key(said.node_id, [bytes(each) for each in message.rotation.statements])
        except RefusedError as error:
            self._journal.decision(
                "refused",
                f"letter, another signing key: {error}",
                warn=True,
                caller=said.node_id,
                node=said.node_id,
                reason=error.reason,
            )
            raise

    def _add_ledger(self, current: Counter, message: letter_pb2.Letter, answer: letter_pb2.Reply) -> None:
        """The newest checkpoint, and proofs from what the node knows or learns from the reply."""
        log, verifier = current.live.log, current.live.continuity.verifier
        proofs = [
            (answer.receipt.receipt, answer.receipt.entry),
            (answer.withdrawal.receipt, answer.withdrawal.entry),
            (answer.result.receipt, answer.result.entry),
            (answer.result.exclusion_receipt, answer.result.exclusion),
            (answer.result.withdrawal_receipt, answer.result.withdrawal),
        ]
        sizes = {
            verify_proof(bytes(proof), bytes(entry), verifier)[1].size for proof, entry in proofs if proof
        }
        newest = log.publish().size
        sizes |= {min(message.ledger.known_size, newest), newest}
        note, found = log.proofs_since(sizes)
        for size, proof in found.items():
            newest_checkpoint = ledger_pb2.GetCheckpointResponse(checkpoint=note, consistency_proof=proof)
            answer.ledger.add(known_size=size).newest.CopyFrom(newest_checkpoint)

    def _write(
        self,
        said: LetterPredicate,
        letter: Letter,
        answer: letter_pb2.Reply,
        model: Path | None,
        run: bytes | None,
        out: Path,
        signing: SigningKey,
    ) -> None:
        recipient = said.public_key
        reply = ReplyPredicate(
            study_digest=said.study_digest,
            ledger_vkey=said.ledger_vkey,
            node_id=said.node_id,
            coordinator_fingerprint=signing.public.fingerprint,
            letter_sha256=letter.sha256,
        )
        parts: dict[str, bytes | Path] = {}
        plain = {SEALED_MESSAGE: answer.SerializeToString(deterministic=True)}
        if model is not None:
            plain[SEALED_RESULT] = model.read_bytes()
        if run is not None:
            plain[SEALED_RUN] = run
        for name, raw in plain.items():
            parts[name] = seal(raw, recipient, reply_binding(reply, recipient.key_id, name))
        subjects = {name: sha256_hex(raw) for name, raw in parts.items() if isinstance(raw, bytes)}
        write_letter(out, sign_statement(make_statement(subjects, REPLY, reply), signing), parts)


def _unverified(letter: Letter) -> LetterPredicate:
    """What the letter says of itself, to find out who can have signed it."""
    payload, _ = read_unverified(letter.bundle)
    said = predicate_of(parse_statement(payload), LetterPredicate)
    said.public_key  # noqa: B018 -- refuses what nothing can be encrypted to
    return said


def _message(letter: Letter) -> letter_pb2.Letter:
    # Parts stand in the order of their names, and of all that there may be this one is the first.
    letter.require_size(0, MAX_MESSAGE_BYTES)
    raw = letter.part(0)
    message = letter_pb2.Letter()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise RefusedError(
            "damaged", f"{letter.path} was changed on its way: its message does not parse; copy it again"
        ) from None
    return message


def _current_key(
    live: LiveRound, said: LetterPredicate, letter: Letter, rounds: list[LiveRound]
) -> VerifyKey:
    """The key with which the node signs now; whoever else has signed is told why that does not count.

    Raises:
        RefusedError: "not-enrolled", "revoked", "wrong-node", "wrong-key".
    """
    known = _enrolled_row(live, said, rounds)
    key = None if known is None else VerifyKey.from_pem(bytes(known["signing_key"]))
    if key is not None and _has_signed(key, letter):
        return key
    if key is not None:
        require_not_replaced(live.store, said.node_id, letter.bundle)
    if any(_has_signed(old, letter) for old in signing_keys(live.store, said.node_id)):
        raise revoked_error(said.node_id)
    for other in live.store.rows("SELECT * FROM nodes WHERE node_id != ?", said.node_id):
        if _has_signed(VerifyKey.from_pem(bytes(other["signing_key"])), letter):
            raise RefusedError(
                "wrong-node",
                f"the letter says that it is of {said.node_id}, and {other['node_id']} has signed it; it counts for nobody",
            )
    if key is None:
        raise _not_enrolled(said.node_id)
    verify_bundle(letter.bundle, key)  # which says what is wrong with it
    raise AssertionError("unreachable")


def _enrolled_row(live: LiveRound, said: LetterPredicate, rounds: list[LiveRound]) -> sqlite3.Row | None:
    """What is known of the node, if its keys count."""
    row = live.store.row("SELECT * FROM nodes WHERE node_id = ?", said.node_id)
    if row is None or said.node_id not in live.study.roster:
        return None
    return None if revoked_in([each.member for each in rounds], row["tls_fingerprint"]) else row


def _not_enrolled(node_id: str) -> RefusedError:
    return RefusedError(
        "not-enrolled", f"{node_id} is not enrolled in this round; its first letter is one that enrols"
    )


def _has_signed(key: VerifyKey, letter: Letter) -> bool:
    try:
        verify_bundle(letter.bundle, key)
    except RefusedError:
        return False
    return True


def _token_digest(store: Store, said: LetterPredicate, message: letter_pb2.Letter) -> str:
    """The digest of the token with which the enrolment is signed; empty if it is no token of this node's."""
    return digest_of_signer(
        store,
        said.node_id,
        message.token_signature,
        said.study_digest.encode(),
        said.ledger_vkey.encode(),
        said.node_id.encode(),
        message.enrolment.csr_pem,
        message.enrolment.signing_key_pem,
        said.public_key.raw,
    )


def _require_token(store: Store, said: LetterPredicate, message: letter_pb2.Letter) -> None:
    """
    Raises:
        RefusedError: "bad-token".
    """
    if not _token_digest(store, said, message):
        raise RefusedError(
            "bad-token",
            f"the letter was not written with an invitation of {said.node_id} that this coordinator knows, or with one of a version before "
            "letters; make a new one with epgfn-coordinator token",
        )


def _require_newest(store: Store, said: LetterPredicate, letter: Letter) -> None:
    """Take note of the letter, if it is the newest of its key or the newest again.

    Raises:
        RefusedError: "replayed".
    """
    with store.transaction():
        row = store.row("SELECT * FROM letters WHERE signing_fingerprint = ?", said.sender_fingerprint)
        if row is not None:
            last = (row["number"], row["letter_sha256"])
            if last == (said.number, letter.sha256):
                return
            if said.number <= row["number"]:
                raise RefusedError(
                    "replayed",
                    f"{said.node_id} has written a later letter, which was answered; this one does nothing any more",
                )
        store.write(
            "INSERT OR REPLACE INTO letters (signing_fingerprint, number, letter_sha256) VALUES (?, ?, ?)",
            said.sender_fingerprint,
            said.number,
            letter.sha256,
        )


def _submit(
    live: LiveRound, signer: Caller, letter: Letter, message: letter_pb2.Letter
) -> tuple[bytes, bytes]:
    """The receipt and the entry of a model that came with a letter: announced, kept and checked as one that is uploaded."""
    standing = live.intake.begin(signer, message.submission.bundle)
    offset = standing.offset
    if not standing.accepted:
        for data in letter.pieces(1, offset):
            offset = live.intake.keep(signer, standing.upload_id, offset, [(data, zlib.crc32(data))])
    while True:
        try:
            return live.intake.commit(signer, standing.upload_id)
        except RefusedError as error:
            if error.reason != "checking":
                raise
        time.sleep(CHECKED_AGAIN)


class LetterBox:
    """Letters that `epgfn-coordinator receive` hands to the process that serves: in a folder of the coordinator's directory and in the
    state of its first round. One is answered at a time, in a thread of its own, since a model may take minutes to check."""

    def __init__(self, home: Home, letters: Letters) -> None:
        self._folder, self._letters = home.shared / FOLDER, letters
        self._thread: threading.Thread | None = None
        for left in self._folder.glob("*") if self._folder.is_dir() else ():
            left.unlink(missing_ok=True)  # by a `receive` that was killed, for which nobody waits any more

    def look(self, store: Store) -> None:
        """Answer the next one, if none is being answered."""
        if self._thread is not None and self._thread.is_alive():
            return
        row = store.row("SELECT number, name FROM letter_requests WHERE done IS NULL ORDER BY number")
        if row is None:
            return
        self._thread = threading.Thread(
            target=self._answer, args=(store, row["number"], row["name"]), name="letters", daemon=True
        )
        self._thread.start()

    def end(self, patience: float) -> None:
        """Let the one that is being answered come to an end; what is cut short is answered when it is received again."""
        if self._thread is not None:
            self._thread.join(patience)

    def _answer(self, store: Store, number: int, name: str) -> None:
        try:
            answered = self._letters.answer(self._folder / name, self._folder / f"{name}.reply")
            done, said = 1, list(answered)
        except EpgfnError as error:
            done, said = 0, [getattr(error, "reason", ""), str(error)]
        except Exception as error:
            LOG.error("unexpected %s in a letter", type(error).__name__)
            done, said = 0, ["", f"the letter could not be answered ({type(error).__name__}); tell us of it"]
        # On a full disk nobody is answered, and serving goes on; where it has ended meanwhile the state is closed.
        with contextlib.suppress(EpgfnError, sqlite3.ProgrammingError):
            store.write(
                "UPDATE letter_requests SET done = ?, answer = ? WHERE number = ?",
                done,
                json.dumps(said),
                number,
            )


def hand_in(home: Home, store: Store, letter: Path, out: Path, patience: float) -> Answered:
    """Have the process that serves answer a letter. `store`: the state of the coordinator's first round.

    Raises:
        RefusedError, EpgfnError: as `Letters.answer`, or nobody answers within `patience` seconds.
    """
    read_letter(letter)
    folder = home.shared / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        name = sha256_file(letter)
        shutil.copyfile(letter, folder / name)
    except OSError as error:
        raise EpgfnError(f"cannot copy {letter} into {folder}: {error.strerror}; free some space") from None
    number = store.write("INSERT INTO letter_requests (name) VALUES (?)", name)
    reply = folder / f"{name}.reply"
    try:
        until = time.monotonic() + patience
        while time.monotonic() < until and home.is_served():
            row = store.row("SELECT done, answer FROM letter_requests WHERE number = ?", number)
            if row is not None and row["done"] is not None:
                return _told(row, reply, out)
            time.sleep(0.1)
        store.write("DELETE FROM letter_requests WHERE number = ? AND done IS NULL", number)
        raise EpgfnError(
            f"the coordinator serving from {home.shared} did not answer; look at its log, then receive the same letter again"
        )
    finally:
        for path in (folder / name, reply):
            remove(path)


def _told(row: Any, reply: Path, out: Path) -> Answered:
    said = json.loads(row["answer"])
    if not row["done"]:
        reason, sentence = said
        raise RefusedError(reason, sentence) if reason else EpgfnError(sentence)
    try:
        beside = out.with_name(f".{out.name}.{os.getpid()}.part")
        shutil.copyfile(reply, beside)
        os.replace(beside, out)
    except OSError as error:
        raise EpgfnError(f"cannot write {out}: {error.strerror}; choose another place") from None
    return Answered(*said)

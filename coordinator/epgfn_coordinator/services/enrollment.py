"""EnrollmentService: a one-time token for a certificate. Offered on a port of its own, without client certificates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from sqlite3 import Row
from typing import Any, NamedTuple, NoReturn

import grpc

from epgfn.base.errors import RefusedError
from epgfn.rpc import ENROLLMENT_LABEL
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.pki import CertificateAuthority
from epgfn.v1 import enrollment_pb2, enrollment_pb2_grpc
from epgfn_coordinator.identity import tls_fingerprint
from epgfn_coordinator.invitation import node_of_token, require_good, token_digest, use_renewal
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.people import Member, enter, taken_in
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.services.calls import CallError, guarded
from epgfn_coordinator.store import Store

MAX_FIELD_BYTES = 16 << 10
LOG_EVERY = 5.0  # seconds between two wrong tokens that are logged one by one; of the rest only the number is


class Enrolling(NamedTuple):
    """A round in which nodes enrol."""

    member: Member
    log: PublishedLog


class Enrollment(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Enrols nodes."""

    def __init__(
        self,
        rounds: Callable[[], list[Enrolling]],
        authority: CertificateAuthority,
        journal: Journal,
        address: str,
        share: Callable[[], None],
    ) -> None:
        """`rounds`: those that are served now; `share` tells the others what one has come to know."""
        self._rounds, self._authority, self._journal = rounds, authority, journal
        self._address, self._share = address, share
        self._guesses = _Guesses()
        self._one_at_a_time = threading.Lock()
        """Held while a key is looked for in all rounds and entered in one."""

    @guarded
    def Enroll(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See enrollment.proto."""
        digest = token_digest(request.token)
        current, node_id = self._node_of_token(digest)
        return self.enroll(current, node_id, digest, request)

    def enroll(self, current: Enrolling, node_id: str, digest: str, request: Any) -> Any:
        """Enrol the node in one round, which the token with that digest is for; the answer.

        Raises:
            RefusedError: a check says no.
            EpgfnError: the state cannot be written.
        """
        try:
            certificate = self._enroll(current, node_id, digest, request)
        except RefusedError as error:
            self._refuse(node_id, error)
        self._share()
        return enrollment_pb2.EnrollResponse(
            node_id=node_id, certificate_pem=certificate, address=self._address
        )

    def _node_of_token(self, digest: str) -> tuple[Enrolling, str]:
        """The round that a token was made in, and the node."""
        try:
            # All of them, whichever it is of, so that how long it takes says nothing.
            found = [(each, _asked(each.member.store, digest)) for each in self._rounds()]
            for current, answer in found:
                if isinstance(answer, RefusedError):
                    raise answer
                if answer:
                    return current, answer
            # Refused at once: guessing 256 bits is hopeless, but whoever may make us wait may keep others from enrolling.
            raise CallError(
                grpc.StatusCode.UNAUTHENTICATED,
                "bad-token",
                "the enrolment token is not valid; ask the coordinator's operator for a new invitation",
            )
        except RefusedError as error:
            unlogged = self._guesses.log_now()
            if unlogged is None:
                raise
            self._refuse("unknown", error, **({"unlogged_before": unlogged} if unlogged else {}))

    def _enroll(self, current: Enrolling, node_id: str, digest: str, request: Any) -> bytes:
        if (
            max(len(request.csr_pem), len(request.signing_key_pem), len(request.signing_key_proof))
            > MAX_FIELD_BYTES
        ):
            raise RefusedError("malformed", "the enrolment request is too large; run epgfn-node enroll again")
        key = VerifyKey.from_pem(request.signing_key_pem)
        key.verify(ENROLLMENT_LABEL + request.csr_pem, request.signing_key_proof)
        certificate = self._authority.issue_node(request.csr_pem, node_id)
        fingerprint, store = tls_fingerprint(certificate), current.member.store
        with self._one_at_a_time, store.transaction():
            known = store.row("SELECT * FROM nodes WHERE node_id = ?", node_id)
            again = _same_keys(known, fingerprint, key)
            if again and use_renewal(store, node_id, digest):
                store.write("UPDATE nodes SET certificate = ? WHERE node_id = ?", certificate, node_id)
                known = store.row("SELECT * FROM nodes WHERE node_id = ?", node_id)
            if known is None:
                require_good(store, node_id, digest)
                self._insert(store, node_id, key, fingerprint, certificate)
        if known is not None:
            # A reply may have been lost: the same keys get the same certificate, others nothing.
            if not again:
                raise CallError(
                    grpc.StatusCode.PERMISSION_DENIED,
                    "token-spent",
                    "this invitation was already used with another key; if that was not you, tell the coordinator's operator",
                )
            certificate = bytes(known["certificate"])
        current.log.publish()
        once_more = " (again, same keys)" if known is not None else ""
        self._journal.decision(
            "enrolled",
            f"{node_id} is enrolled{once_more}",
            caller=node_id,
            node=node_id,
            fingerprint=key.fingerprint,
        )
        return certificate

    def _insert(
        self, store: Store, node_id: str, key: VerifyKey, fingerprint: str, certificate: bytes
    ) -> None:
        members = [each.member for each in self._rounds()]
        if any(_is_revoked(member.store, fingerprint, key.fingerprint) for member in members):
            raise CallError(
                grpc.StatusCode.PERMISSION_DENIED,
                "key-revoked",
                "a key of this enrolment was revoked, or replaced by another; enrol with a new --home, which makes new keys",
            )
        if fingerprint == key.fingerprint or taken_in(members, node_id, fingerprint, key.fingerprint):
            raise CallError(
                grpc.StatusCode.PERMISSION_DENIED,
                "key-in-use",
                "a key of this enrolment is already in use, or this node is enrolled with others in another round; every node needs a TLS "
                "key and a signing key of its own",
            )
        keys: dict[str, str | bytes] = {
            "tls_fingerprint": fingerprint,
            "signing_fingerprint": key.fingerprint,
            "signing_key": key.pem,
            "certificate": certificate,
        }
        enter(store, node_id, keys)

    def _refuse(self, node_id: str, error: RefusedError, **fields: int) -> NoReturn:
        self._journal.decision(
            "refused",
            f"enrolment: {error}",
            warn=True,
            caller=node_id,
            node=node_id,
            reason=error.reason,
            **fields,
        )
        raise error


def _asked(store: Store, digest: str) -> str | RefusedError:
    try:
        return node_of_token(store, digest)
    except RefusedError as error:
        return error


def _is_revoked(store: Store, *fingerprints: str) -> bool:
    found = store.row(
        "SELECT 1 FROM revocations WHERE tls_fingerprint IN (?, ?) OR signing_fingerprint IN (?, ?) "
        "UNION SELECT 1 FROM rotations WHERE signing_fingerprint IN (?, ?)",
        *fingerprints * 3,
    )
    return found is not None


def _same_keys(known: Row | None, tls_fingerprint: str, signing: VerifyKey) -> bool:
    if known is None:
        return False
    kept = (known["tls_fingerprint"], known["signing_fingerprint"])
    return kept == (tls_fingerprint, signing.fingerprint)


class _Guesses:
    """Which wrong tokens get a line in the log, so that nobody without a certificate can fill the disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next, self._unlogged = 0.0, 0

    def log_now(self) -> int | None:
        """How many before this one were not logged; None if this one is not to be either."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                self._unlogged += 1
                return None
            self._next = now + LOG_EVERY
            unlogged, self._unlogged = self._unlogged, 0
            return unlogged

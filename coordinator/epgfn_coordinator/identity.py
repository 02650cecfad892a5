"""Who is at the other end of a call: the node named by the certificate that TLS has verified."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Row

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from epgfn.base.errors import RefusedError
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.pki import node_id_from_cert
from epgfn_coordinator.journal import LOG, caused_by
from epgfn_coordinator.pace import Pace
from epgfn_coordinator.revocation import revoked_error
from epgfn_coordinator.services.calls import CallError
from epgfn_coordinator.store import Store

AT_ONCE = 1000.0  # calls of one node, of which a whole study takes a few dozen
PER_SECOND = 50.0


@dataclass(frozen=True)
class Caller:
    """An enrolled node and the key that signs its artifacts."""

    node_id: str
    signing_key: VerifyKey


class Calls:
    """What all rounds have in common about who calls."""

    def __init__(self) -> None:
        self.pace = Pace(AT_ONCE, PER_SECOND)
        self.known: Callable[[str, str], None] = lambda peer, node_id: None
        """Told of each call whose node is known: what gRPC calls the other end of its connection, and the node."""
        self.revoked: Callable[[str], Row | None] = lambda fingerprint: None
        """The revocation of a TLS key, in whichever round."""


def _too_often(who: str) -> CallError:
    return CallError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "too-many-calls",
        f"{who} calls more than {PER_SECOND:.0f} times a second; end what does, then run again",
    )


class Identity:
    """Turns the peer certificate of a call into an enrolled node of one round's roster."""

    def __init__(self, store: Store, roster: list[str], calls: Calls) -> None:
        self._store, self._roster, self._calls = store, frozenset(roster), calls

    def knows(self, context: grpc.ServicerContext) -> bool:
        """Whether `caller` would find who calls."""
        node_id, fingerprint = _shown(context)
        return self._row(node_id, fingerprint) is not None and self._calls.revoked(fingerprint) is None

    def caller(self, context: grpc.ServicerContext) -> Caller:
        """The node that calls.

        Raises:
            CallError: "not-enrolled": the certificate names no enrolled node of the roster, or holds another key than
                the one the node enrolled with; "revoked": its keys count no more, in whichever round; "too-many-calls".
        """
        node_id, fingerprint = _shown(context)
        revoked = self._calls.revoked(fingerprint) if fingerprint else None
        row = None if revoked is not None else self._row(node_id, fingerprint)
        # To say no costs something, too, and whoever is a node of one round is a stranger in another.
        if row is None and self._calls.pace.take(f"certificate {fingerprint}") is None:
            raise _too_often("whoever has this certificate")
        if revoked is not None:
            LOG.warning("login refused: revoked node=%s", revoked["node_id"], extra=caused_by(fingerprint))
            error = revoked_error(revoked["node_id"])
            raise CallError(grpc.StatusCode.PERMISSION_DENIED, error.reason, str(error))
        if row is None:
            LOG.warning(
                "login refused: not-enrolled certificate=%s",
                fingerprint[:16] or "unreadable",
                extra=caused_by(fingerprint or "unreadable"),
            )
            raise CallError(
                grpc.StatusCode.PERMISSION_DENIED,
                "not-enrolled",
                "this certificate is not that of an enrolled node of the study; enrol with an invitation first",
            )
        self._calls.known(context.peer(), node_id)
        if self._calls.pace.take(node_id) is None:
            raise _too_often(node_id)
        return Caller(node_id, VerifyKey.from_pem(bytes(row["signing_key"])))

    def _row(self, node_id: str, fingerprint: str) -> Row | None:
        row = self._store.row("SELECT * FROM nodes WHERE node_id = ?", node_id)
        if row is None or node_id not in self._roster or row["tls_fingerprint"] != fingerprint:
            return None
        return row


def _shown(context: grpc.ServicerContext) -> tuple[str, str]:
    """The node id and the key's fingerprint that the caller's certificate shows; empty where it shows none."""
    certificates = context.auth_context().get("x509_pem_cert", [])
    try:
        return _named_by(certificates[0])
    except (IndexError, ValueError, RefusedError):
        return "", ""


@functools.lru_cache(maxsize=1024)
def _named_by(certificate_pem: bytes) -> tuple[str, str]:
    """The node id and the fingerprint of a certificate. Reading it costs more than the rest of a call that is refused."""
    return node_id_from_cert(certificate_pem), tls_fingerprint(certificate_pem)


def tls_fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of the SPKI DER of a certificate's P-256 key, hexadecimal.

    Raises:
        RefusedError: "bad-key": its key is of another kind.
        ValueError: it does not parse.
    """
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RefusedError("bad-key", "the TLS key is not a P-256 key; run epgfn-node init again")
    return VerifyKey(key).fingerprint

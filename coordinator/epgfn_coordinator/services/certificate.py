"""CertificateService: a node's certificate anew, over the one that still holds; and another signing key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import grpc

from epgfn.base.errors import RefusedError
from epgfn.sealing.pki import CertificateAuthority, ends_at, issued_at
from epgfn.v1 import certificate_pb2, certificate_pb2_grpc
from epgfn_coordinator import clock
from epgfn_coordinator.clock import spelled
from epgfn_coordinator.identity import tls_fingerprint
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.services.by_round import ByRound
from epgfn_coordinator.services.calls import guarded
from epgfn_coordinator.store import Store

MAX_REQUEST_BYTES: Final = 16 << 10
SAME_WITHIN: Final = timedelta(days=1)  # so that nobody has us sign and write without end


class CertificateServicer(certificate_pb2_grpc.CertificateServiceServicer):
    """Issues nodes' certificates anew, and takes other signing keys of theirs."""

    def __init__(
        self,
        by_round: ByRound,
        store_of: Callable[[str], Store],
        authority: CertificateAuthority,
        journal: Journal,
        share: Callable[[], None],
        replace_key: Callable[[str, list[bytes]], None],
    ) -> None:
        """`store_of` the round with an id; `share` tells the other rounds what one has come to know; `replace_key` of a node by what it has
        signed, in all rounds."""
        self._replace_key = replace_key
        self._by_round, self._store_of = by_round, store_of
        self._authority, self._journal, self._share = authority, journal, share

    @guarded
    def Renew(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See certificate.proto."""
        node_id, desk = self._by_round.anyone(context)
        if len(request.csr_pem) > MAX_REQUEST_BYTES:
            raise RefusedError("malformed", "the request is too large; run epgfn-node renew again")
        certificate = renewed(self._store_of(desk.round_id), self._authority, node_id, request.csr_pem)
        self._share()
        self._journal.decision(
            "renewed",
            f"the certificate of {node_id} is good until {spelled(ends_at(certificate))}",
            caller=node_id,
            node=node_id,
        )
        return certificate_pb2.RenewResponse(
            certificate_pem=certificate, ca_pem=self._authority.certificate_pem
        )

    @guarded
    def RotateKey(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See certificate.proto."""
        node_id, _ = self._by_round.anyone(context)
        try:
            self._replace_key(node_id, [bytes(each) for each in request.statements])
        except RefusedError as error:
            self._journal.decision(
                "refused",
                f"another signing key: {error}",
                warn=True,
                caller=node_id,
                node=node_id,
                reason=error.reason,
            )
            raise
        return certificate_pb2.RotateKeyResponse()


def renewed(store: Store, authority: CertificateAuthority, node_id: str, csr_pem: bytes) -> bytes:
    """A certificate for the key that an enrolled node has; the one it got less than a day ago if there is one.

    Raises:
        RefusedError: "bad-csr"; "other-key": it asks for another key than it enrolled with; "revoked": meanwhile.
    """
    certificate = authority.issue_node(csr_pem, node_id)
    with store.transaction():
        row = store.row("SELECT * FROM nodes WHERE node_id = ?", node_id)
        if row is None or row["tls_fingerprint"] != tls_fingerprint(certificate):
            raise RefusedError(
                "other-key",
                f"a certificate is renewed for the key that {node_id} has enrolled with and no other; for new keys ask the coordinator's "
                "operator to revoke the old ones",
            )
        kept = bytes(row["certificate"])
        if timedelta() <= clock.now() - issued_at(kept) < SAME_WITHIN and ends_at(kept) > clock.now():
            return kept
        store.write("UPDATE nodes SET certificate = ? WHERE node_id = ?", certificate, node_id)
    return certificate

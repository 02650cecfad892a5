"""Another certificate before this node's ends, over the one it has; or after that, with an invitation that is for the same keys."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import write_atomic
from epgfn.rpc.certificates import in_words
from epgfn.sealing.pki import RENEW_WITHIN, ends_at, make_csr
from epgfn.v1 import certificate_pb2
from epgfn_node.enroll import (
    CERTIFICATE_ENDED,
    Connection,
    get_certificate,
    keep_invitation,
    require_own_certificate,
)
from epgfn_node.home import NodeHome
from epgfn_node.keys import load_keys
from epgfn_node.settings import NodeSettings
from epgfn_node.trust import Invitation, Trust, keep_authority, pin

MAX_PEM: Final = 1 << 16


def ends_soon(connection: Connection) -> bool:
    """Whether this node's certificate, or the pinned one of the authority, ends within a month."""
    ends = min(ends_at(connection.certificate_pem), ends_at(connection.trust.ca_pem))
    return ends - datetime.now(UTC) < RENEW_WITHIN


def warning_of(connection: Connection) -> str:
    """What to say of a certificate that ends within a month; empty if it does not."""
    if not ends_soon(connection):
        return ""
    ends = in_words(ends_at(connection.certificate_pem))
    return f"this node's certificate ends {ends}; epgfn-node renew --home {connection.home.root} gets another, and so does epgfn-node run"


def renew(connection: Connection, report: Reporter, patience: float = 0.0) -> Connection:
    """Get another certificate over the one that still holds, and the authority's of now; the connection with them.

    Raises:
        RefusedError: the coordinator says no, or answers with what is not for this node.
        EpgfnError: nobody answers, or a file cannot be written.
    """
    home = connection.home
    with connection.open(report, patience) as coordinator:
        request = certificate_pb2.RenewRequest(csr_pem=make_csr(connection.keys.tls, connection.node_id))
        answer = coordinator.call(coordinator.certificate.Renew, request)
    certificate, ca_pem = bytes(answer.certificate_pem), bytes(answer.ca_pem)
    if max(len(certificate), len(ca_pem)) > MAX_PEM:
        raise RefusedError("malformed", "the coordinator's answer is far too long; ask its operator")
    keep_authority(home, ca_pem)
    trust = Trust(home)
    if require_own_certificate(certificate, connection.keys.tls, trust) != connection.node_id:
        raise RefusedError(
            "other-node", "the coordinator answered with another node's certificate; tell its operator"
        )
    write_atomic(home.tls_certificate, certificate)
    report.event("renewed", f"this node's certificate is good until {in_words(ends_at(certificate))}")
    return replace(connection, trust=trust, certificate_pem=certificate)


def renew_in_time(connection: Connection, report: Reporter, patience: float = 0.0) -> Connection:
    """The same if it ends within a month, and no matter if that does not work while it still holds."""
    if not ends_soon(connection):
        return connection
    with contextlib.suppress(EpgfnError):
        return renew(connection, report, patience)
    report.event("certificate", warning_of(connection))
    return connection


def renew_by_invitation(
    home: NodeHome,
    invitation: Invitation,
    settings: NodeSettings,
    report: Reporter,
    patience: float = 0.0,
) -> None:
    """Get another certificate with the token of `invitation`, for the keys that this node has.

    Raises:
        RefusedError: the invitation is another coordinator's or node's, or the coordinator says no.
        EpgfnError: nobody answers, or a file cannot be written.
    """
    home.require_enrolled()
    require_same_node(home, invitation)
    pin(home, invitation)
    get_certificate(home, invitation, settings, load_keys(home), Trust(home), report, patience)
    keep_invitation(home, invitation)
    connection = Connection.load(home, settings)
    ends = in_words(ends_at(connection.certificate_pem))
    report.event("renewed", f"this node's certificate is good until {ends}")


def require_same_node(home: NodeHome, invitation: Invitation) -> None:
    """
    Raises:
        RefusedError: "other-node": the invitation is another node's than the one that is enrolled here, or for another study.
    """
    kept = Invitation.load(home.invitation)
    if (invitation.node_id, invitation.study_digest) != (kept.node_id, kept.study_digest):
        raise RefusedError(
            "other-node",
            f"the invitation is for {invitation.node_id} in another study, or for another node than {home.root} is; use the right one",
        )


def loaded(
    home: NodeHome,
    invite: Path | None,
    settings: NodeSettings,
    report: Reporter,
    patience: float = 0.0,
) -> Connection:
    """The connection of an enrolled node; where its certificate has ended, once `invite`, if it is a new invitation, has renewed it.

    Raises:
        RefusedError, EpgfnError: as `Connection.load` and `renew_by_invitation`.
    """
    try:
        return Connection.load(home, settings)
    except RefusedError as error:
        if error.reason != CERTIFICATE_ENDED or invite is None or not invite.exists():
            raise
        invitation = Invitation.load(invite)
        if invitation.token == Invitation.load(home.invitation).token:
            raise
    renew_by_invitation(home, invitation, settings, report, patience)
    return Connection.load(home, settings)

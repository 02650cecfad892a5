"""Enrolling: from an invitation to a certificate, pinned keys and the signed study. Safe to repeat at any point."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from epgfn.base.addresses import parse_address
from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_bytes, read_secret, write_atomic, write_secret
from epgfn.rpc import ENROLLMENT_LABEL
from epgfn.rpc.certificates import in_words
from epgfn.rpc.diagnosis import Target
from epgfn.rpc.hello import Identity
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.pki import ends_at, make_csr, node_id_from_cert
from epgfn.v1 import enrollment_pb2
from epgfn_node import ledger
from epgfn_node.client import Coordinator
from epgfn_node.home import NodeHome
from epgfn_node.keys import NodeKeys, load_keys
from epgfn_node.rotation import is_untold, tell
from epgfn_node.settings import NodeSettings
from epgfn_node.study import Agreement, fetch_agreement, kept_round_id, require_on_roster
from epgfn_node.trust import Invitation, Trust, pin

CERTIFICATE_ENDED = "certificate-ended"


@dataclass(frozen=True)
class Connection:
    """What it takes to call the coordinator as this node."""

    home: NodeHome
    node_id: str
    address: str
    trust: Trust
    keys: NodeKeys
    certificate_pem: bytes
    round_id: str = ""
    recorded: Coordinator | None = None
    """What the coordinator has answered by letter, in the place of a channel."""

    @classmethod
    def load(cls, home: NodeHome, settings: NodeSettings) -> Connection:
        """Read it from an enrolled home.

        Raises:
            EpgfnError: not enrolled, or a key file is missing, readable by others, or does not open.
            RefusedError: "bad-certificate": the certificate is not for this node's key.
        """
        home.require_enrolled()
        keys = load_keys(home)
        certificate = read_bytes(home.tls_certificate, "certificate")
        trust = Trust(home)
        node_id = require_own_certificate(certificate, keys.tls, trust)
        address = settings.address or Invitation.load(home.invitation).address or _answered_address(home)
        return cls(home, node_id, address, trust, keys, certificate, kept_round_id(home, trust))

    @property
    def target(self) -> Target:
        """The coordinator's port for enrolled nodes, and what this node shows there.

        Raises:
            UsageError: the address is none.
        """
        identity = Identity(self.keys.tls.private_pem(), self.certificate_pem)
        return Target(parse_address(self.address), self.trust.ca_pem, identity)

    def open(self, report: Reporter, patience: float = 0.0) -> Coordinator:
        """A channel on which both ends show certificates; use as a context manager. A coordinator that may not know this node's
        signing key yet is told first.

        Raises:
            RefusedError, EpgfnError: it does not take that, or nobody answers.
        """
        if self.recorded is not None:
            return self.recorded
        coordinator = Coordinator(self.target, report, patience, self.round_id)
        if is_untold(self.home):
            try:
                tell(self.home, coordinator)
            except BaseException:
                coordinator.close()
                raise
        return coordinator


def enroll(
    home: NodeHome,
    invitation: Invitation,
    settings: NodeSettings,
    report: Reporter,
    patience: float = 0.0,
    *,
    recorded: Coordinator | None = None,
) -> Agreement:
    """Spend the token of `invitation` unless that is done already, then get the study, the round and a checkpoint. `recorded`: what the
    coordinator has answered by letter, where there is no network.

    Raises:
        UsageError: this is a further round of a node, which is enrolled already.
        RefusedError: the coordinator or one of our checks says no.
        EpgfnError: nobody answers, or a file cannot be written.
    """
    if home.is_joined:
        raise UsageError(
            f"{home.root} is a further round of the node in {home.base}, which needs no invitation; run epgfn-node join"
        )
    home.require_initialised()
    _require_addresses(home, invitation, settings)
    keys = load_keys(home)
    pin(home, invitation)
    keep_invitation(home, invitation)
    trust = Trust(home)
    if not home.tls_certificate.exists():
        if recorded is None:
            report.event("enrolling", f"asking {invitation.enroll_address} for a certificate")
        get_certificate(home, invitation, settings, keys, trust, report, patience, recorded=recorded)
    certificate = read_bytes(home.tls_certificate, "certificate")
    if require_own_certificate(certificate, keys.tls, trust) != invitation.node_id:
        raise RefusedError(
            "other-node",
            f"{home.root} is enrolled under another node id; use a new --home for this invitation",
        )
    address = settings.address or invitation.address or _answered_address(home)
    connection = Connection(
        home, invitation.node_id, address, trust, keys, certificate, invitation.round_id, recorded
    )
    with connection.open(report, patience) as coordinator:
        agreement = fetch_agreement(home, coordinator, trust, invitation.study_digest)
        require_on_roster(agreement.study, invitation.node_id)
        ledger.follow(home, coordinator, trust)
    report.event("enrolled", f"enrolled as {invitation.node_id}", node=invitation.node_id)
    return agreement


def _require_addresses(home: NodeHome, invitation: Invitation, settings: NodeSettings) -> None:
    """Refuse what is no address before a token is spent on it.

    Raises:
        UsageError: the sentence says where it is from and what the right form is.
    """
    for name, own, given in (
        ("enroll_address", settings.enroll_address, invitation.enroll_address),
        ("address", settings.address, invitation.address),
    ):
        try:
            if own or given:
                parse_address(own or given)
        except UsageError as error:
            whose = (
                str(home.settings)
                if own
                else "the invitation, of which the coordinator's operator has to make a new one"
            )
            raise UsageError(f"{name} in {whose}: {error}") from None


def keep_invitation(home: NodeHome, invitation: Invitation) -> None:
    if home.invitation.exists() and Invitation.load(home.invitation) == invitation:
        return
    write_secret(home.invitation, invitation.model_dump_json(indent=2).encode("utf-8") + b"\n")


def get_certificate(
    home: NodeHome,
    invitation: Invitation,
    settings: NodeSettings,
    keys: NodeKeys,
    trust: Trust,
    report: Reporter,
    patience: float,
    *,
    recorded: Coordinator | None = None,
) -> None:
    """Spend a token: the certificate and the address that come back.

    Raises:
        RefusedError: the coordinator says no, or answers with what is not for this node.
        EpgfnError: nobody answers, or a file cannot be written.
    """
    request = _request(home, invitation, keys)
    address = parse_address(settings.enroll_address or invitation.enroll_address)
    with recorded or Coordinator(Target(address, trust.ca_pem), report, patience) as coordinator:
        answer = coordinator.call(coordinator.enrollment.Enroll, request)
    certificate = bytes(answer.certificate_pem)
    if require_own_certificate(certificate, keys.tls, trust) != invitation.node_id:
        raise RefusedError(
            "other-node", "the coordinator answered with another node's certificate; tell its operator"
        )
    try:
        answered = str(parse_address(str(answer.address)))
    except UsageError:
        raise RefusedError(
            "malformed", "the coordinator answered with something that is not an address; tell its operator"
        ) from None
    write_atomic(home.trust / "address", answered.encode("ascii") + b"\n")
    write_atomic(home.tls_certificate, certificate)


def kept_request(home: NodeHome, invitation: Invitation, keys: NodeKeys) -> bytes:
    """The certificate signing request of this home, in PEM. Signatures are randomised, so it is kept: a repetition after a lost reply is
    the same request."""
    if not home.tls_request.exists():
        write_secret(home.tls_request, make_csr(keys.tls, invitation.node_id))
    return read_secret(home.tls_request)


def _request(home: NodeHome, invitation: Invitation, keys: NodeKeys) -> enrollment_pb2.EnrollRequest:
    csr = kept_request(home, invitation, keys)
    return enrollment_pb2.EnrollRequest(
        token=invitation.token,
        csr_pem=csr,
        signing_key_pem=keys.signing.public.pem,
        signing_key_proof=keys.signing.sign(ENROLLMENT_LABEL + csr),
    )


def require_own_certificate(certificate: bytes, key: SigningKey, trust: Trust) -> str:
    """The node id in `certificate`, which must be for our key, from the pinned authority, and in date.

    The coordinator would only hang up on any other one; here the reason can be told.
    """
    node_id = node_id_from_cert(certificate)
    parsed = x509.load_pem_x509_certificate(certificate)
    public = parsed.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or VerifyKey(public) != key.public:
        raise RefusedError(
            "bad-certificate",
            "the certificate is for another TLS key than this node's; restore keys/ from one backup, or enrol a new home",
        )
    try:
        parsed.verify_directly_issued_by(x509.load_pem_x509_certificate(trust.ca_pem))
    except (ValueError, TypeError, InvalidSignature):
        raise RefusedError(
            "bad-certificate",
            "the certificate was not issued by the coordinator's authority; restore keys/ and trust/ from one backup, or "
            "enrol a new home",
        ) from None
    now, begins, ends = datetime.now(UTC), parsed.not_valid_before_utc, parsed.not_valid_after_utc
    if now < begins:
        raise RefusedError(
            "bad-certificate",
            f"this node's certificate begins {in_words(begins)} by the coordinator's clock, and this machine's clock says "
            f"{in_words(now)}; set the clock that is wrong, then run again",
        )
    over = min(ends, ends_at(trust.ca_pem))
    if now > over:
        whose = (
            "this node's certificate" if over == ends else "the certificate of the coordinator's authority"
        )
        raise RefusedError(
            CERTIFICATE_ENDED,
            f"{whose} ended {in_words(over)}, and this machine's clock says {in_words(now)}; set this clock if it is wrong, otherwise ask "
            f"the coordinator's operator for epgfn-coordinator token {node_id} --renew, and run epgfn-node renew --invite FILE",
        )
    return node_id


def _answered_address(home: NodeHome) -> str:
    address = read_bytes(home.trust / "address", "coordinator's address").decode("utf-8", "replace").strip()
    if not address:
        raise EpgfnError(f"the coordinator's address is not known; set address in {home.settings}")
    return address

"""Certificates for the mutual TLS between nodes and coordinator. P-256 everywhere, but for an institution's authority.

One authority per coordinator: its own, or its institution's. A node makes a key and a signing request; what the request says
about identity is ignored, the authority writes the node id it has established (from a one-time token) as the only name that counts:
the URI `urn:epgfn:node:<id>` in the certificate's subject alternative name.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_bytes, sha256_hex, write_atomic, write_secret
from epgfn.base.identifiers import NODE_ID
from epgfn.base.private_keys import to_pem
from epgfn.sealing.keys import SigningKey, VerifyKey, open_private

NODE_URI: Final = "urn:epgfn:node:"
CA_CERTIFICATE: Final = "ca.pem"
CA_KEY: Final = "ca-key.pem"

RENEW_WITHIN: Final = timedelta(days=30)
"""How long before its end a certificate is warned of and renewed."""

_CA_LIFETIME = timedelta(days=3652)
_LEAF_LIFETIME = timedelta(days=365)
_CLOCK_SKEW = timedelta(minutes=5)
_MAX_PEM_BYTES = 1 << 16
_MIN_RSA_BITS = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")

AuthorityKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class CertificateAuthority:
    """Issues the coordinator's server certificate and the nodes' client certificates, none of which outlives its own."""

    def __init__(self, certificate: x509.Certificate, key: AuthorityKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str = "epgfn certificate authority") -> Self:
        """A fresh authority, good for ten years; `name` (at most 64 characters) is for people only."""
        key = SigningKey.generate()
        subject = _common_name(name)
        public = key.public.as_cryptography()
        builder = _builder(subject, subject, key.public, _CA_LIFETIME)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(authority=True), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False
        )
        return cls(builder.sign(key.as_cryptography(), hashes.SHA256()), key.as_cryptography())

    @classmethod
    def adopt(cls, certificate_file: Path, key_file: Path, passphrase: str | None = None) -> Self:
        """An institution's authority, from its certificate and private key: RSA from 2048 bits on, or P-256, P-384, P-521. It issues what
        ours would, and is never renewed here. `passphrase` opens the key if it is encrypted. Of several certificates in the file the first
        counts; what is above it is not trusted.

        Raises:
            UsageError: the certificate is no authority's, has ended or not begun, or is for another key; or the key is of another kind.
            EpgfnError: a file is missing or does not open, or others can read the key.
        """
        certificate = _load_certificate(read_bytes(certificate_file, "certificate of the authority"))
        encrypted = b"ENCRYPTED" in read_bytes(key_file, "key of the authority")
        key = open_private(key_file, passphrase if encrypted else None)
        strong = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS
        if not strong and not (isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES):
            raise UsageError(
                f"the key in {key_file} is not one that epgfn issues certificates with: RSA from {_MIN_RSA_BITS} bits on, or P-256, P-384 "
                "or P-521"
            )
        assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        if not _belongs(certificate, key):
            raise UsageError(f"the certificate in {certificate_file} is not for the key in {key_file}")
        require_authority(certificate_file)
        return cls(certificate, key)

    @classmethod
    def load(cls, directory: Path, passphrase: str | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            EpgfnError: a file is missing, does not open, can be read by others, or the two do not belong together.
        """
        path = directory / CA_CERTIFICATE
        certificate = _load_certificate(read_bytes(path, "certificate file"))
        key = open_private(directory / CA_KEY, passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) or not _belongs(
            certificate, key
        ):
            raise EpgfnError(
                f"{path} does not belong to the key beside it; restore both from the same backup"
            )
        return cls(certificate, key)

    def save(self, directory: Path, passphrase: str | None = None) -> None:
        """Write ca.pem and ca-key.pem (0600) into `directory`; the key first, since it cannot be made again.

        Raises:
            EpgfnError: a file cannot be written.
        """
        write_secret(directory / CA_KEY, to_pem(self._key, passphrase))
        write_atomic(directory / CA_CERTIFICATE, self.certificate_pem)

    def renew(self) -> None:
        """Give its certificate another ten years from now, for the same name and key: whoever trusts the old one trusts what was and is
        issued, and can be given the new one."""
        old = self._certificate
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)  # ours, which `create` has made
        key = VerifyKey(self._key.public_key())
        builder = _builder(old.subject, old.subject, key, _CA_LIFETIME, begins=old.not_valid_before_utc)
        for extension in old.extensions:
            if not isinstance(extension.value, x509.SubjectKeyIdentifier):
                builder = builder.add_extension(extension.value, extension.critical)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    def reread(self, directory: Path) -> None:
        """Take the certificate that lies in `directory` now: somebody may have renewed it, for the same key.

        Raises:
            EpgfnError: it cannot be read, or is for another key.
        """
        path = directory / CA_CERTIFICATE
        certificate = _load_certificate(read_bytes(path, "certificate file"))
        if not _belongs(certificate, self._key):
            raise EpgfnError(
                f"{path} does not belong to the key beside it; restore both from the same backup"
            )
        self._certificate = certificate

    @property
    def ends(self) -> datetime:
        """When its own certificate ends."""
        return self._certificate.not_valid_after_utc

    @property
    def ends_soon(self) -> bool:
        """Whether it should be renewed: while what it issues is still good for its whole time, so that every node has the new one before
        the old one ends."""
        return self.ends - datetime.now(UTC) < _LEAF_LIFETIME + RENEW_WITHIN

    @property
    def certificate_pem(self) -> bytes:
        """The authority's certificate: what every party trusts."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER, to compare over the telephone before enrolling."""
        return certificate_fingerprint(self.certificate_pem)

    def issue_server(
        self, key: SigningKey | VerifyKey, dns_names: Sequence[str], ip_addresses: Sequence[str] = ()
    ) -> bytes:
        """PEM of a server certificate for `key`, good for a year, for the given DNS names and IP addresses.

        Raises:
            EpgfnError: no name at all, or one that is not well formed.
        """
        public = key.public if isinstance(key, SigningKey) else key
        names = _server_names(dns_names, ip_addresses)
        return self._issue(public, "epgfn coordinator", names, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue_node(self, csr_pem: bytes, node_id: str) -> bytes:
        """PEM of a client certificate for the key of a signing request, good for a year.

        Only the key is taken from the request; the identity is `node_id`.

        Raises:
            RefusedError: "bad-csr": the request does not parse, holds no P-256 key, or was not signed with it;
                "bad-node-id": `node_id` is no node id.
        """
        _require_node_id(node_id)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(NODE_URI + node_id)]
        return self._issue(_key_of_request(csr_pem), node_id, names, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self, public: VerifyKey, common_name: str, names: list[x509.GeneralName], use: x509.ObjectIdentifier
    ) -> bytes:
        subject, issuer = _common_name(common_name), self._certificate.subject
        builder = _builder(subject, issuer, public, _LEAF_LIFETIME, ends=self.ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(_identifier_of(self._certificate), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(Encoding.PEM)


def make_csr(key: SigningKey, node_id: str) -> bytes:
    """PEM of a PKCS#10 request: proof that the node holds `key`. The id in it is a label, the token decides.

    Raises:
        RefusedError: "bad-node-id": `node_id` is no node id.
    """
    _require_node_id(node_id)
    builder = x509.CertificateSigningRequestBuilder().subject_name(_common_name(node_id))
    return builder.sign(key.as_cryptography(), hashes.SHA256()).public_bytes(Encoding.PEM)


def node_id_from_cert(certificate: bytes) -> str:
    """The node id in a certificate (PEM or DER) that TLS has already verified against the authority.

    Raises:
        RefusedError: "bad-certificate": it does not parse, or its subject alternative name is anything but one
            `urn:epgfn:node:<id>`.
    """
    try:
        parsed = _load_certificate(certificate)
        names = list(parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except Exception:
        names = []  # a parser's many kinds of error all mean the same to the reader
    if len(names) == 1 and isinstance(names[0], x509.UniformResourceIdentifier):
        uri = names[0].value
        node_id = uri.removeprefix(NODE_URI)
        if uri.startswith(NODE_URI) and NODE_ID.fullmatch(node_id):
            return node_id
    raise RefusedError("bad-certificate", "the certificate is not a node's; enrol the node with a new token")


def certificate_fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate's DER (given as PEM or DER), as `openssl x509 -fingerprint -sha256` computes it.

    Raises:
        RefusedError: "bad-certificate": it does not parse.
    """
    return sha256_hex(_load_certificate(certificate).public_bytes(Encoding.DER))


def ends_at(certificate: bytes) -> datetime:
    """When a certificate (PEM or DER) ends.

    Raises:
        RefusedError: "bad-certificate": it does not parse.
    """
    return _load_certificate(certificate).not_valid_after_utc


def same_authority(one: bytes, other: bytes) -> bool:
    """Whether two certificates are of the same authority: the same name and key, whatever their dates.

    Raises:
        RefusedError: "bad-certificate": one does not parse.
    """
    a, b = _load_certificate(one), _load_certificate(other)
    return a.subject == b.subject and a.public_key() == b.public_key()


def issued_at(certificate: bytes) -> datetime:
    """When a certificate of ours (PEM or DER) was issued, by the clock of then.

    Raises:
        RefusedError: "bad-certificate": it does not parse.
    """
    return _load_certificate(certificate).not_valid_before_utc + _CLOCK_SKEW


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: VerifyKey,
    lifetime: timedelta,
    *,
    begins: datetime | None = None,
    ends: datetime | None = None,
) -> x509.CertificateBuilder:
    """`ends`: at the latest."""
    now = datetime.now(UTC).replace(microsecond=0)
    last = now + lifetime if ends is None else min(now + lifetime, ends)
    first = begins or now - _CLOCK_SKEW
    key = public.as_cryptography()
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    # Backdated, because the other side's clock may be a little behind ours.
    builder = builder.not_valid_before(min(first, last)).not_valid_after(last)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _server_names(dns_names: Sequence[str], ip_addresses: Sequence[str]) -> list[x509.GeneralName]:
    try:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses]
    except ValueError:
        names = []
    if not names or not all(dns_names):
        raise EpgfnError(
            "the server certificate needs DNS names or IP addresses that are well formed; "
            "name the host as the nodes will call it"
        )
    return names


def _key_of_request(csr_pem: bytes) -> VerifyKey:
    try:
        if len(csr_pem) > _MAX_PEM_BYTES:
            raise ValueError
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        # A type of key we do not take is refused before its signature is looked at.
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError
        if request.is_signature_valid:
            return VerifyKey(key)
    except Exception:
        pass  # a parser's many kinds of error all mean the same to the reader
    raise RefusedError(
        "bad-csr", "the certificate request is not one for a P-256 key, signed with it; enrol the node again"
    )


def _belongs(certificate: x509.Certificate, key: AuthorityKey) -> bool:
    return certificate.public_key() == key.public_key()


def _identifier_of(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """How the authority's own certificate names its key: others may have reckoned that differently."""
    try:
        named = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = authority.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def require_authority(file: Path) -> bytes:
    """The PEM of the first certificate in a file, which must be an authority's, and in its time.

    Raises:
        UsageError: it is not.
        EpgfnError: the file is missing, or no certificate.
    """
    certificate = _load_certificate(read_bytes(file, "certificate of the authority"))
    try:
        may_issue = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        with contextlib.suppress(x509.ExtensionNotFound):
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
            may_issue = may_issue and usage.key_cert_sign
    except (x509.ExtensionNotFound, ValueError):
        may_issue = False
    if not may_issue:
        raise UsageError(f"the certificate in {file} is not that of an authority: it may not issue others")
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise UsageError(
            f"the certificate in {file} is good from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, and this machine's clock says {now:%Y-%m-%d}"
        )
    return certificate.public_bytes(Encoding.PEM)


def _load_certificate(raw: bytes) -> x509.Certificate:
    try:
        if len(raw) > _MAX_PEM_BYTES:
            raise ValueError
        if b"-----BEGIN" in raw:  # after words for people, where `openssl ca` has made it
            return x509.load_pem_x509_certificate(raw)
        return x509.load_der_x509_certificate(raw)
    except (ValueError, x509.InvalidVersion):
        raise RefusedError(
            "bad-certificate", "the certificate does not parse; ask its owner for it again"
        ) from None


def _require_node_id(node_id: str) -> None:
    if not NODE_ID.fullmatch(node_id):
        raise RefusedError(
            "bad-node-id",
            "the node id must be 1 to 63 lower-case letters, digits or inner hyphens; take one of the study's roster",
        )

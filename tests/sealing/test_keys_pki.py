"""Keys and certificates: secrets stay secret, and a certificate says exactly who a node is."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.pki import CertificateAuthority, certificate_fingerprint, make_csr, node_id_from_cert

KEY = SigningKey.generate()
AUTHORITY = CertificateAuthority.create()
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


# Keys


def test_a_signature_holds_for_its_bytes_and_key_only() -> None:
    signature = KEY.sign(b"message")
    KEY.public.verify(b"message", signature)
    for key, data in ((KEY.public, b"massage"), (SigningKey.generate().public, b"message")):
        with pytest.raises(RefusedError) as caught:
            key.verify(data, signature)
        assert caught.value.reason == "bad-signature"


@pytest.mark.parametrize("passphrase", [None, "correct horse", "påssphrase"])
def test_a_key_survives_its_file(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "key.pem"
    KEY.save(path, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(path, passphrase).public == KEY.public
    assert (b"ENCRYPTED" in path.read_bytes()) is (passphrase is not None)


@pytest.mark.parametrize("given", [None, "", "Tr0ub4dor"])
def test_a_wrong_or_missing_passphrase_opens_nothing(tmp_path: Path, given: str | None) -> None:
    path = tmp_path / "key.pem"
    KEY.save(path, "correct horse")
    with pytest.raises(EpgfnError, match="passphrase") as caught:
        SigningKey.load(path, given)
    assert "correct horse" not in str(caught.value) and "Tr0ub4dor" not in str(caught.value)


def test_a_passphrase_for_a_plain_key_is_pointed_out(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key.pem")
    with pytest.raises(EpgfnError, match="not encrypted"):
        SigningKey.load(tmp_path / "key.pem", "correct horse")


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    KEY.save(path)
    path.chmod(0o640)
    with pytest.raises(EpgfnError, match="chmod 600"):
        SigningKey.load(path)


def test_a_missing_damaged_or_foreign_key_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(EpgfnError, match="check the path"):
        SigningKey.load(path)
    ed = ed25519.Ed25519PrivateKey.generate()
    p384 = ec.generate_private_key(ec.SECP384R1())
    plain = (PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for raw in (
        b"",
        b"MARKER",
        KEY.private_pem()[:-60],
        ed.private_bytes(*plain),
        p384.private_bytes(*plain),
    ):
        path.write_bytes(raw)
        path.chmod(0o600)
        with pytest.raises(EpgfnError) as caught:
            SigningKey.load(path)
        assert str(path) in str(caught.value) and "MARKER" not in str(caught.value)


def test_a_key_does_not_show_itself() -> None:
    secret = KEY.as_cryptography().private_numbers().private_value
    assert str(secret) not in repr(KEY) and f"{secret:x}" not in repr(KEY)


def test_a_public_key_survives_its_file_and_is_known_by_its_fingerprint() -> None:
    again = VerifyKey.from_pem(KEY.public.pem)
    assert (
        again == KEY.public
        and again.fingerprint == KEY.public.fingerprint
        and hash(again) == hash(KEY.public)
    )
    assert SigningKey.generate().public.fingerprint != again.fingerprint


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"no key",
        KEY.public.pem + b"\n",
        KEY.public.pem.replace(b"\n", b"\r\n"),
        b"a comment\n" + KEY.public.pem,
        KEY.private_pem(),
        b"x" * 10_000,
        rsa.generate_private_key(65537, 2048).public_key().public_bytes(PEM, SPKI),
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(PEM, SPKI),
        ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(PEM, SPKI),
        KEY.public.as_cryptography().public_bytes(PEM, SPKI).replace(b"PUBLIC", b"EC PUBLIC"),
    ],
)
def test_a_public_key_of_another_kind_or_form_is_refused(pem: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        VerifyKey.from_pem(pem)
    assert caught.value.reason == "bad-key"


# Certificates


def node_certificate(node_id: str = "oslo") -> bytes:
    return AUTHORITY.issue_node(make_csr(SigningKey.generate(), node_id), node_id)


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, subject: str = "oslo") -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:epgfn:node:{subject}")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(san, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM)


@pytest.mark.parametrize("node_id", ["oslo", "n1", "a" * 63, "site-7"])
def test_a_node_is_who_its_certificate_says(node_id: str) -> None:
    certificate = node_certificate(node_id)
    der = x509.load_pem_x509_certificate(certificate).public_bytes(DER)
    assert node_id_from_cert(certificate) == node_id_from_cert(der) == node_id


def test_the_authority_decides_the_identity_and_not_the_request() -> None:
    key = SigningKey.generate()
    certificate = AUTHORITY.issue_node(csr(key.as_cryptography(), "bergen"), "oslo")
    assert node_id_from_cert(certificate) == "oslo"
    parsed = x509.load_pem_x509_certificate(certificate)
    assert not parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert b"bergen" not in parsed.public_bytes(DER)
    assert parsed.public_key() == key.public.as_cryptography()


@pytest.mark.parametrize(
    "node_id", ["", "Oslo", "-oslo", "a" * 64, "oslo\n", "../oslo", "oslo/bergen", "øslo"]
)
def test_a_name_that_is_no_node_id_is_not_certified(node_id: str) -> None:
    with pytest.raises(RefusedError) as caught:
        AUTHORITY.issue_node(make_csr(KEY, "oslo"), node_id)
    assert caught.value.reason == "bad-node-id"
    with pytest.raises(RefusedError):
        make_csr(KEY, node_id)


def test_a_request_that_does_not_prove_its_key_is_refused() -> None:
    good = x509.load_pem_x509_csr(csr(KEY.as_cryptography())).public_bytes(DER)
    forged = x509.load_der_x509_csr(good[:-1] + bytes([good[-1] ^ 1])).public_bytes(PEM)
    others = [
        forged,
        csr(rsa.generate_private_key(65537, 2048)),
        csr(ec.generate_private_key(ec.SECP384R1())),
        node_certificate(),
        b"",
        b"no request",
        b"x" * 100_000,
    ]
    for request in others:
        with pytest.raises(RefusedError) as caught:
            AUTHORITY.issue_node(request, "oslo")
        assert caught.value.reason == "bad-csr"


def with_names(names: list[x509.GeneralName] | None) -> bytes:
    """A certificate of the kind the authority would never write."""
    key, now = KEY.as_cryptography(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "oslo")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM)


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def test_a_certificate_that_is_not_a_nodes_names_nobody() -> None:
    others = [
        AUTHORITY.issue_server(KEY, ["oslo"]),
        AUTHORITY.certificate_pem,
        with_names(None),
        with_names([x509.DNSName("urn:epgfn:node:oslo")]),
        with_names([uri("urn:epgfn:node:oslo"), uri("urn:epgfn:node:bergen")]),
        with_names([uri("urn:epgfn:node:oslo"), x509.DNSName("oslo")]),
        with_names([uri("urn:epgfn:node:")]),
        with_names([uri("urn:epgfn:node:Oslo")]),
        with_names([uri("urn:other:node:oslo")]),
        with_names([uri("oslo")]),
        b"",
        b"no certificate",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ]
    for certificate in others:
        with pytest.raises(RefusedError) as caught:
            node_id_from_cert(certificate)
        assert caught.value.reason == "bad-certificate"


def test_a_clock_that_is_a_little_behind_does_not_lock_a_node_out() -> None:
    parsed = x509.load_pem_x509_certificate(node_certificate())
    now = datetime.now(UTC)
    assert parsed.not_valid_before_utc <= now - timedelta(minutes=4)
    assert timedelta(days=364) < parsed.not_valid_after_utc - now <= timedelta(days=365)


@pytest.mark.parametrize(
    ("names", "addresses"),
    [([], []), ([""], []), (["ok"], ["300.1.1.1"]), ([], ["localhost"]), (["øslo"], [])],
)
def test_a_server_needs_a_proper_name(names: list[str], addresses: list[str]) -> None:
    with pytest.raises(EpgfnError, match="DNS names or IP addresses"):
        AUTHORITY.issue_server(KEY, names, addresses)


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_an_authority_survives_its_folder(tmp_path: Path, passphrase: str | None) -> None:
    AUTHORITY.save(tmp_path, passphrase)
    again = CertificateAuthority.load(tmp_path, passphrase)
    assert again.certificate_pem == AUTHORITY.certificate_pem
    assert again.fingerprint == AUTHORITY.fingerprint == certificate_fingerprint(AUTHORITY.certificate_pem)
    assert stat.S_IMODE((tmp_path / "ca-key.pem").stat().st_mode) == 0o600
    issued = x509.load_pem_x509_certificate(again.issue_node(make_csr(KEY, "oslo"), "oslo"))
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(AUTHORITY.certificate_pem))


def test_a_certificate_and_a_key_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    AUTHORITY.save(tmp_path)
    (tmp_path / "ca.pem").write_bytes(CertificateAuthority.create().certificate_pem)
    with pytest.raises(EpgfnError, match="does not belong"):
        CertificateAuthority.load(tmp_path)

"""Tools we did not write accept what we write, and refuse it once changed.

openssl checks signatures and certificates, securesystemslib and Sigstore's JavaScript library check bundles,
safetensors' own reader is in test_model_file.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from typer.testing import CliRunner

from epgfn.base.canonical import canonical_json
from epgfn.base.files import sha256_hex
from epgfn.cli.main import app
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.pki import CertificateAuthority, certificate_fingerprint, make_csr
from epgfn.sealing.rotation import sign_rotation
from epgfn.sealing.statement import STUDY, StudyPredicate, make_statement
from outside_tools import REQUIRED

OUTSIDE = Path(__file__).parent
OPENSSL = shutil.which("openssl")
NODE = shutil.which("node")
needs_openssl = pytest.mark.skipif(
    OPENSSL is None and not REQUIRED, reason="openssl is not installed; install it to run this test"
)
needs_sigstore = pytest.mark.skipif(
    (NODE is None or not (OUTSIDE / "node_modules" / "@sigstore" / "verify").is_dir()) and not REQUIRED,
    reason="node or @sigstore/verify is not there; run: npm install --prefix tests/outside --no-package-lock",
)

KEY = SigningKey.generate()
PAYLOAD = make_statement({"study.toml": "a" * 64}, STUDY, StudyPredicate(study_digest="a" * 64, name="sachs"))
BUNDLE = sign_statement(PAYLOAD, KEY)
# With ML-DSA-65 beside P-256, which these tools pass over: they see the P-256 signature, and the key in the first block of its file.
DOUBLE = SigningKey.generate(double=True)
DOUBLE_BUNDLE = sign_statement(PAYLOAD, DOUBLE)


def changed_bundle(bundle: bytes = BUNDLE) -> bytes:
    """The same signature over another study: a bundle that every verifier must refuse."""
    value = json.loads(bundle)
    other = PAYLOAD.replace(b"sachs", b"other")
    value["dsseEnvelope"]["payload"] = base64.b64encode(other).decode()
    return canonical_json(value)


def openssl(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    assert OPENSSL is not None
    return subprocess.run([OPENSSL, *map(str, arguments)], input=stdin, capture_output=True, timeout=300)


def signed_parts(bundle: bytes) -> tuple[bytes, bytes]:
    """DSSE's pre-authentication encoding, put together here as an auditor would, and the signature."""
    envelope = json.loads(bundle)["dsseEnvelope"]
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    pae = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    return pae, base64.b64decode(envelope["signatures"][0]["sig"])


# openssl: signatures and keys


@needs_openssl
@pytest.mark.parametrize(
    ("key", "bundle", "verdict"),
    [
        (KEY, BUNDLE, True),
        (KEY, changed_bundle(), False),
        (DOUBLE, DOUBLE_BUNDLE, True),
        (DOUBLE, changed_bundle(DOUBLE_BUNDLE), False),
    ],
)
def test_openssl_verifies_the_signature(
    tmp_path: Path, key: SigningKey, bundle: bytes, verdict: bool
) -> None:
    pae, signature = signed_parts(bundle)
    (tmp_path / "key.pem").write_bytes(key.public.pem)
    (tmp_path / "signature").write_bytes(signature)
    done = openssl(
        "dgst", "-sha256", "-verify", tmp_path / "key.pem", "-signature", tmp_path / "signature", stdin=pae
    )
    assert (done.returncode == 0) is verdict
    assert (b"Verified OK" in done.stdout) is verdict


@needs_openssl
def test_openssl_computes_the_same_fingerprint() -> None:
    done = openssl("pkey", "-pubin", "-outform", "DER", stdin=KEY.public.pem)
    assert hashlib.sha256(done.stdout).hexdigest() == KEY.public.fingerprint


@needs_openssl
def test_we_verify_what_openssl_signs_and_read_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    made = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    assert made.returncode == 0, made.stderr
    path.chmod(0o600)
    public = VerifyKey.from_pem(openssl("pkey", "-in", path, "-pubout").stdout)
    assert SigningKey.load(path).public == public


@needs_openssl
def test_openssl_opens_a_key_file_with_its_passphrase(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key.pem", "correct horse")
    opened = openssl("pkey", "-in", tmp_path / "key.pem", "-passin", "pass:correct horse", "-pubout")
    assert opened.stdout == KEY.public.pem
    assert openssl("pkey", "-in", tmp_path / "key.pem", "-passin", "pass:wrong").returncode != 0


# openssl: certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, server.pem, node.pem and the certificate of a stranger's authority."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = CertificateAuthority.create()
    server = authority.issue_server(SigningKey.generate(), ["coordinator", "localhost"], ["127.0.0.1", "::1"])
    node = authority.issue_node(make_csr(SigningKey.generate(), "oslo"), "oslo")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    (folder / "server.pem").write_bytes(server)
    (folder / "node.pem").write_bytes(node)
    (folder / "stranger.pem").write_bytes(CertificateAuthority.create().certificate_pem)
    return folder


@needs_openssl
@pytest.mark.parametrize(
    ("certificate", "purpose", "authority", "verdict"),
    [
        ("node.pem", "sslclient", "ca.pem", True),
        ("server.pem", "sslserver", "ca.pem", True),
        ("ca.pem", "any", "ca.pem", True),
        ("node.pem", "sslserver", "ca.pem", False),
        ("server.pem", "sslclient", "ca.pem", False),
        ("node.pem", "sslclient", "stranger.pem", False),
        ("server.pem", "sslserver", "stranger.pem", False),
    ],
)
def test_openssl_verifies_each_certificate_for_its_own_use_only(
    certificates: Path, certificate: str, purpose: str, authority: str, verdict: bool
) -> None:
    done = openssl(
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        "-CAfile",
        certificates / authority,
        certificates / certificate,
    )
    assert (done.returncode == 0) is verdict, done.stderr


@needs_openssl
@pytest.mark.parametrize(
    ("flag", "name", "verdict"),
    [
        ("-verify_hostname", "coordinator", True),
        ("-verify_hostname", "localhost", True),
        ("-verify_ip", "127.0.0.1", True),
        ("-verify_ip", "::1", True),
        ("-verify_hostname", "elsewhere", False),
        ("-verify_ip", "127.0.0.2", False),
    ],
)
def test_openssl_matches_the_servers_names(certificates: Path, flag: str, name: str, verdict: bool) -> None:
    done = openssl("verify", flag, name, "-CAfile", certificates / "ca.pem", certificates / "server.pem")
    assert (done.returncode == 0) is verdict, done.stderr


@needs_openssl
@pytest.mark.parametrize(
    ("certificate", "present", "absent"),
    [
        (
            "node.pem",
            ["URI:urn:epgfn:node:oslo", "CA:FALSE", "TLS Web Client Authentication", "prime256v1"],
            ["TLS Web Server Authentication", "Certificate Sign"],
        ),
        (
            "server.pem",
            [
                "DNS:coordinator, DNS:localhost, IP Address:127.0.0.1",
                "TLS Web Server Authentication",
                "CA:FALSE",
            ],
            ["TLS Web Client Authentication", "Certificate Sign"],
        ),
        ("ca.pem", ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "prime256v1"], ["Digital Signature"]),
    ],
)
def test_openssl_prints_what_a_certificate_is_for(
    certificates: Path, certificate: str, present: list[str], absent: list[str]
) -> None:
    text = openssl("x509", "-in", certificates / certificate, "-noout", "-text").stdout.decode()
    assert [part for part in present if part not in text] == []
    assert [part for part in absent if part in text] == []
    for extension in ("Subject Key Identifier", "Authority Key Identifier", "Key Usage: critical"):
        assert extension in text
    assert "Basic Constraints: critical" in text


@needs_openssl
def test_openssl_prints_the_authoritys_fingerprint(certificates: Path) -> None:
    printed = openssl("x509", "-in", certificates / "ca.pem", "-noout", "-fingerprint", "-sha256").stdout
    hexadecimal = printed.decode().strip().partition("=")[2].replace(":", "").lower()
    assert hexadecimal == certificate_fingerprint((certificates / "ca.pem").read_bytes())


# securesystemslib


def verify_with_securesystemslib(bundle: bytes, key: VerifyKey) -> bytes:
    trusted = SSlibKey.from_crypto(load_pem_public_key(key.pem), keyid=key.keyids[0])  # type: ignore[arg-type]
    envelope = Envelope.from_dict(json.loads(bundle)["dsseEnvelope"])
    envelope.verify([trusted], 1)
    return envelope.payload


@pytest.mark.parametrize(("key", "bundle"), [(KEY, BUNDLE), (DOUBLE, DOUBLE_BUNDLE)])
def test_securesystemslib_verifies_the_envelope(key: SigningKey, bundle: bytes) -> None:
    assert verify_with_securesystemslib(bundle, key.public) == PAYLOAD
    with pytest.raises(VerificationError):
        verify_with_securesystemslib(changed_bundle(bundle), key.public)
    with pytest.raises(VerificationError):
        verify_with_securesystemslib(bundle, SigningKey.generate().public)


# Sigstore's JavaScript library


def verify_with_sigstore(key: Path, *bundles: Path) -> tuple[int, list[str]]:
    assert NODE is not None
    command = [NODE, OUTSIDE / "verify_sigstore.mjs", key, *bundles]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    return done.returncode, done.stdout.splitlines()


@needs_sigstore
def test_sigstore_verifies_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(KEY.public.pem)
    (tmp_path / "other.pem").write_bytes(SigningKey.generate().public.pem)
    (tmp_path / "good.json").write_bytes(BUNDLE)
    (tmp_path / "bad.json").write_bytes(changed_bundle())

    def verify(key: str, bundle: str) -> tuple[int, list[str]]:
        return verify_with_sigstore(tmp_path / key, tmp_path / bundle)

    assert verify("key.pem", "good.json") == (0, [f"ok {sha256_hex(PAYLOAD)}"])
    assert verify("key.pem", "bad.json") == (1, ["refused signature verification failed"])
    assert verify("other.pem", "good.json") == (1, ["refused the bundle names another key"])


ROTATION = sign_rotation(
    "node/oslo", DOUBLE, CHANGED := SigningKey.generate(double=True), "2030-01-31T12:00:00Z", "a key a year"
)


@needs_sigstore
@pytest.mark.parametrize(
    ("bundle", "signers"), [(BUNDLE, [KEY]), (DOUBLE_BUNDLE, [DOUBLE]), (ROTATION, [DOUBLE, CHANGED])]
)
def test_sigstore_verifies_each_signature_of_what_several_have_signed(
    tmp_path: Path, bundle: bytes, signers: list[SigningKey]
) -> None:
    statement, payload = (
        tmp_path / "said.sigstore.json",
        base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]),
    )
    statement.write_bytes(bundle)
    command = ["inspect", str(statement), "--sigstore", str(tmp_path / "single")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    written = sorted((tmp_path / "single").iterdir())
    assert len(written) == len(signers)
    for signer in signers:
        (tmp_path / "key.pem").write_bytes(signer.public.pem)
        (single,) = [path for path in written if signer.public.keyids[0][:16] in path.name]
        assert verify_with_sigstore(tmp_path / "key.pem", single) == (0, [f"ok {sha256_hex(payload)}"])
    if len(json.loads(bundle)["dsseEnvelope"]["signatures"]) > 1:
        # Why there is that command at all: the day this is taken, it is needed no longer.
        (tmp_path / "key.pem").write_bytes(signers[0].public.pem)
        code, said = verify_with_sigstore(tmp_path / "key.pem", statement)
        assert code == 1 and said[0].startswith("refused")

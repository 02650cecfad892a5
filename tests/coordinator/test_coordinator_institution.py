"""An institution's certificate authority instead of one made for the study."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from coordinator_client import FakeNode, InProcess, tiny_study
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.sealing.pki import CertificateAuthority, ends_at
from epgfn_coordinator.health import require_healthy
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.initialise import initialise
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.status import status
from epgfn_coordinator.store import Store
from parties import Node

NOW = dt.datetime.now(dt.UTC)


def make_authority(
    folder: Path,
    key: Any,
    *,
    issuer: Any = None,
    days: float = 1000,
    ca: bool = True,
    passphrase: str = "",
    name: str = "hospital",
) -> tuple[Path, Path]:
    """A certificate, issued by the key `issuer` or by itself, and its key, as an institution would hand them over."""
    folder.mkdir(parents=True, exist_ok=True)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} issuing CA")])
    above = subject if issuer is None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(above).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - dt.timedelta(days=2)).not_valid_after(
        NOW + dt.timedelta(days=days)
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    # Its key named in a way of its own, as authorities may.
    builder = builder.add_extension(x509.SubjectKeyIdentifier(b"\x01\x02\x03\x04"), critical=False)
    certificate = builder.sign(issuer or key, hashes.SHA256())
    encryption: Any = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    paths = folder / "ca.pem", folder / "ca-key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    paths[1].chmod(0o600)
    return paths


def home_with(folder: Path, paths: tuple[Path, Path]) -> Home:
    home = Home(folder)
    config = Config("127.0.0.1:0", "127.0.0.1:0")
    initialise(home, tiny_study(), config, CertificateAuthority.adopt(*paths))
    return home


def invited(home: Home, node: str, out: Path) -> str:
    store = Store(home.state)
    out.write_bytes(invite(home, store, node))
    store.close()
    out.chmod(0o600)
    return str(out)


KINDS: dict[str, Any] = {
    "RSA below a root": lambda: (
        rsa.generate_private_key(65537, 3072),
        rsa.generate_private_key(65537, 2048),
    ),
    "P-384 below a root": lambda: (
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP384R1()),
    ),
    "RSA by itself": lambda: (rsa.generate_private_key(65537, 2048), None),
}


def test_a_certificate_may_have_words_for_people_before_it(tmp_path: Path) -> None:
    """As `openssl ca` and `openssl x509 -text` write it."""
    paths = make_authority(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    ends = CertificateAuthority.adopt(*paths).ends
    paths[0].write_bytes(b"Certificate:\n    Data:\n        Version: 3 (0x2)\n" + paths[0].read_bytes())
    assert CertificateAuthority.adopt(*paths).ends == ends
    pem = (home_with(tmp_path / "home", paths).keys / "ca.pem").read_bytes()
    assert pem.startswith(b"-----BEGIN CERTIFICATE")


@pytest.mark.parametrize("kind", KINDS)
def test_everything_works_with_it(tmp_path: Path, kind: str) -> None:
    key, root = KINDS[kind]()
    home = home_with(tmp_path / "home", make_authority(tmp_path / "institution", key, issuer=root))
    with InProcess(home) as server:
        other = FakeNode.enrolled(home, "b")
        assert other.study().study
        require_healthy(home)
        node = Node(tmp_path / "node")
        node.ok("init")
        node.ok("enroll", "--invite", invited(home, "a", tmp_path / "a.json"))
        node.ok("renew")
        assert json.loads(node.ok("status", "--json"))["round"] == "open"
        node.ok("doctor")
        assert "certificate" not in {
            event["phase"] for event in server.events.seen
        }  # it is not ours to renew
    assert (tmp_path / "node/trust/ca.pem").read_bytes() == (tmp_path / "institution/ca.pem").read_bytes()


def test_its_end_is_its_institutions_affair(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    paths = make_authority(tmp_path / "institution", key, days=20)
    home = home_with(tmp_path / "home", paths)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        assert ends_at(node.certificate) == ends_at(paths[0].read_bytes())
        warned = next(text for text in status(home)["warnings"] if "of authority" in text)
        assert "have your institution issue another for the same name and key" in warned

        for wrong, word in (
            (
                make_authority(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))[0],
                "not of the same name and key",
            ),
            (make_authority(tmp_path / "renamed", key, name="clinic")[0], "not of the same name and key"),
            (make_authority(tmp_path / "leaf", key, ca=False)[0], "not that of an authority"),
        ):
            done = renewed(home, wrong)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1) and word in done.stderr
        new, _ = make_authority(tmp_path / "new", key, days=1000)
        done = renewed(home, new)
        assert done.returncode == 0, done.stderr
        assert home.ca.read_bytes() == new.read_bytes()
        assert node.study().study  # which trusts the old one
        assert not [text for text in status(home)["warnings"] if "of authority" in text]


def renewed(home: Home, ca: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "epgfn_coordinator", "renew", "--home", str(home.root), "--ca", str(ca)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_cannot_issue_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    good = ec.generate_private_key(ec.SECP256R1())
    for number, (paths, word) in enumerate(
        (
            (make_authority(tmp_path / "leaf", good, ca=False), "not that of an authority"),
            (make_authority(tmp_path / "ended", good, days=-1), "is good from"),
            (make_authority(tmp_path / "weak", rsa.generate_private_key(65537, 1024)), "RSA from 2048 bits"),
            (
                (
                    make_authority(tmp_path / "one", good)[0],
                    make_authority(tmp_path / "two", ec.generate_private_key(ec.SECP256R1()))[1],
                ),
                "is not for the key",
            ),
        )
    ):
        with pytest.raises(UsageError, match=word):
            home_with(tmp_path / f"home-{number}", paths)
        assert not (tmp_path / f"home-{number}").exists()
    encrypted = make_authority(tmp_path / "encrypted", good, passphrase="secret")
    with pytest.raises(EpgfnError, match="needs its passphrase"):
        CertificateAuthority.adopt(*encrypted)
    assert CertificateAuthority.adopt(*encrypted, "secret").ends > NOW


def test_the_command_takes_it(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_bytes(tiny_study().raw)
    ca, key = make_authority(tmp_path / "institution", ec.generate_private_key(ec.SECP256R1()))
    command = [sys.executable, "-m", "epgfn_coordinator", "init", "--study", str(tmp_path / "study.toml")]
    command += ["--home", str(tmp_path / "home"), "--ca", str(ca)]
    half = subprocess.run(command, capture_output=True, text=True, check=False)
    assert half.returncode == 2 and "belong together" in half.stderr
    done = subprocess.run([*command, "--ca-key", str(key)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Home(tmp_path / "home").ca.read_bytes() == ca.read_bytes()
    own = renewed(Home(tmp_path / "home"), ca)
    assert own.returncode == 0, own.stderr

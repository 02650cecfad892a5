"""What testssl.sh would look for: nothing below TLS 1.2, no weak cipher, and no way into the main port without a certificate of the study's
own authority. Real sockets to a coordinator that serves."""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Iterator

import pytest

from coordinator_client import FakeNode, InProcess, make_home, tiny_study
from epgfn.base.addresses import parse_address
from epgfn.rpc.hello import HTTP2, Identity
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority, make_csr
from epgfn_coordinator.home import Home

HANDSHAKE, ALERT = 22, 21
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
GOOD = [0xC02B, 0xC02C, 0xCCA9]  # ECDHE with ECDSA and AES-GCM or ChaCha20
PORTS = ("address", "enroll_address")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = make_home(tmp_path_factory.mktemp("coordinator") / "home", tiny_study())
    with InProcess(home):
        yield home


@pytest.fixture(scope="module")
def node(home: Home) -> FakeNode:
    return FakeNode.enrolled(home, "a")


def connected(node: FakeNode, port: str) -> socket.socket:
    at = parse_address(node.invitation[port])
    return socket.create_connection((at.host, at.port), timeout=20)


def client_hello(version: int, ciphers: list[int]) -> bytes:
    """A hello of before TLS 1.3 by hand, since OpenSSL may refuse to say one: highest version and ciphers offered, P-256, ECDSA, h2."""

    def with_length(data: bytes, size: int) -> bytes:
        return len(data).to_bytes(size, "big") + data

    def extension(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(2, "big") + with_length(data, 2)

    extensions = extension(10, with_length((23).to_bytes(2, "big"), 2))  # supported_groups: secp256r1
    extensions += extension(11, with_length(b"\0", 1))  # ec_point_formats: uncompressed
    extensions += extension(16, with_length(with_length(HTTP2.encode(), 1), 2))  # ALPN
    if version >= 0x0303:
        extensions += extension(13, with_length(b"\x04\x03", 2))  # signature_algorithms
    offered = b"".join(cipher.to_bytes(2, "big") for cipher in ciphers)
    body = version.to_bytes(2, "big") + secrets.token_bytes(32) + b"\0" + with_length(offered, 2) + b"\x01\0"
    message = b"\x01" + with_length(body + with_length(extensions, 2), 3)
    return (
        bytes([HANDSHAKE])
        + (0x0300 if version == 0x0300 else 0x0301).to_bytes(2, "big")
        + with_length(message, 2)
    )


def answer(node: FakeNode, port: str, hello: bytes) -> int | None:
    """The kind of record that comes back; None: the connection is closed without a word."""
    with connected(node, port) as connection:
        connection.sendall(hello)
        try:
            data = connection.recv(1)
        except ConnectionError:
            return None
        return data[0] if data else None


@pytest.mark.parametrize("port", PORTS)
def test_nothing_below_tls_1_2(node: FakeNode, port: str) -> None:
    old = [
        *GOOD,
        0xC009,
        0xC00A,
        0xC013,
        0x002F,
        0x0035,
        0x000A,
    ]  # with CBC, which is all that old versions have
    assert answer(node, port, client_hello(0x0303, GOOD)) == HANDSHAKE, "the hello itself is right"
    for version in (0x0300, 0x0301, 0x0302):  # SSL 3.0, TLS 1.0 and 1.1
        assert answer(node, port, client_hello(version, old)) in (ALERT, None), hex(version)


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "cipher",
    [
        pytest.param(0xC009, id="ECDHE-ECDSA-AES128-CBC-SHA"),
        pytest.param(0xC023, id="ECDHE-ECDSA-AES128-CBC-SHA256"),
        pytest.param(0xC008, id="ECDHE-ECDSA-3DES"),
        pytest.param(0xC007, id="ECDHE-ECDSA-RC4"),
        pytest.param(0xC006, id="ECDHE-ECDSA-NULL"),
        pytest.param(0xC018, id="ECDH-anonymous"),
        pytest.param(0x009C, id="RSA-without-forward-secrecy"),
    ],
)
def test_no_weak_cipher(node: FakeNode, port: str, cipher: int) -> None:
    assert answer(node, port, client_hello(0x0303, [cipher])) in (ALERT, None)


def context_for(node: FakeNode, version: ssl.TLSVersion, identity: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=node.invitation["ca_pem"])
    context.set_alpn_protocols([HTTP2])
    context.minimum_version = context.maximum_version = version
    if identity is not None:
        identity.load_into(context)
    return context


def speaks(node: FakeNode, port: str, version: ssl.TLSVersion, identity: Identity | None) -> bool:
    """Whether anything but the handshake is answered. In TLS 1.3 a client has ended its part before its certificate is looked at."""
    context = context_for(node, version, identity)
    host = parse_address(node.invitation[port]).host
    try:
        with connected(node, port) as plain, context.wrap_socket(plain, server_hostname=host) as secured:
            assert secured.selected_alpn_protocol() == HTTP2
            secured.sendall(PREFACE)
            return bool(secured.recv(1))
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_main_port_speaks_to_certificates_of_its_authority_alone(
    node: FakeNode, version: ssl.TLSVersion
) -> None:
    own = Identity(node.tls.private_pem(), node.certificate)
    assert speaks(node, "address", version, own)
    assert not speaks(node, "address", version, None), "a client certificate is no option"
    key = SigningKey.generate()
    stranger = CertificateAuthority.create("another study").issue_node(make_csr(key, "a"), "a")
    assert not speaks(node, "address", version, Identity(key.private_pem(), stranger))
    assert speaks(node, "enroll_address", version, None)

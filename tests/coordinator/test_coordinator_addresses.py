"""Where a coordinator listens, what its invitations and its certificate say of it, and what happens when that changes."""

from __future__ import annotations

import datetime as dt
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from coordinator_client import FakeNode, InProcess, tiny_study
from epgfn.base.errors import UsageError
from epgfn.rpc.certificates import names_of as names_in
from epgfn.sealing import pki
from epgfn.sealing.pki import CertificateAuthority
from epgfn_coordinator.certificates import issue
from epgfn_coordinator.health import require_healthy
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.initialise import initialise
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.store import Store
from networks import closed_address
from parties import on_coordinator


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def made(path: Path, config: Config) -> Home:
    initialise(Home(path), tiny_study(), config)
    return Home(path)


def invitation_for(home: Home, node: str) -> dict[str, Any]:
    store = Store(home.state)
    try:
        found: dict[str, Any] = json.loads(invite(home, store, node))
    finally:
        store.close()
    return found


def certificate(home: Home) -> x509.Certificate:
    return x509.load_pem_x509_certificate(home.key("tls.pem").read_bytes())


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (Config(address="::1"), r"^address: '::1' is not an address.*\[::1\]:8443"),
        (Config(enroll_address="https://x:8444"), r"^enroll address: .*write x:8444"),
        (Config(address="x.:8443"), "dot at the end"),
        (Config(tls_names=("x:8443",)), "^TLS name: 'x:8443'.*without a port"),
        (Config(tls_names=("https://x",)), "leave that out"),
        (Config("0.0.0.0:8443", "127.0.0.1:8443"), "same port, 8443"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_made(
    tmp_path: Path, config: Config, word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        made(tmp_path / "home", config)
    assert not (tmp_path / "home").exists()


def test_init_says_so_with_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_bytes(tiny_study().raw)
    command = ["init", "--study", str(tmp_path / "study.toml"), "--home", str(tmp_path / "home")]
    done = on_coordinator(*command, "--address", "[::1]")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert on_coordinator(*command).returncode == 0
    again = on_coordinator(*command, "--address", "x:1")
    assert again.returncode == 0 and "change them there" in again.stdout
    (tmp_path / "home" / "coordinator.toml").write_text('address = "x"\n')
    with pytest.raises(UsageError, match=r"^address in .*coordinator.toml: 'x' has no port"):
        Config.load(tmp_path / "home" / "coordinator.toml")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "", "[::1]", "localhost"])
def test_a_node_gets_in_wherever_it_listens(tmp_path: Path, host: str) -> None:
    if "::" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    name = "::1" if "::" in host else "localhost"
    home = made(tmp_path / "home", Config(f"{host}:0", f"{host}:0", (name,)))
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        written = f"[{name}]" if ":" in name else name
        assert node.invitation["address"].startswith(f"{written}:")
        assert node.study().study
        require_healthy(home)


def test_a_changed_port_says_whose_invitations_are_void(tmp_path: Path) -> None:
    home = made(tmp_path / "home", Config(closed_address(), closed_address()))
    with InProcess(home) as server:
        FakeNode.enrolled(home, "a")
        invitation_for(home, "b")
        assert not [
            event for event in server.events.seen if event["phase"] in ("invitations-void", "nodes-misled")
        ]
    new = closed_address()
    replace(Config.load(home.config), address=new, effective_address="").save(home.config)
    with InProcess(home) as server:
        void = server.events.wait_for("invitations-void")["message"]
        assert f"lead elsewhere: b; make them anew: epgfn-coordinator token b --home {home.root}" in void
        misled = server.events.wait_for("nodes-misled")["message"]
        assert f'know the old one: a; have each set address = "{new}" in its node.toml' in misled
        assert invitation_for(home, "b")["address"] == new
    with InProcess(home) as server:
        server.events.wait_for("nodes-misled")
        assert "invitations-void" not in {event["phase"] for event in server.events.seen}


def test_a_new_name_gets_into_the_certificate_when_serving_starts(tmp_path: Path) -> None:
    home = made(tmp_path / "home", Config("127.0.0.1:0", "127.0.0.1:0"))
    before = certificate(home)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        assert "certificate" not in {event["phase"] for event in server.events.seen}
    assert certificate(home) == before
    replace(Config.load(home.config), tls_names=("posterior.example.org", "[fd00::5]")).save(home.config)
    with InProcess(home) as server:
        said = server.events.wait_for("certificate")["message"]
        assert "is not for posterior.example.org, fd00::5" in said
        assert node.study().study, "whoever trusts the authority notices nothing"
    after = certificate(home)
    assert {"posterior.example.org", "fd00::5", "localhost"} <= set(names_in(after))
    assert after.public_key() == before.public_key()


@pytest.mark.parametrize(
    ("constant", "days", "word"), [("_LEAF_LIFETIME", 20, "ends"), ("_CLOCK_SKEW", -2, "begins")]
)
def test_a_certificate_that_ends_soon_or_was_issued_by_a_wrong_clock_is_issued_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constant: str, days: int, word: str
) -> None:
    config = Config("127.0.0.1:0", "127.0.0.1:0")
    home = made(tmp_path / "home", config)
    with monkeypatch.context() as wrong:
        wrong.setattr(pki, constant, dt.timedelta(days=days))
        issue(home, CertificateAuthority.load(home.keys), config)
    with InProcess(home) as server:
        assert f"the old one {word}" in server.events.wait_for("certificate")["message"]
        require_healthy(home)
    now = dt.datetime.now(dt.UTC)
    assert certificate(home).not_valid_before_utc < now
    assert certificate(home).not_valid_after_utc > now + dt.timedelta(days=360)

"""A node's certificate is renewed in its last month by `run` and `renew`, and after its end by an invitation for the same keys."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path

import pytest

from coordinator_client import InProcess, make_home, tiny_study
from epgfn.sealing import pki
from epgfn.sealing.pki import CA_CERTIFICATE, CertificateAuthority, ends_at
from epgfn.study import Study
from epgfn_coordinator.home import Home
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.store import Store
from parties import REFUSED, WAITING, Node

LATER = dt.datetime.now(dt.UTC) + dt.timedelta(days=300)


def invited(home: Home, out: Path, *, renew: bool = False) -> str:
    store = Store(home.state)
    out.write_bytes(invite(home, store, "a", renew=renew))
    store.close()
    out.chmod(0o600)
    return str(out)


def enrolled(home: Home, folder: Path) -> Node:
    node = Node(folder / "node")
    node.ok("init")
    node.ok("enroll", "--invite", invited(home, folder / "a.json"))
    return node


def ends(node: Node) -> dt.datetime:
    return ends_at((node.home / "keys/tls.pem").read_bytes())


@pytest.fixture
def study() -> Study:
    return tiny_study()


def lifetime(monkeypatch: pytest.MonkeyPatch, **span: float) -> None:
    monkeypatch.setattr(pki, "_LEAF_LIFETIME", dt.timedelta(**span))


def test_in_its_last_month_it_is_warned_of_and_renewed(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home", study)
    monkeypatch.setattr("epgfn_coordinator.services.certificate.SAME_WITHIN", dt.timedelta())
    with InProcess(home):
        with monkeypatch.context() as short:
            lifetime(short, days=20)
            node = enrolled(home, tmp_path)
        assert "epgfn-node renew" in json.loads(node.ok("status", "--json"))["warning"]
        told = node.command("submit")
        assert "this node's certificate ends" in told.stdout + told.stderr
        key = (node.home / "keys/tls.key").read_bytes()
        node.ok("renew")
        assert ends(node) > LATER and (node.home / "keys/tls.key").read_bytes() == key
        assert json.loads(node.ok("status", "--json"))["warning"] is None

        with monkeypatch.context() as short:
            lifetime(short, days=20)
            node.ok("renew")
        assert ends(node) < LATER
        assert "nobody has accepted the study" in node.fails(WAITING, "run")
        assert ends(node) > LATER


def test_after_its_end_it_is_told_what_to_do_and_does_it(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        with monkeypatch.context() as short:
            lifetime(short, seconds=10)
            node = enrolled(home, tmp_path)
        time.sleep(10.1)
        for verb in ("status", "renew", "run"):
            said = node.fails(REFUSED, verb)
            assert "this node's certificate ended" in said and "epgfn-coordinator token a --renew" in said
        other = tmp_path / "b.json"
        other.write_text((tmp_path / "a.json").read_text().replace('"node_id": "a"', '"node_id": "b"'))
        other.chmod(0o600)
        assert "the right one" in node.fails(REFUSED, "renew", "--invite", str(other))
        node.ok("renew", "--invite", invited(home, tmp_path / "again.json", renew=True))
        assert ends(node) > LATER
        node.ok("status")


def test_run_takes_the_new_invitation_by_itself(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        with monkeypatch.context() as short:
            lifetime(short, seconds=10)
            node = enrolled(home, tmp_path)
        time.sleep(10.1)
        assert "ended" in node.fails(REFUSED, "run", "--invite", str(tmp_path / "a.json"))
        assert "ended" in node.fails(REFUSED, "run", "--invite", str(tmp_path / "not-there.json"))
        new = invited(home, tmp_path / "again.json", renew=True)
        assert "nobody has accepted the study" in node.fails(WAITING, "run", "--invite", new)
        assert ends(node) > LATER


def test_an_authority_that_has_ended_meanwhile_comes_with_the_new_invitation(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    with monkeypatch.context() as short:
        short.setattr(pki, "_CA_LIFETIME", dt.timedelta(seconds=20))
        short.setattr("epgfn_coordinator.certificates.renew_authority", lambda *_: False)
        home = make_home(tmp_path / "home", study)
        with InProcess(home):
            node = enrolled(home, tmp_path)
        old = (node.home / "trust" / CA_CERTIFICATE).read_bytes()
    time.sleep(max(0.0, 22 - (time.monotonic() - started)))
    with InProcess(home):
        assert "ended" in node.fails(REFUSED, "status")
        new = invited(home, tmp_path / "again.json", renew=True)
        node.ok("renew", "--invite", new)
        assert (node.home / "trust" / CA_CERTIFICATE).read_bytes() == home.ca.read_bytes() != old
        node.ok("status")
        stranger = json.loads(Path(new).read_text())
        stranger["ca_pem"] = CertificateAuthority.create().certificate_pem.decode()
        Path(new).write_text(json.dumps(stranger))
        assert "another coordinator" in node.fails(REFUSED, "renew", "--invite", new)


def test_a_node_with_the_old_authority_is_given_the_new_one(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epgfn_coordinator.services.certificate.SAME_WITHIN", dt.timedelta())
    with monkeypatch.context() as short:
        short.setattr(pki, "_CA_LIFETIME", dt.timedelta(days=20))
        short.setattr("epgfn_coordinator.certificates.renew_authority", lambda *_: False)
        home = make_home(tmp_path / "home", study)
        with InProcess(home):
            node = enrolled(home, tmp_path)
    with InProcess(home):
        node.ok("renew")
        assert ends_at((node.home / "trust" / CA_CERTIFICATE).read_bytes()) > LATER
        assert ends(node) > LATER
        node.ok("status")

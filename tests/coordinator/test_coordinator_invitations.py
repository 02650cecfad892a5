"""Invitations end: by their date, by being revoked, by a newer one. Whoever shows one that has ended is told which."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator_client import FakeNode, InProcess, make_home, reason_of, tiny_study
from epgfn.base.errors import RefusedError, UsageError
from epgfn_coordinator import clock
from epgfn_coordinator.home import Home
from epgfn_coordinator.invitation import invitations, invite, revoke_invitation
from epgfn_coordinator.store import Store
from parties import REFUSED, Node, on_coordinator

DAY = timedelta(days=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home", tiny_study())


def command(home: Home, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return on_coordinator(verb, "--home", str(home.root), *arguments)


def listed(home: Home) -> dict[str, str]:
    store = Store(home.state)
    try:
        return {each["node"]: each["state"] for each in invitations(store)}
    finally:
        store.close()


def test_an_invitation_is_good_for_fourteen_days_and_a_clock_put_right_brings_it_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with InProcess(home):
        node, start = FakeNode.invited(home, "a"), datetime.now(UTC)
        monkeypatch.setattr(clock, "now", lambda: start + 14 * DAY)
        with pytest.raises(
            RefusedError, match=r"^the invitation for a expired at .* a new invitation$"
        ) as caught:
            node.enroll()
        assert caught.value.reason == "invitation-expired"
        assert listed(home) == {"a": "expired"}
        monkeypatch.setattr(clock, "now", lambda: start + 13.9 * DAY)
        node.enroll()
        assert listed(home) == {"a": "used"}
        monkeypatch.setattr(clock, "now", lambda: start + 400 * DAY)
        assert node.enroll() == node.certificate  # a reply that was lost is given again, however late


def test_a_revoked_invitation_is_refused_as_such_and_a_new_one_works(home: Home) -> None:
    with InProcess(home):
        node = FakeNode.invited(home, "a")
        done = command(home, "revoke-invitation", "a")
        assert done.returncode == 0 and "is void" in done.stdout, done.stderr
        with pytest.raises(RefusedError, match="was revoked by the coordinator's operator"):
            node.enroll()
        assert reason_of(node.enroll) == "invitation-revoked"
        assert listed(home) == {"a": "revoked"}
        FakeNode.enrolled(home, "a")
        assert reason_of(node.enroll) == "invitation-revoked"
        used = command(home, "revoke-invitation", "a")
        assert (used.returncode, used.stderr.count("\n")) == (2, 1) and "is enrolled" in used.stderr
        none = command(home, "revoke-invitation", "b")
        assert (none.returncode, none.stderr.count("\n")) == (2, 1) and "no invitation of b" in none.stderr


def test_revoked_while_it_is_being_used_it_enrols_nobody(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is looked at once more in the transaction that enrols."""
    from epgfn_coordinator.services import enrollment

    def revoked_then(store: Store, token: str) -> str:
        revoke_invitation(store, "a")
        return "a"

    with InProcess(home):
        node = FakeNode.invited(home, "a")
        monkeypatch.setattr(enrollment, "node_of_token", revoked_then)
        assert reason_of(node.enroll) == "invitation-revoked"


def test_the_commands_say_until_when(home: Home, tmp_path: Path) -> None:
    with InProcess(home):
        made = command(home, "token", "a", "--days", "2", "--out", str(tmp_path / "a.json"), "--json")
        expires = datetime.fromisoformat(json.loads(made.stdout)["expires"])
        assert timedelta(days=1.99) < expires - datetime.now(UTC) <= 2 * DAY
        found: list[dict[str, Any]] = json.loads(command(home, "invitations", "--json").stdout)
        assert [each["expires"] for each in found] == [json.loads(made.stdout)["expires"]]
        assert "a  open     until 20" in command(home, "invitations").stdout
        for days in ("0", "-1", "nan", "1e300"):
            wrong = command(home, "token", "a", "--days", days, "--out", str(tmp_path / "b.json"))
            assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr


def test_invitations_of_a_home_of_before_do_not_expire(home: Home) -> None:
    """Its table of tokens has no dates."""
    with InProcess(home):
        node = FakeNode.invited(home, "a")
    before = sqlite3.connect(home.state)
    before.executescript(
        "DROP TABLE void_tokens; CREATE TABLE old AS SELECT node_id, token_sha256 FROM tokens; DROP TABLE tokens; "
        "CREATE TABLE tokens (node_id TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL UNIQUE) STRICT; "
        "INSERT INTO tokens SELECT * FROM old; DROP TABLE old"
    )
    before.close()
    assert listed(home) == {"a": "open"}
    with InProcess(home):
        node.invitation = {**node.invitation, **_addresses(home)}
        node.enroll()


def _addresses(home: Home) -> dict[str, str]:
    store = Store(home.state)
    try:
        found = json.loads(invite(home, store, "b"))
    finally:
        store.close()
    return {name: found[name] for name in ("enroll_address", "address")}


def test_a_node_prints_that_sentence(home: Home, tmp_path: Path) -> None:
    with InProcess(home):
        invitation = tmp_path / "a.json"
        assert command(home, "token", "a", "--out", str(invitation)).returncode == 0
        assert command(home, "revoke-invitation", "a").returncode == 0
        node = Node(tmp_path / "node")
        node.ok("init")
        assert "the invitation for a was revoked" in node.fails(
            REFUSED, "enroll", "--invite", str(invitation)
        )


def test_an_unknown_node_is_no_revocation(home: Home) -> None:
    store = Store(home.state)
    with pytest.raises(UsageError, match="no invitation of nobody"):
        revoke_invitation(store, "nobody")
    store.close()

"""`epgfn-node status` says where the round stands; an extended deadline only as the signed ledger shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator_client import InProcess, make_home
from epgfn.ledger.entries import DeadlineEntry, encode
from epgfn.study import Study
from epgfn_coordinator import round as rounds
from epgfn_coordinator.home import Home
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.store import Store
from parties import REFUSED, Node, on_coordinator

BEFORE, AFTER, LATER = "2089-01-01T00:00:00Z", "2090-01-01T00:00:00Z", "2091-01-01T00:00:00Z"


def extend(home: Home, deadline: str) -> None:
    done = on_coordinator("extend", "--home", str(home.root), "--deadline", deadline)
    assert done.returncode == 0, done.stderr


def joined(home: Home, root: Path, name: str) -> Node:
    store = Store(home.state)
    invitation = root / f"{name}.invitation.json"
    invitation.write_bytes(invite(home, store, name))
    invitation.chmod(0o600)
    store.close()
    node = Node(root / name)
    node.ok("init")
    node.ok("enroll", "--invite", str(invitation))
    return node


def test_a_node_is_shown_the_new_deadline_and_its_proof(
    tmp_path: Path, small_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = small_study.raw.decode()
    assert "[aggregation]" in text
    study = Study.from_bytes(text.replace("[aggregation]", f"[aggregation]\ndeadline = {BEFORE}").encode())
    home = make_home(tmp_path / "coordinator", study)
    with InProcess(home):
        node = joined(home, tmp_path, study.roster[0])
        found = json.loads(node.ok("status", "--json"))
        assert (found["round"], found["extended"], found["own_model"]) == ("open", False, "not trained")
        assert found["deadline"].startswith("2089-01-01T00:00:00")
        extend(home, AFTER)
        extend(home, LATER)
        found = json.loads(node.ok("status", "--json"))
        assert (found["deadline"], found["extended"]) == (LATER, True)
        assert f"{LATER}, extended by the operator" in node.ok("status")

        other = encode(DeadlineEntry(round_id="another", deadline=AFTER))
        real = rounds.Round.extension
        for forged in (lambda self: (other, real(self)[1]), lambda self: (real(self)[0], b"")):
            monkeypatch.setattr(rounds.Round, "extension", forged)
            node.fails(REFUSED, "status")

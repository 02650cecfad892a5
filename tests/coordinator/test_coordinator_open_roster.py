"""A study with places for nodes that are added after the start: who comes, comes; whoever does not is absent."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator_client import FakeNode, InProcess, OwnProcess, make_home, tiny_study
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.statement import GlobalPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn_coordinator import clock, invitation
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.round import awaited_nodes
from epgfn_coordinator.status import status
from epgfn_coordinator.store import Store
from parties import on_coordinator


def open_study(largest: int = 4) -> Study:
    return tiny_study().with_changes({"largest_roster": largest})


def members(home: Home, node: FakeNode) -> tuple[set[str], set[str]]:
    """Who is in the global model, and who is absent, as the coordinator has signed it."""
    key = VerifyKey.from_pem((home.keys / "coordinator.pem").read_bytes())
    said = predicate_of(parse_statement(verify_bundle(node.result().bundle, key)), GlobalPredicate)
    return {upload.node_id for upload in said.aggregated}, set(said.absent)


def test_a_node_is_added_after_the_start_and_a_place_that_nobody_takes_is_not_waited_for(
    tmp_path: Path,
) -> None:
    study = open_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        a.send(a.make_upload(study))
        assert status(home)["missing"] == ["b"] and status(home)["free_places"] == ["added-3", "added-4"]
        added = FakeNode.invited(home, "added-3")  # from now on the round waits for it
        b.send(b.make_upload(study, seed=1))
        found = status(home)
        assert found["state"] == "open" and found["missing"] == ["added-3"]
        assert found["detail"] == "2 of 3 nodes have sent their model"
        added.enroll()
        added.send(added.make_upload(study, seed=2))
        assert "all 3 nodes that take part" in server.wait_for("closed")["message"]
        server.wait_for("published")
        assert members(home, added) == ({"a", "b", "added-3"}, {"added-4"})
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings


def test_without_anybody_added_the_round_closes_as_soon_as_the_named_nodes_have_sent(tmp_path: Path) -> None:
    study = open_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as server:
        for seed, node in enumerate((FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b"))):
            node.send(node.make_upload(study, seed=seed))
        server.wait_for("published")
        assert members(home, node) == ({"a", "b"}, {"added-3", "added-4"})
    export(home, tmp_path / "run")
    assert audit_run(tmp_path / "run").ok


def test_a_place_is_free_again_when_its_invitation_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(5)
    home = make_home(tmp_path / "home", study)
    store = Store(home.state)
    try:
        with monkeypatch.context() as ports:
            ports.setattr(invitation.Config, "public_address", "127.0.0.1:1")
            ports.setattr(invitation.Config, "public_enroll_address", "127.0.0.1:2")
            for node in ("added-3", "added-4"):
                invitation.invite(home, store, node, days=1)
        assert awaited_nodes(study, store) == ["a", "b", "added-3", "added-4"]
        invitation.revoke_invitation(store, "added-3")
        assert awaited_nodes(study, store) == ["a", "b", "added-4"]
        now = clock.now()
        monkeypatch.setattr(clock, "now", lambda: now + timedelta(days=2))
        assert awaited_nodes(study, store) == ["a", "b"]
        assert awaited_nodes(tiny_study(), store) == ["a", "b"]
    finally:
        store.close()


def test_one_reading_of_a_clock_makes_no_place_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a clock that is ahead once would close the round, and shut out whoever was invited, for good."""
    study, right = open_study(3), clock.now
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        nodes = [
            FakeNode.enrolled(home, "a"),
            FakeNode.enrolled(home, "b"),
            FakeNode.invited(home, "added-3"),
        ]
        for seed, node in enumerate(nodes[:2]):
            node.send(node.make_upload(study, seed=seed))
    monkeypatch.setattr(clock, "now", lambda: right() + timedelta(days=60))
    with InProcess(home) as server:
        assert "has passed" in server.events.wait_for("held")["message"]
        assert status(home)["state"] == "open" and "has passed" in status(home)["held"]
    monkeypatch.setattr(clock, "now", right)
    with InProcess(home) as server:
        for node in nodes:
            node.invitation.update(server.events.seen[0], ca_pem=node.invitation["ca_pem"])
        nodes[2].enroll()
        nodes[2].send(nodes[2].make_upload(study, seed=2))
        assert server.events.wait_for("closed")["accepted"] == 3


def test_status_tells_who_holds_a_place_and_nobody_gets_one_when_it_is_too_late(tmp_path: Path) -> None:
    study = open_study(5)
    home = make_home(tmp_path / "home", study)
    out = str(tmp_path / "invitation.json")
    with InProcess(home) as server:
        nodes = [FakeNode.enrolled(home, node) for node in ("a", "b", "added-3")]
        told = ["token", "added-4", "--home", str(home.root), "--out", out, "--note", "Clinic of\nZ"]
        assert on_coordinator(*told).returncode == 0
        first, second = status(home)["places"]
        assert first == f"added-3: key {nodes[2].signing.public.fingerprint[:16]}..., no model yet"
        assert second.startswith("added-4: invited until 2") and second.endswith(", Clinic of Z")
        on_coordinator("revoke-invitation", "added-4", "--home", str(home.root))
        for seed, node in enumerate(nodes):
            node.send(node.make_upload(study, seed=seed))
        server.events.wait_for("published")
        late = on_coordinator("token", "added-5", "--home", str(home.root), "--out", out)
        assert late.returncode == 2 and "takes no more models" in late.stderr
        assert status(home)["places"][0].endswith("model accepted")


def test_nobody_gets_in_beyond_the_largest_number_or_where_the_roster_is_closed(tmp_path: Path) -> None:
    for study, node in ((open_study(3), "added-4"), (tiny_study(), "added-3")):
        home = make_home(tmp_path / node, study)
        done = on_coordinator("token", node, "--home", str(home.root))
        assert done.returncode == 2 and "not on the roster" in done.stderr
    shown = json.loads(on_coordinator("status", "--home", str(home.root), "--json").stdout)
    assert shown["free_places"] == []

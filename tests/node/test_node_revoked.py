"""A node whose keys were stolen after it had sent takes part again, and gets the result that its earlier model is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator_client import InProcess, make_home
from epgfn.base.files import sha256_file
from epgfn.study import Study
from epgfn_coordinator.home import Home
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.store import Store
from parties import REFUSED, Node


def invited(home: Home, name: str, out: Path) -> str:
    store = Store(home.state)
    out.write_bytes(invite(home, store, name))
    store.close()
    out.chmod(0o600)
    return str(out)


@pytest.mark.slow
def test_with_new_keys_it_gets_the_result_once_it_vouches_for_what_was_sent(
    tmp_path: Path, small_study: Study, small_files: dict[str, Path]
) -> None:
    study = small_study
    home = make_home(tmp_path / "coordinator", study)
    with InProcess(home) as server:
        nodes = {}
        for name in study.roster:
            node = nodes[name] = Node(tmp_path / name)
            node.ok("init")
            node.ok("enroll", "--invite", invited(home, name, tmp_path / f"{name}.json"))
            node.train(small_files[name], study)
            node.ok("approve")
            if name == study.roster[-1]:
                stolen, name = nodes["north"], "north"
                store = Store(home.state)
                store.write("INSERT INTO revocation_requests (node_id) VALUES ('north')")
                store.close()
                server.events.wait_for("revoked")
                assert "were revoked by the coordinator's operator" in stolen.fails(REFUSED, "status")
                again = Node(tmp_path / "north-again")
                again.ok("init")
                again.ok("enroll", "--invite", invited(home, "north", tmp_path / "again.json"))
                again.train(small_files["north"], study)
                again.ok("approve")
                assert "sent under its earlier keys, and stands" in again.fails(REFUSED, "submit")
            node.ok("submit")
        server.events.wait_for("published")
        digest = sha256_file(stolen.home / "outbox" / "model.sealed")
        said = again.fails(REFUSED, "fetch")
        assert digest in said and "--sent-earlier" in said
        assert "--sent-earlier" in again.fails(REFUSED, "fetch", "--sent-earlier", "0" * 64)
        again.ok("fetch", "--sent-earlier", digest)

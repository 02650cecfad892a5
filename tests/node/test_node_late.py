"""A node that comes late: it gets the first global model as it is, and a later one that it is in when it asks for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_file
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.bundle import sign_statement, verify_bundle
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.statement import GLOBAL, make_statement, parse_statement
from epgfn.study import Study
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_node.enroll import Connection
from epgfn_node.fetch import verify_global
from epgfn_node.home import NodeHome
from epgfn_node.outbox import load_package
from epgfn_node.settings import NodeSettings
from epgfn_node.study import load_agreement
from parties import REFUSED, CoordinatorProcess, Node

LATE = {
    "aggregation": {"close_when": "quorum", "quorum": 1, "late": "new-aggregate"},
    "transport": {"keep_round_key": True},
}


@pytest.fixture
def study(small_study: Study) -> Study:
    """Closes with the first model and takes the other one late."""
    return small_study.with_changes(LATE)


@pytest.mark.slow
def test_a_late_node_is_told_before_and_gets_both_models(
    tmp_path: Path, study: Study, small_files: dict[str, Path]
) -> None:
    file = tmp_path / "late.toml"
    file.write_bytes(study.raw)
    with CoordinatorProcess(tmp_path / "coordinator", file) as coordinator:
        north = Node(tmp_path / "north").join(coordinator, "north").train(small_files["north"], study)
        south = Node(tmp_path / "south").join(coordinator, "south").train(small_files["south"], study)
        assert "subposterior" in north.ok("inspect") and "by exactly one node" in north.ok("inspect")
        for node in (north, south):
            node.ok("approve")
        north.ok("submit")
        north.ok("fetch", "--wait", "300")
        first = sha256_file(north.home / "global/model.safetensors")
        assert "only 1" in north.fails(REFUSED, "fetch", "--aggregate", "2")

        south.ok("submit")
        south.ok("fetch", "--aggregate", "2", "--wait", "300")
        said = south.ok(
            "fetch"
        )  # without asking for another: the first, which is without its own model and says so
        assert "--aggregate 2" in said
        assert sha256_file(south.home / "global/model.safetensors") == first
        north.ok("fetch", "--aggregate", "2")
        second = sha256_file(north.home / "aggregates/2/model.safetensors")
        assert second == sha256_file(south.home / "aggregates/2/model.safetensors") != first
    assert sha256_file(north.home / "global/model.safetensors") == first
    export(Home(tmp_path / "coordinator"), tmp_path / "run")
    assert sha256_file(tmp_path / "run/aggregates/2/model.safetensors") == second
    for node in (north, south):  # with either number they get the whole run as it is
        result = node.home / "result"
        assert sha256_file(result / "aggregates/2/model.safetensors") == second
        assert sha256_file(result / "global/model.safetensors") == first and audit_run(node.home).ok

    # North sent in time, and no statement makes it late: neither without it in the first model nor in the second.
    home = NodeHome(north.home)
    connection = Connection.load(home, NodeSettings())
    agreement = load_agreement(home, connection.trust)
    package, key = (
        load_package(connection, agreement),
        SigningKey.load(tmp_path / "coordinator/keys/signing.key"),
    )
    for folder, before in (("global", 99), ("aggregates/2", None)):
        good = parse_statement(
            verify_bundle(
                (north.home / folder / "model.sigstore.json").read_bytes(), connection.trust.coordinator
            )
        )
        others = [each for each in good.predicate["aggregated"] if each["node_id"] != "north"]
        without = {
            "aggregated": others,
            "absent": sorted({"north", "south"} - {each["node_id"] for each in others}),
        }
        forged = sign_statement(make_statement(good.subjects, GLOBAL, {**good.predicate, **without}), key)
        with pytest.raises(RefusedError) as refused:
            verify_global(connection, agreement, package, forged, before=before)
        assert refused.value.reason == "left-out"

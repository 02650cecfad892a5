"""A model that comes after publication: refused, or in a further aggregate of its own; what was published never changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator_client import (
    GONE,
    FakeNode,
    InProcess,
    OwnProcess,
    ledger_kinds,
    make_home,
    reason_of,
    tiny_study,
)
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import sha256_file, sha256_hex
from epgfn.run.audit.audit import audit_run
from epgfn.run.report import write_report
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.statement import GlobalPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home

ROSTER = '["a", "b", "c"]'


def late_study(**changes: object) -> Study:
    """Closes with the first model and takes late ones."""
    rules = {"quorum": 1, "close_when": "quorum", "late": "new-aggregate", "keep": "true"}
    return tiny_study(roster=ROSTER, **{**rules, **changes})


def digests(home: Home, place: str) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in (home.root / place).iterdir()}


def who_is_in(node: FakeNode, aggregate: int) -> tuple[set[str], set[str]]:
    """The nodes that the signed statement names as aggregated and absent, and the file it is about, checked."""
    answer = node.result(aggregate)
    key = VerifyKey.from_pem(node.invitation["coordinator_key_pem"].encode())
    statement = parse_statement(verify_bundle(answer.bundle, key))
    said = predicate_of(statement, GlobalPredicate)
    assert sha256_hex(node.download(aggregate=aggregate)) == statement.subjects["model.safetensors"]
    return {upload.node_id for upload in said.aggregated}, set(said.absent)


def test_each_late_model_makes_a_further_aggregate_and_changes_nothing_before_it(tmp_path: Path) -> None:
    study = late_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        nodes = {name: FakeNode.enrolled(home, name) for name in "abc"}
        nodes["a"].send(nodes["a"].make_upload(study))
        server.events.wait_for("published")
        first = digests(home, "global")
        assert reason_of(lambda: nodes["a"].result(2)) == "no-such-aggregate"

        upload = nodes["b"].make_upload(study, seed=1)
        receipt = nodes["b"].send(upload)
        assert server.events.wait_for("published-late")["number"] == 2
        assert nodes["b"].send(upload) == receipt
        assert reason_of(lambda: nodes["b"].send(nodes["b"].make_upload(study, seed=5))) == "already-accepted"
        second = digests(home, "aggregates/2")

        nodes["c"].send(nodes["c"].make_upload(study, seed=2))
        assert server.events.wait_for("published-late", nth=2)["number"] == 3
        assert who_is_in(nodes["c"], 0) == who_is_in(nodes["c"], 1) == ({"a"}, {"b", "c"})
        assert who_is_in(nodes["c"], 2) == ({"a", "b"}, {"c"})
        assert who_is_in(nodes["c"], 3) == ({"a", "b", "c"}, set())
        assert nodes["a"].result(3).aggregates == 3
    assert (digests(home, "global"), digests(home, "aggregates/2")) == (first, second)
    kinds = ledger_kinds(home)
    assert [kinds.count(kind) for kind in ("accepted", "global", "key-destroyed", "refused")] == [3, 3, 0, 1]

    run = tmp_path / "run"
    assert export(home, run) == "published"
    report = audit_run(run)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    said = {finding.check: finding.message for finding in report.findings}
    assert (
        "(a)" in said["global"] and "(a, b)" in said["aggregates 2"] and "(a, b, c)" in said["aggregates 3"]
    )
    summary = json.loads((run / "aggregates/3/summary.json").read_text())
    assert (summary["aggregated"], summary["absent"], summary["number"]) == (["a", "b", "c"], [], 3)
    assert summary["change"]["from"] == "aggregates/2"
    page = write_report(run).read_text()
    assert "aggregates/2" in page and "a, b, c" in page and "b, c are not in the product" in page
    assert audit_run(run).ok


@pytest.mark.slow
def test_a_late_aggregate_survives_a_kill_in_each_of_its_steps(tmp_path: Path) -> None:
    study = late_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        a.send(a.make_upload(study))
        server.wait_for("published")
        upload = b.make_upload(study, seed=1)
    first = digests(home, "global")

    with OwnProcess(home, die_before="epgfn_coordinator.together:train_global") as server:
        with pytest.raises(EpgfnError, match=GONE):
            while b.send(upload):  # accepted; then it dies when the model should be trained
                pass
        server.wait_for_death()
    for step in (
        "epgfn_coordinator.publication:add_change",  # files are written
        "epgfn_coordinator.publication:sign_statement",
        "epgfn_coordinator.publication:GlobalEntry",  # the statement is written, the ledger knows nothing of it
    ):
        with OwnProcess(home, die_before=step) as server:
            server.wait_for_death()
        assert ledger_kinds(home).count("global") == 1

    export(home, tmp_path / "early")
    waiting = [finding for finding in audit_run(tmp_path / "early").findings if not finding.ok]
    assert [finding.check for finding in waiting] == ["complete"] and "of b is accepted" in waiting[0].message
    assert not (tmp_path / "early" / "aggregates").exists()

    with OwnProcess(home) as server:
        server.wait_for("published-late")
        assert who_is_in(b, 2) == ({"a", "b"}, {"c"})
    assert digests(home, "global") == first
    assert [ledger_kinds(home).count(kind) for kind in ("accepted", "global")] == [2, 2]
    export(home, tmp_path / "run")
    assert audit_run(tmp_path / "run").ok


def test_while_the_first_is_made_a_late_model_is_asked_to_come_again(tmp_path: Path) -> None:
    study = late_study(steps=100_000)
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        upload = b.make_upload(study, seed=1)
        begun = b.begin(upload.bundle)
        a.send(a.make_upload(study))
        server.events.wait_for("aggregating")
        assert reason_of(lambda: b.begin(upload.bundle)) == "aggregating"
        assert reason_of(lambda: b.upload(begun.upload_id, upload.sealed)) == "aggregating"
    assert "refused" not in ledger_kinds(home)  # it may come again, so nothing is held against it


def test_without_the_study_saying_so_a_late_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    study = late_study(late="refuse")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        a.send(a.make_upload(study))
        server.events.wait_for("published")
        assert reason_of(lambda: b.send(b.make_upload(study, seed=1))) == "round-closed"
    assert ledger_kinds(home).count("global") == 1
    with pytest.raises(UsageError, match="keep_round_key"):
        late_study(keep="false")

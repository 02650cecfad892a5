"""`epgfn audit` of rounds with more than one model: late ones and those without a node are exactly what the study allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from epgfn.ledger.entries import KeyDestroyedEntry, StateEntry
from epgfn.run.audit.audit import AuditReport, audit_run
from epgfn.sealing.predicates import LEAVE_ONE_OUT
from epgfn.study import Study
from run_directory import ROUND_ID, STUDY_TEXT, RunDirectory, opened

LATE = STUDY_TEXT.replace(
    "[aggregation]\n", '[transport]\nkeep_round_key = true\n[aggregation]\nlate = "new-aggregate"\n'
)
WITHOUT = STUDY_TEXT.replace("[aggregation]\n", "[aggregation]\nleave_one_out = true\n")


def failed(report: AuditReport) -> set[str]:
    return {finding.check for finding in report.findings if not finding.ok}


def late_run(root: Path, text: str = LATE) -> RunDirectory:
    """North and south in time, published; then west."""
    run = opened(root, Study.from_bytes(text.encode()))
    run.send("north")
    run.send("south")
    run.close()
    run.send("west")
    return run


def leave_out_run(root: Path, *left_out: str, text: str = WITHOUT) -> RunDirectory:
    """North and south; models without each of `left_out`."""
    run = opened(root, Study.from_bytes(text.encode()))
    run.send("north")
    run.send("south")
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.aggregate("global")
    for node in left_out:
        run.aggregate(f"leave-one-out/{node}", left_out=node)
    run.end()
    return run


def test_a_late_model_in_a_further_aggregate_passes_and_says_who_is_in_which(tmp_path: Path) -> None:
    run = late_run(tmp_path / "run")
    run.aggregate("aggregates/2")
    report = audit_run(run.finish())
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    said = {finding.check: finding.message for finding in report.findings}
    assert "(north, south)" in said["global"] and "(north, south, west)" in said["aggregates 2"]
    assert "summary.json" not in said["not-signed"]


def test_an_accepted_late_model_that_is_in_nothing_is_named(tmp_path: Path) -> None:
    report = audit_run(late_run(tmp_path / "run").finish())
    assert failed(report) == {"complete"}
    assert "west" in next(finding.message for finding in report.findings if not finding.ok)


def test_nothing_may_come_late_where_the_study_does_not_say_so(tmp_path: Path) -> None:
    run = late_run(tmp_path / "run", LATE.replace("new-aggregate", "refuse"))
    run.aggregate("aggregates/2")
    assert "ledger-entries" in failed(audit_run(run.finish()))


@pytest.mark.parametrize("number", range(5))
def test_a_further_aggregate_of_other_uploads_than_it_should_hold_fails(tmp_path: Path, number: int) -> None:
    run = late_run(tmp_path / "run")
    north, south, west = (run.aggregated(node) for node in ("north", "south", "west"))
    changes: dict[str, object] = [
        {"aggregated": [north, south], "absent": ["west"]},  # the late one is dropped
        {"aggregated": [west], "absent": ["north", "south"]},  # the others are
        {"aggregated": [north, west], "absent": ["south"]},
        {"aggregated": [{**north, "sealed_sha256": west["sealed_sha256"]}, south, west]},
        {"absent": ["east"]},
    ][number]
    run.aggregate("aggregates/2", **changes)
    assert failed(audit_run(run.finish())) == {"aggregates 2"}


def test_a_further_aggregate_must_hold_something_new(tmp_path: Path) -> None:
    run = late_run(tmp_path / "run")
    run.aggregate("aggregates/2")
    run.aggregate("aggregates/3")
    assert failed(audit_run(run.finish())) == {"aggregates 3"}


def test_the_first_model_is_the_first_for_ever(tmp_path: Path) -> None:
    """Whoever puts the later model in its place is found out, although the coordinator signed both."""
    run = late_run(tmp_path / "run")
    run.aggregate("aggregates/2")
    root = run.finish()
    for name in ("model.safetensors", "model.sigstore.json", "samples.parquet"):
        (root / "global" / name).write_bytes((root / "aggregates/2" / name).read_bytes())
    assert "global" in failed(audit_run(root))


def test_a_model_without_each_node_passes(tmp_path: Path) -> None:
    report = audit_run(leave_out_run(tmp_path / "run", "north", "south").finish())
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    said = {finding.check: finding.message for finding in report.findings}
    assert "without that of north (south)" in said["leave-one-out north"]


def test_each_node_must_be_left_out_once_where_the_study_asks_and_never_elsewhere(tmp_path: Path) -> None:
    report = audit_run(leave_out_run(tmp_path / "missing", "north").finish())
    assert failed(report) == {"complete"}
    assert "without south" in next(finding.message for finding in report.findings if not finding.ok)
    twice = leave_out_run(tmp_path / "twice", "north", "north", "south")
    assert "ledger-entries" in failed(audit_run(twice.finish()))
    stranger = leave_out_run(tmp_path / "stranger", "north", "south", "west")  # which had sent nothing
    assert "ledger-entries" in failed(audit_run(stranger.finish()))
    unasked = leave_out_run(tmp_path / "unasked", "north", "south", text=STUDY_TEXT)
    assert "ledger-entries" in failed(audit_run(unasked.finish()))


@pytest.mark.parametrize("number", range(3))
def test_a_model_without_a_node_is_signed_as_what_it_is(tmp_path: Path, number: int) -> None:
    run = opened(tmp_path / "run", Study.from_bytes(WITHOUT.encode()))
    run.send("north")
    run.send("south")
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.aggregate("global")
    run.aggregate("leave-one-out/north", left_out="north")
    changes: dict[str, object] = [
        {"absent": ["north", "south", "west"], "aggregated": []},
        {"aggregated": [run.aggregated("south")], "absent": ["north", "west"], "left_out": "north"},
        {"absent": ["south"]},
    ][number]
    run.aggregate("leave-one-out/south", left_out="south", more=changes)
    run.end()
    assert failed(audit_run(run.finish())) == {"leave-one-out south"}


def test_a_statement_on_a_model_without_a_node_is_none_on_the_global_model(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.send("south")
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.aggregate("global", kind=LEAVE_ONE_OUT, more={"left_out": "west"})
    run.end()
    assert failed(audit_run(run.finish())) == {"global"}


@pytest.mark.parametrize("state", ["failed", "abandoned"])
def test_a_round_that_ended_without_a_result_passes_and_may_show_none(tmp_path: Path, state: str) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.log(StateEntry(round_id=ROUND_ID, state=state))
    run.log(KeyDestroyedEntry(round_id=ROUND_ID, round_key_id=run.round_key.key_id))
    root = run.finish()
    report = audit_run(root)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    assert f"ended as {state}" in next(f.message for f in report.findings if f.check == "global")
    (root / "global").mkdir()
    (root / "global/model.safetensors").write_bytes(run.model("global", 0.0))
    assert failed(audit_run(root)) == {"files"}


def test_an_abandoned_round_whose_key_is_still_there_fails(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.log(StateEntry(round_id=ROUND_ID, state="abandoned"))
    assert failed(audit_run(run.finish())) == {"round-key"}

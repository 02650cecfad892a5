"""A model that cannot be combined with the others is refused, or excluded by name; it never stops a round."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import coordinator_client
from coordinator_client import (
    FakeNode,
    InProcess,
    OwnProcess,
    ledger_kinds,
    make_home,
    random_tensors,
    reason_of,
    tiny_study,
)
from epgfn.base.errors import EpgfnError
from epgfn.gflownet.policies import order_potential
from epgfn.gflownet.policies.validation import MAX_MAGNITUDE
from epgfn.gflownet.training.loop import TrainingEnded
from epgfn.learn import policy
from epgfn.learn.policy import validate_policy
from epgfn.ledger.entries import ExcludedEntry, parse
from epgfn.run.audit.audit import audit_run
from epgfn.run.report.run import read_run
from epgfn.study import Study
from epgfn_coordinator import main_loop
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.status import status
from epgfn_coordinator.together import Trainer

UNBOUNDED = """
from epgfn.gflownet.policies import order_potential
from epgfn.learn import policy
order_potential.bounded = lambda said: said
policy.validate_policy = lambda *_, **__: None
"""
ROSTER = '["a", "b", "c"]'


def overflowing(study: Study) -> dict[str, Tensor]:
    """Ordinary numbers but for 3e38 where both x and y are in the graph: not a number there, and nowhere else."""
    tensors = random_tensors(study)
    for name in ("net.0", "net.1"):
        tensors[f"{name}.weight"] = 0.1 * torch.randn(tensors[f"{name}.weight"].shape)
    first, second = tensors["net.0.weight"], tensors["net.1.weight"]
    first[:, 0] = 0.0
    first[:2, 0] = 1e3  # -1 or 1 each
    tensors["net.0.bias"][0] = -1.5e3
    second[0, 0] = 3e38
    return tensors


def of_nobody(study: Study, tensors: Mapping[str, Tensor], older: bool = False) -> None:
    """A check that takes everything."""


@pytest.fixture
def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that may say anything, and checks that take it: what was before there were bounds."""
    monkeypatch.setattr(order_potential, "bounded", lambda said: said)
    monkeypatch.setattr(policy, "validate_policy", of_nobody)


def excluded_entries(home: Home) -> list[ExcludedEntry]:
    store = main_loop.Store(home.state)
    try:
        entries = [parse(raw) for raw in store.entries()]
    finally:
        store.close()
    return [entry for entry in entries if isinstance(entry, ExcludedEntry)]


def test_numbers_beyond_all_bounds_are_refused_on_arrival(tmp_path: Path) -> None:
    study = tiny_study(quorum=1)
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        tensors = random_tensors(study)
        tensors["net.1.weight"][0, 0] = 3e38
        upload = node.make_upload(study, tensors=tensors)
        assert reason_of(lambda: node.send(upload)) == "model-magnitude"
        assert status(home)["state"] == "open"


def test_what_is_not_a_number_on_few_states_is_found_on_arrival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were there a policy without bounds, its states are looked at by chance, and where it would not go itself."""
    study = tiny_study(quorum=1)
    monkeypatch.setattr(order_potential, "bounded", lambda said: said)
    monkeypatch.setattr("epgfn.learn.policy.check_tensors", lambda tensors, spec: None)
    with pytest.raises(EpgfnError, match="not a policy"):
        validate_policy(study, overflowing(study))


@pytest.mark.parametrize("signs", [False, True])
def test_the_largest_numbers_allowed_do_not_stop_a_round(tmp_path: Path, signs: bool) -> None:
    study = tiny_study(steps=5)
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        for name in "ab":
            node = FakeNode.enrolled(home, name)
            tensors = random_tensors(study)
            if name == "b":
                for key, tensor in tensors.items():
                    coin = torch.rand(tensor.shape) < 0.5 if signs else torch.zeros(tensor.shape) > 0
                    loud = torch.where(coin, -MAX_MAGNITUDE, MAX_MAGNITUDE)
                    tensors[key] = torch.where(tensor != 0, loud, tensor) if key == "score_table" else loud
            node.send(node.make_upload(study, tensors=tensors))
        assert server.events.wait_for("published", "ended")["phase"] == "published"
    json.loads((home.result / "summary.json").read_text(), parse_constant=_no_constant)
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings


def test_a_model_that_fails_in_aggregation_is_excluded_and_the_rest_is_published(
    tmp_path: Path, unbounded: None
) -> None:
    study = tiny_study(roster=ROSTER, quorum=2, leave_one_out="true")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        nodes = {name: FakeNode.enrolled(home, name) for name in "abc"}
        for seed, (name, node) in enumerate(nodes.items()):
            tensors = overflowing(study) if name == "b" else random_tensors(study, seed)
            node.send(node.make_upload(study, tensors=tensors))
        assert server.events.wait_for("published", "ended")["phase"] == "published"
        assert "b" in server.events.wait_for("excluded")["message"]
        assert "excluded" in nodes["a"].round().detail
        assert json.loads(nodes["b"].result().exclusion)["reason"] == "model-not-combined"
        assert nodes["a"].result().exclusion == b""
    found = status(home)
    assert (found["accepted"], found["excluded"]) == (["a", "c"], ["b (model-not-combined)"])
    kinds = ledger_kinds(home)
    assert kinds.count("excluded") == 1 and kinds.count("leave-one-out") == 2
    assert [entry.node_id for entry in excluded_entries(home)] == ["b"]
    summary = json.loads((home.result / "summary.json").read_text())
    assert (summary["aggregated"], summary["absent"]) == (["a", "c"], ["b"])

    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings
    said = {finding.check: finding.message for finding in report.findings}
    assert "EXCLUDED" in said["upload b"] and "b (model-not-combined)" in said["ledger-entries"]
    assert [entry.node_id for _, entry in read_run(tmp_path / "run").excluded] == ["b"]


def test_killed_after_an_exclusion_it_goes_on_without_that_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_client, "DYING", UNBOUNDED + coordinator_client.DYING)
    study = tiny_study(roster=ROSTER, quorum=2)
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home, die_before="epgfn_coordinator.publication:sign_statement") as server:
        for seed, name in enumerate("abc"):
            node = FakeNode.enrolled(home, name)
            tensors = overflowing(study) if name == "b" else random_tensors(study, seed)
            upload = node.make_upload(study, tensors=tensors)
            with contextlib.suppress(
                *([EpgfnError] if name == "c" else [])
            ):  # it may be dead before it answers
                node.send(upload)
        server.wait_for_death()
    assert [entry.node_id for entry in excluded_entries(home)] == ["b"]
    with OwnProcess(home) as server:
        server.wait_for("published")
    assert [entry.node_id for entry in excluded_entries(home)] == ["b"]
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings


def test_a_model_that_was_accepted_before_a_check_was_made_is_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(quorum=1)
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        tensors = random_tensors(study)
        tensors["net.1.bias"][0] = 3e38
        with monkeypatch.context() as before:
            before.setattr(policy, "validate_policy", of_nobody)
            a.send(a.make_upload(study, tensors=tensors))
        b.send(b.make_upload(study))
        server.events.wait_for("published")
    assert [(e.node_id, e.reason) for e in excluded_entries(home)] == [("a", "model-magnitude")]
    export(home, tmp_path / "run")
    assert audit_run(tmp_path / "run").ok


def test_below_the_quorum_the_round_waits_and_others_may_come(tmp_path: Path, unbounded: None) -> None:
    study = tiny_study(roster=ROSTER, quorum=2, close_when="quorum")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        nodes = {name: FakeNode.enrolled(home, name) for name in "abc"}
        nodes["a"].send(nodes["a"].make_upload(study))
        nodes["b"].send(nodes["b"].make_upload(study, tensors=overflowing(study)))
        assert "fewer than the quorum" in server.events.wait_for("waiting", "ended")["message"]
        assert home.key("round.key").exists() and status(home)["grace_ends"]
        assert reason_of(lambda: nodes["c"].send(nodes["c"].make_upload(study))) == "waiting"
    with InProcess(home) as server:
        pass  # a restart changes nothing
    assert status(home)["state"] == "waiting"
    main_loop.extend(home, Journal(server.events), datetime.now(UTC) + timedelta(days=1))
    with InProcess(home) as server:
        other = nodes["b"]
        assert reason_of(lambda: other.send(other.make_upload(study, seed=9))) == "already-accepted"
        nodes["c"].send(nodes["c"].make_upload(study, seed=2))
        assert server.events.wait_for("published", "ended")["phase"] == "published"
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings


def test_in_one_process_a_round_opened_again_is_aggregated_again(tmp_path: Path, unbounded: None) -> None:
    study = tiny_study(roster=ROSTER, quorum=2, close_when="quorum")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        nodes = {name: FakeNode.enrolled(home, name) for name in "abc"}
        nodes["a"].send(nodes["a"].make_upload(study))
        nodes["b"].send(nodes["b"].make_upload(study, tensors=overflowing(study)))
        server.events.wait_for("waiting")
        store = main_loop.Store(home.state)
        store.write(
            "INSERT INTO requests (deadline) VALUES (?)", (datetime.now(UTC) + timedelta(days=1)).isoformat()
        )
        store.close()
        server.events.wait_for("extended")
        nodes["c"].send(nodes["c"].make_upload(study, seed=2))
        assert server.events.wait_for("published", "ended")["phase"] == "published"


def test_training_that_diverges_lets_the_round_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any, **__: Any) -> Any:
        raise TrainingEnded("training diverged at step 1 of 2")

    monkeypatch.setattr(Trainer, "train", diverge)
    study = tiny_study(quorum=1, close_when="quorum")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))
        assert "diverged" in server.events.wait_for("waiting", "ended")["message"]
        assert "diverged" in node.round().detail
    export(home, tmp_path / "run")
    said = {finding.check: finding for finding in audit_run(tmp_path / "run").findings}
    assert said["ledger-entries"].ok and "waiting" in said["global"].message


def test_a_late_model_that_cannot_be_combined_is_excluded_and_others_go_on(
    tmp_path: Path, unbounded: None
) -> None:
    study = tiny_study(roster=ROSTER, quorum=1, close_when="quorum", late="new-aggregate", keep="true")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        nodes = {name: FakeNode.enrolled(home, name) for name in "abc"}
        nodes["a"].send(nodes["a"].make_upload(study))
        server.events.wait_for("published")
        nodes["b"].send(nodes["b"].make_upload(study, tensors=overflowing(study)))
        server.events.wait_for("excluded")
        nodes["c"].send(nodes["c"].make_upload(study, seed=2))
        server.events.wait_for("published-late")
    assert status(home)["late"] == []
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")

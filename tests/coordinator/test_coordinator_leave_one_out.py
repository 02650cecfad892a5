"""How far each node moves the posterior: models without it, signed and audited, where the study asks for them; never otherwise."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from coordinator_client import FakeNode, InProcess, OwnProcess, ledger_kinds, make_home, tiny_study
from epgfn.base.errors import RefusedError, UsageError
from epgfn.learn.policy import initial_policy
from epgfn.run.audit.audit import audit_run
from epgfn.run.report import write_report
from epgfn.run.report.run import read_run
from epgfn.run.summary import distance, noise_of, probabilities_of, sampling_noise
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.statement import GlobalPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn_coordinator.export import export

ROSTER = '["a", "b", "c"]'
DANGER = "subposterior"


def asking_study(**changes: object) -> Study:
    return tiny_study(**{"roster": ROSTER, "quorum": 2, "leave_one_out": "true", **changes})


def failed(run: Path) -> set[str]:
    return {finding.check for finding in audit_run(run).findings if not finding.ok}


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    """The run directory of a round that was killed twice while it left nodes out, and what export printed."""
    root = tmp_path_factory.mktemp("coordinator")
    study = asking_study()
    home = make_home(root / "home", study)
    with OwnProcess(home, die_before="epgfn_coordinator.publication:LeaveOneOutEntry") as server:
        for seed, name in enumerate("abc"):
            node = FakeNode.enrolled(home, name)
            upload = node.make_upload(study, seed=seed)
            try:
                node.send(upload)
            except Exception:
                assert name == "c"  # the last one may find it dead already
        server.wait_for_death()  # a model without the first node is written, the ledger knows nothing of it
    assert [ledger_kinds(home).count(kind) for kind in ("global", "leave-one-out")] == [1, 0]
    with OwnProcess(home, die_before="epgfn_coordinator.publication:destroy_round_key") as server:
        server.wait_for_death()
    assert [ledger_kinds(home).count(kind) for kind in ("global", "leave-one-out")] == [1, 3]
    with OwnProcess(home) as server:
        server.wait_for("published")
    assert not home.key("round.key").exists()
    command = [sys.executable, "-m", "epgfn_coordinator", "export", "--home", str(home.root)]
    done = subprocess.run([*command, "--out", str(root / "run")], capture_output=True, text=True, check=True)
    yield root / "run", done


@pytest.mark.slow
def test_there_is_one_signed_model_without_each_node(
    exported: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run, printed = exported
    assert DANGER in printed.stdout  # whoever exports is told what the directory gives away
    report = audit_run(run)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    said = {finding.check: finding.message for finding in report.findings}
    assert "without that of b (a, c)" in said["leave-one-out b"]
    key = VerifyKey.from_pem((run / "keys/coordinator.pem").read_bytes())
    for node in "abc":
        folder = run / "leave-one-out" / node
        assert sorted(path.name for path in folder.iterdir()) == [
            "model.safetensors",
            "model.sig",
            "model.sigstore.json",
            "summary.json",
        ]
        statement = parse_statement(verify_bundle((folder / "model.sigstore.json").read_bytes(), key))
        assert statement.predicate["left_out"] == node and node in statement.predicate["absent"]
        with pytest.raises(RefusedError):  # it can never pass for the global model
            predicate_of(statement, GlobalPredicate)


@pytest.mark.slow
def test_the_influence_of_each_node_is_the_distance_of_the_edge_probabilities(
    exported: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run, _ = exported
    summary = json.loads((run / "global/summary.json").read_text())
    whole = np.array(summary["edge_probabilities"])
    influence = read_run(run).influence
    assert influence is not None and sorted(influence.nodes) == ["a", "b", "c"]
    for node, found in influence.nodes.items():
        without = json.loads((run / "leave-one-out" / node / "summary.json").read_text())
        change = np.abs(whole - np.array(without["edge_probabilities"]))
        assert without["left_out"] == node and node not in without["aggregated"]
        assert found.largest == pytest.approx(change.max())
        assert found.mean == pytest.approx(change.sum() / 6)
    page = write_report(run, out=tmp_path / "report.html").read_text()
    assert "not a proof" in page and (tmp_path / "influence.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_model_without_a_node_cannot_be_dropped_swapped_or_changed(
    exported: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run, _ = exported
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    a, b = copy / "leave-one-out/a", copy / "leave-one-out/b"
    for name in ("model.safetensors", "model.sigstore.json", "summary.json"):
        raw = (a / name).read_bytes()
        (a / name).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        assert failed(copy) == {"leave-one-out a"}, name
        (a / name).unlink()
        assert failed(copy) == {"leave-one-out a"}, name
        (a / name).write_bytes(raw)
    assert audit_run(copy).ok
    for name in ("model.safetensors", "model.sigstore.json", "summary.json"):
        (a / name).rename(tmp_path / name)
        (b / name).rename(a / name)
        (tmp_path / name).rename(b / name)
    assert failed(copy) == {"leave-one-out a", "leave-one-out b"}
    (copy / "leave-one-out/d").mkdir()
    (copy / "leave-one-out/d/model.safetensors").write_bytes(b"another")
    assert "files" in failed(copy)


def test_a_node_that_contradicts_the_others_moves_the_result_most(tmp_path: Path) -> None:
    study = asking_study(quorum=3)
    space = space_of(study)
    draw = torch.Generator().manual_seed(0)
    shared = 1.5 * torch.randn((space.n_variables, space.n_sets), generator=draw, dtype=torch.float64)
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        for name, factor in (("a", 1.0), ("b", 1.0), ("c", -3.0)):
            node = FakeNode.enrolled(home, name)
            tensors = initial_policy(study, factor * shared, draw)
            node.send(node.make_upload(study, tensors=tensors))
        server.events.wait_for("published")
    whole, *without = (
        json.loads((home.aggregate(place) / "summary.json").read_text())
        for place in ("global", *(f"leave-one-out/{node}" for node in "abc"))
    )
    a, b, c = (distance(probabilities_of(whole), probabilities_of(summary))["mean"] for summary in without)
    assert c > 2 * max(a, b) > 2 * noise_of(whole)


def test_with_one_model_there_is_nothing_to_leave_out_and_the_report_says_so(tmp_path: Path) -> None:
    study = asking_study(quorum=1, close_when="quorum")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))
        server.events.wait_for("published")
    export(home, tmp_path / "run")
    assert audit_run(tmp_path / "run").ok and not (tmp_path / "run/leave-one-out").exists()
    assert "only one node" in write_report(tmp_path / "run").read_text()


def test_it_is_off_unless_the_study_says_so_and_the_study_warns() -> None:
    assert not tiny_study().aggregation.leave_one_out and not tiny_study().disclosure
    assert DANGER in asking_study().disclosure
    with pytest.raises(UsageError, match="at least two nodes"):
        asking_study(roster='["a"]', quorum=1)


def test_distance_and_noise_are_what_they_say() -> None:
    one = {("x", "y"): 0.9, ("x", "z"): 0.0, ("z", "x"): 0.0}
    other = {("x", "y"): 0.3, ("x", "z"): 0.0, ("z", "x"): 0.3}
    found = distance(one, other)
    assert found["mean"] == pytest.approx(0.9 / 3) and found["largest"] == pytest.approx(0.6)
    assert found["edge"] == ["x", "y"] and "question" not in found
    p, n = 0.3, 4000
    draw = np.random.default_rng(0)
    between = np.abs(draw.binomial(n, p, 20_000) - draw.binomial(n, p, 20_000)).mean() / n
    assert sampling_noise(dict.fromkeys(one, p), n) == pytest.approx(between, rel=0.03)


def test_of_other_objects_what_one_model_never_showed_counts_as_zero() -> None:
    found = distance({"{a, b}": 0.5, "{b, c}": 0.25}, {"{a, b}": 0.25, "{a, c}": 0.5})
    assert found == {"mean": pytest.approx(1.0 / 3), "largest": 0.5, "question": "{a, c}"}

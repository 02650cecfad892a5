"""Whatever models come in, the round has a defined end: they are refused on arrival, or a result, or a sentence and a way out."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import ready
from coordinator_client import (
    DYING,
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
from epgfn.run.audit.audit import audit_run
from epgfn.run.model import load_model
from epgfn.sealing.model_file import FORMAT, write_model
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.status import status
from parties import on_coordinator


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    if arguments[0] != "serve":
        return on_coordinator(*arguments)
    return subprocess.run(
        [sys.executable, "-m", "epgfn_coordinator", *arguments], capture_output=True, text=True, check=False
    )


def test_models_of_another_shape_or_study_are_refused_and_the_node_may_send_a_right_one(
    tmp_path: Path,
) -> None:
    study = tiny_study(roster='["a"]', quorum=1)
    other = tiny_study(hidden=16)
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        shapes = node.make_upload(study, tensors=random_tensors(other))
        assert reason_of(lambda: node.send(shapes)) == "tensor-shape"
        of_another_study = node.make_upload(other, study_digest=study.digest)  # sealed as what it is not
        assert reason_of(lambda: node.send(of_another_study)) == "cannot-decrypt"
        plain = node.make_upload(other)
        assert reason_of(lambda: node.begin(plain.bundle)) == "wrong-study"
        metadata = {"format": FORMAT, "study_digest": other.digest, "role": "local"}
        relabelled = node.make_upload(study, plaintext=write_model(random_tensors(study), metadata))
        assert reason_of(lambda: node.send(relabelled)) == "wrong-study"
        right = write_model(random_tensors(study), {**metadata, "study_digest": study.digest})
        infinite = node.make_upload(study, plaintext=right[:-4] + struct.pack("<f", float("-inf")))
        assert reason_of(lambda: node.send(infinite)) == "non-finite"
        node.send(node.make_upload(study))
        server.events.wait_for("published")
    kinds = ledger_kinds(home)
    assert (kinds.count("refused"), kinds.count("accepted")) == (5, 1)


def test_a_model_that_gives_nothing_to_what_the_others_give_everything_to_does_not_stop_the_round(
    tmp_path: Path,
) -> None:
    """The largest numbers that are taken, one node's against the other's: each all but forbids what the other is sure of."""
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        for name, sign in (("a", 1.0), ("b", -1.0)):
            tensors = random_tensors(study, seed=1)
            tensors = {key: (sign * 9.9e6 * value.sign()).float() for key, value in tensors.items()}
            node = FakeNode.enrolled(home, name)
            node.send(node.make_upload(study, tensors=tensors))
        assert server.events.wait_for("published", "ended")["phase"] == "published"
    export(home, tmp_path / "run")
    assert audit_run(tmp_path / "run").ok
    assert load_model(tmp_path / "run").edge_probabilities(n=50).shape == (3, 3)
    json.loads((tmp_path / "run/global/summary.json").read_text(), parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_a_study_of_one_node_publishes_that_nodes_posterior(tmp_path: Path) -> None:
    study = tiny_study(roster='["a"]', quorum=1)
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))
        server.events.wait_for("published")
    summary = json.loads((home.result / "summary.json").read_text())
    assert (summary["aggregated"], summary["absent"], summary["absent_prior_share"]) == (["a"], [], 0.0)
    assert summary["diagnostics"]["nodes"]["a"]["disagreement_nats"] == 0.0


def stuck_round(root: Path, **changes: object) -> Home:
    """A round that can never be aggregated: the disk has lost an accepted model."""
    study = tiny_study(**changes)
    home = make_home(root / "home", study)
    with OwnProcess(home, die_before="epgfn_coordinator.publication:open_artifacts") as server:
        for seed, name in enumerate("ab"):
            node = FakeNode.enrolled(home, name)
            upload = node.make_upload(study, seed=seed)
            try:
                node.send(upload)
            except EpgfnError:
                assert name == "b"  # it may be dead before it answers
        server.wait_for_death()
    artifact = next(home.artifacts.iterdir())
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"?")
    return home


@pytest.mark.slow
def test_a_round_that_cannot_be_aggregated_is_kept_until_the_operator_abandons_it(tmp_path: Path) -> None:
    home = stuck_round(tmp_path)
    for _ in range(2):  # each time one sentence, and nothing is lost
        done = run("serve", "--home", str(home.root), "--events")
        assert done.returncode == 1 and "not the artifact that was accepted" in done.stderr.splitlines()[-1]
    assert status(home)["state"] == "aggregating" and home.key("round.key").exists()

    unsure = run("abandon", "--home", str(home.root))
    assert unsure.returncode == 2 and "--yes" in unsure.stderr and home.key("round.key").exists()
    done = run("abandon", "--home", str(home.root), "--yes")
    assert done.returncode == 0 and "abandoned; its key is destroyed" in done.stdout
    assert run("abandon", "--home", str(home.root), "--yes").returncode == 0  # once more changes nothing
    assert not home.key("round.key").exists()
    assert ledger_kinds(home)[-2:] == ["state", "key-destroyed"]

    found = status(home)
    assert (found["state"], found["round_key"]) == ("abandoned", "destroyed")
    export(home, tmp_path / "run")
    assert not (tmp_path / "run/global").exists()


@pytest.mark.parametrize("keep", ["false", "true"])
def test_an_open_round_is_abandoned_for_good_whatever_interrupts_it_and_can_be_audited(
    tmp_path: Path, keep: str
) -> None:
    study = tiny_study(keep=keep)
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        late = node.make_upload(study, seed=1)
        node.send(node.make_upload(study))
    command = ["abandon", "--home", str(home.root), "--yes"]
    script = [sys.executable, "-c", DYING, "epgfn_coordinator.publication:Publication.abandon", *command]
    assert ready.run(script, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert status(home)["state"] == "abandoned" and home.key("round.key").exists()
    assert run(*command).returncode == 0
    assert home.key("round.key").exists() == (keep == "true")
    with InProcess(home):
        assert "abandoned" in node.round().detail
        assert reason_of(node.result) == "round-failed"
        assert reason_of(lambda: node.send(late)) == "already-accepted"
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    said = {finding.check: finding.message for finding in report.findings}
    assert report.ok and "ended as abandoned" in said["global"], report.findings
    (tmp_path / "run/global").mkdir()
    (tmp_path / "run/global/model.safetensors").write_bytes(b"shown all the same")
    assert not audit_run(tmp_path / "run").ok


def test_what_has_a_result_cannot_be_abandoned_nor_what_is_being_served(tmp_path: Path) -> None:
    study = tiny_study(roster='["a"]', quorum=1)
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))
        server.events.wait_for("published")
        serving = run("abandon", "--home", str(home.root), "--yes")
        assert serving.returncode == 1 and "stop that one first" in serving.stderr
    done = run("abandon", "--home", str(home.root), "--yes")
    assert done.returncode == 1 and "cannot be abandoned" in done.stderr
    assert status(home)["state"] == "published"

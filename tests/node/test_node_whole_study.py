"""A whole study between real processes on a bad network: nothing is lost, nothing is sent twice, the result is checked."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import epgfn
from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_file
from epgfn.rpc import PIECE
from epgfn.sealing.bundle import sign_statement, verify_bundle
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.statement import GLOBAL, GlobalPredicate, make_statement, parse_statement, predicate_of
from epgfn.study import Study
from epgfn_node import client
from epgfn_node.enroll import Connection
from epgfn_node.fetch import verify_global
from epgfn_node.home import NodeHome
from epgfn_node.outbox import load_package
from epgfn_node.settings import NodeSettings
from epgfn_node.study import load_agreement
from parties import REFUSED, WAITING, CoordinatorProcess, Node, require_receipt
from proxy import RecordingProxy

HANDSHAKES = 64 << 10  # more than TLS, framing and the calls beside an upload take, far less than the upload


@pytest.fixture
def big_study(small_study: Study, small_files: dict[str, Path]) -> Study:
    """The same with a network of 4 MB, so that there is a middle of an upload."""
    study = small_study.with_changes(
        {"policy": {"hidden": 1024}, "training": {"steps": 2}, "aggregation": {"steps": 2}}
    )
    small_files["study"].write_bytes(study.raw)
    return study


def test_an_upload_goes_on_after_cuts_and_a_coordinator_that_was_killed(
    big_study: Study, small_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long a command tries again by itself is not what this is about, and on a busy machine 2 s may be short.
    monkeypatch.setattr(client, "QUICK_PATIENCE", 60.0)
    with CoordinatorProcess(tmp_path / "coordinator", small_files["study"]) as coordinator:
        node = Node(tmp_path / "north").join(coordinator, "north").train(small_files["north"], big_study)
        node.ok("approve")
        size = (node.home / "outbox" / "model.sealed").stat().st_size
        half, quarter = _whole_pieces(size // 2), _whole_pieces(size // 4)
        assert quarter > PIECE
        with RecordingProxy(coordinator.address) as proxy:
            node.set(address=proxy.address)

            def kill_once_kept() -> None:
                """In the middle of the upload, when what has passed is kept."""
                _wait_until_kept(coordinator, half)
                coordinator.kill()

            proxy.cut_after(size // 2, kill_once_kept)
            with monkeypatch.context() as impatient:
                impatient.setattr(client, "QUICK_PATIENCE", 1.0)
                assert "run again" in node.fails(REFUSED, "submit")
            assert proxy.was_cut.is_set()
            # It may have arrived, as far as the node can know, so no other model may take its place.
            other = ("train", "--data", str(small_files["north"]), "--accept-study", big_study.digest)
            assert "epgfn-node submit" in node.fails(REFUSED, *other)
            assert not (node.home / "receipts").exists()
            kept = _kept(coordinator)
            assert kept >= half
            proxy.retarget(coordinator.start().address)
            # One more cut, which a command survives on its own.
            proxy.cut_after(size // 4, lambda: _wait_until_kept(coordinator, kept + quarter))
            before = len(proxy.recorded())
            node.ok("submit")
            assert proxy.was_cut.is_set()
            # What the coordinator had kept was not sent again: only the piece that the second cut tore.
            assert len(proxy.recorded()) - before < size - kept + PIECE + HANDSHAKES
        require_receipt(node)


def _whole_pieces(passed: int) -> int:
    """How much of an upload can be kept of so many bytes that have passed: whole pieces only."""
    return (passed - HANDSHAKES) // PIECE * PIECE


def _kept(coordinator: CoordinatorProcess) -> int:
    """Bytes of the one upload under way that are on the coordinator's disk."""
    return sum(part.stat().st_size for part in (coordinator.home / "uploads").glob("*.part"))


def _wait_until_kept(coordinator: CoordinatorProcess, count: int) -> None:
    limit = time.monotonic() + 120
    while _kept(coordinator) < count:
        assert time.monotonic() < limit, f"{_kept(coordinator)} bytes are kept, not {count}"
        time.sleep(0.01)


@dataclass(frozen=True)
class Finished:
    """What is left after a study of two nodes."""

    study: Study
    coordinator: Path
    nodes: dict[str, Node]
    stopped: str
    events: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def finished(small_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Both nodes `run` as processes of their own; north first without consent to sending."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.toml").write_bytes(small_study.raw)
    with CoordinatorProcess(folder / "coordinator", folder / "study.toml") as coordinator:
        commands = {}
        for number, name in enumerate(small_study.roster):
            data = folder / f"{name}.csv"
            rows = np.random.default_rng(number).normal(size=(40, 3))
            np.savetxt(data, rows, delimiter=",", header="a,b,c", comments="")
            invitation = coordinator.invite(name, folder / f"{name}.json")
            options = ["--home", str(folder / name), "--invite", str(invitation), "--data", str(data)]
            commands[name] = [*options, "--accept-study", small_study.digest, "--events"]
        stopped = _run(commands["north"])
        sentence = _read(stopped)[1]
        assert stopped.returncode == WAITING
        assert not (folder / "north" / "outbox").exists()
        # Another file, an old model: sending it would be a mistake that nobody sees.
        swapped = [
            folder / "south.csv" if part == str(folder / "north.csv") else part for part in commands["north"]
        ]
        confused = _run([*map(str, swapped), "--approve-automatically"])
        assert "was not trained on" in _read(confused)[1] and confused.returncode == REFUSED
        assert not (folder / "north" / "outbox").exists()
        running = {name: _run([*command, "--approve-automatically"]) for name, command in commands.items()}
        events = {}
        for name, process in running.items():
            out, err = _read(process)
            assert process.returncode == 0, err
            events[name] = [json.loads(line) for line in out.splitlines()]
        # A finished node may be asked again: every step is done.
        again = _run([*commands["north"], "--approve-automatically"])
        assert '"done"' in _read(again)[0]
    nodes = {name: Node(folder / name) for name in small_study.roster}
    return Finished(small_study, folder / "coordinator", nodes, sentence, events)


def test_a_run_without_consent_stops_before_sending_and_goes_on_later(finished: Finished) -> None:
    assert "epgfn-node approve" in finished.stopped
    assert "training" not in [event["phase"] for event in finished.events["north"]]


def test_a_run_says_how_far_it_is(finished: Finished) -> None:
    phases = [event["phase"] for event in finished.events["south"]]
    before = ["enrolling", "enrolled", "study", "training", "trained"]
    expected = [*before, "sealed", "approved", "uploading", "accepted", "fetched", "done"]
    assert sorted(expected, key=phases.index) == expected


def test_every_node_ends_with_a_receipt_and_the_signed_global_model(finished: Finished) -> None:
    for node in finished.nodes.values():
        require_receipt(node)
        _require_global_model(node, finished.study)
        model = epgfn.load_model(node.home / "global" / "model.safetensors")
        assert model.edge_probabilities(n=100, seed=1).shape == (3, 3)


@pytest.mark.parametrize("wrong", ["left-out", "swapped", "wrong-roster", "wrong-round"])
def test_a_signed_result_that_contradicts_a_receipt_is_refused(finished: Finished, wrong: str) -> None:
    """The coordinator's own signature does not help it: the receipt says what must be in the global model."""
    home = NodeHome(finished.nodes["north"].home)
    connection = Connection.load(home, NodeSettings())
    agreement = load_agreement(home, connection.trust)
    package = load_package(connection, agreement)
    good = parse_statement(verify_bundle(home.global_bundle.read_bytes(), connection.trust.coordinator))
    key = SigningKey.load(finished.coordinator / "keys" / "signing.key")

    def signed(predicate: dict[str, Any]) -> bytes:
        return sign_statement(make_statement(good.subjects, GLOBAL, predicate), key)

    assert verify_global(connection, agreement, package, signed(good.predicate)) == sha256_file(
        home.global_model
    )
    ours = [each for each in good.predicate["aggregated"] if each["node_id"] == "north"]
    others = [each for each in good.predicate["aggregated"] if each["node_id"] != "north"]
    bad: dict[str, dict[str, Any]] = {
        "left-out": {"aggregated": others, "absent": ["north"]},
        "swapped": {"aggregated": [*others, {**ours[0], "sealed_sha256": "0" * 64}]},
        "wrong-roster": {"aggregated": others},
        "wrong-round": {"round_id": "another"},
    }
    with pytest.raises(RefusedError) as refused:
        verify_global(connection, agreement, package, signed({**good.predicate, **bad[wrong]}))
    assert refused.value.reason == wrong


def _run(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "epgfn_node", "run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _read(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=180)


def _require_global_model(node: Node, study: Study) -> None:
    key = VerifyKey.from_pem((node.home / "trust" / "coordinator.pem").read_bytes())
    model = node.home / "global" / "model.safetensors"
    statement = parse_statement(
        verify_bundle((node.home / "global" / "model.sigstore.json").read_bytes(), key)
    )
    assert statement.subjects["model.safetensors"] == sha256_file(model)
    assert sorted(each.node_id for each in predicate_of(statement, GlobalPredicate).aggregated) == sorted(
        study.roster
    )
    assert [path.name for path in model.parent.iterdir() if path.name.endswith(".part")] == []

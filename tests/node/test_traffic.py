"""Nothing of a node's model or records can be read on the wire or on the coordinator's disk: real processes, every byte recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epgfn.study import Study
from proxy import RecordingProxy


class Coordinator:
    """A real coordinator process on free ports of 127.0.0.1."""

    def __init__(self, home: Path, study: Path) -> None:
        self.home = home
        loopback = ["--address", "127.0.0.1:0", "--enroll-address", "127.0.0.1:0"]
        run("epgfn_coordinator", "init", "--home", str(home), "--study", str(study), *loopback)
        command = [sys.executable, "-m", "epgfn_coordinator", "serve", "--home", str(home), "--events"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["phase"] == "serving":
                break

    def invite(self, node: str, out: Path) -> dict[str, str]:
        run("epgfn_coordinator", "token", node, "--home", str(self.home), "--out", str(out))
        invitation: dict[str, str] = json.loads(out.read_bytes())
        return invitation

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=300)


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def coordinator(tmp_path: Path, small_files: dict[str, Path]) -> Iterator[Coordinator]:
    served = Coordinator(tmp_path / "coordinator", small_files["study"])
    yield served
    served.stop()


def markers(model: bytes, records: Path) -> list[bytes]:
    """Stretches that identify the plaintext: the model file's numbers (its header is public), and the records' text."""
    start = 8 + int.from_bytes(model[:8], "little")
    stretches = [model[offset : offset + 24] for offset in range(start, len(model) - 24, 24)]
    telling = [stretch for stretch in stretches if len(set(stretch)) > 8]
    return telling + [line.encode() for line in records.read_text().splitlines()[1:]]


def test_no_plaintext_on_the_wire_or_on_the_coordinators_disk(
    coordinator: Coordinator, small_files: dict[str, Path], small_study: Study, tmp_path: Path
) -> None:
    file = tmp_path / "north.invitation.json"
    invitation = coordinator.invite("north", file)
    with RecordingProxy(invitation["address"]) as main, RecordingProxy(invitation["enroll_address"]) as enrol:
        file.write_text(json.dumps({**invitation, "address": main.address, "enroll_address": enrol.address}))
        home = ["--home", str(tmp_path / "north")]
        run("epgfn_node", "init", *home)
        run("epgfn_node", "enroll", *home, "--invite", str(file))
        run(
            "epgfn_node",
            "train",
            *home,
            "--data",
            str(small_files["north"]),
            "--accept-study",
            small_study.digest,
        )
        run("epgfn_node", "approve", *home)
        run("epgfn_node", "submit", *home)
        captured = main.recorded() + enrol.recorded()
    model = (tmp_path / "north" / "local" / "model.safetensors").read_bytes()
    sealed = (tmp_path / "north" / "outbox" / "model.sealed").read_bytes()
    kept = {path: path.read_bytes() for path in coordinator.home.rglob("*") if path.is_file()}
    telling = markers(model, small_files["north"])
    assert len(telling) > 100
    # The search can find something: the sealed artifact is on the coordinator's disk, and the traffic carried as much.
    assert sealed in kept.values()
    assert len(captured) > len(sealed)
    token = invitation["token"].encode()
    for marker in [*telling, token]:
        assert marker not in captured
        assert not [path for path, content in kept.items() if marker in content]

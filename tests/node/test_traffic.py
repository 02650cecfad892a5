"""Nothing of a node's model or records can be read on the wire or on the coordinator's disk: a real process, every byte recorded."""

from __future__ import annotations

import json
from pathlib import Path

from epgfn.study import Study
from parties import CoordinatorProcess, Node
from proxy import RecordingProxy


def markers(model: bytes, records: Path) -> list[bytes]:
    """Stretches that identify the plaintext: the model file's numbers (its header is public), and the records' text."""
    start = 8 + int.from_bytes(model[:8], "little")
    stretches = [model[offset : offset + 24] for offset in range(start, len(model) - 24, 24)]
    telling = [stretch for stretch in stretches if len(set(stretch)) > 8]
    return telling + [line.encode() for line in records.read_text().splitlines()[1:]]


def test_no_plaintext_on_the_wire_or_on_the_coordinators_disk(
    small_files: dict[str, Path], small_study: Study, tmp_path: Path
) -> None:
    with (
        CoordinatorProcess(tmp_path / "coordinator", small_files["study"]) as coordinator,
        RecordingProxy(coordinator.address) as main,
        RecordingProxy(coordinator.enroll_address) as enrol,
    ):
        addresses = {"address": main.address, "enroll_address": enrol.address}
        file = coordinator.invite("north", tmp_path / "north.invitation.json", **addresses)
        node = Node(tmp_path / "north")
        node.ok("init")
        node.ok("enroll", "--invite", str(file))
        node.train(small_files["north"], small_study)
        node.ok("approve")
        node.ok("submit")
        captured = main.recorded() + enrol.recorded()
    model = (tmp_path / "north" / "local" / "model.safetensors").read_bytes()
    sealed = (tmp_path / "north" / "outbox" / "model.sealed").read_bytes()
    kept = {path: path.read_bytes() for path in coordinator.home.rglob("*") if path.is_file()}
    telling = markers(model, small_files["north"])
    assert len(telling) > 100
    # The search can find something: the sealed artifact is on the coordinator's disk, and the traffic carried as much.
    assert sealed in kept.values()
    assert len(captured) > len(sealed)
    token = json.loads(file.read_bytes())["token"].encode()
    for marker in [*telling, token]:
        assert marker not in captured
        assert not [path for path, content in kept.items() if marker in content]

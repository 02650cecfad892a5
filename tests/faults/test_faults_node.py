"""A node that is killed where it changes something on disk: what was approved is what leaves, once, and the receipt comes.

At some steps here; at every step many times in `make soak`.
"""

from __future__ import annotations

from pathlib import Path

from epgfn.study import Study
from faulty_node import FaultyNode, kill_a_node, steps_of_a_node
from small import PRIVATE_STUDY

CHOSEN = (
    "renamed local/training.state", "renamed local/history.json", "renamed local/model.safetensors", "renamed outbox/model.sealed",
    "written outbox/approved", "renamed outbox/sending", "renamed receipts/entry.json", "renamed receipts/receipt.tlog-proof",
    "append global/.*.part", "renamed global/model.sigstore.json", "append global/samples.parquet", "renamed building/participant.json",
    "renamed .results/*", "rename home/result",
)  # fmt: skip


def test_a_kill_at_a_step_changes_nothing(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    steps = steps_of_a_node(tmp_path / "steps", small_study, small_files["north"])
    assert len(steps) > 100
    assert set(CHOSEN) <= set(steps)
    chosen = dict.fromkeys(CHOSEN, 1)
    assert kill_a_node(tmp_path / "kills", small_study, small_files["north"], chosen) == list(CHOSEN)


def test_a_kill_while_releasing_spends_once(small_files: dict[str, Path], tmp_path: Path) -> None:
    study = Study.from_bytes(PRIVATE_STUDY.encode())
    steps = [
        "renamed privacy/privacy-ledger.jsonl",
        "written privacy/privacy-ledger.head",
        "written privacy/release-*.bin",
    ]
    assert kill_a_node(tmp_path, study, small_files["north"], dict.fromkeys(steps, 1)) == steps


def test_a_kill_while_training_on_other_records_leaves_no_model_of_the_former(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    """It would be sent as if it had been trained on these."""
    current = FaultyNode(tmp_path / "node", small_study, small_files["north"])
    with current.coordinator():
        current.run("kill:1:written outbox/model.sealed")
        current.node.ok("train", "--data", str(small_files["north"]))
        former = (current.node.home / "local/model.safetensors").read_bytes()
        assert current.train(small_files["south"], "kill:1:renamed local/records.sha*").died
        current.data = small_files["south"]
        assert current.run().code == 0
    assert former != (current.node.home / "local/model.safetensors").read_bytes()
    current.require()

"""The home of a node that was written before the modules moved opens as it did then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from old_home import old_home

STUDY = "6163eebd8e34e0f55346a66a1ea498786e97c87819ffc517fb3220d515d39aec"
MODEL = "023f607bdd09b96f2a3e9e60ccca88eb1668678facfcf2b41d0cd28169ba92f0"
SEALED = "db2c33aa2ac414c0d4407f5c7838e6279fece65a91ce3e233e0b004187e25c1f"
SIGNER = "54f7c22866bd965e2505d35cb2fe8612eb4d82252c7caf74e286620b5c31c57c"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return old_home(tmp_path)


def node(home: Path, verb: str, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "epgfn_node", verb, "--home", str(home), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_inspect_says_what_was_sent_and_accepted(home: Path) -> None:
    facts = json.loads(node(home, "inspect", "--json").stdout)
    assert (facts["status"], facts["study"], facts["node"]) == ("accepted", "before-the-move", "north")
    assert (facts["study_digest"], facts["model_sha256"], facts["sealed_sha256"]) == (STUDY, MODEL, SEALED)
    statement = facts["statement"]
    assert (statement["sender_fingerprint"], statement["model_size"], statement["sealed_size"]) == (
        SIGNER,
        2308,
        4030,
    )
    assert {tensor["name"]: tensor["shape"] for tensor in facts["tensors"]} == {
        "net.0.bias": [8], "net.0.weight": [6, 8], "net.1.bias": [8], "net.1.weight": [8, 8], "net.2.bias": [30], "net.2.weight": [8, 30],
        "score_table": [3, 7],
    }  # fmt: skip
    assert all(tensor["dtype"] == "float32" for tensor in facts["tensors"])


def test_in_words_it_is_said_to_have_been_accepted(home: Path) -> None:
    shown = node(home, "inspect").stdout
    assert "Sent and accepted by the coordinator." in shown
    assert "score_table: 3 x 7 float32 (21 numbers)" in shown


def test_approving_it_again_changes_nothing(home: Path) -> None:
    """The approval is checked in full, which reads the model: it is still a policy of the old study."""
    before = {path: path.read_bytes() for path in sorted((home / "outbox").iterdir())}
    node(home, "approve", "--model", MODEL)
    assert {path: path.read_bytes() for path in sorted((home / "outbox").iterdir())} == before


def test_a_model_that_was_cut_short_is_refused(home: Path) -> None:
    model = home / "local" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-4])
    assert "not a model file of format epgfn-model/v1" in node(home, "inspect", code=1).stderr

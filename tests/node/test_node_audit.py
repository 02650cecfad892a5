"""`epgfn-node audit`: a run directory held against what a node's home has kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epgfn.base.errors import RefusedError
from epgfn.run.cosigning import add_cosignatures
from epgfn_node.cli import app
from old_home import old_home

RUN = Path(__file__).parents[1] / "run/audit/before_the_move/run"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield old_home(tmp_path)


def audited(run_dir: Path, home: Path) -> tuple[int, dict[str, tuple[bool, str]]]:
    done = CliRunner().invoke(app, ["audit", str(run_dir), "--home", str(home), "--json"])
    told = json.loads(done.stdout)
    return done.exit_code, {f["check"]: (f["ok"], f["message"]) for f in told["findings"]}


def test_the_run_that_a_node_took_part_in_holds_what_it_has_kept(home: Path) -> None:
    code, found = audited(RUN, home)
    assert code == 0 and all(ok for ok, _ in found.values())
    assert "is the key with the fingerprint you gave" in found["coordinator-key"][1]  # the pinned one
    kept = {check for check in found if check.startswith("kept")}
    assert kept == {
        "kept last-checkpoint",
        "kept receipts/receipt.tlog-proof",
        "kept receipts/global.tlog-proof",
    }
    assert "is here as it was sent, under this node's key" in found["own"][1]


def test_a_home_that_never_sent_finds_what_was_invented_in_its_name(home: Path) -> None:
    shutil.rmtree(home / "receipts")
    shutil.rmtree(home / "outbox")
    code, found = audited(RUN, home)
    assert code == 1 and [check for check, (ok, _) in found.items() if not ok] == ["own"]
    assert "that this node has never sent" in found["own"][1]


def test_a_private_key_is_not_needed_and_a_fork_that_was_kept_is_shown(home: Path) -> None:
    os.unlink(home / "keys/signing.key")
    (home / "fork-evidence").mkdir()
    note = (home / "last-checkpoint").read_bytes()
    (home / "fork-evidence/checkpoint-1.note").write_bytes(note)
    code, found = audited(RUN, home)
    assert code == 0 and found["kept fork-evidence/checkpoint-1.note"][0]


def test_a_node_cosigns_what_it_has_audited_and_the_run_directory_takes_it(
    home: Path, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(RUN, tmp_path / "run"))
    file = tmp_path / "north.cosignature.json"
    command = ["cosign", str(run_dir), "--home", str(home), "--out", str(file)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (home / "keys/witness.key").stat().st_mode & 0o777 == 0o600
    assert (home / "last-cosigned").read_bytes() == (run_dir / "ledger/checkpoint").read_bytes()
    assert add_cosignatures(run_dir, [file]) == ["north"]
    code, found = audited(run_dir, home)
    assert code == 0 and "1 of 2 nodes have cosigned the ledger" in found["witnesses"][1]
    # Again, with the same key, and over what is cosigned already.
    key = (home / "keys/witness.key").read_bytes()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (home / "keys/witness.key").read_bytes() == key
    assert add_cosignatures(run_dir, [file]) == ["north"] and audited(run_dir, home)[0] == 0


def test_a_node_does_not_cosign_what_does_not_verify(home: Path, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(RUN, tmp_path / "run"))
    (run_dir / "surplus").write_bytes(b"")
    file = tmp_path / "north.cosignature.json"
    done = CliRunner().invoke(app, ["cosign", str(run_dir), "--home", str(home), "--out", str(file)])
    assert done.exit_code and not file.exists() and not (home / "last-cosigned").exists()
    assert isinstance(done.exception, RefusedError) and "surplus" in str(done.exception)

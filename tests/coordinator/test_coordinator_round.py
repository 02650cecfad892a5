"""When a round closes, and what it publishes."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coordinator_client import (
    FakeNode,
    InProcess,
    ledger_kinds,
    make_home,
    reason_of,
    tiny_study,
)
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import sha256_hex
from epgfn.run.audit.audit import audit_run
from epgfn.run.layout import AGGREGATING, WAITING
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.initialise import initialise
from epgfn_coordinator.round import decide
from epgfn_coordinator.status import status

DEADLINE = "deadline = 2030-01-01T12:00:00Z"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "epgfn_coordinator", *arguments], capture_output=True, text=True, check=False
    )


def test_the_rules_for_closing() -> None:
    everyone = tiny_study(quorum=1, deadline=DEADLINE)
    quorum = tiny_study(quorum=1, close_when="quorum")
    both = tiny_study(quorum=2, deadline=DEADLINE)
    assert decide(everyone, 1) is None
    assert decide(everyone, 0, asked=True) is None
    for decision in (
        decide(everyone, 2),
        decide(everyone, 1, late=True),
        decide(everyone, 1, asked=True),
        decide(quorum, 1),
    ):
        assert decision is not None and decision.state == AGGREGATING
    waits = decide(both, 1, late=True)
    assert waits is not None and waits.state == WAITING and "quorum" in waits.why


def test_a_published_round_can_be_fetched_exported_and_audited(tmp_path: Path) -> None:
    study = tiny_study(quorum=1, suite="ML-KEM-768+X25519")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        late = FakeNode.enrolled(home, "b")
        node.send(node.make_upload(study))
        assert reason_of(node.result) == "not-published"
        closing = run("close", "--home", str(home.root))
        assert closing.returncode == 0, closing.stderr
        server.events.wait_for("published")
        assert reason_of(lambda: late.send(late.make_upload(study))) == "round-closed"
        result = node.result()
        model = node.download()
        assert len(model) == result.model_size
        assert node.download(offset=100) == model[100:]
        assert json.loads(result.entry)["model_sha256"] == sha256_hex(model)
        checked = run("health", "--home", str(home.root))
        assert checked.returncode == 0, checked.stderr
    assert not home.key("round.key").exists()
    summary = json.loads((home.result / "summary.json").read_text())
    assert summary["aggregated"] == ["a"] and summary["absent"] == ["b"]
    assert export(home, tmp_path / "run") == "published"
    assert audit_run(tmp_path / "run").ok


def test_the_round_key_stays_where_the_study_keeps_it(tmp_path: Path) -> None:
    study = tiny_study(quorum=1, close_when="quorum", keep="true")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))
        server.events.wait_for("published")
    assert home.key("round.key").exists()
    assert "key-destroyed" not in ledger_kinds(home)


def test_closing_below_the_quorum_is_refused_in_a_sentence(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    nobody = run("close", "--home", str(home.root))
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
    assert "serve" in nobody.stderr
    with InProcess(home):
        early = run("close", "--home", str(home.root))
    assert (early.returncode, early.stderr.count("\n")) == (3, 1)
    assert "quorum" in early.stderr
    assert status(home)["state"] == "open"


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        home = Home(tmp_path / "home")
        initialise(home, tiny_study(), Config(address, "127.0.0.1:0"))
        done = run("serve", "--home", str(home.root))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert address in done.stderr


def test_one_directory_is_served_once_and_belongs_to_one_study(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    assert not initialise(home, tiny_study(), Config())
    with pytest.raises(UsageError, match="another study"):
        initialise(home, tiny_study(steps=3), Config())
    with InProcess(home), pytest.raises(EpgfnError, match="another epgfn-coordinator"), InProcess(home):
        time.sleep(0)


def test_a_key_file_open_to_others_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    home.key("signing.key").chmod(0o644)
    with pytest.raises(EpgfnError, match="chmod 600"), InProcess(home):
        pass


def test_nobody_else_enters_a_home_whatever_the_umask_and_whoever_made_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o777)
    before = os.umask(0)
    try:
        homes = [make_home(tmp_path / name, tiny_study()) for name in ("there", "fresh")]
    finally:
        os.umask(before)
    for home in homes:
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in (home.root, home.keys)} == {0o700}


def test_a_passphrase_protects_every_key_but_the_health_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    monkeypatch.setenv("EPGFN_KEY_PASSPHRASE_FILE", str(secret))
    home = make_home(tmp_path / "home", tiny_study())
    private = {"ca-key.pem", "tls.key", "signing.key", "ledger.key"}
    assert {path.name for path in home.keys.iterdir() if b"ENCRYPTED" in path.read_bytes()} == private
    with InProcess(home):
        FakeNode.enrolled(home, "a")
    monkeypatch.delenv("EPGFN_KEY_PASSPHRASE_FILE")
    with pytest.raises(EpgfnError, match="passphrase"), InProcess(home):
        pass


def test_export_never_overwrites(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="not empty"):
        export(home, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert export(home, tmp_path / "empty") == "open"
    with pytest.raises(UsageError, match="init"):
        export(Home(tmp_path / "nothing"), tmp_path / "out")

"""`epgfn-coordinator passphrase`: every private key of all rounds at once, and a round goes on under the new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator_client import FakeNode, InProcess, make_home, tiny_study
from epgfn.base.errors import EpgfnError
from epgfn_coordinator.initialise import add
from epgfn_coordinator.keys import Keys, read_round_key
from epgfn_coordinator.protection import change_passphrase
from parties import on_coordinator

OLD, NEW = "correct horse", "battery staple"


def test_all_keys_change_together_and_the_rounds_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPGFN_KEY_PASSPHRASE", OLD)
    study = tiny_study()
    home = make_home(tmp_path / "coordinator", study)
    second = home.further(add(home, study, "second")[0])
    before, key = Keys.load(home), read_round_key(second).key_id
    monkeypatch.setenv("EPGFN_NEW_KEY_PASSPHRASE", NEW)
    done = on_coordinator("passphrase", "--home", str(home.root))
    assert done.returncode == 0 and "7 private keys" in done.stdout, done.stdout + done.stderr
    with pytest.raises(EpgfnError, match="does not open"):
        Keys.load(home)
    monkeypatch.setenv("EPGFN_KEY_PASSPHRASE", NEW)
    after = Keys.load(home)
    assert after.signing.public == before.signing.public and after.ledger.verifier == before.ledger.verifier
    assert read_round_key(second).key_id == key
    with InProcess(home):
        for node in study.roster:
            each = FakeNode.enrolled(home, node)
            each.send(each.make_upload(study))
        with pytest.raises(EpgfnError, match="serves from"):
            change_passphrase(home, None)
    change_passphrase(home, None)
    monkeypatch.delenv("EPGFN_KEY_PASSPHRASE")
    assert Keys.load(home).signing.public == before.signing.public

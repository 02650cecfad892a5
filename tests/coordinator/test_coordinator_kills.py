"""SIGKILL at the worst moments: nothing acknowledged is lost, nothing is counted twice, and the round still ends well."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest

from coordinator_client import GONE, FakeNode, OwnProcess, ledger_kinds, make_home, reason_of, tiny_study
from epgfn.base.errors import EpgfnError
from epgfn.run.audit.audit import audit_run
from epgfn_coordinator.export import export
from epgfn_coordinator.status import status


@pytest.mark.slow
def test_a_round_survives_a_kill_in_each_of_its_steps(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        upload, other = a.make_upload(study), b.make_upload(study, seed=1)
        name = a.begin(upload.bundle).upload_id
        half = len(upload.sealed) // 2
        a.upload(name, upload.sealed[:half])
        server.kill()  # in the middle of an upload

    with OwnProcess(home, die_before="epgfn_coordinator.intake:AcceptedEntry") as server:
        assert a.status(name).offset == half
        with pytest.raises(EpgfnError, match=GONE):
            a.send(upload)
        server.wait_for_death()  # inside the transaction that accepts
    assert ledger_kinds(home).count("accepted") == 0

    with OwnProcess(home, die_before="epgfn_coordinator.intake:Intake._receipt") as server:
        assert a.status(name).offset == len(upload.sealed)
        with pytest.raises(EpgfnError, match=GONE):
            a.send(upload)
        server.wait_for_death()  # after it, before the ledger is published and the receipt made
    assert ledger_kinds(home).count("accepted") == 1

    with OwnProcess(home, die_before="epgfn_coordinator.together:train_global") as server:
        receipt = a.send(upload)
        assert a.send(upload) == receipt
        with pytest.raises(EpgfnError, match=GONE):
            while b.send(other):
                pass
        server.wait_for_death()  # when the global model should be trained

    for step in (
        "epgfn_coordinator.publication:sign_statement",  # its files are written
        "epgfn_coordinator.publication:destroy_round_key",  # it is in the ledger
        "epgfn_coordinator.round:Round.advance",  # the round key is gone
    ):
        with OwnProcess(home, die_before=step) as server:
            server.wait_for_death()
        assert status(home)["state"] == "aggregating"

    with OwnProcess(home) as server:
        server.wait_for("published")
        assert a.send(upload) == receipt
        assert b.send(other).receipt
        entry = json.loads(a.result().entry)
    kinds = ledger_kinds(home)
    assert [kinds.count(kind) for kind in ("accepted", "refused", "global", "key-destroyed")] == [2, 0, 1, 1]
    assert not home.key("round.key").exists()
    assert export(home, tmp_path / "run") == "published"
    assert audit_run(tmp_path / "run").ok
    assert entry["kind"] == "global"


def test_a_full_disk_is_said_and_the_upload_goes_on_when_there_is_room(tmp_path: Path) -> None:
    study = tiny_study(hidden=600, limit=16 << 20)
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study)
        name = node.begin(upload.bundle).upload_id
        room = 300_500  # no file of the process may grow beyond this, as if the disk were full
        assert len(upload.sealed) > 2 * room
        before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        assert reason_of(lambda: node.upload(name, upload.sealed, size=100_000)) == "no-space"
        assert node.status(name).offset == 300_000  # whole pieces only
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
        assert node.send(upload).receipt
    assert ledger_kinds(home).count("accepted") == 1


JUDGING = """
import sys
import torch
import epgfn.learn.trust as trust

def busy(*given, **more):
    print('{"phase": "judging"}', flush=True)
    at = torch.rand(400, 400)
    while True:  # as a judgement that looks at nothing else, in C++ nearly all of the time
        at = torch.tanh(at @ at)

trust.Judge.is_good = trust.Judge.last = busy
from epgfn_coordinator.cli import main
sys.argv = ["epgfn-coordinator", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_a_coordinator_that_judges_its_model_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    """Within seconds and without an abort; the next one begins the aggregation anew."""
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home, program=JUDGING) as server:
        for node in study.roster:
            fake = FakeNode.enrolled(home, node)
            fake.send(fake.make_upload(study))
        server.wait_for("judging")
        begun = time.monotonic()
        server.process.terminate()
        _, said = server.process.communicate(timeout=60)
        assert time.monotonic() - begun < 30
        assert server.process.returncode == 0
        assert "terminate called" not in said and "Traceback" not in said
    assert status(home)["state"] == "aggregating"
    with OwnProcess(home) as server:
        server.wait_for("published")
    assert status(home)["state"] == "published"

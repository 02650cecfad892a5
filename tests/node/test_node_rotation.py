"""`epgfn-node rotate-key`: the coordinator takes another signing key that the enrolled one has signed, and what was sent stands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from epgfn.base.errors import RefusedError
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.conclusion import conclusion
from epgfn.study import Study
from epgfn_node.home import NodeHome
from epgfn_node.keys import earlier_keys, load_keys
from epgfn_node.rotation import is_untold
from parties import REFUSED, WRONG_USE, CoordinatorProcess, Node, on_coordinator


def test_a_key_changes_in_all_rounds_and_what_was_sent_stands(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    """Over real processes: north has sent in the first round and approved in the second; it sends there under the new key."""
    study = str(small_files["study"])
    with CoordinatorProcess(tmp_path / "coordinator", small_files["study"]) as coordinator:
        north = Node(tmp_path / "north").join(coordinator, "north")
        south = Node(tmp_path / "south").join(coordinator, "south")
        coordinator.command("add", "--study", study, "--name", "second")
        north.train(small_files["north"], small_study)
        north.ok("approve")
        north.ok("submit")
        north.ok("join", "--round", "second")
        second = Node(north.home / "rounds" / "second")
        second.train(small_files["north"], small_study)
        second.ok("approve")
        home = NodeHome(north.home)
        old = load_keys(home).signing.public
        copy = Node(Path(shutil.copytree(north.home, tmp_path / "copy")))

        assert "a reason is one line" in north.fails(WRONG_USE, "rotate-key", "--reason", "")
        said = north.ok("rotate-key", "--reason", "a key a year")
        new = load_keys(home).signing.public
        assert old.fingerprint in said and new.fingerprint in said
        assert earlier_keys(home) == (old,) and not is_untold(home)
        north.ok("rotate-key", "--resend")

        # What was only approved is approved again; what was sent is read as ever.
        assert "changed its signing key since" in second.fails(REFUSED, "submit")
        second.ok("approve")
        second.ok("submit")
        north.ok("submit")
        assert json.loads(north.ok("status", "--json"))["own_model"] == "sent and accepted"

        # Somebody with a copy of the old key is too late: the other successor is a fork, and the old key signs nothing more.
        assert "signed two successors" in copy.fails(REFUSED, "rotate-key")
        kept = {path.name for path in (coordinator.home / "fork-evidence").iterdir()}
        assert len(kept) == 2
        south.train(small_files["south"], small_study)
        south.ok("approve")
        south.ok("submit")
        north.ok("fetch", "--wait", "300")
        coordinator.command("export", "--study", "small", "--out", str(tmp_path / "run"))
        assert north.command("audit", str(tmp_path / "run")).returncode == 0

        # Revoked keys change into no others.
        assert on_coordinator("revoke", "north", "--home", str(coordinator.home)).returncode == 0
        assert "revoked" in north.fails(REFUSED, "rotate-key")
        assert load_keys(home).signing.public == new
    report = audit_run(tmp_path / "run")
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    told = {finding.check: finding.message for finding in report.findings}
    assert "north signs with" in told["rotations"] and "a key a year" in told["rotations"]
    assert "replaced later" in told["upload north"]
    assert any("changed by the node itself" in line.sentence for line in conclusion(report))


ROTATE = """
import sys
from epgfn_node.cli import main
sys.argv = ["epgfn-node", "rotate-key", "--home", sys.argv[1]]
main()
"""


def test_whatever_the_step_at_which_it_is_killed_the_node_goes_on(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    with CoordinatorProcess(tmp_path / "coordinator", small_files["study"]) as coordinator:
        north = Node(tmp_path / "north").join(coordinator, "north")
        home = NodeHome(north.home)

        def change(**environment: str) -> int:
            command = [sys.executable, "-c", ROTATE, str(north.home)]
            return subprocess.run(
                command, env={**os.environ, **environment}, timeout=120, capture_output=True
            ).returncode

        log = tmp_path / "steps"
        assert change(EPGFN_FAILPOINT_LOG=str(log)) == 0
        steps = log.read_text().splitlines()
        counts, untold = 1, 0
        # Before and after the moment that counts, in the middle of moving, and before the note that the coordinator knows is gone.
        whole = next(number for number, step in enumerate(steps) if "renamed" in step and "replacing" in step)
        for number in (whole - 1, whole, whole + 2, len(steps) - 2):
            place = steps[: number + 1].count(steps[number])
            before = load_keys(home).signing.public
            assert change(EPGFN_FAILPOINT=f"kill:{place}:{steps[number]}") != 0
            with home.locked():
                pass  # as every command does
            changed = load_keys(home).signing.public != before
            counts += changed
            untold += is_untold(home)
            assert changed == (number >= whole)
            # Whatever connects tells the coordinator, where it does not know yet.
            north.ok(*(["status"] if number != whole else ["rotate-key"]))
            assert not is_untold(home) and len(earlier_keys(home)) == counts
        assert untold == 3
        north.train(small_files["north"], small_study)
        north.ok("approve")
        north.ok("submit")


def test_statements_that_do_not_lead_to_the_key_are_noticed(tmp_path: Path) -> None:
    from epgfn.base.files import write_atomic
    from epgfn.sealing.keys import SigningKey
    from epgfn.sealing.rotation import sign_rotation

    home = NodeHome(tmp_path / "node")
    keys = [SigningKey.generate() for _ in range(3)]
    write_atomic(home.signing_public, keys[2].public.pem)
    for number, old in enumerate(keys[:2], start=1):
        bundle = sign_rotation("node/north", old, keys[number], "2030-01-31T12:00:00Z", "a test")
        write_atomic(home.root / f"keys/rotation-{number}.sigstore.json", bundle)
    assert earlier_keys(home) == (keys[0].public, keys[1].public)
    write_atomic(home.signing_public, keys[1].public.pem)
    with pytest.raises(RefusedError, match="from one backup"):
        earlier_keys(home)

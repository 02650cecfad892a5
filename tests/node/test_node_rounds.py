"""A node takes part in further rounds of its coordinator without a token: with the same keys, and consent of its own for each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from epgfn.run.audit.audit import audit_run
from epgfn.study import Study
from epgfn_node.home import NodeHome
from epgfn_node.settings import NodeSettings
from parties import REFUSED, WAITING, WRONG_USE, CoordinatorProcess, Node, on_coordinator, require_receipt


def audited(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "epgfn", "audit", str(run)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert audit_run(run).ok


def test_two_studies_and_a_second_round_of_one_with_a_kill_in_between(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    """Over real processes: north takes part in all three, south in two, east in one."""
    other = Study.from_bytes(
        small_study.raw.replace(b'name = "small"', b'name = "other"').replace(b'"south"', b'"east"')
    )
    (tmp_path / "other.toml").write_bytes(other.raw)
    with CoordinatorProcess(tmp_path / "coordinator", small_files["study"]) as coordinator:
        north = Node(tmp_path / "north").join(coordinator, "north")
        south = Node(tmp_path / "south").join(coordinator, "south")
        coordinator.command("add", "--study", str(tmp_path / "other.toml"))  # while it serves
        coordinator.command("add", "--study", str(small_files["study"]), "--name", "second")
        invitation = tmp_path / "east.invitation.json"
        coordinator.command("token", "east", "--study", "other", "--out", str(invitation))
        east = Node(tmp_path / "east")
        east.ok("init")
        east.ok("enroll", "--invite", str(invitation))

        # North learns of the other rounds, and joins without a token.
        listed = json.loads(north.ok("rounds", "--json"))
        assert {each["name"]: each["here"] for each in listed} == {
            "small": True,
            "second": False,
            "other": False,
        }
        assert json.loads(north.ok("status", "--json"))["other_rounds"] == ["other", "second"]
        assert [each["name"] for each in json.loads(south.ok("rounds", "--json"))] == ["small", "second"]
        said = north.ok("join", "--round", "second")
        assert small_study.digest in said and "--accept-study" in said
        assert "no round called other" in south.fails(REFUSED, "join", "--round", "other")
        assert "itself" in north.fails(WRONG_USE, "join", "--round", "small")
        assert "no name" in north.fails(WRONG_USE, "join", "--round", "../x")
        assert not (tmp_path / "x").exists()

        # Consent, inspection and approval are by round, also where the study is the same.
        north.train(small_files["north"], small_study)
        north.ok("approve")
        north.set(accept_study=small_study.digest, approve_automatically=True, data=str(small_files["north"]))
        second = Node(north.home / "rounds" / "second", processes=True)
        assert small_study.digest in second.fails(WAITING, "run")
        assert NodeSettings.of(NodeHome(second.home)).data == small_files["north"]
        assert "approve" in second.fails(WAITING, "run", "--accept-study", small_study.digest)
        assert "approved" in second.fails(WAITING, "submit")
        second.ok("approve")
        # What was approved for one round cannot be sent in another.
        for name in ("model.sealed", "upload.sigstore.json"):
            kept = (second.home / "outbox" / name).read_bytes()
            (second.home / "outbox" / name).write_bytes((north.home / "outbox" / name).read_bytes())
            assert second.command("submit").returncode == REFUSED
            (second.home / "outbox" / name).write_bytes(kept)
        second.ok("submit")
        require_receipt_of_round(second)
        coordinator.kill()
        coordinator.start()
        for node in (north, south, east):
            node.set(address=coordinator.address)

        # `run` joins by itself; a home is a whole round, whichever.
        north.ok("submit")
        third = Node(north.home / "rounds" / "other", processes=True)
        assert other.digest in third.fails(WAITING, "run", "--data", str(small_files["north"]))
        third.fails(WAITING, "run", "--accept-study", other.digest, "--approve-automatically", "--wait", "0")
        south.train(small_files["south"], small_study)
        south.ok("approve")
        south.ok("submit")
        south_second = Node(south.home / "rounds" / "second")
        options = ("--data", str(small_files["south"]), "--approve-automatically")
        south_second.ok("run", *options, "--accept-study", small_study.digest)
        east.ok("run", "--data", str(small_files["south"]), "--accept-study", other.digest, *options[2:])
        for node in (north, second, third, south):
            node.ok("fetch", "--wait", "300")
        models = {
            (each.home / "global" / "model.safetensors").read_bytes() for each in (north, second, third)
        }
        assert len(models) >= 2  # the same records and seeds make the same model in both rounds of a study
        assert json.loads(second.ok("status", "--json"))["round"] == "published"

        # Keys are revoked in all rounds.
        done = on_coordinator("revoke", "south", "--home", str(coordinator.home))
        assert done.returncode == 0, done.stderr
        for node in (south, south_second):
            assert "revoked" in node.fails(REFUSED, "status")
    for name in ("small", "second", "other"):
        run = tmp_path / "runs" / name
        coordinator.command("export", "--study", name, "--out", str(run))
        audited(run)


def require_receipt_of_round(node: Node) -> None:
    trust = node.home / "trust" / "ledger.vkey"
    assert trust.read_text() != (node.home.parent.parent / "trust" / "ledger.vkey").read_text()
    require_receipt(node)


def test_a_joined_round_keeps_to_what_was_joined(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    with CoordinatorProcess(tmp_path / "coordinator", small_files["study"]) as coordinator:
        node = Node(tmp_path / "north").join(coordinator, "north")
        coordinator.command("add", "--study", str(small_files["study"]), "--name", "second")
        coordinator.command("add", "--study", str(small_files["study"]), "--name", "third")
        node.ok("join", "--round", "second")
        node.ok("join", "--round", "third")
        before = node.files()
        node.ok("join", "--round", "second")
        assert {name for name, raw in node.files().items() if before.get(name) != raw} == set()
        second, third = node.home / "rounds" / "second", node.home / "rounds" / "third"
        # Another round's ledger key or manifest in its place is noticed.
        kept = (second / "trust" / "ledger.vkey").read_bytes()
        (second / "trust" / "ledger.vkey").write_bytes((third / "trust" / "ledger.vkey").read_bytes())
        assert "another key" in node.fails(REFUSED, "join", "--round", "second")
        assert Node(second).command("status").returncode == REFUSED
        (second / "trust" / "ledger.vkey").write_bytes(kept)
        (second / "round.sigstore.json").write_bytes((third / "round.sigstore.json").read_bytes())
        assert Node(second).command("status").returncode == REFUSED
        assert "needs no invitation" in Node(second).fails(
            WRONG_USE, "enroll", "--invite", str(tmp_path / "north.invitation.json")
        )
        assert "has not joined" in Node(node.home / "rounds" / "fourth").fails(REFUSED, "status")
        # The certificate and the spending log are the node's, not a round's.
        assert NodeHome(third).tls_certificate == NodeHome(node.home.absolute()).tls_certificate
        assert NodeHome(third).privacy == NodeHome(node.home.absolute()).privacy


@pytest.mark.parametrize("where", ["north/rounds/second", "second"])
def test_a_round_is_found_from_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    home = tmp_path / "north"
    (home / "rounds" / "second").mkdir(parents=True)
    (home / "node.toml").touch()
    monkeypatch.chdir(tmp_path if where.startswith("north") else home / "rounds")
    assert NodeHome(Path(where)).is_joined and NodeHome(Path(where)).base == home
    assert not NodeHome(Path(where).absolute().parent.parent).is_joined
    (home / "node.toml").unlink()
    assert not NodeHome(Path(where)).is_joined

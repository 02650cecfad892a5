"""A node follows the coordinator's key where the pinned one has signed its successor, forwards only, and keeps both sides of a fork."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from epgfn.base.errors import RefusedError
from epgfn.base.files import write_atomic
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.rotation import sign_rotation
from epgfn.study import Study
from epgfn_node.home import NodeHome
from epgfn_node.trust import Trust, follow_coordinator, known_chain
from parties import REFUSED, CoordinatorProcess, Node

TIME = "2030-01-31T12:00:00Z"


def test_over_real_processes(small_study: Study, small_files: dict[str, Path], tmp_path: Path) -> None:
    study = str(small_files["study"])
    with CoordinatorProcess(tmp_path / "coordinator", small_files["study"]) as coordinator:
        north = Node(tmp_path / "north").join(coordinator, "north")
        pinned = (north.home / "trust" / "coordinator.pem").read_bytes()
        coordinator.command("add", "--study", study, "--name", "before")
        coordinator.kill()
        for name in ("second", "third"):
            coordinator.command("rotate-key", "--reason", "a key a year")
            coordinator.command("add", "--study", study, "--name", name)
        coordinator.start()
        north.set(address=coordinator.address)
        said = north.ok("join", "--round", "second")
        chain = known_chain(NodeHome(north.home))
        assert len(chain.rotations) == 1 and chain.rotations[0].in_words in said
        assert "another key" not in north.ok("join", "--round", "second")
        assert "another key" in north.ok("join", "--round", "third")
        # The round of before goes on under its key; one that was not joined under it has to be opened again.
        north.ok("status")
        assert (north.home / "trust" / "coordinator.pem").read_bytes() == pinned
        for name in ("before", "second"):
            assert "open it again" in Node(north.home).fails(REFUSED, "join", "--round", name)
        second = Node(north.home / "rounds" / "second")
        second.ok("train", "--data", str(small_files["north"]), "--accept-study", small_study.digest)
        second.ok("approve")
        second.ok("submit")
        # A node that comes now pins the newest key, and needs no chain.
        invitation = tmp_path / "south.invitation.json"
        coordinator.command("token", "south", "--study", "third", "--out", str(invitation))
        south = Node(tmp_path / "south")
        south.ok("init")
        south.ok("enroll", "--invite", str(invitation))
        assert known_chain(NodeHome(south.home)).start == known_chain(NodeHome(north.home)).keys[-1]
        coordinator.command("export", "--study", "second", "--out", str(tmp_path / "run"))
    report = audit_run(tmp_path / "run", coordinator_fingerprint=VerifyKey.from_pem(pinned).fingerprint)
    assert {finding.check for finding in report.findings if not finding.ok} == {
        "global",
        "round-key",
    }  # it is open
    done = second.command("audit", str(tmp_path / "run"))
    assert "rotations" in done.stdout and "a key a year" in done.stdout
    (north.home / "trust" / "rotations" / "1.sigstore.json").unlink()
    assert "from one backup" in second.fails(REFUSED, "status")


KEYS = [SigningKey.generate() for _ in range(4)]
CHAIN = [sign_rotation("coordinator", old, new, TIME, "a test") for old, new in itertools.pairwise(KEYS)]
STOLEN = sign_rotation("coordinator", KEYS[0], SigningKey.generate(), TIME, "nothing to see here")


def manifest(key: SigningKey) -> bytes:
    """Of which nothing but who has signed it matters here."""
    return sign_statement(b"{}", key)


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    home = NodeHome(tmp_path / "node")
    write_atomic(home.coordinator_key, KEYS[0].public.pem)
    return home


def reason_of(home: NodeHome, key: SigningKey, shown: list[bytes]) -> str:
    with pytest.raises(RefusedError) as error:
        follow_coordinator(home, manifest(key), shown)
    return error.value.reason


def test_it_goes_forwards_only(home: NodeHome) -> None:
    assert follow_coordinator(home, manifest(KEYS[0]), []) == (KEYS[0].public, [])
    key, new = follow_coordinator(home, manifest(KEYS[1]), CHAIN[:1])
    assert key == KEYS[1].public and [each.bundle for each in new] == CHAIN[:1]
    assert follow_coordinator(home, manifest(KEYS[1]), CHAIN[:1]) == (KEYS[1].public, [])
    assert len(follow_coordinator(home, manifest(KEYS[3]), CHAIN)[1]) == 2
    assert known_chain(home).keys == tuple(key.public for key in KEYS)
    for older in (0, 1, 2):
        assert reason_of(home, KEYS[older], CHAIN[:older]) == "older-key"
    assert reason_of(home, SigningKey.generate(), CHAIN) == "wrong-key"


def test_a_newer_node_follows_from_the_key_that_it_has_pinned(home: NodeHome) -> None:
    write_atomic(home.coordinator_key, KEYS[1].public.pem)
    assert follow_coordinator(home, manifest(KEYS[2]), CHAIN[:2])[0] == KEYS[2].public
    assert reason_of(home, KEYS[0], []) == "wrong-key"


def test_an_unsigned_step_is_none(home: NodeHome) -> None:
    assert reason_of(home, KEYS[1], []) == "wrong-key"
    stranger = sign_rotation("coordinator", SigningKey.generate(), KEYS[1], TIME, "a test")
    assert reason_of(home, KEYS[1], [stranger]) == "wrong-key"
    assert (
        reason_of(home, KEYS[2], [CHAIN[0], sign_rotation("node/north", KEYS[1], KEYS[2], TIME, "x")])
        == "wrong-party"
    )
    assert not home.rotations.exists()


@pytest.mark.parametrize("shown", [[STOLEN], [STOLEN, CHAIN[0]]])
def test_a_fork_is_refused_and_both_statements_are_kept(home: NodeHome, shown: list[bytes]) -> None:
    follow_coordinator(home, manifest(KEYS[1]), CHAIN[:1])
    assert reason_of(home, KEYS[1], shown) == "rotation-fork"
    if len(shown) == 1:
        assert {path.read_bytes() for path in home.evidence.iterdir()} == {STOLEN, CHAIN[0]}
    assert known_chain(home).keys[-1] == KEYS[1].public


def test_a_round_with_a_key_that_nothing_leads_to_is_not_trusted(home: NodeHome) -> None:
    write_atomic(home.settings, b"")
    write_atomic(home.trust / "ca.pem", b"")
    joined = home.round("second")
    write_atomic(joined.ledger_key, json.dumps("").encode())
    write_atomic(joined.round_coordinator_key, KEYS[1].public.pem)
    with pytest.raises(RefusedError, match="not a successor"):
        Trust(joined)

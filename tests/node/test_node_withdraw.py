"""`epgfn-node withdraw`: what was sent is taken back, nothing is sent again by itself, and another model may follow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_node_revoked import invited

from coordinator_client import InProcess, make_home
from epgfn.base.errors import NoRoomError
from epgfn.base.files import sha256_file
from epgfn.study import Study
from epgfn_coordinator.identity import Caller
from epgfn_coordinator.status import status
from epgfn_coordinator.store import Store
from epgfn_coordinator.withdrawal import Withdrawal
from epgfn_node import withdraw
from parties import REFUSED, WAITING, Node, require_receipt


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def without_room(self: Withdrawal, caller: Caller, bundle: bytes) -> tuple[bytes, bytes]:
    """The ledger entry is committed, and cannot be published."""
    real_withdraw(self, caller, bundle)
    raise NoRoomError("cannot write it; free some space")


real_withdraw = Withdrawal.withdraw


@pytest.mark.slow
def test_withdrawn_and_sent_anew(
    tmp_path: Path, small_study: Study, small_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study
    home = make_home(tmp_path / "coordinator", study)
    north, south = (Node(tmp_path / name) for name in ("north", "south"))
    with InProcess(home) as server:
        for node, name in ((north, "north"), (south, "south")):
            node.ok("init")
            node.ok("enroll", "--invite", invited(home, name, tmp_path / f"{name}.json"))
            node.train(small_files[name], study)
            node.ok("approve")
        assert "nothing to withdraw" in north.fails(REFUSED, "withdraw")
        north.ok("submit")
        digest = sha256_file(north.home / "outbox" / "model.sealed")
        assert "epgfn-node withdraw" in north.fails(REFUSED, "train", "--data", str(small_files["north"]))

        # Taken back, and then the coordinator's disk is full: "no room" is no word on whether it was.
        with monkeypatch.context() as patch:
            patch.setattr(Withdrawal, "withdraw", without_room)
            assert "no room" in north.fails(REFUSED, "withdraw")
        assert "withdrawal is under way" in north.fails(WAITING, "approve")

        # Killed when the coordinator has taken it back: nothing else goes on before the same command has ended it.
        with monkeypatch.context() as patch:
            patch.setattr(withdraw, "withdraw_approval", killed)
            assert north.command("withdraw").returncode == 130
        assert status(home)["withdrawn"] == ["north"]
        for verb in ("submit", "approve"):
            assert "withdrawal is under way" in north.fails(WAITING, verb)
        assert "being withdrawn" in north.ok("status")
        north.ok("withdraw")
        proof = north.home / "receipts" / f"withdrawn-{digest}"
        assert json.loads((proof / "withdrawn-entry.json").read_bytes())["kind"] == "withdrawn-by-node"
        assert (proof / "receipt.tlog-proof").exists() and not (north.home / "receipts/entry.json").exists()
        assert json.loads(north.ok("status", "--json"))["own_model"] == "withdrawn"
        assert "nothing is sent again by itself" in north.fails(
            WAITING, "run", "--approve-automatically", "--accept-study", study.digest
        )
        assert "nobody has approved" in north.fails(WAITING, "submit")

        north.ok("approve")
        north.ok("submit")
        require_receipt(north)
        south.ok("submit")
        server.events.wait_for("published")
        north.ok("fetch")
        assert "the round is published" in north.fails(REFUSED, "withdraw")
        assert not (north.home / "outbox/withdrawal.sigstore.json").exists()


@pytest.mark.slow
def test_withdrawn_from_a_copy_of_the_home_it_is_told_by_whose_word(
    tmp_path: Path, small_study: Study, small_files: dict[str, Path]
) -> None:
    study = small_study.with_changes({"aggregation": {"quorum": 1, "close_when": "all"}})
    home = make_home(tmp_path / "coordinator", study)
    north, south = (Node(tmp_path / name) for name in ("north", "south"))
    with InProcess(home) as server:
        for node, name in ((north, "north"), (south, "south")):
            node.ok("init")
            node.ok("enroll", "--invite", invited(home, name, tmp_path / f"{name}.json"))
            node.train(small_files[name], study)
            node.ok("approve")
        north.ok("submit")
        before = north.files()
        north.ok("withdraw")
        south.ok("submit")
        store = Store(home.state)
        store.write("INSERT INTO requests (deadline) VALUES (NULL)")
        store.close()
        server.events.wait_for("published")
        north.ok("fetch")
        copy = Node(tmp_path / "copy")
        for name, raw in before.items():
            path = copy.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
            path.chmod(0o600)
        pending = copy.home / "outbox/withdrawal.sigstore.json"
        pending.write_bytes(
            next(north.home.glob("receipts/withdrawn-*/withdrawal.sigstore.json")).read_bytes()
        )
        said = copy.ok("fetch")  # as where the answer was lost
        assert "withdrawn from this home" in said and "somebody else" not in said
        pending.unlink()
        assert "somebody else has this node's keys" in copy.ok("fetch")

        # Without the proof it is what it always was: a coordinator that drops a model it has accepted.
        store = Store(home.state)
        store.write("DELETE FROM withdrawals")
        store.close()
        (copy.home / "global/model.safetensors").unlink()
        assert "your receipt proves it" in copy.fails(REFUSED, "fetch")

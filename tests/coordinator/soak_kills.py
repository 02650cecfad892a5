"""A coordinator that is killed again and again during a round: it ends published, with every receipt as it was given, and audits."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path

from coordinator_client import FakeNode, OwnProcess, ledger_kinds, make_home, tiny_study
from epgfn.base.errors import EpgfnError
from epgfn.run.audit.audit import audit_run
from epgfn_coordinator.export import export
from epgfn_coordinator.status import status
from soaking import rounds


def soak_a_round_of_a_coordinator_that_is_killed_at_random(tmp_path: Path) -> None:
    study = tiny_study(steps=150, leave_one_out="true", hidden=200, limit=16 << 20)
    for number, chance in rounds("rounds"):
        folder = tmp_path / str(number)
        home = make_home(folder / "home", study)
        with OwnProcess(home):
            nodes = {name: FakeNode.enrolled(home, name) for name in study.roster}
            uploads = {name: node.make_upload(study, seed=i) for i, (name, node) in enumerate(nodes.items())}
        receipts: dict[str, bytes] = {}
        starts = 0
        while status(home)["state"] != "published":
            starts += 1
            assert starts < 100
            with OwnProcess(home) as server:
                killer = threading.Timer(chance.uniform(0.0, 1 + starts / 2), server.process.kill)
                killer.start()
                for name, node in nodes.items():
                    with contextlib.suppress(EpgfnError):
                        receipt = node.send(uploads[name]).receipt
                        assert receipts.setdefault(name, receipt) == receipt
                with contextlib.suppress(AssertionError):  # it died first
                    server.wait_for("published")
                killer.cancel()
                killer.join()
        with OwnProcess(home):
            for name, node in nodes.items():
                receipt = node.send(uploads[name]).receipt
                assert receipts.setdefault(name, receipt) == receipt
        kinds = ledger_kinds(home)
        counted = [
            kinds.count(kind) for kind in ("accepted", "refused", "global", "leave-one-out", "key-destroyed")
        ]
        assert counted == [2, 0, 1, 2, 1], kinds
        assert export(home, folder / "run") == "published" and audit_run(folder / "run").ok
        print(f"  published after {starts} starts", flush=True)
        shutil.rmtree(folder)

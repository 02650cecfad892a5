"""A node that is killed at every step of `epgfn-node run` at which it changes something on disk, and is run again."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from coordinator_client import ledger_kinds, make_home
from epgfn.base.files import sha256_file
from epgfn.run.audit.audit import require_bound
from epgfn.run.audit.kept import Kept
from epgfn.sealing.keys import VerifyKey
from epgfn.study import Study
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.store import Store
from forks import COORDINATOR, NODE, Fork
from parties import Node, require_receipt

STAYS = (
    "outbox/approved",
    "outbox/model.sealed",
    "outbox/upload.sigstore.json",
    "receipts/receipt.tlog-proof",
)
"""Once they are there together with an approval, they are never others."""


class FaultyNode:
    """The node "north" in `folder`, with a coordinator of its own that needs nobody else. `run` until it returns 0, then `require`."""

    def __init__(self, folder: Path, study: Study, data: Path) -> None:
        alone = {"aggregation": {"quorum": 1, "close_when": "quorum"}}
        self.folder, self.study, self.data = folder, study.with_changes(alone), data
        self.home, self.node = make_home(folder / "coordinator", self.study), Node(folder / "home")
        self._approved: dict[str, str] = {}
        self._seen = 0

    @contextlib.contextmanager
    def coordinator(self) -> Iterator[None]:
        """Serving meanwhile, with an invitation for the node."""
        arguments = ["serve", "--home", str(self.home.root), "--events"]
        server = Fork(COORDINATOR, arguments, self.folder / "serve")
        assert server.wait_for("serving") is not None, server.said
        self._invite()
        try:
            yield
        finally:
            server.stop()

    def _invite(self) -> None:
        with contextlib.closing(Store(self.home.state)) as store:
            path = self.folder / "invitation.json"
            path.write_bytes(invite(self.home, store, "north"))
            path.chmod(0o600)

    def run(self, failpoint: str = "", log: Path | None = None) -> Fork:
        """The whole command, or as far as it comes."""
        options = {"--home": self.node.home, "--invite": self.folder / "invitation.json", "--data": self.data,
                   "--accept-study": self.study.digest, "--wait": 60}  # fmt: skip
        words = [str(word) for option in options.items() for word in option]
        flags = ["--approve-automatically", "--accept-warnings", "--events"]
        if self.study.privacy.is_private:
            flags += ["--privacy-budget", "8"]
        running = Fork(
            NODE, ["run", *words, *flags], self.folder / "run", failpoint, log, **self.node.account
        )
        running.end()
        self._require_nothing_changed()
        return running

    def train(self, data: Path, failpoint: str) -> Fork:
        """Train anew, or die at it."""
        training = Fork(
            NODE,
            ["train", "--home", str(self.node.home), "--data", str(data)],
            self.folder / "run",
            failpoint,
        )
        training.end()
        return training

    def _require_nothing_changed(self) -> None:
        """What was approved is what will leave, and the ledger that was seen only grows."""
        checkpoint = self.node.home / "last-checkpoint"
        if checkpoint.exists():
            size = int(checkpoint.read_text().split("\n")[1])
            assert size >= self._seen
            self._seen = size
        if (self.node.home / "result").is_symlink():  # all of it or nothing
            assert (self.node.home / "result/global/summary.json").exists()
        if (self.node.home / STAYS[0]).exists():
            for name in STAYS:
                if (self.node.home / name).exists():
                    digest = sha256_file(self.node.home / name)
                    assert self._approved.setdefault(name, digest) == digest, (
                        f"{name} changed after it was approved"
                    )

    def require(self) -> None:
        """It was accepted once, has the receipt and the global model, and has spent what one release costs."""
        require_receipt(self.node)
        kinds = ledger_kinds(self.home)
        counted = [kinds.count(kind) for kind in ("enrolled", "accepted", "refused", "global")]
        assert counted == [1, 1, 0, 1], kinds
        home, model = self.node.home, "model.safetensors"
        assert sha256_file(home / "global" / model) == sha256_file(self.home.result / model)
        for unfinished in ("outbox/sending", "local/training.state"):
            assert not (home / unfinished).exists(), unfinished
        kept = [Kept("seen", (home / "last-checkpoint").read_bytes())]
        require_bound(
            home / "result",
            VerifyKey.from_pem((home / "trust/coordinator.pem").read_bytes()).fingerprint,
            kept,
        )
        assert len(list((home / ".results").iterdir())) == 1
        spent = self.node.spending / "privacy-ledger.jsonl"
        assert spent.exists() == self.study.privacy.is_private
        if spent.exists():
            assert [spent.read_text().count(f'"{event}"') for event in ("charged", "stored")] == [1, 1]


def steps_of_a_node(folder: Path, study: Study, data: Path) -> dict[str, int]:
    """Every step at which the node changes something on disk, in the order in which they come first, and how often each comes."""
    current, log = FaultyNode(folder, study, data), folder / "steps"
    with current.coordinator():
        done = current.run(log=log)
        assert done.code == 0, done.said
    current.require()
    return dict(Counter(log.read_text().splitlines()))


def kill_a_node(
    folder: Path, study: Study, data: Path, steps: Mapping[str, int], chance: random.Random | None = None
) -> list[str]:
    """Kill nodes at each of `steps`, one after the other, and check what comes of it; the steps at which one was killed. With `chance` at
    the first or second time that it comes there, if it does more than once."""
    left, killed, lives = list(steps.items()), [], 0
    while left:
        current = FaultyNode(folder / str(lives), study, data)
        with current.coordinator():
            done = None
            while left and (done is None or done.code != 0):
                step, often = left[0]
                done = current.run(f"kill:{chance.randint(1, min(often, 2)) if chance else 1}:{step}")
                if done.died:
                    killed.append(step)
                    del left[0]
            if done is None or done.code != 0:
                done = current.run()
            assert done.code == 0, done.said
        current.require()
        lives += 1
        assert lives <= 2 * len(steps) + 2, f"never comes to {left[:1]}"
    return killed

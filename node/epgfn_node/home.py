"""The node's directory: where each file lies. What has been done so far is read off the files that are there.

The directory itself is that of the round that the node enrolled for. A further round that it has joined has a folder of its own,
rounds/<name>/, which is a home like this one but for what is marked *: that the round takes from here.

node.toml                            settings; the only file here meant for an editor
rounds/<name>/                       further rounds of this coordinator
invitation.json                      * 0600: holds the one-time token
keys/{tls.key,tls.csr,tls.pem}       * identity on the wire; keys are 0600
keys/{signing.key,signing.pem}       * signs what is sent
keys/rotation-<n>.sigstore.json      * statements by which it came in the place of earlier ones
keys/rotation-untold                 * there while the coordinator is still to be told of the last of them
trust/{ca.pem,coordinator.pem,address}   * pinned when enrolling; of ca.pem only the dates ever change
trust/rotations/                     * statements by which other keys of the coordinator took the place of the pinned one
trust/ledger.vkey                    pinned when enrolling, or when joining: each round has a ledger of its own
rounds/<name>/trust/coordinator.pem  the coordinator's key of a round that was joined, if it is a successor of the pinned one
study.toml  study.sigstore.json  round.sigstore.json  accepted-study
accepted-small-counts                there once the operator has accepted that the model tells counts below ten
last-checkpoint                      newest checkpoint of the coordinator's log that was verified
last-cosigned  keys/witness.key      once this node has cosigned: the newest checkpoint that it did, and the key (0600)
local/{model.safetensors,history.json,records.sha256,check.json} 0600: never leave this machine
local/privacy-claim.json             0600: under differential privacy, the claim of the model beside it
privacy/                             * 0600: of versions before: the ledger of releases, which is the account's now
local/masked-sum.json                0600: this node's secrets of a masked sum, and what it has said in it
local/masked-sum-signers.json        0600: which keys the other nodes sign with in that sum
local/training.state                 0600: there while a training is unfinished, so that a restart goes on with it
outbox/{model.sealed,upload.sigstore.json,approved}  what leaves, once approved
outbox/approvals                     there while one of two persons has approved
outbox/withdrawal.sigstore.json      there while a withdrawal is under way
letters/{last.json,reply.key}        the last letter that was written, and the key (0600) that opens its reply
receipts/                            proof that the ledger holds what was sent, and the global model's entry
receipts/withdrawn-<sha256>/         proof that an artifact was withdrawn, and the receipt it had
global/{model.safetensors,model.sigstore.json}       verified global model
result                               link to a folder in .results/, whole and verified: this node's copy of the run directory
.results/                            such a copy, and one that is being made
aggregates/<number>/                 verified later results, of a study that takes late models
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.replacing import finish_replacing
from epgfn.run.layout import RESULT

SETTINGS: Final = "node.toml"
ROUNDS: Final = "rounds"


@dataclass(frozen=True)
class NodeHome:
    """Paths below one node's directory."""

    root: Path

    @property
    def base(self) -> Path:
        """Where the keys are: this directory, or the node's in whose rounds/ it is."""
        folder = self.root.absolute().parent
        is_joined = folder.name == ROUNDS and (folder.parent / SETTINGS).is_file()
        return folder.parent if is_joined else self.root

    @property
    def is_joined(self) -> bool:
        """Whether this is a further round of a node, not the one that it enrolled for."""
        return self.base != self.root

    def round(self, name: str) -> NodeHome:
        """A further round of this node, there or not."""
        return NodeHome(self.base / ROUNDS / name)

    @property
    def settings(self) -> Path:
        return self.root / SETTINGS

    @property
    def invitation(self) -> Path:
        return self.base / "invitation.json"

    @property
    def tls_key(self) -> Path:
        return self.base / "keys" / "tls.key"

    @property
    def tls_request(self) -> Path:
        return self.base / "keys" / "tls.csr"

    @property
    def tls_certificate(self) -> Path:
        return self.base / "keys" / "tls.pem"

    @property
    def signing_key(self) -> Path:
        return self.base / "keys" / "signing.key"

    @property
    def signing_public(self) -> Path:
        return self.base / "keys" / "signing.pem"

    @property
    def trust(self) -> Path:
        return self.base / "trust"

    @property
    def coordinator_key(self) -> Path:
        """The coordinator's key that was pinned when enrolling."""
        return self.trust / "coordinator.pem"

    @property
    def round_coordinator_key(self) -> Path:
        """The coordinator's key that signs this round, if it is another."""
        return self.root / "trust" / "coordinator.pem"

    @property
    def rotations(self) -> Path:
        """The folder of statements by which the coordinator's keys took the place of one another."""
        return self.trust / "rotations"

    @property
    def ledger_key(self) -> Path:
        """The public key of this round's ledger."""
        return self.root / "trust" / "ledger.vkey"

    @property
    def study(self) -> Path:
        return self.root / "study.toml"

    @property
    def study_bundle(self) -> Path:
        return self.root / "study.sigstore.json"

    @property
    def round_bundle(self) -> Path:
        return self.root / "round.sigstore.json"

    @property
    def accepted_study(self) -> Path:
        return self.root / "accepted-study"

    @property
    def accepted_small_counts(self) -> Path:
        return self.root / "accepted-small-counts"

    @property
    def accepted_statistic(self) -> Path:
        return self.root / "accepted-statistic"

    @property
    def checkpoint(self) -> Path:
        return self.root / "last-checkpoint"

    @property
    def cosigned(self) -> Path:
        """The newest checkpoint that this node has cosigned."""
        return self.root / "last-cosigned"

    @property
    def witness_key(self) -> Path:
        return self.root / "keys" / "witness.key"

    @property
    def evidence(self) -> Path:
        """Made only if the coordinator's log ever contradicts itself."""
        return self.root / "fork-evidence"

    @property
    def model(self) -> Path:
        return self.root / "local" / "model.safetensors"

    @property
    def training_state(self) -> Path:
        """What an interrupted training goes on from; gone once the model is written."""
        return self.root / "local" / "training.state"

    @property
    def masked_sum(self) -> Path:
        """This node's part in the round's masked sum, its secrets among it; it must never be put back to an earlier state."""
        return self.root / "local" / "masked-sum.json"

    @property
    def sum_signers(self) -> Path:
        """Fingerprints of the keys with which each node has begun the round's masked sum; with no others they go on in it."""
        return self.root / "local" / "masked-sum-signers.json"

    @property
    def history(self) -> Path:
        return self.root / "local" / "history.json"

    @property
    def records_digest(self) -> Path:
        """SHA-256 of the data file the model was trained on, so that a restart notices another file."""
        return self.root / "local" / "records.sha256"

    @property
    def check(self) -> Path:
        """What the records looked like when the model was trained; never leaves this machine."""
        return self.root / "local" / "check.json"

    @property
    def privacy_claim(self) -> Path:
        """The privacy claim of the trained model, bound to its digest."""
        return self.root / "local" / "privacy-claim.json"

    @property
    def privacy(self) -> Path:
        """Where versions before kept the privacy ledger, if the settings named no other folder."""
        return self.base / "privacy"

    @property
    def sealed(self) -> Path:
        return self.root / "outbox" / "model.sealed"

    @property
    def upload_bundle(self) -> Path:
        return self.root / "outbox" / "upload.sigstore.json"

    @property
    def approved(self) -> Path:
        return self.root / "outbox" / "approved"

    @property
    def approvals(self) -> Path:
        """There while one person has approved and another has to."""
        return self.root / "outbox" / "approvals"

    @property
    def sending(self) -> Path:
        """There while what was sent may have been accepted without our having the receipt."""
        return self.root / "outbox" / "sending"

    @property
    def withdrawal(self) -> Path:
        """There while a withdrawal that was signed may not have been heard of, or is not finished here."""
        return self.root / "outbox" / "withdrawal.sigstore.json"

    @property
    def letter(self) -> Path:
        """What is known of the last letter that this node has written."""
        return self.root / "letters" / "last.json"

    @property
    def reply_key(self) -> Path:
        """There while the last letter waits for its reply, which it opens."""
        return self.root / "letters" / "reply.key"

    def withdrawn(self, sealed_sha256: str) -> Path:
        """The folder of what proves that the artifact with that SHA-256 was accepted and withdrawn."""
        return self.root / "receipts" / f"withdrawn-{sealed_sha256}"

    def all_withdrawn(self) -> list[str]:
        """SHA-256 of every artifact that was withdrawn from this home."""
        found = (self.root / "receipts").glob("withdrawn-*")
        return sorted(path.name.removeprefix("withdrawn-") for path in found)

    @property
    def receipt(self) -> Path:
        return self.root / "receipts" / "receipt.tlog-proof"

    @property
    def receipt_entry(self) -> Path:
        return self.root / "receipts" / "entry.json"

    @property
    def global_receipt(self) -> Path:
        return self.root / "receipts" / "global.tlog-proof"

    @property
    def global_entry(self) -> Path:
        return self.root / "receipts" / "global-entry.json"

    @property
    def global_model(self) -> Path:
        return self.root / "global" / "model.safetensors"

    @property
    def global_bundle(self) -> Path:
        return self.root / "global" / "model.sigstore.json"

    @property
    def result(self) -> Path:
        """This node's copy of the run directory, once it is fetched: a link, so that it changes in one step."""
        return self.root / RESULT

    @property
    def results(self) -> Path:
        """Where copies of the run directory lie, and one is made."""
        return self.root / ".results"

    @property
    def is_initialised(self) -> bool:
        return (self.base / SETTINGS).is_file() and self.signing_public.is_file()

    @property
    def is_enrolled(self) -> bool:
        # round.sigstore.json is the last file that enrolling writes, but for the checkpoint that any call renews.
        return self.tls_certificate.is_file() and self.round_bundle.is_file() and self.checkpoint.is_file()

    def require_initialised(self) -> None:
        """Refuse a directory that `init` has not made.

        Raises:
            UsageError: there is no node here.
        """
        if not self.is_initialised:
            raise UsageError(f"{self.root} holds no node; run: epgfn-node init --home {self.root}")

    def require_enrolled(self) -> None:
        """Refuse a node that has no certificate or no study yet.

        Raises:
            UsageError: not initialised.
            EpgfnError: not enrolled.
        """
        self.require_initialised()
        if self.is_joined and not self.is_enrolled:
            raise EpgfnError(
                f"the node in {self.base} has not joined a round called {self.root.name}; run: epgfn-node join --home {self.base} "
                f"--round {self.root.name}"
            )
        if not self.is_enrolled:
            raise EpgfnError(
                f"the node in {self.root} is not enrolled; ask the coordinator for an invitation, then run: "
                f"epgfn-node enroll --home {self.root} --invite FILE"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this directory for one command; the system lets go when the process ends, however it ends.

        Raises:
            EpgfnError: another command holds it.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EpgfnError(
                f"cannot use the folder {self.root}: {error.strerror}; choose another with --home"
            ) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise EpgfnError(f"another epgfn-node works in {self.root}; wait until it ends") from None
            finish_replacing(self.base)  # a change of keys that was killed
            yield
        finally:
            os.close(handle)

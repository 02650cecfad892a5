"""What the protocol promises its clients, checked against what happened to them: no receipt is lost or changed, no model counts twice,
nothing that was seen of the ledger is ever gone, and the global model is made of exactly what was acknowledged."""

from __future__ import annotations

import json
from pathlib import Path

from coordinator_client import ledger_kinds
from epgfn.base.files import sha256_hex
from epgfn.ledger.checkpoint import open_checkpoint
from epgfn.ledger.merkle import MerkleTree, leaf_hash
from epgfn.ledger.note import NoteVerifier
from epgfn.ledger.proof import verify_proof
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.statement import GlobalPredicate, parse_statement, predicate_of
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.store import Store


class History:
    """What the clients of one round were told, each in the order in which they were told it."""

    def __init__(self) -> None:
        self.certificates: dict[str, bytes] = {}
        self.receipts: dict[str, tuple[bytes, bytes]] = {}
        self.sealed: dict[str, str] = {}
        self.kept: dict[str, int] = {}
        self.checkpoints: list[bytes] = []

    def enrolled(self, node: str, certificate: bytes) -> None:
        """Whoever asks again with the same keys gets the same."""
        assert self.certificates.setdefault(node, certificate) == certificate

    def has_kept(self, node: str, offset: int) -> None:
        """Bytes that were said to be kept still are."""
        assert offset >= self.kept.get(node, 0), "bytes that were kept are gone"
        self.kept[node] = offset

    def accepted(self, node: str, sealed: bytes, receipt: bytes, entry: bytes) -> None:
        """The same artifact gets the same receipt, byte for byte."""
        assert self.receipts.setdefault(node, (receipt, entry)) == (receipt, entry)
        self.sealed[node] = sha256_hex(sealed)
        self.kept[node] = len(sealed)
        said = json.loads(entry)
        assert (said["kind"], said["node_id"], said["sealed_sha256"]) == ("accepted", node, self.sealed[node])

    def saw(self, checkpoint: bytes) -> None:
        """A signed head of the ledger."""
        self.checkpoints.append(checkpoint)

    def require(self, home: Home, run: Path, roster: list[str]) -> bytes:
        """Check it all against the round in `home`, which is published; the digest of its global model. `run` is made and audited."""
        verifier = NoteVerifier.from_vkey(home.key("ledger.vkey").read_text().strip())
        store = Store(home.state)
        try:
            entries = store.entries()
            bundle = bytes(store.rows("SELECT bundle FROM aggregates WHERE place = 'global'")[0]["bundle"])
        finally:
            store.close()
        tree = MerkleTree([leaf_hash(entry) for entry in entries])
        for note in self.checkpoints:
            seen = open_checkpoint(note, verifier)
            assert seen.size <= tree.size and tree.root(seen.size) == seen.root, "the ledger was rewritten"
        for receipt, entry in self.receipts.values():
            index, _ = verify_proof(receipt, entry, verifier, strict=True)
            assert entries[index] == entry, "an acknowledged entry is gone"
        kinds = ledger_kinds(home)
        counted = {
            kind: kinds.count(kind)
            for kind in ("study", "round", "enrolled", "accepted", "refused", "global", "key-destroyed")
        }
        assert counted == {
            "study": 1, "round": 1, "enrolled": len(roster), "accepted": len(roster), "refused": 0, "global": 1, "key-destroyed": 1,
        }, kinds  # fmt: skip
        states = [json.loads(entry)["state"] for entry in entries if json.loads(entry)["kind"] == "state"]
        assert states == ["open", "aggregating", "published"]
        assert not home.key("round.key").exists()
        statement = parse_statement(
            verify_bundle(bundle, VerifyKey.from_pem(home.key("coordinator.pem").read_bytes()))
        )
        inputs = {
            upload.node_id: upload.sealed_sha256
            for upload in predicate_of(statement, GlobalPredicate).aggregated
        }
        assert inputs == {node: self.sealed[node] for node in roster}, "the global model is of something else"
        assert export(home, run) == "published" and audit_run(run).ok
        return bytes.fromhex(statement.subjects["model.safetensors"])

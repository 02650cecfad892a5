"""Holding a run directory against what this node has kept: its receipts, the newest checkpoint that it saw, its own key."""

from __future__ import annotations

import contextlib
from pathlib import Path

from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes, sha256_file
from epgfn.ledger.entries import AcceptedEntry
from epgfn.ledger.entries import parse as parse_entry
from epgfn.run.audit.audit import AuditReport, audit_run
from epgfn.run.audit.kept import Kept, Own, gather
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.pki import node_id_from_cert
from epgfn_node.home import NodeHome
from epgfn_node.keys import earlier_keys
from epgfn_node.study import load_agreement
from epgfn_node.trust import Trust


def audit(home: NodeHome, run_dir: Path) -> AuditReport:
    """The audit of `run_dir` with the coordinator's key that this node has pinned, and with all that it has kept. Needs no private key, no
    network, and no lock: nothing is changed.

    Raises:
        EpgfnError: this node is not enrolled, or a file of its home is missing or was changed.
    """
    home.require_enrolled()
    trust = Trust(home)
    return audit_run(
        run_dir,
        coordinator_fingerprint=trust.coordinator.fingerprint,
        kept=_kept(home),
        own=_own(home, trust),
    )


def _kept(home: NodeHome) -> list[Kept]:
    """Receipts of what was sent, withdrawn and fetched; the newest checkpoint; whatever was kept as evidence."""
    found = [Kept(home.checkpoint.name, read_bytes(home.checkpoint, "ledger checkpoint"))]
    if home.cosigned.exists():
        found.append(Kept(home.cosigned.name, read_bytes(home.cosigned, "cosigned checkpoint")))
    for name in ("receipts", "aggregates", home.evidence.name):
        if (home.root / name).is_dir():
            with contextlib.suppress(EpgfnError):  # nothing in it
                found += [each._replace(name=f"{name}/{each.name}") for each in gather(home.root / name)]
    return found


def _own(home: NodeHome, trust: Trust) -> Own:
    agreement = load_agreement(home, trust)
    sent = None
    if home.receipt.exists():
        entry = parse_entry(read_bytes(home.receipt_entry, "receipt's entry"))
        if not isinstance(entry, AcceptedEntry):
            raise EpgfnError(
                f"{home.receipt_entry} is not the entry of an accepted model; restore it from a backup"
            )
        sent = (entry.sealed_sha256, entry.bundle_sha256)
    return Own(
        node=node_id_from_cert(read_bytes(home.tls_certificate, "certificate")),
        study_digest=agreement.study.digest,
        round_id=agreement.round.round_id,
        ledger_vkey=agreement.round.ledger_vkey,
        fingerprint=VerifyKey.from_pem(read_bytes(home.signing_public, "public key")).fingerprint,
        sent=sent,
        approved=sha256_file(home.sealed) if home.sealed.exists() else None,
        withdrawn=frozenset(home.all_withdrawn()),
        earlier=tuple(key.fingerprint for key in earlier_keys(home)),
    )

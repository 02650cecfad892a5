"""Invitations: a one-time token with everything a node needs to trust this coordinator and nobody else."""

from __future__ import annotations

import json
import secrets

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes, sha256_hex
from epgfn.study import Study
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.keys import LEDGER_PUBLIC, SIGNING_PUBLIC
from epgfn_coordinator.store import Store

FORMAT = "epgfn-invitation/v1"


def token_digest(token: str) -> str:
    """How a token is kept: SHA-256, hexadecimal. 256 random bits need no salt and no slow hash."""
    return sha256_hex(token.encode("utf-8"))


def invite(home: Home, store: Store, node_id: str) -> bytes:
    """A fresh invitation for `node_id` as JSON bytes, a secret; it takes the place of one that was not used.

    Raises:
        UsageError: the node is not on the roster, is enrolled already, or the coordinator's port is not known yet.
    """
    study, config = Study.load(home.study), Config.load(home.config)
    if node_id not in study.roster:
        raise UsageError(
            f"{node_id!r} is not on the roster of study {study.name} ({', '.join(study.roster)}); name one that is"
        )
    invitation = {
        "format": FORMAT,
        "node_id": node_id,
        "token": secrets.token_urlsafe(32),
        "enroll_address": config.public_enroll_address,
        "address": config.public_address,
        "ca_pem": read_bytes(home.ca, "certificate").decode("ascii"),
        "coordinator_key_pem": read_bytes(home.key(SIGNING_PUBLIC), "public key").decode("ascii"),
        "ledger_vkey": read_bytes(home.key(LEDGER_PUBLIC), "public key").decode("ascii").strip(),
        "study_digest": study.digest,
    }
    with store.transaction():
        if store.row("SELECT 1 FROM nodes WHERE node_id = ?", node_id) is not None:
            raise UsageError(
                f"{node_id} is enrolled already and its id is bound to its key; if that key is lost, open a new round"
            )
        store.write(
            "INSERT OR REPLACE INTO tokens (node_id, token_sha256) VALUES (?, ?)",
            node_id,
            token_digest(invitation["token"]),
        )
        store.set_fact(_told(node_id), f"{invitation['enroll_address']} {invitation['address']}")
    return (json.dumps(invitation, indent=2) + "\n").encode("utf-8")


def moved(store: Store, config: Config) -> tuple[list[str], list[str]]:
    """Whose invitations lead to an address that is not ours any more: nodes that have not enrolled yet, and nodes that have."""
    enrolled = {row["node_id"] for row in store.rows("SELECT node_id FROM nodes")}
    waiting, inside = [], []
    for row in store.rows("SELECT node_id FROM tokens ORDER BY node_id"):
        node_id = row["node_id"]
        enroll_address, _, address = store.text(_told(node_id)).partition(" ")
        if not address:
            continue  # invited before addresses were kept
        if node_id in enrolled:
            inside += [node_id] if address != config.public_address else []
        elif (enroll_address, address) != (config.public_enroll_address, config.public_address):
            waiting.append(node_id)
    return waiting, inside


def _told(node_id: str) -> str:
    """The fact that keeps which addresses a node's invitation holds."""
    return f"invited {node_id}"

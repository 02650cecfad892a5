"""Invitations: a one-time token with everything a node needs to trust this coordinator and nobody else.

One is good until it has been used, has expired, was revoked, or a newer one took its place; in homes of before they do not expire. Whether
one has expired is asked each time it is shown, so a clock that is wrong once voids nothing.
"""

from __future__ import annotations

import hmac
import json
import secrets
from datetime import datetime, timedelta
from sqlite3 import Row
from typing import Any, Final

from epgfn.base.errors import RefusedError, UsageError
from epgfn.base.files import read_bytes, sha256_hex
from epgfn.run.layout import AGGREGATING, OPEN, PUBLISHED, WAITING
from epgfn.sealing.letter import is_signed_by_token, token_public
from epgfn.study import Study
from epgfn_coordinator import clock
from epgfn_coordinator.clock import spelled
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.keys import LEDGER_PUBLIC
from epgfn_coordinator.signing import round_key_of
from epgfn_coordinator.store import Store

FORMAT = "epgfn-invitation/v1"
DAYS: Final = 14.0
"""How long an invitation is good, unless its maker says otherwise."""
REVOKED, REPLACED = "revoked", "replaced"
RENEWS, RENEWED = "renews", "renewed"
_AGAIN: Final = "ask the coordinator's operator for a new invitation"


def token_digest(token: str) -> str:
    """How a token is kept: SHA-256, hexadecimal. 256 random bits need no salt and no slow hash."""
    return sha256_hex(token.encode("utf-8"))


def invite(home: Home, store: Store, node_id: str, days: float = DAYS, *, renew: bool = False) -> bytes:
    """A fresh invitation for `node_id`, good for `days`, as JSON bytes, a secret; it takes the place of one that was not used. With `renew`
    it is for an enrolled node, which gets another certificate with it, for the keys it has and no others.

    Raises:
        UsageError: the node is not on the roster, is enrolled already (with `renew`: is not), the coordinator's port is not known
            yet, `days` is no time from now, or nobody can be added any more.
    """
    try:
        expires = clock.now() + timedelta(days=days)
    except (OverflowError, ValueError):
        raise UsageError(f"an invitation cannot be good for {days:g} days; give fewer") from None
    if not days > 0:
        raise UsageError("an invitation is good for more than 0 days; give a number such as 14")
    study, config = Study.load(home.study), Config.load(home.config)
    if node_id not in study.roster:
        raise UsageError(
            f"{node_id!r} is not on the roster of study {study.name} ({', '.join(study.roster)}); name one that is"
        )
    if not renew:
        _require_place(study, store, node_id)
    invitation = {
        "format": FORMAT,
        "node_id": node_id,
        "token": secrets.token_urlsafe(32),
        "enroll_address": config.public_enroll_address,
        "address": config.public_address,
        "ca_pem": read_bytes(home.ca, "certificate").decode("ascii"),
        "coordinator_key_pem": round_key_of(home).pem.decode("ascii"),
        "ledger_vkey": read_bytes(home.key(LEDGER_PUBLIC), "public key").decode("ascii").strip(),
        "study_digest": study.digest,
    }
    if home.house is not None:  # nodes of before know only of the first
        invitation["round_id"] = store.text("round_id")
    with store.transaction():
        enrolled = store.row("SELECT 1 FROM nodes WHERE node_id = ?", node_id) is not None
        if renew and not enrolled:
            raise UsageError(f"{node_id} is not enrolled, so there is nothing to renew; leave --renew out")
        if enrolled and not renew:
            raise UsageError(
                f"{node_id} is enrolled already; if its certificate has ended add --renew, and if its keys are lost or stolen run "
                f"epgfn-coordinator revoke {node_id} first"
            )
        void_token(store, node_id, REPLACED)
        store.write(
            "INSERT INTO tokens (node_id, token_sha256, expires, renews, letter_key) VALUES (?, ?, ?, ?, ?)",
            node_id,
            token_digest(invitation["token"]),
            expires.isoformat(),
            RENEWS if renew else None,
            token_public(invitation["token"]),
        )
        store.set_fact(_told(node_id), f"{invitation['enroll_address']} {invitation['address']}")
    return (json.dumps(invitation, indent=2) + "\n").encode("utf-8")


def revoke_invitation(store: Store, node_id: str) -> None:
    """Void the invitation of a node that has not used it.

    Raises:
        UsageError: there is none, or the node is enrolled.
    """
    with store.transaction():
        row = store.row("SELECT renews FROM tokens JOIN nodes USING (node_id) WHERE node_id = ?", node_id)
        if row is not None and row["renews"] != RENEWS:
            raise UsageError(
                f"{node_id} has used its invitation and is enrolled; epgfn-coordinator revoke {node_id} revokes its keys"
            )
        if not void_token(store, node_id, REVOKED):
            raise UsageError(
                f"there is no invitation of {node_id} to revoke; epgfn-coordinator invitations lists them"
            )


def void_token(store: Store, node_id: str, why: str) -> bool:
    """Take the node's token, if it has one, and remember why, for whoever shows it. Call inside a transaction."""
    row = store.row("SELECT token_sha256, letter_key FROM tokens WHERE node_id = ?", node_id)
    if row is None:
        return False
    store.write(
        "INSERT OR REPLACE INTO void_tokens (token_sha256, node_id, why, letter_key) VALUES (?, ?, ?, ?)",
        row["token_sha256"],
        node_id,
        why,
        row["letter_key"],
    )
    store.write("DELETE FROM tokens WHERE node_id = ?", node_id)
    return True


def digest_of_signer(store: Store, node_id: str, signature: bytes, *about: bytes) -> str:
    """The digest of the token of this node, good or void, that has signed an enrolment by letter; empty if none has."""
    for table in ("tokens", "void_tokens"):
        for row in store.rows(f"SELECT token_sha256, letter_key FROM {table} WHERE node_id = ?", node_id):
            if row["letter_key"] and is_signed_by_token(row["letter_key"], signature, *about):
                return str(row["token_sha256"])
    return ""


def node_of_token(store: Store, digest: str) -> str:
    """The node that the token with that digest was made for; empty where it never was one of ours.

    Raises:
        RefusedError: "invitation-revoked", "invitation-replaced".
    """
    # Every digest is compared, each in constant time, so how long it takes says nothing.
    good = _matching(store.rows("SELECT node_id, token_sha256 FROM tokens"), digest)
    void = _matching(store.rows("SELECT * FROM void_tokens"), digest)
    if good is not None:
        return str(good["node_id"])
    if void is None:
        return ""
    if void["why"] == REVOKED:
        raise RefusedError(
            "invitation-revoked",
            f"the invitation for {void['node_id']} was revoked by the coordinator's operator; {_AGAIN} if it is still to take part",
        )
    raise RefusedError(
        "invitation-replaced",
        f"a newer invitation for {void['node_id']} has taken the place of this one; use that, or {_AGAIN}",
    )


def _matching(rows: list[Row], digest: str) -> Row | None:
    found = None
    for row in rows:
        if hmac.compare_digest(row["token_sha256"], digest):
            found = row
    return found


def require_good(store: Store, node_id: str, digest: str) -> None:
    """Refuse a token, by its digest, that is not the node's any more, or has expired.

    Raises:
        RefusedError: as `node_of_token`, or "invitation-expired".
    """
    if node_of_token(store, digest) != node_id:
        raise RefusedError("bad-token", f"the enrolment token is not valid; {_AGAIN}")
    row = store.row("SELECT expires FROM tokens WHERE node_id = ?", node_id)
    if row is None or not row["expires"]:
        return  # made before invitations expired
    expires, time = datetime.fromisoformat(row["expires"]), clock.now()
    if time >= expires:
        raise RefusedError(
            "invitation-expired",
            f"the invitation for {node_id} expired at {spelled(expires)} (the coordinator's clock says {spelled(time)}); {_AGAIN}",
        )


def use_renewal(store: Store, node_id: str, digest: str) -> bool:
    """Whether the token, by its digest, that an enrolled node shows renews its certificate, now and not again. Call inside a transaction.

    Raises:
        RefusedError: as `require_good`.
    """
    row = store.row("SELECT renews FROM tokens WHERE node_id = ?", node_id)
    if row is None or row["renews"] != RENEWS:
        return False
    require_good(store, node_id, digest)
    store.write("UPDATE tokens SET renews = ? WHERE node_id = ?", RENEWED, node_id)
    return True


def invitations(store: Store) -> list[dict[str, Any]]:
    """Each node's last invitation: whether it is open, used, expired or revoked, until when it is good, and where it leads."""
    enrolled = {row["node_id"] for row in store.rows("SELECT node_id FROM nodes")}
    found, time = [], clock.now()
    for row in store.rows("SELECT node_id, expires, renews FROM tokens"):
        expires = datetime.fromisoformat(row["expires"]) if row["expires"] else None
        state = "expired" if expires is not None and time >= expires else "open"
        used = row["node_id"] in enrolled and row["renews"] != RENEWS
        found.append((row["node_id"], "used" if used else state, expires))
    known = {node for node, _, _ in found}
    for row in store.rows("SELECT DISTINCT node_id FROM void_tokens WHERE why = ?", REVOKED):
        if row["node_id"] not in known:
            found.append((row["node_id"], "revoked", None))
    return [
        {
            "node": node,
            "state": state,
            "expires": None if expires is None else spelled(expires),
            "enroll_address": store.text(_told(node)).partition(" ")[0] or None,
        }
        for node, state, expires in sorted(found, key=lambda each: each[0])
    ]


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


def note_fact(node_id: str) -> str:
    """The fact that keeps whom the operator says to have invited as this node."""
    return f"note {node_id}"


def _require_place(study: Study, store: Store, node_id: str) -> None:
    """Refuse to give a place of an open roster to somebody who could send nothing any more.

    Raises:
        UsageError: the round takes no more models.
    """
    state, takes_late = store.text("state"), study.aggregation.late == "new-aggregate"
    if node_id in study.added and not (
        state in (OPEN, WAITING) or (takes_late and state in (AGGREGATING, PUBLISHED))
    ):
        raise UsageError(
            f"the round is {state} and takes no more models, so nobody can be added; invite to the next round"
        )


def _told(node_id: str) -> str:
    """The fact that keeps which addresses a node's invitation holds."""
    return f"invited {node_id}"

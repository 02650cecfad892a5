"""Revoking a node's keys, which are lost or stolen. One transaction; from then on they open nothing and sign nothing.

What was accepted under them stands, since others may rely on it; what is half sent goes. With a new invitation the node enrols anew, with
other keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NoReturn

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import remove
from epgfn.ledger.entries import RevokedEntry, encode
from epgfn.study import Study
from epgfn_coordinator.home import Home
from epgfn_coordinator.invitation import REVOKED, void_token
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.known_keys import revoked_nodes
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.store import Store
from epgfn_coordinator.streams import StreamWatch


def revoked_error(node_id: str) -> RefusedError:
    """What somebody is told who shows revoked keys."""
    return RefusedError(
        "revoked",
        f"the keys of this certificate of {node_id} were revoked by the coordinator's operator; if they were not lost or stolen ask why, "
        "and to go on ask for a new invitation and enrol with a new --home, which makes new keys",
    )


class Revocation:
    """Revokes the keys of nodes of one round."""

    def __init__(
        self,
        home: Home,
        study: Study,
        store: Store,
        log: PublishedLog,
        journal: Journal,
        watch: StreamWatch,
        forget: Callable[[str], None],
    ) -> None:
        """`forget` is told whose keys were revoked."""
        self._home, self._study, self._store, self._log = home, study, store, log
        self._journal, self._watch, self._forget = journal, watch, forget
        self._round_id = store.text("round_id")

    def revoke(self, node_id: str) -> str:
        """Revoke a node's keys; a sentence that says so.

        Raises:
            UsageError: it is not on the roster, or holds no keys that count.
            EpgfnError: the state cannot be written.
        """
        with self._store.transaction():
            half_sent = self._store.row("SELECT upload_id FROM uploads WHERE node_id = ?", node_id)
            said = self._revoke(node_id)
        self._watch.end_of(node_id)
        self._forget(node_id)
        if half_sent is not None:
            with contextlib.suppress(OSError):  # it is nobody's any more, and the next start removes it
                remove(self._home.part(half_sent["upload_id"]))
        self._log.publish_now_or_later()
        self._journal.decision("revoked", said, warn=True, node=node_id)
        return said

    def _revoke(self, node_id: str) -> str:
        row = self._store.row("SELECT * FROM nodes WHERE node_id = ?", node_id)
        if row is None:
            self._refuse(node_id)
        position = self._store.append_entry(
            encode(
                RevokedEntry(round_id=self._round_id, node_id=node_id, fingerprint=row["signing_fingerprint"])
            )
        )
        self._store.write(
            "INSERT INTO revocations (position, node_id, tls_fingerprint, signing_fingerprint, signing_key) "
            "SELECT ?, node_id, tls_fingerprint, signing_fingerprint, signing_key FROM nodes WHERE node_id = ?",
            position,
            node_id,
        )
        self._store.write("DELETE FROM nodes WHERE node_id = ?", node_id)
        self._store.write("DELETE FROM uploads WHERE node_id = ?", node_id)
        # What was refused under the old keys is in the ledger, and nothing that the node with new keys should pay for.
        self._store.write("DELETE FROM refusals WHERE node_id = ?", node_id)
        void_token(self._store, node_id, REVOKED)
        said = f"the keys of {node_id} are revoked and refused from now on"
        accepted = self._store.row("SELECT position FROM artifacts WHERE node_id = ?", node_id)
        if accepted is not None:
            said += f"; its model, which was accepted as ledger entry {accepted['position']}, stands"
        return said

    def _refuse(self, node_id: str) -> NoReturn:
        if node_id not in self._study.roster:
            raise UsageError(
                f"{node_id!r} is not on the roster of study {self._study.name} ({', '.join(self._study.roster)}); name one that is"
            )
        if node_id in revoked_nodes(self._store):
            raise UsageError(f"the keys of {node_id} are revoked already, and it has not enrolled again")
        raise UsageError(
            f"{node_id} has not enrolled, so it has no keys; epgfn-coordinator revoke-invitation {node_id} voids its invitation"
        )


class Requests:
    """What `epgfn-coordinator revoke` asks the serving process for, in the state of the coordinator's first round."""

    def __init__(self, revoke: Callable[[str], str]) -> None:
        self._revoke = revoke

    def answer(self, store: Store) -> None:
        """Do it, and say so."""
        for row in store.rows("SELECT number, node_id FROM revocation_requests WHERE done IS NULL"):
            try:
                done, said = 1, self._revoke(row["node_id"])
            except EpgfnError as error:
                done, said = 0, str(error)
            with contextlib.suppress(EpgfnError):  # on a full disk nobody is answered, and serving goes on
                store.write(
                    "UPDATE revocation_requests SET done = ?, answer = ? WHERE number = ?",
                    done,
                    said,
                    row["number"],
                )

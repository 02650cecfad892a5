"""Joining a further round of the coordinator that this node is enrolled with: no token, the same keys, and its own consent.

A round is what the coordinator has signed with the key that was pinned when this node enrolled. Its ledger's key is in the signed manifest
and is pinned here; everything else is as in the round that the node enrolled for.
"""

from __future__ import annotations

from typing import Any, Final

import grpc

from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import write_atomic
from epgfn.base.identifiers import NODE_ID
from epgfn.ledger.note import NoteVerifier
from epgfn.rpc import UNARY_DEADLINE
from epgfn.v1 import study_pb2
from epgfn_node import ledger
from epgfn_node.client import Coordinator, plain
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.settings import NodeSettings
from epgfn_node.study import Agreement, fetch_agreement, require_on_roster, signed_round
from epgfn_node.trust import Trust, follow_coordinator

STATES: Final = {
    study_pb2.ROUND_STATE_OPEN: "open",
    study_pb2.ROUND_STATE_AGGREGATING: "aggregating",
    study_pb2.ROUND_STATE_PUBLISHED: "published",
    study_pb2.ROUND_STATE_WAITING: "waiting",
    study_pb2.ROUND_STATE_FAILED: "ended without a result",
}


def rounds(connection: Connection, report: Reporter, patience: float = 0.0) -> list[dict[str, Any]]:
    """The coordinator's rounds whose roster names this node, and in which of them it takes part from this home. What the coordinator says
    of them is not signed.

    Raises:
        EpgfnError: nobody answers, or the coordinator knows of one round alone.
    """
    with connection.open(report, patience) as coordinator:
        found = listed(coordinator)
    here = {connection.round_id}
    for home in joined(connection.home):
        here.add(Connection.load(home, NodeSettings.of(home)).round_id)
    return [
        {
            "name": plain(each.name),
            "study": plain(each.study_name),
            "study_digest": plain(each.study_digest),
            "round_id": plain(each.round_id),
            "state": STATES.get(each.state, "unknown"),
            "here": each.round_id in here,
        }
        for each in found
    ]


def joined(home: NodeHome) -> list[NodeHome]:
    """The further rounds that this node has joined, by name."""
    folder = home.round("").root
    found = [NodeHome(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return [each for each in found if each.is_enrolled]


def listed(coordinator: Coordinator) -> list[Any]:
    """What the coordinator lists.

    Raises:
        EpgfnError: nobody answers, or it is of a version that has one round alone.
    """

    def attempt() -> Any:
        try:
            return coordinator.study.ListRounds(study_pb2.ListRoundsRequest(), timeout=UNARY_DEADLINE)
        except grpc.RpcError as error:
            call: Any = error
            if call.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
            raise EpgfnError(
                "this coordinator is of a version that has one round, the one that this node is enrolled for"
            ) from None

    return list(coordinator.persist(attempt).rounds)


def require_name(name: str) -> None:
    """
    Raises:
        UsageError: it cannot be the name of a round, nor of a folder.
    """
    if not NODE_ID.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a round; epgfn-node rounds lists them")


def join(
    connection: Connection, name: str, report: Reporter, patience: float = 0.0
) -> tuple[NodeHome, Agreement]:
    """Take part in the round that the coordinator calls `name`: its home below this node's, and the study to be agreed to. Safe to repeat.

    Raises:
        UsageError: it is no name.
        RefusedError: "unknown-round": there is no such round of this node; or a check failed.
        EpgfnError: nobody answers, or a file cannot be written.
    """
    require_name(name)
    home = connection.home.round(name)
    with connection.open(report, patience) as coordinator:
        known = listed(coordinator)
        found = next((each for each in known if each.name == name), None)
        if found is None:
            names = ", ".join(plain(each.name) for each in known)
            raise RefusedError(
                "unknown-round",
                f"the coordinator has no round called {name} for {connection.node_id}, only: {names}; ask its operator",
            )
        if found.round_id == connection.round_id:
            raise UsageError(
                f"{name} is the round of {connection.home.root} itself; there is nothing to join"
            )
        _require_not_joined(connection.home, home, found.round_id)
        coordinator.round_id = found.round_id
        answer = coordinator.call(coordinator.study.GetRound, study_pb2.GetRoundRequest())
        key, new = follow_coordinator(home, bytes(answer.bundle), [bytes(each) for each in answer.rotations])
        manifest = signed_round(bytes(answer.bundle), key)
        if (manifest.round_id, manifest.study_digest) != (found.round_id, found.study_digest):
            raise RefusedError(
                "wrong-round",
                "the round manifest is of another round or study than the coordinator lists under this name; ask its operator",
            )
        for each in new:
            report.event(
                "coordinator-key",
                f"the coordinator signs with another key from now on, as the one that this node has trusted says: {each.in_words}",
                fingerprint=each.said.new_fingerprint,
            )
        if key != connection.trust.chain.start:
            write_atomic(home.round_coordinator_key, key.pem)
        _pin_ledger(home, manifest.ledger_vkey)
        trust = Trust(home)
        agreement = fetch_agreement(home, coordinator, trust, manifest.study_digest)
        require_on_roster(agreement.study, connection.node_id)
        ledger.follow(home, coordinator, trust)
    report.event(
        "joined",
        f"{connection.node_id} can take part in the round {name}, in {home.root}; nobody has agreed to its study yet",
        round=name,
    )
    return home, agreement


def _require_not_joined(node: NodeHome, new: NodeHome, round_id: str) -> None:
    """Only names of rounds are unsigned: one round under two would be trained for, and asked for consent, twice."""
    for other in joined(node):
        if other.root != new.root and Connection.load(other, NodeSettings.of(other)).round_id == round_id:
            raise RefusedError(
                "joined-already",
                f"the coordinator calls the round {new.root.name} that this node has joined as {other.root.name}, in {other.root}; "
                "go on there, and tell its operator",
            )


def _pin_ledger(home: NodeHome, vkey: str) -> None:
    NoteVerifier.from_vkey(vkey)
    raw = vkey.encode("utf-8") + b"\n"
    if home.ledger_key.exists():
        if home.ledger_key.read_bytes() != raw:
            raise RefusedError(
                "round-changed",
                f"the coordinator's ledger of this round has another key than the one kept in {home.ledger_key}; ask its operator why",
            )
        return
    write_atomic(home.ledger_key, raw)

"""Watching the coordinator's log: every checkpoint must extend the last one that this node saw.

A log that cannot prove that has been rewritten, or shows different parties different histories (a fork). Then nothing
more is sent, and both signed checkpoints are kept: together they convict the coordinator.
"""

from __future__ import annotations

from typing import NoReturn

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_bytes, sha256_hex, write_atomic
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint, verify_extends
from epgfn.ledger.errors import LedgerError
from epgfn.v1 import ledger_pb2
from epgfn_node.client import Coordinator
from epgfn_node.home import NodeHome
from epgfn_node.trust import Trust

MAX_NOTE_BYTES = 1 << 16
MAX_PROOF = 63
MAX_STEPS = 16  # until one checkpoint extends all that were seen: a log seldom grows between two answers


def last_checkpoint(home: NodeHome, trust: Trust) -> Checkpoint | None:
    """The newest checkpoint this node has verified; None if it has seen none.

    Raises:
        RefusedError: the file was changed.
    """
    if not home.checkpoint.exists():
        return None
    return _verified(read_bytes(home.checkpoint, "ledger checkpoint"), trust)


def follow(
    home: NodeHome, coordinator: Coordinator, trust: Trust, receipts: tuple[Checkpoint, ...] = ()
) -> Checkpoint:
    """Get the newest checkpoint, check that it extends the last one and those of `receipts`, and keep it.

    A coordinator with two histories can extend each of these with another one. So it must be one and the same checkpoint that extends all.

    Raises:
        RefusedError: "ledger-fork": the log contradicts what it showed before.
        EpgfnError: no answer.
    """
    newest = _extend(home, coordinator, trust, last_checkpoint(home, trust))
    open_ends, note = list(receipts), b""
    for _ in range(MAX_STEPS):
        open_ends = [each for each in open_ends if (each.size, each.root) != (newest.size, newest.root)]
        if not open_ends:
            break
        shown, note = _ask(home, coordinator, trust, open_ends.pop())
        if (shown.size, shown.root) != (newest.size, newest.root):
            # The log may have grown between the two answers; then the newest there is now extends both.
            open_ends.append(shown)
            newest = _extend(home, coordinator, trust, newest)
    if open_ends:
        _cry_fork(home, coordinator, note)
    return newest


def _extend(home: NodeHome, coordinator: Coordinator, trust: Trust, base: Checkpoint | None) -> Checkpoint:
    """The newest checkpoint, kept: it extends `base`, which is the one that is kept so far."""
    newest, note = _ask(home, coordinator, trust, base)
    write_atomic(home.checkpoint, note)
    return newest


def _ask(
    home: NodeHome, coordinator: Coordinator, trust: Trust, base: Checkpoint | None
) -> tuple[Checkpoint, bytes]:
    """The newest checkpoint, which extends `base`, and its signed note."""
    size = base.size if base is not None else 0
    # Signed by the coordinator itself: one that was restored from an old backup sees that others have seen more.
    newest_known = read_bytes(home.checkpoint, "ledger checkpoint") if home.checkpoint.exists() else b""
    try:
        answer = coordinator.call(
            coordinator.ledger.GetCheckpoint,
            ledger_pb2.GetCheckpointRequest(known_size=size, newest_known=newest_known),
        )
    except RefusedError as error:
        if error.reason == "ledger-rolled-back":
            _cry_fork(home, coordinator, b"")
        raise
    note = bytes(answer.checkpoint)
    newest = _verified(note, trust)
    if base is not None:
        try:
            verify_extends(base, newest, list(answer.consistency_proof)[: MAX_PROOF + 1])
        except LedgerError:
            _cry_fork(home, coordinator, note)
    return newest, note


def _verified(note: bytes, trust: Trust) -> Checkpoint:
    if len(note) > MAX_NOTE_BYTES:
        raise RefusedError(
            "malformed", "the ledger's checkpoint is far too long; ask the coordinator's operator"
        )
    return open_checkpoint(note, trust.ledger, strict=True)


def _cry_fork(home: NodeHome, coordinator: Coordinator, note: bytes) -> NoReturn:
    kept = ""
    if note:
        path = home.evidence / f"checkpoint-{sha256_hex(note)[:16]}.note"
        try:
            write_atomic(path, note)
            kept = f" and {path}"
        except EpgfnError:
            kept = ""
    raise RefusedError(
        "ledger-fork",
        f"THE LEDGER OF {coordinator.address} HAS BEEN REWRITTEN: it does not extend the checkpoint this node saw "
        f"before; send nothing, keep {home.checkpoint}{kept} as evidence, and tell the other nodes and your auditor",
    )

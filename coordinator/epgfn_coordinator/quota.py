"""How much of the disk uploads may take: of each node so much, and of the disk never the last of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

import grpc

from epgfn.base.errors import NoRoomError
from epgfn_coordinator.services.calls import CallError

KEPT: Final = (
    64 << 20
)  # bytes of the disk that no upload gets: state, ledger, log and result go on when nodes have filled the rest
TIMES: Final = 16  # as much as a study allows for one upload may come from a node in all, those that came to nothing included


class Quota:
    """What each node has sent since `serve` started. Methods may be called from any thread."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`folder`: on the disk that counts; `limit`: bytes of one upload."""
        self._folder, self._most = folder, TIMES * limit
        self._sent: dict[str, int] = {}
        self._lock = threading.Lock()

    def require_room(self, size: int) -> None:
        """Refuse an upload of which `size` bytes are still to come where there is no room for it.

        Raises:
            NoRoomError: there is none.
        """
        state = os.statvfs(self._folder)
        if state.f_bavail * state.f_frsize < size + KEPT:
            raise NoRoomError(
                f"the disk of {self._folder} has no room for {size} more bytes of an upload, beside {KEPT >> 20} MiB that are kept "
                "for everything else; make room"
            )

    def forget(self, node_id: str) -> None:
        """What has come under keys that are revoked is not counted against the node."""
        with self._lock:
            self._sent.pop(node_id, None)

    def count(self, node_id: str, size: int) -> None:
        """So much more has come from a node.

        Raises:
            CallError: "too-much-data": that is enough.
        """
        with self._lock:
            sent = self._sent.get(node_id, 0) + size
            if sent > self._most:
                raise CallError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "too-much-data",
                    f"{node_id} has sent {TIMES} times what the study allows for one upload, and no more is taken; "
                    "tell the coordinator's operator, who can start the coordinator again",
                )
            self._sent[node_id] = sent

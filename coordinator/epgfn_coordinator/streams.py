"""Streams hold a thread each: one that stops moving is ended, and a node has one of a kind, so that none can hold them all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import grpc

STALLED_AFTER = 60.0  # seconds without a piece


class StreamWatch:
    """Knows when each open stream last moved; `end_stalled` is called every now and then."""

    def __init__(self, stalled_after: float = STALLED_AFTER) -> None:
        self._stalled_after = stalled_after
        self._lock = threading.Lock()
        self._moved: dict[grpc.ServicerContext, float] = {}
        self._newest: dict[str, grpc.ServicerContext] = {}

    @contextlib.contextmanager
    def of(self, context: grpc.ServicerContext, owner: str) -> Iterator[Callable[[], None]]:
        """Watch a stream; the caller calls what it gets at each piece.

        An earlier stream of the same `owner` (a node, and what it streams) is ended: after a broken connection the node
        is back before we notice.
        """

        def progress() -> None:
            with self._lock:
                self._moved[context] = time.monotonic()

        progress()
        with self._lock:
            earlier, self._newest[owner] = self._newest.get(owner), context
        if earlier is not None:
            earlier.cancel()
        try:
            yield progress
        finally:
            with self._lock:
                self._moved.pop(context, None)
                if self._newest.get(owner) is context:
                    del self._newest[owner]

    def end_of(self, node_id: str) -> None:
        """Cancel every stream of a node."""
        with self._lock:
            streams = [context for owner, context in self._newest.items() if owner.split()[-1] == node_id]
        for context in streams:
            context.cancel()

    def end_stalled(self) -> int:
        """Cancel every stream that has not moved for too long; how many there were."""
        limit = time.monotonic() - self._stalled_after
        with self._lock:
            stalled = [context for context, moved in self._moved.items() if moved < limit]
        for context in stalled:
            context.cancel()
        return len(stalled)

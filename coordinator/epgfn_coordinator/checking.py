"""What an upload holds is checked in the background, one at a time: a large model takes longer than a call may last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from typing import Final

PATIENCE: Final = 10.0  # seconds that a call waits for its check before it says that it is still running


class Checking:
    """At most one check a node. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="check")  # one plaintext in memory at a time
        self._of: dict[str, tuple[str, Future[None]]] = {}
        self._lock = threading.Lock()

    def ended(self, node_id: str, upload_id: str, check: Callable[[], None]) -> bool:
        """Whether `check` of this upload has ended, a little later at most; it is begun where none runs. What it raised is raised, once."""
        with self._lock:
            name, running = self._of.get(node_id, ("", None))
            if running is None or (name != upload_id and running.done()):
                running = self._pool.submit(check)
                self._of[node_id] = (upload_id, running)
            elif name != upload_id:
                return False  # the one before has yet to end
        try:
            running.result(PATIENCE)
        except StillRunning:
            if not running.done():
                return False
            raise
        finally:
            with self._lock:
                if running.done() and self._of.get(node_id) == (upload_id, running):
                    del self._of[node_id]
        return True

    def is_checking(self, upload_id: str) -> bool:
        """Whether this upload is being checked, or waits for that."""
        with self._lock:
            return any(name == upload_id and not running.done() for name, running in self._of.values())

    @property
    def busy(self) -> bool:
        """Whether any is."""
        with self._lock:
            return any(not running.done() for _, running in self._of.values())

    def close(self) -> None:
        """Wait for the one that runs; those that wait are dropped, and begin anew when their nodes ask again."""
        self._pool.shutdown(wait=True, cancel_futures=True)

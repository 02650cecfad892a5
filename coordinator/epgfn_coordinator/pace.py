"""How often something may happen on behalf of one caller: a good many times at once, then at a steady pace."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST_CALLERS: Final = 4096  # that are remembered; the one heard of longest ago is forgotten first


class Pace:
    """`at_once` times, and `per_second` more often as time goes by, for each caller. Methods may be called from any thread."""

    def __init__(
        self, at_once: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once, self._per_second, self._clock = at_once, per_second, clock
        self._left: OrderedDict[str, tuple[float, float, int]] = (
            OrderedDict()
        )  # times left, when, passed over
        self._lock = threading.Lock()

    def take(self, caller: str) -> int | None:
        """None if it is too often; otherwise how many times it was too often since the last time that it was not."""
        with self._lock:
            now = self._clock()
            left, since, passed_over = self._left.pop(caller, (self._at_once, now, 0))
            left = min(self._at_once, left + (now - since) * self._per_second)
            allowed = left >= 1
            self._left[caller] = (left - 1, now, 0) if allowed else (left, now, passed_over + 1)
            if len(self._left) > MOST_CALLERS:
                self._left.popitem(last=False)
            return passed_over if allowed else None

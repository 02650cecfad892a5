"""What the coordinator says while it serves: one log line a decision, and events for a program that watches.

Never key material, tokens, or anything out of a model; a node is named by its id and an artifact by its digest.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import Any

from epgfn.base.console import Reporter
from epgfn_coordinator.counting import count_step

LOG = logging.getLogger("epgfn.coordinator")


class JsonLines(logging.Formatter):
    """One JSON object a line: time in UTC, level, message, and what a decision says besides: its phase and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See above."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Any] = {"time": time.replace("+00:00", "Z"), "level": record.levelname.lower()}
        decision = getattr(record, "decision", None) or {"message": record.getMessage()}
        return json.dumps(said | decision, default=str)


def formatter(as_json: bool) -> logging.Formatter:
    """Lines for people, or for programs."""
    return JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")


def log_to_stderr(as_json: bool = False) -> None:
    """Send the log to standard error, one line an entry."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(as_json))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


class Journal:
    """Decisions and progress of one serving process; its methods may be called from any thread."""

    def __init__(self, reporter: Reporter, events: bool = False) -> None:
        self._reporter = reporter
        self._events = (
            events  # a person already reads the log lines; a program gets each decision as an event too
        )
        self._lock = threading.Lock()

    def decision(self, phase: str, message: str, *, warn: bool = False, **fields: Any) -> None:
        """Log one line and report an event; `fields` appear in both."""
        detail = " ".join(f"{name}={value}" for name, value in fields.items())
        said = {"decision": {"phase": phase, "message": message, **fields}}
        LOG.log(logging.WARNING if warn else logging.INFO, "%s: %s %s", phase, message, detail, extra=said)
        if self._events:
            self._event(phase, message, fields)

    def progress(self, phase: str, step: int, steps: int, message: str = "", **fields: Any) -> None:
        """Report a step of long work; not logged."""
        count_step(phase, step, steps)
        self._event(phase, message, fields, step, steps)

    def _event(
        self,
        phase: str,
        message: str,
        fields: dict[str, Any],
        step: int | None = None,
        steps: int | None = None,
    ) -> None:
        # Whoever watched may have gone; that must not stop a round.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._reporter.event(phase, message, step=step, steps=steps, **fields)

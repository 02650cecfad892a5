"""What the coordinator says while it serves: one log line a decision, and events for a program that watches.

Never key material, tokens, or anything out of a model; a node is named by its id and an artifact by its digest.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import logging.handlers
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from epgfn.base.console import Reporter
from epgfn.base.errors import one_line
from epgfn_coordinator.counting import count_step
from epgfn_coordinator.pace import Pace

LOG = logging.getLogger("epgfn.coordinator")
LINES_AT_ONCE: Final = 20.0  # of one caller
LINES_PER_SECOND: Final = 0.1  # beyond that: two megabytes a day
FILE_BYTES: Final = 4 << 20
FILES_BEFORE: Final = 4  # that are kept beside the one that is written


class JsonLines(logging.Formatter):
    """One JSON object a line: time in UTC, level, message, and what a decision says besides: its phase and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See above."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Any] = {"time": time.replace("+00:00", "Z"), "level": record.levelname.lower()}
        decision = getattr(record, "decision", None) or {"message": record.getMessage()}
        left_out = getattr(record, "left_out", 0)
        return json.dumps(said | decision | ({"left_out": left_out} if left_out else {}), default=str)


class PlainLines(logging.Formatter):
    """One line a decision, whatever a caller has put into a name."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See above."""
        return one_line(super().formatMessage(record))


def formatter(as_json: bool) -> logging.Formatter:
    """Lines for people, or for programs."""
    return JsonLines() if as_json else PlainLines()


def log_to_stderr(folder: Path | None = None, *, as_json: bool = False) -> None:
    """Send the log to standard error, one line an entry, and to files in `folder` where one is given, the oldest of which go.

    What a caller has brought about is logged at a steady pace, see `caused_by`, with the number of lines that were left out.
    """
    handlers: list[logging.Handler] = [_ToStderr(sys.stderr)]
    if folder is not None:
        with contextlib.suppress(OSError):  # a full disk, say: standard error is left
            folder.mkdir(exist_ok=True)
            handlers.append(
                _ToFiles(
                    folder / "coordinator.log", maxBytes=FILE_BYTES, backupCount=FILES_BEFORE, delay=True
                )
            )
    for handler in handlers:
        handler.setFormatter(formatter(as_json))
    for before in LOG.handlers:
        before.close()
    LOG.handlers[:] = handlers
    LOG.filters[:] = [_AtAPace()]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


def caused_by(caller: str) -> dict[str, str]:
    """Goes with a line as `extra=` that somebody else can cause as often as they like: a node, or whoever it is."""
    return {"caller": caller}


class _Quiet(logging.Handler):
    """A line that cannot be written is lost: it must neither end a call nor write a traceback where there is no room either."""

    def handleError(self, record: logging.LogRecord) -> None:
        return


class _ToStderr(_Quiet, logging.StreamHandler):  # type: ignore[type-arg]
    pass


class _ToFiles(_Quiet, logging.handlers.RotatingFileHandler):
    pass


class _AtAPace(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._pace = Pace(LINES_AT_ONCE, LINES_PER_SECOND)

    def filter(self, record: logging.LogRecord) -> bool:
        caller = getattr(record, "caller", "")
        if not caller:
            return True
        left_out = self._pace.take(caller)
        if left_out:
            record.left_out = left_out
            record.msg, record.args = f"{record.getMessage()} (and {left_out} lines like it)", None
        return left_out is not None


class Journal:
    """Decisions and progress of one serving process; its methods may be called from any thread."""

    def __init__(self, reporter: Reporter, events: bool = False) -> None:
        self._reporter = reporter
        self._events = (
            events  # a person already reads the log lines; a program gets each decision as an event too
        )
        self._lock = threading.Lock()
        self._pace = Pace(LINES_AT_ONCE, LINES_PER_SECOND)
        self._named: Callable[[], dict[str, str]] = dict

    def of(self, name: str, several: Callable[[], bool]) -> Journal:
        """The same for one round, whose name goes with whatever it says while there are `several`."""
        found = copy.copy(self)
        found._named = lambda: {"round": name} if several() else {}
        return found

    def decision(
        self, phase: str, message: str, *, warn: bool = False, caller: str = "", **fields: Any
    ) -> None:
        """Log one line and report an event; `fields` appear in both. `caller`: who can cause it as often as they like, see `caused_by`."""
        fields |= self._named()
        detail = " ".join(f"{name}={value}" for name, value in fields.items())
        said: dict[str, Any] = {"decision": {"phase": phase, "message": message, **fields}}
        level = logging.WARNING if warn else logging.INFO
        LOG.log(level, "%s: %s %s", phase, message, detail, extra=said | caused_by(caller))
        if self._events and not (caller and self._pace.take(caller) is None):
            self._event(phase, message, fields)

    def progress(self, phase: str, step: int, steps: int, message: str = "", **fields: Any) -> None:
        """Report a step of long work; not logged."""
        count_step(phase, step, steps)
        fields |= self._named()
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

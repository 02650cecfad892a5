"""What time it is, and whether to believe it: no round is closed, failed or loses its key on the word of one reading of a clock.

The newest time that was believed is kept in the state, at most a minute old while `serve` runs. A reading is doubted if it lies more than
LEAP before that time, or more than LEAP behind it with the moment in between at which something is to happen: then nobody saw that moment
pass, and a clock set wrong looks just the same. A doubted reading is not kept, so a clock that is put right is believed again.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from epgfn.base.errors import EpgfnError
from epgfn.sealing.pki import issued_at
from epgfn_coordinator.store import Store

LEAP: Final = timedelta(minutes=5)
KEEP_EVERY: Final = timedelta(minutes=1)
_SEEN_FACT: Final = "seen"


def now() -> datetime:
    """The machine's clock, in UTC. Nothing else in this package reads the time of day."""
    return datetime.now(UTC)


def spelled(moment: datetime) -> str:
    """As in 2030-01-31T12:00:00Z; parts of a second are dropped."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reading(NamedTuple):
    """A time, and why it is not to be believed; `doubt` is empty where it is."""

    time: datetime
    doubt: str


def doubt_of(time: datetime, seen: datetime, due: datetime | None) -> str:
    """Why `time` is not believed after `seen` where something is to happen at `due`; empty if it is."""
    right = "put the clock right, or, if it is, start serve again with --clock-is-right"
    if time < seen - LEAP:
        return (
            f"the machine's clock says {spelled(time)}, which is before {spelled(seen)}, when this coordinator last ran; "
            f"nothing is decided by the clock until that is cleared up: {right}"
        )
    if due is not None and seen < due <= time and time - seen > LEAP:
        return (
            f"by the machine's clock, which says {spelled(time)}, {spelled(due)} has passed, but this coordinator last ran at "
            f"{spelled(seen)} and has only the clock's word for it; nothing is decided by it: {right}"
        )
    return ""


class Clock:
    """Reads the time for one round. `keep` what is believed only in the process that serves."""

    def __init__(self, store: Store, *, keep: bool = False) -> None:
        self._store, self._keep = store, keep
        self._kept = self._seen = _newest_known(store)

    def believe(self) -> None:
        """Take the present reading for right: the operator has said so."""
        self._seen = now()
        self._store.set_fact(_SEEN_FACT, self._seen.isoformat())
        self._kept = self._seen

    def read(self, *dues: datetime | None) -> Reading:
        """The time, and whether it may decide that any of `dues` has come."""
        time = now()
        seen = self._seen
        doubts = [] if seen is None else [doubt_of(time, seen, due) for due in dues or (None,)]
        doubt = next(filter(None, doubts), "")
        if not doubt and self._keep:
            self._seen = time
            if self._kept is None or abs(time - self._kept) >= KEEP_EVERY:
                self._kept = time
                with contextlib.suppress(EpgfnError):  # a full disk must not end `serve` for this
                    self._store.set_fact(_SEEN_FACT, time.isoformat())
        return Reading(time, doubt)


def _newest_known(store: Store) -> datetime | None:
    """The time last kept; in a home of before there was any, when its newest certificate was issued."""
    if kept := store.text(_SEEN_FACT):
        return datetime.fromisoformat(kept)
    issued = [issued_at(bytes(row["certificate"])) for row in store.rows("SELECT certificate FROM nodes")]
    return max(issued, default=None)

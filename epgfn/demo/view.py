"""All parties of a simulation in one terminal view; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from epgfn.base.invisible import visible

PHASES = {
    "starting": "starting",
    "serving": "waiting for nodes",
    "enrolling": "asking for a certificate",
    "enrolled": "enrolled",
    "study": "accepted the study",
    "training": "training on its own records",
    "trained": "trained",
    "sealed": "sealed and signed",
    "approved": "approved for sending",
    "uploading": "sending the sealed model",
    "accepted": "has a receipt",
    "connecting": "waiting for a connection",
    "waiting": "waiting for the global model",
    "closed": "round closed",
    "aggregating": "training the global model",
    "leaving-out": "training without one node",
    "published": "published the global model",
    "fetched": "fetched and verified the global model",
    "done": "done",
    "comparing": "computing the exact posterior to compare with",
}
LINE_EVERY = 10.0  # seconds between plain lines of the same phase


class View:
    """Shows `event(party, {...})`. Use as a context manager."""

    def __init__(self, parties: list[str], quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._rows: dict[str, dict[str, Any]] = {party: {"phase": "", "started": None} for party in parties}
        self._printed: dict[str, tuple[str, float]] = {}
        live = self.console.is_terminal and not quiet
        self._live = Live(self._table(), console=self.console, refresh_per_second=8) if live else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._table())
            self._live.stop()

    def event(self, party: str, event: Mapping[str, Any]) -> None:
        """Show that `party` has come to `event["phase"]`, with `step` of `steps` done where it has steps."""
        row = self._rows.setdefault(party, {})
        phase = str(event["phase"])
        if party == "coordinator" and phase in ("enrolled", "accepted", "refused"):
            row["message"] = f"{phase} {event.get('node', '')}"
        else:
            row.update(
                phase=phase,
                message=event.get("message", ""),
                step=event.get("step"),
                steps=event.get("steps"),
            )
        row["loss"] = event.get("loss")
        row["pid"] = event.get("pid", row.get("pid"))
        if self._live:
            self._live.update(self._table())
        else:
            self._line(party, phase, row)

    def _line(self, party: str, phase: str, row: dict[str, Any]) -> None:
        last, when = self._printed.get(party, ("", 0.0))
        now = time.monotonic()
        if (
            phase == last
            and row.get("step") is not None
            and row["step"] != row["steps"]
            and now - when < LINE_EVERY
        ):
            return
        self._printed[party] = (phase, now)
        steps = f" {row['step']}/{row['steps']}" if row.get("steps") and phase == row.get("phase") else ""
        words = (
            row["message"]
            if party == "coordinator" and phase in ("enrolled", "accepted", "refused")
            else PHASES.get(phase, phase)
        )
        self.console.print(
            visible(f"{party:<12} {words}{steps}"), highlight=False, markup=False, soft_wrap=True
        )

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for party, row in self._rows.items():
            bar = (
                ProgressBar(total=row["steps"], completed=row["step"] or 0, width=24)
                if row.get("steps")
                else ""
            )
            note = f"loss {row['loss']:.3f}" if row.get("loss") is not None else str(row.get("message") or "")
            table.add_row(
                f"[bold]{party}[/]",
                PHASES.get(row["phase"], row["phase"]),
                bar,
                f"[dim]{escape(visible(note[:60]))}[/]",
            )
        return table

"""What the tests in tests/attacks/ share: what an audit refuses, in its own words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from epgfn.ledger.log import TileLog, export_log
from epgfn.run.audit.audit import audit_run
from run_directory import RunDirectory, opened


def refusals(root: Path) -> dict[str, str]:
    """The sentence of each check of the audit of `root` that does not pass."""
    return {finding.check: finding.message for finding in audit_run(root).findings if not finding.ok}


def refusal(root: Path) -> tuple[str, str]:
    """The one check that does not pass, and its sentence."""
    found = refusals(root)
    assert len(found) == 1, found
    return found.popitem()


def closing(root: Path, change: Callable[[RunDirectory], None] = lambda run: None) -> RunDirectory:
    """A round whose nodes have sent, and whose coordinator does as `change` does before it closes it."""
    run = opened(root)
    run.send("north")
    run.send("south")
    change(run)
    return run


def rewrite(run: RunDirectory, root: Path, entries: list[bytes]) -> None:
    """Put another ledger into a copy of `run`, signed as it should be."""
    live = root.with_name(root.name + "-live")
    TileLog(live, run.ledger).publish(entries)
    for path in sorted((root / "ledger").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    export_log(live, root / "ledger", run.ledger.verifier)

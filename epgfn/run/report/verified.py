"""What a report is made of: files whose signature, digest and contents an audit of the same run directory has checked, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_bytes, sha256_hex
from epgfn.run.audit.audit import AuditReport, audit_run
from epgfn.run.layout import SUMMARY
from epgfn.run.summary import read_summary

GROUNDWORK = ("coordinator-key", "study", "round")
"""Without these nothing in a run directory is known to belong to anything."""


@dataclass(frozen=True)
class Verified:
    """The run directory at `root`, and the `audit` of it."""

    root: Path
    audit: AuditReport

    @property
    def failures(self) -> list[str]:
        """What did not verify, a sentence each."""
        return [f"{finding.check}: {finding.message}" for finding in self.audit.findings if not finding.ok]

    def problem(self, *checks: str) -> str:
        """Why the first of `checks` that failed did; empty if all passed, or were not made."""
        failed = (f.message for f in self.audit.findings if not f.ok and f.check in checks)
        return next(failed, "")

    def read(self, name: str) -> bytes | None:
        """The file, if its model's check has passed and it still has the signed digest."""
        if name not in self.audit.vouched:
            return None
        try:
            raw = read_bytes(self.root / name, "file of the run")
        except EpgfnError:
            return None
        return raw if sha256_hex(raw) == self.audit.vouched.get(name) else None

    def summary(self, place: str) -> dict[str, Any] | None:
        """What the coordinator signed of the model in that folder; None if it signed nothing, or it does not verify."""
        raw = self.read(f"{place}/{SUMMARY}")
        return None if raw is None else read_summary(raw)


def verify(run_dir: Path) -> Verified:
    """Audit `run_dir`.

    Raises:
        RefusedError: not even the study is known to be the one that was agreed on.
    """
    verified = Verified(run_dir, audit_run(run_dir))
    problem = verified.problem(*GROUNDWORK)
    if problem:
        raise RefusedError(
            "not-verified", f"nothing of this run can be shown, since it does not verify: {problem}"
        )
    return verified

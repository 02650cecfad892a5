"""An audit as lines of text: a check a line."""

from __future__ import annotations

from epgfn.base.errors import EpgfnError
from epgfn.run.audit.audit import AuditReport


def as_lines(report: AuditReport) -> list[str]:
    """Each check with what it found."""
    return [
        f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.message}"
        for finding in report.findings
    ]


def as_json(report: AuditReport) -> dict[str, object]:
    """The same for programs."""
    findings = [{"check": f.check, "ok": f.ok, "message": f.message} for f in report.findings]
    return {"ok": report.ok, "findings": findings}


def require_passed(report: AuditReport) -> None:
    """Raises EpgfnError if a check failed."""
    failed = sum(not finding.ok for finding in report.findings)
    if failed:
        raise EpgfnError(f"{failed} of {len(report.findings)} checks failed; do not rely on this run")

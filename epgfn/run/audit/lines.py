"""An audit as text and for programs: a check a line, and what they come to."""

from __future__ import annotations

from epgfn.base.errors import EpgfnError
from epgfn.run.audit.audit import AuditReport
from epgfn.run.audit.conclusion import conclusion
from epgfn.run.audit.timeline import timeline


def as_lines(report: AuditReport, *, with_timeline: bool = False) -> list[str]:
    """Each check with what it found; if asked for, the ledger's story; and the conclusion."""
    checks = [
        f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.message}"
        for finding in report.findings
    ]
    story = timeline(report.about.entries) if with_timeline and report.about is not None else []
    told = ["", "The ledger, entry by entry", *story] if story else []
    return [*checks, *told, "", *map(str, conclusion(report))]


def as_json(report: AuditReport) -> dict[str, object]:
    """The same for programs."""
    findings = [{"check": f.check, "ok": f.ok, "message": f.message} for f in report.findings]
    return {
        "ok": report.ok,
        "findings": findings,
        "conclusion": [{"kind": line.kind, "sentence": line.sentence} for line in conclusion(report)],
        "timeline": [] if report.about is None else timeline(report.about.entries),
    }


def require_passed(report: AuditReport) -> None:
    """Raises EpgfnError if a check failed."""
    failed = sum(not finding.ok for finding in report.findings)
    if failed:
        raise EpgfnError(f"{failed} of {len(report.findings)} checks failed; do not rely on this run")

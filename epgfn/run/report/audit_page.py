"""An audit as a page of its own, to be kept or printed: what it comes to, each check, and the ledger entry by entry."""

from __future__ import annotations

from pathlib import Path

from epgfn.base.files import write_atomic
from epgfn.run.audit.audit import AuditReport
from epgfn.run.audit.conclusion import conclusion
from epgfn.run.audit.timeline import entry_in_words
from epgfn.run.report.html import join, page, paragraph, section, table, tag


def write_audit_page(report: AuditReport, run_dir: Path, out: Path) -> None:
    """Write the page of an audit of `run_dir` to `out`. It loads nothing and runs no script.

    Raises:
        EpgfnError: it cannot be written.
    """
    write_atomic(out, audit_page(report, run_dir).encode("utf-8"))


def audit_page(report: AuditReport, run_dir: Path) -> str:
    """The page."""
    name = run_dir.name if report.about is None else report.about.study.name
    failed = sum(not finding.ok for finding in report.findings)
    verdict = (
        f"{failed} of {len(report.findings)} checks failed. Do not rely on this run."
        if failed
        else f"All {len(report.findings)} checks passed."
    )
    lines = [(line.kind, line.sentence) for line in conclusion(report)]
    checks = [("passed" if f.ok else "FAILED", f.check, f.message) for f in report.findings]
    entries = [] if report.about is None else report.about.entries
    story = [(str(index), entry.kind, entry_in_words(entry)) for index, entry in enumerate(entries)]
    body = join([
        tag("h1", f"Audit of {name}"),
        tag("div", tag("strong", verdict), paragraph(f"The run directory {run_dir}, checked offline from its files alone."),
            class_="warning" if failed else "verdict good"),
        section("What it comes to", table("In words for everybody", ("what kind of knowledge", "sentence"), lines)),
        section("Checks", table("In their order", ("result", "check", "what was found"), checks)),
        section("The ledger", table("Entry by entry", ("entry", "kind", "what it says"), story, numeric=("entry",))) if story else "",
        paragraph("This page is not signed, and proves nothing to anybody else: whoever doubts it runs the audit again."),
    ])  # fmt: skip
    return page(f"{name}: audit", body)

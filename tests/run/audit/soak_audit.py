"""An audit of 1,000 uploads, timed: at most thirty seconds, and not much more memory than one of two."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from epgfn.run.audit.audit import audit_run
from run_directory import RunDirectory, make_run, opened

UPLOADS = 1000
SECONDS = 30.0


def soak_a_thousand_uploads_are_audited_in_half_a_minute(tmp_path: Path) -> None:
    small = make_run(tmp_path / "small")
    assert audit_run(small.root).ok
    roster = [f"node-{number:04d}" for number in range(UPLOADS)]
    run = opened(tmp_path / "run", RunDirectory(tmp_path / "none").study.with_changes({"roster": roster}))
    for node in roster:
        run.send(node)
    run.close()
    root = run.finish()
    settled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, used = time.perf_counter(), time.process_time()
    report = audit_run(root)
    took, cpu = time.perf_counter() - begun, time.process_time() - used
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - settled) / 1024
    assert report.ok, [finding for finding in report.findings if not finding.ok][:3]
    print(f"\naudit of {UPLOADS} uploads: {took:.1f} s ({cpu:.1f} of CPU), {grown:.0f} MiB more", flush=True)
    assert cpu < SECONDS

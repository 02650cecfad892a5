"""Whoever holds a run directory recomputes each node's epsilon; a claim that does not add up is found, though signed and logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from epgfn.run.audit.audit import audit_run
from epgfn.run.report.privacy import privacy, read_promises
from epgfn.run.report.verified import verify
from epgfn.study import Study
from made_claims import dishonest, honest
from run_directory import RunDirectory, opened
from small import PRIVATE_STUDY

STUDY = Study.from_bytes(PRIVATE_STUDY.encode())


def finished(root: Path, north: object, south: object) -> RunDirectory:
    """Both nodes send, with these claims."""
    run = opened(root, STUDY)
    run.send("north", privacy=north)
    run.send("south", privacy=south)
    run.close()
    run.finish()
    return run


def test_the_audit_names_each_nodes_epsilon_and_the_report_shows_it(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", honest(), honest(epsilon=1.0))
    report = audit_run(run.root)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    said = {finding.check: finding.message for finding in report.findings}
    assert "epsilon 4 at delta 1e-05 per record" in said["upload north"]
    assert "epsilon 1 at delta 1e-05 per record" in said["upload south"]
    page = privacy(STUDY, read_promises(verify(run.root), STUDY))
    for words in (
        "differential privacy for each record",
        "<td>north</td>",
        ">4</td>",
        ">1</td>",
        "did what it signed",
    ):
        assert words in page


@pytest.mark.parametrize("which", dishonest())
def test_a_claim_that_does_not_count_is_found(tmp_path: Path, which: str) -> None:
    claim, _ = dishonest()[which]
    run = finished(tmp_path / "run", honest(), claim)
    report = audit_run(run.root)
    assert {finding.check for finding in report.findings if not finding.ok} == {"upload south"}
    (message,) = (finding.message for finding in report.findings if not finding.ok)
    assert "wrong privacy claim" in message
    good, bad = read_promises(verify(run.root), STUDY)
    assert good.epsilon > 3.9 and bad.problem
    assert "does not count" in privacy(STUDY, [good, bad])


def test_a_changed_statement_is_no_promise(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", honest(), honest())
    bundle = run.root / "uploads" / "north" / "upload.sigstore.json"
    bundle.write_bytes(bundle.read_bytes()[:-2])
    assert not audit_run(run.root).ok
    assert read_promises(verify(run.root), STUDY)[0].problem

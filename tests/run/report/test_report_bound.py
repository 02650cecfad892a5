"""What people read is what was signed: one digit changed in any file, and either the audit fails or the page is the same."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import pytest

from epgfn.base.files import write_atomic
from epgfn.run.audit.audit import audit_run
from epgfn.run.report import report_of, write_report
from epgfn.run.report.run import read_run
from epgfn.study import Study
from report_run import make_comparison, make_run

OLD = Path(__file__).parents[1] / "audit" / "before_the_move" / "run"
CHANGES = 1
"""Places in each file between its first and its last."""


def page(root: Path) -> tuple[str, dict[str, bytes]]:
    return report_of(read_run(root))


def change(root: Path, name: str, shown: tuple[str, dict[str, bytes]]) -> None:
    """Change digits of a file, the first, the last and some between; where it has none, bytes. `shown`: the page as it should be."""
    path, draw = root / name, random.Random(name)
    raw = path.read_bytes()
    digits = [match.start() for match in re.finditer(rb"[0-9]", raw)] if b"\0" not in raw else []
    places = digits or range(len(raw))
    passed = 0
    for at in sorted({places[0], places[-1], *draw.sample(places, min(CHANGES, len(places)))}):
        other = b"%d" % ((int(raw[at : at + 1]) + 1) % 10) if digits else bytes([raw[at] ^ 1])
        path.write_bytes(raw[:at] + other + raw[at + 1 :])
        try:
            if audit_run(root).ok:
                passed += 1
                if passed == 1:  # what the audit does not mind here it does not read
                    assert page(root) == shown, f"byte {at} of {name} changes what is shown"
        finally:
            path.write_bytes(raw)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every file that a run directory may have: a simulation's, with models without each node, and its report."""
    from small import SMALL_STUDY

    study = Study.from_bytes(SMALL_STUDY.encode()).with_changes(
        {"aggregation": {"leave_one_out": True, "samples": 20}}
    )
    root = make_run(tmp_path_factory.mktemp("whole") / "run", study, make_comparison(study), local=True)
    write_report(root)
    return root


def test_a_changed_digit_in_any_file_is_found_or_changes_nothing_that_is_shown(whole: Path) -> None:
    assert audit_run(whole).ok
    files = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file())
    assert {"global/comparison.json", "global/summary.json", "global/report.html"} <= set(files)
    shown = page(whole)
    for name in files:
        change(whole, name, shown)
    assert audit_run(whole).ok


def test_of_an_old_run_nothing_is_shown_that_was_not_signed(tmp_path: Path) -> None:
    root = Path(shutil.copytree(OLD, tmp_path / "run"))
    summary = json.loads((root / "global" / "summary.json").read_bytes())
    html, pictures = page(root)
    assert audit_run(root).ok
    assert "it was not signed in this run" in html and "Which edges are probable" in html
    assert "training.png" not in pictures and str(summary["diagnostics"]["nodes"]) not in html
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    for name in files:
        change(root, name, (html, pictures))
    write_atomic(root / "global" / "summary.json", b"nonsense")
    assert page(root) == (html, pictures)


def test_a_summary_of_another_model_fails_though_the_coordinator_signed_both(
    tmp_path: Path, small_study: Study
) -> None:
    other = [[0.0, 0.9, 0.9], [0.0, 0.0, 0.9], [0.0, 0.0, 0.0]]
    root = make_run(tmp_path / "run", small_study, summary={"edge_probabilities": other})
    report = audit_run(root)
    (message,) = [finding.message for finding in report.findings if not finding.ok]
    assert "does not say what the signed model says" in message
    assert "0.900" not in page(root)[0].split("This run does not verify")[1].split("</div>")[1]

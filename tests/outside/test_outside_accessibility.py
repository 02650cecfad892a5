"""axe-core, which checks what screen readers and keyboards need (WCAG 2.2 AA), finds nothing in a report or an audit's page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kinds
from browsing import CHROMIUM, browser, opened
from epgfn.run.audit.audit import audit_run
from epgfn.run.report import write_report
from epgfn.run.report.audit_page import write_audit_page
from epgfn.study import Study
from outside_tools import REQUIRED
from report_run import make_comparison, make_run
from small import SMALL_STUDY

AXE = Path(os.environ.get("EPGFN_AXE") or Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js")
pytestmark = [
    pytest.mark.skipif(
        not AXE.is_file() and not REQUIRED, reason="no axe-core here; make outside installs it"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; install it to open pages"),
]


def test_axe_finds_nothing(tmp_path: Path) -> None:
    small = Study.from_bytes(SMALL_STUDY.encode())
    graphs = make_run(tmp_path / "graphs", small, make_comparison(small), local=True)
    pages = [
        write_report(graphs),
        write_report(make_run(tmp_path / "trees", kinds.study("phylogeny"))),
        tmp_path / "audit.html",
    ]
    write_audit_page(audit_run(graphs), graphs, pages[-1])
    with browser() as chromium:
        for path in pages:
            for width, scheme in ((1280, "light"), (390, "dark")):
                with opened(chromium, path, width, scheme) as (page, _):
                    page.evaluate(AXE.read_text("utf-8"))
                    told = page.evaluate("axe.run()")
                    found = told["violations"]
                    assert len(told["passes"]) > 20
                    assert [
                        (one["id"], [node["html"][:150] for node in one["nodes"]]) for one in found
                    ] == [], path.name

"""Promise: whoever opens a report's or an audit's page has their browser do nothing but show it.

Names of a CSV's columns become a study's variables by `epgfn study draft`; names, descriptions and software are whatever somebody typed. A
real browser opens each page: it runs no script, and asks nobody for anything.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from epgfn.run.audit.audit import audit_run
from epgfn.run.report import write_report
from epgfn.run.report.audit_page import write_audit_page
from epgfn.study import Study
from report_run import make_comparison, make_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine; install it to open pages"
)
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--virtual-time-budget=2000",
)  # fmt: skip


class Watcher:
    """Keeps the path of every request that reaches it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        watcher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                watcher.asked.append(self.path)
                self.send_response(204)
                self.end_headers()

            do_POST = do_HEAD = do_GET

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.server.shutdown()
    watcher.server.server_close()


def attacks(url: str) -> list[str]:
    """Names that would call `url`, or change the title, where any of them became markup, script or style."""
    call = f"new Image().src='{url}/s',document.title='owned'"
    return [
        # Short enough for a column's name, as studies have them.
        f"<script src={url}/j></script>",
        "<script>document.title='owned'</script>",
        f"<img src={url}/i onerror=document.title='!'>",
        f"</style><style>*{{background:url({url}/)}}</style>",
        f"<script>{call}</script>",
        f"<img src='{url}/i' onerror=\"{call}\">",
        f"\"><svg onload=\"{call}\"><a href='javascript:{call}'>",
        f"</title><meta http-equiv=refresh content='0;{url}/r'><link rel=stylesheet href={url}/l>",
        f"--><iframe srcdoc='<script>{call}</script>' src={url}/f></iframe><!--",
        "=cmd|' /C calc'!A0", "{{7*7}}${7*7}<%= 7*7 %>", "a&lt;b&#60;script&#62;",
    ]  # fmt: skip


def opened(page: Path, profile: Path) -> str:
    """The page as the browser has it after two seconds of its time."""
    done = subprocess.run(
        [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_watcher_would_see_it(tmp_path: Path, watcher: Watcher) -> None:
    """What the other tests rest on: put into a page as they are, the names do act."""
    page = tmp_path / "page.html"
    page.write_text("<title>page</title>" + "".join(attacks(watcher.url)[3:5]))
    assert "<title>owned</title>" in opened(page, tmp_path / "profile") and "/s" in watcher.asked


def test_names_from_a_csv_do_nothing_in_any_page(
    tmp_path: Path, small_study: Study, watcher: Watcher
) -> None:
    bad = attacks(watcher.url)
    header, study_file = tmp_path / "records.csv", tmp_path / "study.toml"
    with header.open("w", newline="") as target:
        rows = csv.writer(target)
        rows.writerow(bad[:4])
        rows.writerows([[i % 3, i % 5, i % 7, i % 4] for i in range(40)])
    drafted = subprocess.run(
        [sys.executable, "-m", "epgfn", "study", "draft", str(header), "--out", str(study_file)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert drafted.returncode == 0 or all(line.isprintable() for line in drafted.stderr.splitlines())
    variables = [{"name": name} for name in bad[:3]]
    study = small_study.with_changes(
        {"name": bad[7][:200], "description": " ".join(bad), "variables": variables}
    )
    told = {"software": {bad[0]: bad[1]}, "diagnostics": {bad[2]: bad[3], "nodes": {bad[4]: {bad[5]: 1.0}}}}
    run = make_run(tmp_path / "run", study, make_comparison(study), local=True, summary=told)
    audit_page = tmp_path / "audit.html"
    write_audit_page(audit_run(run), run, audit_page)
    for page in (write_report(run), audit_page):
        shown = opened(page, tmp_path / "profile")
        assert "<title>owned" not in shown and "<title>!" not in shown
        assert "&lt;script" in shown or page == audit_page  # which holds none of these names
        assert (
            "<script" not in shown
            and "<iframe" not in shown
            and "onload=" not in re.sub(r"&lt;.*?&gt;", "", shown)
        )
    assert watcher.asked == []

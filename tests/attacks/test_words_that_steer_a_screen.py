"""Promise: what a screen shows of others' words is what they say. Somebody puts into a name what turns the direction of writing, steers a
terminal, forges a line of its own, or shows nothing and makes one name of two."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from epgfn.base.canonical import canonical_json
from epgfn.base.console import TerminalReporter, run_app, say
from epgfn.base.errors import MAX_SENTENCE, EpgfnError, one_line
from epgfn.base.invisible import INVISIBLE, visible
from epgfn.cli.main import app
from epgfn.run.inspection import inspect_file
from epgfn.run.report.text import plain
from epgfn.sealing.statement import STUDY, make_statement
from epgfn_coordinator.cli import app as coordinator_app
from epgfn_coordinator.journal import PlainLines
from epgfn_node.cli import app as node_app
from epgfn_node.home import NodeHome
from small import SMALL_STUDY

STEERING = ["\x1b[2K\x1b[31m", "\x9b31m", "\x07", "\x08\x08", "\r", "\n", "\x7f", "\u2028"]
TURNING = ["\u202e", "\u2066", "\u200f", "\u061c"]
UNSEEN = [
    "\u200b",
    "\u2060",
    "\ufeff",
    "\u3164",
    "\ufe0f",
    "\u034f",
    "\u115f",
    "\u2800",
    "\U000e0041",
    "\U000e0101",
]
ALL = [*STEERING, *TURNING, *UNSEEN]
FORGED = "a\ngood: accepted"
ROOT = Path(__file__).parents[2]


def require_plain(text: str) -> None:
    for line in text.split("\n"):
        assert line.isprintable() and not INVISIBLE.search(line), ascii(line)
        assert not line.startswith("good:")


def said(capsys: pytest.CaptureFixture[str], which: object, name: str, *arguments: object) -> str:
    with pytest.raises(SystemExit):
        run_app(which, name, [str(each) for each in arguments])  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    return out + err


def toml(text: str) -> str:
    """As TOML's quoted strings have it: the file itself is plain ASCII."""
    return '"' + "".join(f"\\U{ord(c):08X}" if not "!" <= c <= "~" else c for c in text) + '"'


HOSTILE: list[Callable[[str], str]] = [
    lambda bad: f"{toml('a' + bad)} = 1\n{SMALL_STUDY}",
    lambda bad: f"{SMALL_STUDY}{toml('a' + bad)} = 1\n",
    lambda bad: SMALL_STUDY.replace('"north"', toml("north" + bad)),
    lambda bad: SMALL_STUDY.replace('name = "a"', f"name = {toml('a' + bad)}\nscales = 2"),
    lambda bad: SMALL_STUDY.replace("[space]", f"[space]\nkind = {toml('dag' + bad)}"),
    lambda bad: SMALL_STUDY.replace("[policy]", f"[policy]\nkind = {toml('mlp' + bad)}"),
    lambda bad: SMALL_STUDY.replace('name = "small"', f"name = {toml('small' + bad)}"),
    lambda bad: f"{SMALL_STUDY}[prior]\nforbidden = [[{toml('a' + bad)}, {toml('q' + bad)}]]\n",
    lambda bad: f"{SMALL_STUDY}[prior.candidates]\n{toml('a' + bad)} = [{toml('b' + bad)}]\n",
    lambda bad: f"{SMALL_STUDY}[[{toml('t' + bad)}]]\n{toml('k' + bad)} = []\n",
    lambda bad: f"{SMALL_STUDY}[design]\ncolumn = {toml('a' + bad)}\nsets = {{{toml('x' + bad)} = [{toml(bad)}]}}\n",
]  # fmt: skip


@pytest.mark.parametrize("made", HOSTILE)
def test_of_a_study(made: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.toml"
    for bad in ("".join(ALL), FORGED):
        path.write_text(made(bad))
        told = said(capsys, app, "epgfn", "study", "check", path)
        require_plain(told)
        require_plain(
            said(
                capsys,
                coordinator_app,
                "epgfn-coordinator",
                "init",
                "--study",
                path,
                "--home",
                tmp_path / "c",
            )
        )
        require_plain(said(capsys, app, "epgfn", "inspect", path))
        require_plain(said(capsys, app, "epgfn", "study", "knowledge", path))
        assert "unexpected" not in told


def test_an_unknown_setting_is_shown_as_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMALL_STUDY.replace("[policy]", f"[policy]\n{toml(chr(0x202E) + 'dnik')} = 1"))
    told = said(capsys, app, "epgfn", "study", "check", path)
    assert "policy.\\u202ednik: there is no such setting" in told


def test_a_character_that_editors_do_not_show_is_among_the_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(f"# quorum = 2 \u202e not\n{SMALL_STUDY}sclae = 1\n", "utf-8")
    told = said(capsys, app, "epgfn", "study", "check", path)
    assert "line 1 holds a character" in told and "U+202E" in told and "sclae" in told
    require_plain(told)


def test_of_an_invitation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "north.invitation.json"
    for bad in ("".join(ALL), FORGED):
        for value in (
            {"a" + bad: 1},
            {"format": bad},
            {"node_id": "north" + bad},
            {"format": "epgfn-invitation/v1", "address": bad},
        ):
            path.write_text(json.dumps(value))
            path.chmod(0o600)
            NodeHome(tmp_path / "home").root.mkdir(exist_ok=True)
            require_plain(
                said(capsys, node_app, "epgfn-node", "enroll", "--home", tmp_path / "home", "--invite", path)
            )
            require_plain(said(capsys, app, "epgfn", "inspect", path))


def test_of_any_file_that_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    bad = "".join(ALL)
    about = {"study_digest": "0" * 64, "name": bad}
    summary = {
        "study_digest": bad,
        "model_sha256": FORGED,
        "variables": [],
        "study": bad,
        "aggregated": [bad],
    }
    for raw in (make_statement({bad: "0" * 64}, STUDY, about), canonical_json(summary)):
        path.write_bytes(raw)
        for line in inspect_file(path).lines:
            assert "\n" not in line
            require_plain(line)
        require_plain(said(capsys, app, "epgfn", "inspect", path))


@pytest.mark.parametrize("bad", ALL)
def test_in_an_error_a_line_on_screen_a_log_and_a_report(
    bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    require_plain(str(EpgfnError(f"north{bad}")))
    assert "\n" not in one_line(f"north{bad}")
    say(f"name{bad}".replace("\n", ""))
    TerminalReporter("node").event("enrolled", f"name{bad}".replace("\n", ""))
    out, err = capsys.readouterr()
    require_plain(out + err)
    record = logging.LogRecord(
        "x", logging.INFO, "", 0, "refused %s", (f"north{bad}\n2030 INFO forged",), None
    )
    logged = PlainLines().format(record)
    assert "\n" not in logged
    require_plain(logged)
    if bad not in ("\ufe0f", "\U000e0101"):  # in a page they belong to the character before them
        require_plain(plain(f"north{bad}"))


def test_what_is_seen_stays_and_what_is_not_is_told_by_its_code() -> None:
    assert visible("LDL (mg/dl) ärger 数 λ \\") == "LDL (mg/dl) ärger 数 λ \\"
    assert visible("a\u202eb\x1b\u3164\U000e0041") == "a\\u202eb\\u001b\\u3164\\U000e0041"
    assert visible("a\nb", keep="\n") == "a\nb" and visible("a\nb") == "a\\u000ab"
    assert json.loads(visible(json.dumps({"a\x7f\x1b": 1}))) == {"a\x7f\x1b": 1}
    assert len(one_line("\u202e" * 5000)) <= MAX_SENTENCE


def test_every_command_prints_by_say() -> None:
    """Nothing is printed past it, but for help, which has colours, benchmarks, and events for programs."""
    folders = [ROOT / "epgfn/cli", ROOT / "node/epgfn_node", ROOT / "coordinator/epgfn_coordinator"]
    for path in (path for folder in folders for path in folder.rglob("*.py") if path.name != "bench.py"):
        assert not re.search(r"(?<![\w.])print\(|typer\.echo\(", path.read_text("utf-8")), path

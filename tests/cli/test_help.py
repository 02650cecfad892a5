"""Every command of the three programs has an example in its help, and each program says its version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import epgfn
import epgfn.cli.main
import epgfn_coordinator.cli
import epgfn_node.cli
from epgfn.base.console import run_app

PROGRAMS = {
    "epgfn": epgfn.cli.main.app,
    "epgfn-node": epgfn_node.cli.app,
    "epgfn-coordinator": epgfn_coordinator.cli.app,
}


def commands(app: typer.Typer, name: str) -> Iterator[tuple[str, str]]:
    """Each command as it is typed, and the text of its help."""
    for command in app.registered_commands:
        assert command.callback is not None
        own = command.name or command.callback.__name__.replace("_", "-")
        yield f"{name} {own}", f"{command.help or command.callback.__doc__ or ''}\n{command.epilog or ''}"
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{name} {group.typer_instance.info.name}")


COMMANDS = [found for name, app in PROGRAMS.items() for found in commands(app, name)]


@pytest.mark.parametrize(("command", "text"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_help_has_an_example_of_the_command(command: str, text: str) -> None:
    assert re.search(rf"Examples?:\s+(\S+=\S+ )*{re.escape(command)}\b", text), text


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_whole_what_stands_in_brackets(program: str) -> None:
    """Where rich takes a table's name for a style, it is gone."""

    def leaves(command: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from leaves(inner, [*path, name])

    for path, command in leaves(typer.main.get_command(PROGRAMS[program]), []):
        texts = [command.help, command.epilog, *(getattr(option, "help", "") for option in command.params)]
        wanted = [word for text in texts for word in re.findall(r"\[[^\]]*\]", text or "")]
        if wanted:
            wide = {"COLUMNS": "400", "TERMINAL_WIDTH": "400"}
            shown = CliRunner().invoke(PROGRAMS[program], [*path, "--help"], env=wide).output
            assert [word for word in wanted if word not in shown] == [], path


@pytest.mark.parametrize("module", ["epgfn", "epgfn_node", "epgfn_coordinator"])
def test_each_program_says_its_version(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, f"{module.replace('_', '-')} {epgfn.__version__}\n")


def test_colours_are_off_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(force_terminal=True)
    with console.capture() as said:
        console.print("[red]no[/]")
    assert "\x1b[31m" not in said.get()


@pytest.mark.parametrize("module", ["epgfn", "epgfn_node", "epgfn_coordinator"])
def test_no_color_holds_for_help_whatever_the_environment_says(module: str) -> None:
    forced = {**os.environ, "FORCE_COLOR": "1", "GITHUB_ACTIONS": "true"}
    forced.pop("NO_COLOR", None)

    def said(*arguments: str) -> str:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=forced).stdout

    assert "\x1b" in said("--help")  # else the rest would say nothing
    for place in (["--no-color", "--help"], ["--help", "--no-color"]):
        shown = said(*place)
        assert "--no-color" in shown
        assert "\x1b" not in shown


def test_no_color_holds_for_progress_and_errors(tmp_path: Path) -> None:
    forced = {**os.environ, "FORCE_COLOR": "1"}
    forced.pop("NO_COLOR", None)

    def said(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "epgfn_node", "init", "--home", str(tmp_path / "node"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=forced)
        return done.returncode, done.stdout + done.stderr

    coloured, plain = said("--no-passphrase"), said("--no-passphrase", "--no-color")
    assert coloured[0] == plain[0] == 0
    assert "\x1b" in coloured[1]
    assert "\x1b" not in plain[1]
    wrong = said("--no-color", "--no-such-option")
    assert wrong[0] == 2
    assert "\x1b" not in wrong[1]


def test_a_word_after_two_hyphens_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    app, seen = typer.Typer(), []

    @app.command()
    def one(words: list[str]) -> None:
        seen.append((words, os.environ.get("NO_COLOR"), os.environ.get("FORCE_COLOR")))

    for arguments in (["a", "--", "--no-color"], ["a", "--no-color", "b"]):
        with pytest.raises(SystemExit, match="0"):
            run_app(app, "one", arguments)
    assert seen == [(["a", "--no-color"], None, "1"), (["a", "b"], "1", None)]


def test_the_shell_completes_commands() -> None:
    asked = {**os.environ, "_EPGFN_COMPLETE": "complete_bash", "COMP_WORDS": "epgfn au", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "epgfn"], capture_output=True, text=True, timeout=300, env=asked
    )
    assert done.stdout.split() == ["audit"]

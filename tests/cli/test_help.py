"""Every command of the three programs has an example in its help, and each program says its version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer

import epgfn
import epgfn.cli.main
import epgfn_coordinator.cli
import epgfn_node.cli

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


def test_the_shell_completes_commands() -> None:
    asked = {**os.environ, "_EPGFN_COMPLETE": "complete_bash", "COMP_WORDS": "epgfn au", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "epgfn"], capture_output=True, text=True, timeout=300, env=asked
    )
    assert done.stdout.split() == ["audit"]

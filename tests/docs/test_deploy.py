"""examples/deploy: systemd takes the units, and every command in them is one of ours with options that it has."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from epgfn_coordinator.cli import app as coordinator
from epgfn_node.cli import app as node

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
UNITS = sorted(DEPLOY.glob("systemd/*"))
PROGRAMS = {"epgfn-coordinator": coordinator, "epgfn-node": node}
COMMAND = re.compile(r"^(?:ExecStart|Exec|HealthCmd)=(.*(?:epgfn-coordinator|epgfn-node) .*)$", re.MULTILINE)
QUADLET_KEYS = {
    "Image", "ContainerName", "Exec", "Volume", "Secret", "Environment", "PublishPort", "HealthCmd", "HealthInterval", "HealthTimeout",
    "HealthStartPeriod", "ReadOnly", "Tmpfs", "DropCapability", "NoNewPrivileges", "StopTimeout", "VolumeName",
}  # fmt: skip
"""Of [Container] and [Volume], as podman-systemd.unit(5) spells them."""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    stub = tmp_path / "command"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    for unit in UNITS:
        text = re.sub(r"/opt/epgfn/bin/[a-z-]+", str(stub), unit.read_text())
        (tmp_path / unit.name).write_text(
            text.replace("User=epgfn", "User=root").replace("Group=epgfn", "Group=root")
        )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    about_ours = [line for line in done.stderr.splitlines() if "epgfn" in line]
    assert about_ours == [] and done.returncode == 0, done.stderr


def test_quadlets_use_keys_that_podman_knows() -> None:
    for unit in DEPLOY.glob("quadlet/*"):
        parser: Any = configparser.RawConfigParser(strict=False)
        parser.optionxform = str
        parser.read_string(unit.read_text())
        ours = {key for section in ("Container", "Volume") if section in parser for key in parser[section]}
        assert ours <= QUADLET_KEYS and ours


@pytest.mark.parametrize(
    "unit", [*UNITS, *sorted(DEPLOY.glob("quadlet/*.container"))], ids=lambda path: path.name
)
def test_commands_have_the_options_that_units_give_them(unit: Path) -> None:
    for line in COMMAND.findall(unit.read_text()):
        words = [word for part in shlex.split(line) for word in part.split()]
        at = next(i for i, word in enumerate(words) if Path(word).name in PROGRAMS)
        program: Any = typer.main.get_command(PROGRAMS[Path(words[at]).name])
        verb, given = words[at + 1], [word for word in words[at + 2 :] if word.startswith("--")]
        known = {name for option in program.commands[verb].params for name in option.opts}
        assert given and set(given) <= known, (line, known)

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
    "HealthStartPeriod", "UserNS", "ReadOnly", "Tmpfs", "DropCapability", "NoNewPrivileges", "StopTimeout", "VolumeName",
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


ROOT = DEPLOY.parents[1]
COMPOSE = [ROOT / "docker-compose.yml", *sorted(DEPLOY.glob("compose/*.yml"))]
HARDENED = (
    "init: true", "read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]', "mem_limit: ", "pids_limit: ",
    "stop_grace_period: ",
)  # fmt: skip
LISTED = re.compile(r"^ +(?:command|test): \[(?:CMD, )?(.*)\]", re.MULTILINE)


@pytest.mark.parametrize("file", COMPOSE, ids=lambda path: path.name)
def test_every_compose_file_hardens_its_services(file: Path) -> None:
    text = file.read_text()
    assert [line for line in HARDENED if line not in text] == []
    services = re.findall(
        r"^  [a-z-]+:\n((?:    .*\n|\n)+)", text.partition("\nservices:\n")[2], re.MULTILINE
    )
    own = [each for each in services if re.search(r"^    (?:command|image): ", each, re.MULTILINE)]
    assert len(own) == (6 if file.name == "docker-compose.yml" else 1)
    for service in own:
        assert "<<: *" in service or all(line in service for line in HARDENED)
        assert "privileged: true" not in service and ("cap_add" in service) == ('user: "0"' in service)


@pytest.mark.parametrize("file", COMPOSE, ids=lambda path: path.name)
def test_commands_of_compose_files_have_the_options_that_they_are_given(file: Path) -> None:
    for line in LISTED.findall(file.read_text()):
        words = [word.strip().strip('"') for word in line.split(",")]
        program: Any = typer.main.get_command(coordinator if words[0] == "epgfn-coordinator" else node)
        verb, *rest = words[1:] if words[0] == "epgfn-coordinator" else words
        if words[0] not in ("python", "chown") and not words[0].startswith("clinic-"):
            known = {name for option in program.commands[verb].params for name in option.opts}
            assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, line


def test_a_site_is_the_same_with_a_checkout_and_without() -> None:
    of_a_site = [
        [line for line in path.read_text().splitlines() if "--invite=" in line or "/site/passphrase" in line]
        for path in (ROOT / "docker-compose.yml", DEPLOY / "compose" / "node.yml")
    ]
    assert of_a_site[0] == of_a_site[1] and len(of_a_site[0]) == 2


def test_both_images_share_their_layers() -> None:
    node_image, coordinator_image = (
        (ROOT / party / "Dockerfile").read_text() for party in ("node", "coordinator")
    )

    def shared(text: str) -> str:
        return text[text.index("ARG BASE") : text.index("\nVOLUME ")]

    assert shared(node_image) == shared(coordinator_image)

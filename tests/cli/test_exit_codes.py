"""docs/exit-codes.md says what the three programs end with."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from coordinator_client import FakeNode, InProcess, OwnProcess, make_home, tiny_study
from epgfn.base.addresses import parse_address
from epgfn.base.console import INTERRUPTED_CODE, run_app
from epgfn.base.errors import EpgfnError, RefusedError, UsageError, WaitingError
from epgfn.rpc.diagnosis import Target, diagnose
from epgfn_coordinator.cli import app as coordinator_app
from parties import Node

PAGE = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text("utf-8")


def ends_with(error: BaseException) -> int:
    """The exit code of a command that ends with `error`."""
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_app(app, "test", [])
    return int(ended.value.code or 0)


def coordinator(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "epgfn_coordinator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_each_kind_of_error_has_its_code_and_the_page_lists_them_all() -> None:
    codes = {
        EpgfnError("it failed"): 1,
        RefusedError("reason", "it is refused"): 1,
        UsageError("it is used wrongly"): 2,
        WaitingError("reason", "it waits"): 3,
        KeyboardInterrupt(): INTERRUPTED_CODE,
    }
    assert {error: ends_with(error) for error in codes} == codes
    assert set(re.findall(r"(?m)^\| (\d+) \|", PAGE)) == {str(code) for code in [0, *codes.values()]}


@pytest.mark.parametrize("program", ["epgfn", "epgfn_node", "epgfn_coordinator"])
def test_wrong_use_of_any_program_is_2(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", program, "no-such-command"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_whole_round_by_programs_alone(tmp_path: Path) -> None:
    """Every command in JSON, by exit codes: a coordinator and one node, nobody of whom reads a sentence."""
    study = tiny_study(quorum=1)
    (tmp_path / "study.toml").write_bytes(study.raw)
    home, out = make_home(tmp_path / "home", study), tmp_path / "run"
    options = ["--home", str(home.root), "--json"]

    def said(*arguments: str, code: int = 0) -> Any:
        done = coordinator(*arguments, *options)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    made = said("init", "--study", str(tmp_path / "study.toml"))
    assert (made["study_digest"], made["made"]) == (study.digest, False)
    assert said("health", code=1) is None
    with InProcess(home) as server:
        assert said("health")["serving"]
        invitation = tmp_path / "a.invitation.json"
        told = said("token", "a", "--out", str(invitation))
        assert told["invitation"] == str(invitation)
        assert "token" not in told, "a secret"
        node = Node(tmp_path / "node")
        node.ok("init")
        node.ok("enroll", "--invite", str(invitation))
        assert said("close", code=3) is None
        assert "no global model yet" in node.fails(3, "fetch")
        assert "--accept-study" in node.fails(3, "run")
        sender = FakeNode.enrolled(home, "b")
        with pytest.raises(WaitingError) as early:
            sender.result()
        assert early.value.reason == "not-published"
        sender.send(sender.make_upload(study))
        assert said("close")["state"] in ("aggregating", "published")
        server.events.wait_for("published")
        node.ok("fetch")
        assert said("status")["state"] == "published"
    assert said("abandon", "--yes", code=1) is None
    assert said("abandon", code=2) is None
    assert said("export", "--out", str(out)) == {"run_dir": str(out), "state": "published", "notes": []}


def test_every_command_of_the_coordinator_speaks_json() -> None:
    group: Any = typer.main.get_command(coordinator_app)
    silent = {
        name
        for name, command in group.commands.items()
        if not any({"--json", "--events"} & set(option.opts) for option in command.params)
    }
    assert not silent


def test_nothing_of_grpc_is_in_the_log_of_a_coordinator(tmp_path: Path) -> None:
    """Strangers, hangers-up and wrong ports leave no line of gRPC's, and stopping ends with 0."""
    home = make_home(tmp_path / "home", tiny_study())
    with OwnProcess(home) as server:
        node = FakeNode.invited(home, "a")
        ca = node.invitation["ca_pem"].encode()
        for name in ("address", "enroll_address"):
            diagnose(Target(parse_address(node.invitation[name]), ca))
            with socket.create_connection(node.invitation[name].split(":")) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                connection.recv(1)
        server.process.terminate()
        _, said = server.process.communicate()
        assert server.process.returncode == 0
    log = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ (INFO|WARNING) ")
    assert all(log.match(line) for line in said.splitlines()), said

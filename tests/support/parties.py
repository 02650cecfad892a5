"""A real coordinator process and real `epgfn-node` processes, driven as their operators would drive them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import tomli_w
import typer

from epgfn.base.canonical import parse_canonical_json
from epgfn.base.console import run_app
from epgfn.base.files import sha256_file
from epgfn.ledger.note import NoteVerifier
from epgfn.ledger.proof import verify_proof
from epgfn.study import Study
from epgfn_coordinator.cli import NAME as COORDINATOR
from epgfn_coordinator.cli import app as coordinator
from epgfn_node.cli import NAME, app

REFUSED, WRONG_USE, WAITING = 1, 2, 3


class CoordinatorProcess:
    """`epgfn-coordinator serve` on free ports of 127.0.0.1. Use as a context manager. Its operator's other commands run in this process,
    which saves seconds."""

    def __init__(self, home: Path, study: Path, *options: str) -> None:
        self.home = home
        loopback = ["--address", "127.0.0.1:0", "--enroll-address", "127.0.0.1:0"]
        self.command("init", "--study", str(study), *loopback, *options)
        self.process: subprocess.Popen[str] | None = None
        self.address = self.enroll_address = ""

    def command(self, verb: str, *arguments: str) -> None:
        done = on_coordinator(verb, *arguments, "--home", str(self.home))
        assert done.returncode == 0, done.stderr

    def start(self) -> Self:
        command = [sys.executable, "-m", "epgfn_coordinator", "serve", "--home", str(self.home), "--events"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["phase"] == "serving":
                self.address, self.enroll_address = event["address"], event["enroll_address"]
                return self
        raise AssertionError("the coordinator did not start")

    def kill(self) -> None:
        """As by a power cut."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=300)

    def invite(self, node: str, out: Path, **changes: str) -> Path:
        """An invitation file, with `changes` to its fields."""
        self.command("token", node, "--out", str(out))
        out.write_text(json.dumps({**json.loads(out.read_bytes()), **changes}))
        out.chmod(0o600)
        return out

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.communicate(timeout=300)


class Node:
    """One node's home and its commands, each in a process of its own or, which saves seconds, in this one."""

    def __init__(self, home: Path, *, processes: bool = False) -> None:
        self.home, self.processes = home, processes

    @property
    def account(self) -> dict[str, str]:
        """What makes it run under an account of its own, as each institution's does."""
        return {"XDG_DATA_HOME": str(self.home.with_name(f"{self.home.name}.account").absolute())}

    @property
    def spending(self) -> Path:
        """The folder of the account's spending log."""
        return Path(self.account["XDG_DATA_HOME"]) / "epgfn" / "privacy"

    def command(self, verb: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = self.account | environment
        command = [verb, "--home", str(self.home), *arguments]
        if not self.processes:
            return in_process(app, NAME, command, environment)
        return subprocess.run(
            [sys.executable, "-m", "epgfn_node", *command],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, **environment},
        )

    def ok(self, verb: str, *arguments: str, **environment: str) -> str:
        """Run a command that must succeed; what it printed."""
        done = self.command(verb, *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def fails(self, code: int, verb: str, *arguments: str, **environment: str) -> str:
        """Run a command that must end with `code`, one sentence and no traceback; the sentence."""
        done = self.command(verb, *arguments, **environment)
        assert done.returncode == code, (done.returncode, done.stderr)
        assert "Traceback" not in done.stderr
        complaints = [line for line in done.stderr.splitlines() if line.startswith("epgfn-node:")]
        assert len(complaints) == 1, done.stderr
        assert complaints[0] == done.stderr.splitlines()[-1]
        return complaints[0]

    def set(self, **settings: Any) -> None:
        """Change node.toml."""
        file = self.home / "node.toml"
        file.write_text(tomli_w.dumps({**tomllib.loads(file.read_text()), **settings}))

    def join(self, coordinator: CoordinatorProcess, node_id: str) -> Self:
        """init and enroll."""
        invitation = coordinator.invite(node_id, self.home.with_suffix(".invitation.json"))
        self.ok("init")
        self.ok("enroll", "--invite", str(invitation))
        return self

    def train(self, data: Path, study: Study) -> Self:
        self.ok("train", "--data", str(data), "--accept-study", study.digest)
        return self

    def files(self) -> dict[str, bytes]:
        """Every file of the home by name."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in self.home.rglob("*")
            if path.is_file()
        }


def require_receipt(node: Node) -> None:
    """The receipt proves, to anyone with the ledger's key, that the log holds exactly what was sent."""
    entry = (node.home / "receipts" / "entry.json").read_bytes()
    ledger = NoteVerifier.from_vkey((node.home / "trust" / "ledger.vkey").read_text().strip())
    verify_proof((node.home / "receipts" / "receipt.tlog-proof").read_bytes(), entry, ledger)
    fields = parse_canonical_json(entry)
    assert fields["kind"] == "accepted"
    assert fields["sealed_sha256"] == sha256_file(node.home / "outbox" / "model.sealed")
    assert fields["bundle_sha256"] == sha256_file(node.home / "outbox" / "upload.sigstore.json")


def in_process(
    of: typer.Typer, name: str, command: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """The command of a program with the same arguments, exit code and output as in a process of its own."""
    code, out, err = 0, io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run_app(of, name, command)
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def on_coordinator(*command: str) -> subprocess.CompletedProcess[str]:
    """A command of `epgfn-coordinator`, in this process."""
    return in_process(coordinator, COORDINATOR, [*command], {})

"""What a node promises before any coordinator answers: its secrets stay its own, and every refusal is one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epgfn.ledger.note import NoteSigner
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority
from parties import REFUSED, WRONG_USE, Node

TOKEN = "the-one-time-token"
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "home")


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address on which nobody answers, and nobody else can come to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def invitation(tmp_path: Path, closed_port: str) -> Path:
    """A well-formed invitation to a coordinator that is not there."""
    path = tmp_path / "invitation.json"
    fields = {
        "format": "epgfn-invitation/v1",
        "node_id": "north",
        "token": TOKEN,
        "enroll_address": closed_port,
        "address": closed_port,
        "ca_pem": CertificateAuthority.create().certificate_pem.decode(),
        "coordinator_key_pem": SigningKey.generate().public.pem.decode(),
        "ledger_vkey": NoteSigner.generate("example.org/ledger").verifier.vkey,
        "study_digest": "0" * 64,
    }
    path.write_text(json.dumps(fields))
    path.chmod(0o600)
    return path


def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    node = Node(tmp_path / "home", processes=True)
    assert "no node" in node.fails(WRONG_USE, "submit")
    node.ok("init")
    assert "--invite" in node.fails(WRONG_USE, "run")


@pytest.mark.parametrize("verb", ["enroll", "train", "inspect", "approve", "submit", "fetch"])
def test_a_directory_without_a_node_says_to_run_init(node: Node, verb: str) -> None:
    assert "epgfn-node init" in node.fails(WRONG_USE, verb)


@pytest.mark.parametrize("verb", ["train", "inspect", "approve", "submit", "fetch"])
def test_before_enrolling_every_step_says_to_enrol(node: Node, verb: str) -> None:
    node.ok("init")
    assert "epgfn-node enroll" in node.fails(REFUSED, verb)


@pytest.mark.parametrize(
    "verb", ["init", "enroll", "check", "train", "inspect", "approve", "submit", "fetch", "run"]
)
def test_every_command_has_help_with_an_example(node: Node, verb: str) -> None:
    assert f"Example: epgfn-node {verb}" in " ".join(node.ok(verb, "--help").split())


def test_init_again_keeps_the_keys(node: Node) -> None:
    node.ok("init")
    before = node.files()
    node.ok("init")
    assert node.files() == before


def test_private_keys_are_for_their_owner_only(node: Node, invitation: Path) -> None:
    node.ok("init")
    for name in ("tls.key", "signing.key"):
        key = node.home / "keys" / name
        assert key.stat().st_mode & 0o777 == 0o600
        key.chmod(0o644)
        sentence = node.fails(REFUSED, "enroll", "--invite", str(invitation))
        assert f"chmod 600 {key}" in sentence
        key.chmod(0o600)


def test_an_invitation_that_others_can_read_is_refused(node: Node, invitation: Path) -> None:
    node.ok("init")
    invitation.chmod(0o644)
    assert "chmod 600" in node.fails(REFUSED, "enroll", "--invite", str(invitation))


def test_a_passphrase_encrypts_the_keys_and_is_never_shown(
    node: Node, invitation: Path, tmp_path: Path
) -> None:
    file = tmp_path / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    node.ok("init", EPGFN_KEY_PASSPHRASE_FILE=str(file))
    assert b"ENCRYPTED" in (node.home / "keys" / "tls.key").read_bytes()
    enroll = ("enroll", "--invite", str(invitation))
    assert "needs its passphrase" in node.fails(REFUSED, *enroll)
    assert "passphrase" in node.fails(REFUSED, *enroll, EPGFN_KEY_PASSPHRASE="wrong")
    with_right = node.fails(REFUSED, *enroll, EPGFN_KEY_PASSPHRASE=PASSPHRASE)
    assert "no coordinator answers" in with_right
    assert PASSPHRASE not in with_right
    assert not any(PASSPHRASE.encode() in content for content in node.files().values())


def at_terminal(home: Path, answers: list[str], *options: str) -> tuple[int, str]:
    """`init` at a terminal, where somebody types `answers`, one a question; exit code and what was shown there."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "epgfn_node", "init", "--home", str(home), *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EPGFN_KEY")}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux ends a terminal that its process has left
            while True:
                if not select.select([ours], [], [], 120)[0]:  # a question that nobody expects
                    process.kill()
                    raise AssertionError(shown.decode())
                piece = os.read(ours, 4096)
                if not piece:
                    break
                shown += piece
                if answers and shown.endswith(b": "):  # not before it is asked: getpass drops what is there
                    os.write(ours, answers.pop(0).encode())
        code = process.wait(timeout=60)
    os.close(ours)
    return code, shown.decode()


def test_at_a_terminal_init_asks_for_a_passphrase_unless_it_is_declined(tmp_path: Path) -> None:
    code, shown = at_terminal(tmp_path / "asked", [f"{PASSPHRASE}\n"] * 2)
    assert code == 0 and "Choose a passphrase" in shown and "no passphrase protects" not in shown, shown
    assert b"ENCRYPTED" in (tmp_path / "asked/keys/signing.key").read_bytes()
    code, shown = at_terminal(tmp_path / "declined", [], "--no-passphrase")
    assert code == 0 and "Choose a passphrase" not in shown and "no passphrase protects" in shown, shown
    assert b"ENCRYPTED" not in (tmp_path / "declined/keys/signing.key").read_bytes()


def test_without_a_terminal_init_says_once_that_no_passphrase_protects_the_keys(node: Node) -> None:
    assert "no passphrase protects" in node.ok("init")
    assert "no passphrase protects" not in node.ok("init")


def test_a_coordinator_that_is_not_there(node: Node, invitation: Path, closed_port: str) -> None:
    node.ok("init")
    sentence = node.fails(REFUSED, "enroll", "--invite", str(invitation))
    assert f"no coordinator answers at {closed_port}" in sentence
    assert TOKEN not in sentence
    assert not (node.home / "keys" / "tls.pem").exists()


def test_run_waits_as_long_as_it_was_told_for_a_coordinator(
    node: Node, invitation: Path, closed_port: str
) -> None:
    node.ok("init")
    node.set(connect_wait=4.0)
    done = node.command("run", "--invite", str(invitation), "--events")
    assert done.returncode == REFUSED
    assert closed_port in done.stderr
    phases = [json.loads(line)["phase"] for line in done.stdout.splitlines()]
    assert phases[0] == "enrolling"
    assert (
        "connecting" in phases and "waiting for a connection to" in done.stdout and "(1 try)" in done.stdout
    )


@pytest.mark.parametrize(
    "damage", [b"", b"not json", b"[]", b'{"format":"epgfn-invitation/v1"}', b"\xff\xfe"]
)
def test_a_file_that_is_no_invitation(node: Node, invitation: Path, damage: bytes) -> None:
    node.ok("init")
    invitation.write_bytes(damage)
    assert "not an invitation" in node.fails(WRONG_USE, "enroll", "--invite", str(invitation))


@pytest.mark.parametrize("field", ["token", "node_id", "study_digest", "ca_pem"])
def test_a_wrong_field_of_an_invitation_is_named_and_not_quoted(
    node: Node, invitation: Path, field: str
) -> None:
    node.ok("init")
    invitation.write_text(json.dumps({**json.loads(invitation.read_text()), field: ["SECRET"]}))
    sentence = node.fails(WRONG_USE, "enroll", "--invite", str(invitation))
    assert field in sentence
    assert "SECRET" not in sentence


def test_an_address_that_would_steer_a_terminal_is_refused(node: Node, invitation: Path) -> None:
    node.ok("init")
    for field in ("address", "enroll_address"):
        changed = {**json.loads(invitation.read_text()), field: "host:1\x1b]0;owned\x07"}
        other = invitation.with_name("other.json")
        other.write_text(json.dumps(changed))
        other.chmod(0o600)
        sentence = node.fails(WRONG_USE, "enroll", "--invite", str(other))
        assert field in sentence and "\x1b" not in sentence


def test_a_second_coordinator_is_refused(node: Node, invitation: Path) -> None:
    node.ok("init")
    node.fails(REFUSED, "enroll", "--invite", str(invitation))
    other = {
        **json.loads(invitation.read_text()),
        "ca_pem": CertificateAuthority.create().certificate_pem.decode(),
    }
    invitation.write_text(json.dumps(other))
    assert "another coordinator" in node.fails(REFUSED, "enroll", "--invite", str(invitation))


@pytest.mark.parametrize("text", ["seed = -1", "sed = 1", "approve_automatically = 'yes'", "= ="])
def test_settings_that_do_not_parse(node: Node, invitation: Path, text: str) -> None:
    node.ok("init")
    (node.home / "node.toml").write_text(text + "\n")
    assert "node.toml" in node.fails(WRONG_USE, "enroll", "--invite", str(invitation))


def test_missing_records_are_noticed_before_anything_is_made(node: Node, tmp_path: Path) -> None:
    assert "--data" in node.fails(WRONG_USE, "init", "--data", str(tmp_path / "absent.csv"))
    assert not node.home.exists()


def test_two_commands_at_once_do_not_share_a_home(node: Node) -> None:
    from epgfn_node.home import NodeHome

    node.ok("init")
    with NodeHome(node.home).locked():
        assert "another epgfn-node" in node.fails(REFUSED, "submit")


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--home" in Node(tmp_path / "file" / "home").fails(REFUSED, "init")

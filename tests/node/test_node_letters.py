"""A round by letters: files that somebody carries, where no network leads from the node to the coordinator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator_client import ledger_kinds
from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_file
from epgfn.run.audit.audit import audit_run
from epgfn.run.inspection import inspect_file
from epgfn.sealing.bundle import read_unverified, sign_statement
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.letter import read_letter, write_letter
from epgfn.sealing.predicates import LETTER
from epgfn.sealing.statement import make_statement, parse_statement
from epgfn.study import Study
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_node.home import NodeHome
from epgfn_node.keys import earlier_keys, load_keys
from epgfn_node.rotation import is_untold
from parties import REFUSED, WAITING, WRONG_USE, CoordinatorProcess, Node, on_coordinator, require_receipt

NOWHERE = "127.0.0.1:1"


class Courier:
    """Carries files between two homes, in a directory of its own; whoever looks into it sees what somebody on the way sees."""

    def __init__(self, folder: Path, coordinator: Path) -> None:
        self.folder, self.coordinator, self._number = folder, coordinator, 0
        folder.mkdir(exist_ok=True)

    def letter(self, node: Node, verb: str, *arguments: str) -> Path:
        """Have a node write one."""
        self._number += 1
        path = self.folder / f"{self._number}.letter"
        node.ok(verb, *arguments, "--to-file", str(path))
        return path

    def delivered(self, letter: Path) -> subprocess.CompletedProcess[str]:
        """What the coordinator makes of it."""
        return on_coordinator("receive", str(letter), "--home", str(self.coordinator), "--json")

    def answered(self, letter: Path) -> Path:
        """The reply to a letter that is done."""
        done = self.delivered(letter)
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout)["reply"])

    def refused(self, letter: Path) -> str:
        """The sentence with which a letter is turned away, that gets no reply."""
        done = self.delivered(letter)
        assert done.returncode == REFUSED and "Traceback" not in done.stderr, done.stderr
        assert not letter.with_name(letter.name + ".reply").exists()
        return done.stderr

    def there_and_back(self, node: Node, verb: str, *arguments: str) -> str:
        """A letter and its reply."""
        return node.ok("receive", str(self.answered(self.letter(node, verb, *arguments))))


@pytest.fixture
def made(small_study: Study, small_files: dict[str, Path], tmp_path: Path) -> CoordinatorProcess:
    """A coordinator that need not serve: its port is fixed, so that invitations can be made."""
    alone = small_study.with_changes({"aggregation": {"quorum": 1, "close_when": "quorum"}})
    small_files["study"].write_bytes(alone.raw)
    made = CoordinatorProcess(tmp_path / "coordinator", small_files["study"])
    settings = made.home / "coordinator.toml"
    settings.write_text(
        settings.read_text()
        .replace("127.0.0.1:0", "127.0.0.1:50101", 1)
        .replace("127.0.0.1:0", "127.0.0.1:50102")
    )
    return made


@pytest.fixture
def courier(tmp_path: Path, made: CoordinatorProcess) -> Courier:
    return Courier(tmp_path / "courier", made.home)


@pytest.fixture
def enrolled(made: CoordinatorProcess, courier: Courier, tmp_path: Path) -> Node:
    """The node "north", which has enrolled by letter."""
    node = Node(tmp_path / "north")
    node.ok("init")
    invitation = made.invite(
        "north", tmp_path / "north.invitation.json", address=NOWHERE, enroll_address=NOWHERE
    )
    assert "Digest" in courier.there_and_back(node, "enroll", "--invite", str(invitation))
    return node


@pytest.fixture
def approved(enrolled: Node, made: CoordinatorProcess, small_files: dict[str, Path]) -> Node:
    """The same, with a model that may leave."""
    digest = sha256_file(made.home / "study.toml")
    enrolled.ok("train", "--data", str(small_files["north"]), "--accept-study", digest)
    enrolled.ok("approve")
    return enrolled


class WithoutNetwork(Node):
    """A node whose commands are processes without any network, not even loopback, where this machine lets us have that."""

    def command(self, verb: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        cut_off = ["unshare", "-rn"] if _can_unshare() else []
        command = [*cut_off, sys.executable, "-m", "epgfn_node", verb, "--home", str(self.home), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
        )


def _can_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    )


def test_one_node_by_letters_and_one_by_network_make_one_round(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    with CoordinatorProcess(tmp_path / "coordinator", small_files["study"]) as coordinator:
        courier = Courier(tmp_path / "courier", coordinator.home)
        north, south = WithoutNetwork(tmp_path / "north"), Node(tmp_path / "south")
        north.ok("init")
        invitation = coordinator.invite(
            "north", tmp_path / "north.json", address=NOWHERE, enroll_address=NOWHERE
        )
        courier.there_and_back(north, "enroll", "--invite", str(invitation))
        north.train(small_files["north"], small_study).ok("approve")
        courier.there_and_back(north, "submit")
        require_receipt(north)
        early = north.fails(
            WAITING, "receive", str(_refused_by_reply(courier, courier.letter(north, "fetch")))
        )
        assert "no global model yet" in early
        south.join(coordinator, "south").train(small_files["south"], small_study).ok("approve")
        south.ok("submit")
        south.ok("fetch", "--wait", "300")
        courier.there_and_back(north, "fetch")
        assert not list((coordinator.home / "letters").iterdir())
    home = Home(coordinator.home)
    assert sha256_file(north.home / "global/model.safetensors") == sha256_file(
        south.home / "global/model.safetensors"
    )
    assert export(home, tmp_path / "run") == "published" and audit_run(tmp_path / "run").ok
    by_letter, by_network = (
        {
            path.relative_to(node.home / "result"): path.read_bytes()
            for path in (node.home / "result").rglob("*")
            if path.is_file()
        }
        for node in (north, south)
    )
    apart = {Path(f"uploads/{node}/model.sealed") for node in ("north", "south")} | {Path("participant.json")}
    assert by_letter.keys() ^ by_network.keys() == apart - {Path("participant.json")}
    assert all(by_letter[name] == by_network[name] for name in by_letter.keys() - apart)
    assert audit_run(north.home).ok
    north.ok("audit", str(tmp_path / "run"))
    assert [ledger_kinds(home).count(kind) for kind in ("enrolled", "accepted", "refused")] == [2, 2, 0]
    secrets = [
        json.loads(invitation.read_text())["token"].encode(),
        (north.home / "local/model.safetensors").read_bytes()[-2000:],
        (north.home / "global/model.safetensors").read_bytes()[-2000:],
    ]
    for path in courier.folder.iterdir():
        assert (
            "A letter"
            in inspect_file(
                path, Path(coordinator.home / "keys/coordinator.pem") if path.suffix == ".reply" else None
            ).lines[0]
        )
        assert not any(secret in path.read_bytes() for secret in secrets), path


def _refused_by_reply(courier: Courier, letter: Path) -> Path:
    """The reply to a letter to which the coordinator says no."""
    done = courier.delivered(letter)
    assert done.returncode in (REFUSED, WAITING) and json.loads(done.stdout)["refused"]
    return Path(json.loads(done.stdout)["reply"])


def test_what_is_withdrawn_by_letter_is_withdrawn(
    approved: Node, courier: Courier, made: CoordinatorProcess
) -> None:
    courier.there_and_back(approved, "submit")
    assert "already" in approved.fails(REFUSED, "submit", "--to-file", str(courier.folder / "again"))
    courier.there_and_back(approved, "withdraw")
    assert not (approved.home / "receipts/receipt.tlog-proof").exists()
    assert ledger_kinds(Home(made.home)).count("withdrawn-by-node") == 1


def test_the_same_letter_again_gets_the_same_receipt_and_an_older_one_nothing(
    approved: Node, courier: Courier, made: CoordinatorProcess
) -> None:
    first = courier.letter(approved, "submit")
    second = courier.letter(approved, "submit")
    lost = courier.answered(second)
    lost.unlink()
    approved.ok("receive", str(courier.answered(second)))
    require_receipt(approved)
    assert "later letter" in courier.refused(first)
    assert ledger_kinds(Home(made.home)).count("accepted") == 1


def _rewritten(letter: Path, out: Path, key: SigningKey, **changes: object) -> Path:
    """The same letter with other words in its statement, signed by `key`."""
    read = read_letter(letter)
    statement = parse_statement(read_unverified(read.bundle)[0])
    said = {**statement.predicate, "sender_fingerprint": key.public.fingerprint, **changes}
    parts = {name: read.part(number) for number, name in enumerate(sorted(statement.subjects))}
    write_letter(out, sign_statement(make_statement(statement.subjects, LETTER, said), key), parts)
    return out


def test_letters_that_are_not_what_they_say_are_turned_away(
    approved: Node, courier: Courier, made: CoordinatorProcess, tmp_path: Path
) -> None:
    letter = courier.letter(approved, "submit")
    raw, bad = letter.read_bytes(), courier.folder / "bad.letter"
    before = ledger_kinds(Home(made.home))
    for length in (len(raw) - 1, len(raw) // 2, 500, 20):
        bad.write_bytes(raw[:length])
        assert "ends too early" in courier.refused(bad)
    part = read_letter(letter).parts[1]
    bad.write_bytes(raw[: part.begins + 9] + bytes([raw[part.begins + 9] ^ 1]) + raw[part.begins + 10 :])
    assert "was changed on its way" in courier.refused(bad)
    bad.write_bytes(raw + b"\0" * 8)
    assert "has other parts" in courier.refused(bad)
    bad.write_bytes(raw + b"\0" * 16)
    assert "not a letter of version 1" in courier.refused(bad)
    bad.write_bytes(b"")
    assert on_coordinator("receive", str(bad), "--home", str(made.home)).returncode == WRONG_USE
    own = SigningKey.load(approved.home / "keys/signing.key")
    stranger = SigningKey.generate()
    for key, changes, said in (
        (stranger, {}, "signed with another key"),
        (own, {"node_id": "south"}, "north has signed it"),
        (own, {"study_digest": "0" * 64}, "does not have"),
        (own, {"ledger_vkey": "another+0+ledger"}, "does not have"),
        (own, {"kind": "question"}, "other parts"),
        (own, {"sender_fingerprint": stranger.public.fingerprint}, "another signing key"),
    ):
        assert said in courier.refused(_rewritten(letter, bad, key, **changes)), changes
    assert ledger_kinds(Home(made.home)) == before
    courier.answered(letter)


def test_replies_that_are_not_what_they_say_change_nothing(
    approved: Node, courier: Courier, made: CoordinatorProcess, tmp_path: Path
) -> None:
    first = _refused_by_reply(courier, courier.letter(approved, "fetch"))
    reply = courier.answered(courier.letter(approved, "submit"))
    assert "another letter" in approved.fails(REFUSED, "receive", str(first))
    raw, bad = reply.read_bytes(), courier.folder / "bad.reply"
    bad.write_bytes(raw[:-1])
    assert "ends too early" in approved.fails(REFUSED, "receive", str(bad))
    bad.write_bytes(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
    assert "was changed on its way" in approved.fails(REFUSED, "receive", str(bad))
    south = Node(tmp_path / "south")
    south.ok("init")
    invitation = made.invite("south", tmp_path / "south.json")
    letter = courier.letter(south, "enroll", "--invite", str(invitation))
    assert "another node" in south.fails(REFUSED, "receive", str(reply))
    assert not (approved.home / "receipts").exists() and (approved.home / "outbox/sending").exists()
    approved.ok("receive", str(reply))
    assert "no letter" in approved.fails(REFUSED, "receive", str(reply))
    # Nobody who takes the reply from the courier can read it: its key is in the node's home alone, and gone.
    assert not (approved.home / "letters/reply.key").exists()
    south.ok("receive", str(courier.answered(letter)))


def test_an_enrolment_needs_the_invitation_and_works_for_its_keys_alone(
    made: CoordinatorProcess, courier: Courier, tmp_path: Path
) -> None:
    node, thief = Node(tmp_path / "north"), Node(tmp_path / "thief")
    for each in (node, thief):
        each.ok("init")
    invitation = made.invite("north", tmp_path / "north.json")
    guessed = tmp_path / "guessed.json"
    guessed.write_text(json.dumps({**json.loads(invitation.read_text()), "token": "A" * 43}))
    guessed.chmod(0o600)
    assert "was not written with an invitation" in courier.refused(
        courier.letter(thief, "enroll", "--invite", str(guessed))
    )
    letter = courier.letter(node, "enroll", "--invite", str(invitation))
    # Whoever takes the letter cannot put keys of his own into it.
    own = SigningKey.load(thief.home / "keys/signing.key")
    bad = _rewritten(letter, courier.folder / "bad", own)
    assert "signed with another key" in courier.refused(bad)
    node.ok("receive", str(courier.answered(letter)))
    again = _refused_by_reply(courier, courier.letter(thief, "enroll", "--invite", str(invitation)))
    assert "already used with another key" in thief.fails(REFUSED, "receive", str(again))
    made.command("revoke", "north")
    assert "were revoked" in courier.refused(courier.letter(node, "fetch"))
    fresh = Node(tmp_path / "fresh")
    fresh.ok("init")
    void = _refused_by_reply(courier, courier.letter(fresh, "enroll", "--invite", str(invitation)))
    assert "was revoked" in fresh.fails(REFUSED, "receive", str(void))
    made.invite("north", invitation)
    courier.there_and_back(fresh, "enroll", "--invite", str(invitation))


def test_an_ended_certificate_is_renewed_by_letter(
    enrolled: Node, courier: Courier, made: CoordinatorProcess, tmp_path: Path
) -> None:
    before = (enrolled.home / "keys/tls.pem").read_bytes()
    renewal = tmp_path / "renewal.json"
    made.command("token", "north", "--renew", "--out", str(renewal))
    courier.there_and_back(enrolled, "renew", "--invite", str(renewal))
    assert (enrolled.home / "keys/tls.pem").read_bytes() != before
    assert "--invite" in enrolled.fails(WRONG_USE, "renew", "--to-file", str(tmp_path / "letter"))


def test_a_signing_key_changes_by_letter_and_whoever_has_the_old_one_changes_nothing(
    approved: Node, courier: Courier, made: CoordinatorProcess, tmp_path: Path
) -> None:
    courier.there_and_back(approved, "submit")
    home, home_of_coordinator = NodeHome(approved.home), Home(made.home)
    old = load_keys(home).signing.public
    thief = Node(Path(shutil.copytree(approved.home, tmp_path / "thief")))
    asked = courier.letter(approved, "fetch")  # and not carried before the change
    change = courier.letter(approved, "rotate-key", "--reason", "a key a year")
    new = load_keys(home).signing.public
    assert is_untold(home) and earlier_keys(home) == (old,)
    # Until the coordinator knows, it would take nothing else; and no second key is made.
    assert "may not know yet" in approved.fails(
        REFUSED, "withdraw", "--to-file", str(courier.folder / "early")
    )
    again = courier.letter(approved, "rotate-key")
    assert load_keys(home).signing.public == new
    lost = courier.answered(again)
    lost.unlink()
    said = approved.ok("receive", str(courier.answered(again)))
    assert old.fingerprint in said and new.fingerprint in said and not is_untold(home)
    assert ledger_kinds(home_of_coordinator).count("rotated") == 1
    assert "later letter" in courier.refused(change)
    assert "in whose place it has put another" in courier.refused(asked)
    # The thief's own successor is a fork, of which both statements are kept; and the new key is not his to sign with.
    assert "signed two successors" in courier.refused(courier.letter(thief, "rotate-key"))
    assert len(list((made.home / "fork-evidence").iterdir())) == 2
    stolen = SigningKey.load(tmp_path / "thief/keys/signing.key")
    bad = courier.folder / "bad.letter"
    assert "signed with another key" in courier.refused(_rewritten(again, bad, stolen))
    assert "was to be of" in courier.refused(_rewritten(again, bad, stolen, node_id="south"))
    courier.there_and_back(approved, "withdraw")
    assert ledger_kinds(home_of_coordinator).count("withdrawn-by-node") == 1
    made.command("revoke", "north")
    assert "were revoked" in courier.refused(courier.letter(approved, "rotate-key"))


def test_whatever_size_a_file_claims_is_not_read(tmp_path: Path) -> None:
    path, begins = tmp_path / "huge.letter", b"epgfn-letter/v1\n{}\n"
    with path.open("wb") as target:
        target.write(begins + (1 << 39).to_bytes(8, "big"))
        target.truncate(len(begins) + 8 + (1 << 39))
    letter = read_letter(path)
    with pytest.raises(RefusedError, match="more than the"):
        letter.require_size(0, 1 << 20)
    with pytest.raises(RefusedError):
        read_unverified(letter.bundle)

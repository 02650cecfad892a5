"""Promise: whoever trusts a key follows to another only where both have signed that, and everybody sees which key signed what."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attacks import refusal, refusals
from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.conclusion import conclusion
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.rotation import read_rotation, sign_rotation
from run_directory import TIME, RunDirectory

KEYS = [SigningKey.generate() for _ in range(3)]
THIEF = SigningKey.generate()


def made(root: Path, change: Callable[[RunDirectory], None] = lambda run: None) -> RunDirectory:
    """A finished round under the third of the coordinator's keys, in which south has changed its own after it had sent."""
    run = RunDirectory(root, coordinator=KEYS[2], before=(KEYS[0], KEYS[1]))
    run.open_round()
    run.send("north")
    run.send("south")
    change(run)
    run.close()
    run.finish()
    return run


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return made(
        tmp_path_factory.mktemp("rotated") / "run", lambda run: run.rotate("south", SigningKey.generate())
    )


@pytest.mark.parametrize("known", range(3))
def test_a_true_run_is_accepted_under_each_key_that_led_to_it(true: RunDirectory, known: int) -> None:
    report = audit_run(true.root, coordinator_fingerprint=KEYS[known].public.fingerprint)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    told = {finding.check: finding.message for finding in report.findings}
    assert ("is the successor of" in told["coordinator-key"]) == (known < 2)
    assert "south signs with" in told["rotations"] and told["rotations"].count("a test") == 3
    assert "replaced later" in told["upload south"] and "replaced" not in told["upload north"]
    keys = " ".join(line.sentence for line in conclusion(report) if line.kind == "By the keys of")
    assert ("took the place of the one you gave" in keys) == (known < 2)
    assert "changed by the node itself" in keys and "south" in keys


def test_a_key_that_only_says_it_is_the_successor(tmp_path: Path) -> None:
    """The attacker has a key and no signature of the pinned one: its statement is signed by another old key."""
    thief, pinned = SigningKey.generate(), KEYS[0].public.fingerprint
    run = RunDirectory(tmp_path / "run", coordinator=thief, before=(SigningKey.generate(),))
    run.open_round()
    run.send("north")
    run.send("south")
    run.close()
    run.finish()
    report = audit_run(run.root, coordinator_fingerprint=pinned)
    assert next(f.message for f in report.findings if f.check == "coordinator-key" and not f.ok).endswith(
        "its key then"
    )


def swap(run: RunDirectory, index: int, bundle: bytes) -> None:
    (run.root / f"rotations/{index}.sigstore.json").write_bytes(bundle)


def test_a_fork_within_one_ledger(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", coordinator=KEYS[2], before=(KEYS[0], KEYS[1]))
    other = sign_rotation("coordinator", KEYS[0], KEYS[2], TIME, "another story")
    opened = run.succeed
    run.succeed = lambda bundle: (
        (opened(bundle), opened(other))[0] if len(run.entries) == 2 else opened(bundle)
    )  # type: ignore[method-assign]
    run.open_round()
    run.finish()
    found = refusals(run.root)
    assert "replaces a key of the coordinator that does not count" in found["ledger-entries"]
    report = audit_run(run.root, coordinator_fingerprint=KEYS[0].public.fingerprint)
    told = report.findings[0].message
    assert "two successors" in told and all(key.public.fingerprint in told for key in KEYS)


@pytest.mark.parametrize("index", [2, 3])
def test_a_statement_is_missing_or_another(true: RunDirectory, tmp_path: Path, index: int) -> None:
    copy = Path(shutil.copytree(true.root, tmp_path / "copy"))
    path = copy / f"rotations/{index}.sigstore.json"
    raw = path.read_bytes()
    path.write_bytes(sign_rotation("coordinator", KEYS[index - 2], KEYS[index - 1], TIME, "another reason"))
    assert refusal(copy)[0] == "rotations"
    path.unlink()
    check, said = refusal(copy)
    assert check == "rotations" and "cannot be read" in said
    path.write_bytes(raw)
    (copy / "rotations/9.sigstore.json").write_bytes(raw)
    assert refusal(copy)[0] == "files"


def spliced(one: bytes, other: bytes, take: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """The first statement with parts of the other."""
    first, second = parse_canonical_json(one), parse_canonical_json(other)
    take(first["dsseEnvelope"], second["dsseEnvelope"])
    return canonical_json(first)


SPLICES: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "the new key's signature": lambda a, b: a["signatures"].__setitem__(1, b["signatures"][1]),
    "the old key's signature": lambda a, b: a["signatures"].__setitem__(0, b["signatures"][0]),
    "both signatures": lambda a, b: a.update(signatures=b["signatures"]),
    "the text": lambda a, b: a.update(payload=b["payload"]),
    "one signature more": lambda a, b: a["signatures"].append(b["signatures"][1]),
    "one signature fewer": lambda a, b: a["signatures"].pop(),
    "the signatures exchanged": lambda a, b: a["signatures"].reverse(),
}


@pytest.mark.parametrize("what", SPLICES)
def test_parts_of_one_change_in_another(true: RunDirectory, tmp_path: Path, what: str) -> None:
    """Of two changes that the old key has signed, one to a key of the attacker's: made of parts, and put in the other's place."""
    honest = (true.root / "rotations/2.sigstore.json").read_bytes()
    others = sign_rotation("coordinator", KEYS[0], THIEF, TIME, "a test")
    copy = Path(shutil.copytree(true.root, tmp_path / "copy"))
    for one, other in ((honest, others), (others, honest)):
        made_up = spliced(one, other, SPLICES[what])
        with pytest.raises(RefusedError):
            read_rotation(made_up)
        (copy / "rotations/2.sigstore.json").write_bytes(made_up)
        assert "rotations" in refusals(copy)


def test_changes_in_each_others_place(true: RunDirectory, tmp_path: Path) -> None:
    """The coordinator's two, and the node's in the place of one of the coordinator's."""
    files = sorted((true.root / "rotations").iterdir())
    assert len(files) == 3
    for one, other in ((0, 1), (1, 2), (0, 2)):
        copy = Path(shutil.copytree(true.root, tmp_path / f"{one}-{other}"))
        for here, there in ((one, other), (other, one)):
            (copy / "rotations" / files[here].name).write_bytes(files[there].read_bytes())
        assert "rotations" in refusals(copy)


def test_changes_of_which_the_ledger_says_nothing(copy: Path) -> None:
    (copy / "rotations").mkdir()
    (copy / "rotations/2.sigstore.json").write_bytes(
        sign_rotation("coordinator", KEYS[0], KEYS[1], TIME, "x")
    )
    assert set(refusals(copy)) == {"rotations", "files"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda run: run.rotate("south", KEYS[0], by(run, "south", THIEF, KEYS[0])), "old key"),
        (lambda run: run.rotate("south", THIEF, by(run, "south", run.keys["south"], KEYS[1])), "new key"),
        (lambda run: run.rotate("south", THIEF, by(run, "north", run.keys["south"], THIEF)), "party"),
        (lambda run: run.rotate("south", THIEF, by(run, "coordinator", run.keys["south"], THIEF)), "party"),
    ],
)
def test_a_nodes_key_changed_by_another_than_the_node(
    tmp_path: Path, change: Callable[[RunDirectory], None], expected: str
) -> None:
    found = refusals(made(tmp_path / "run", change).root)
    assert f"wrong {expected}" in found["rotations"] and set(found) == {"rotations"}


def by(run: RunDirectory, party: str, old: SigningKey, new: SigningKey) -> bytes:
    return sign_rotation(party if party == "coordinator" else f"node/{party}", old, new, TIME, "a test")


def back(run: RunDirectory) -> None:
    old = run.keys["south"]
    run.rotate("south", SigningKey.generate())
    run.rotate("south", old)


def of_another(run: RunDirectory) -> None:
    run.rotate("south", run.keys["north"])


def never_enrolled(run: RunDirectory) -> None:
    run.keys["south"] = SigningKey.generate()
    run.rotate("south", SigningKey.generate())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (back, "by one that was used before"),
        (of_another, "by one that was used before"),
        (never_enrolled, "that does not count"),
    ],
)
def test_a_key_never_comes_back(
    tmp_path: Path, change: Callable[[RunDirectory], None], expected: str
) -> None:
    found = refusals(made(tmp_path / "run", change).root)
    assert expected in found["ledger-entries"]


def test_the_old_key_signs_nothing_more(tmp_path: Path) -> None:
    def change(run: RunDirectory) -> None:
        old = run.keys["west"]
        run.rotate("west", SigningKey.generate())
        new, run.keys["west"] = run.keys["west"], old
        run.send("west")
        run.keys["west"] = new

    check, said = refusal(made(tmp_path / "run", change).root)
    assert check == "upload west" and "another key" in said


def test_the_coordinators_key_changes_only_between_rounds(tmp_path: Path) -> None:
    def change(run: RunDirectory) -> None:
        run.succeed(sign_rotation("coordinator", KEYS[2], THIEF, TIME, "x"))

    found = refusals(made(tmp_path / "run", change).root)
    assert "in the middle of the round" in found["ledger-entries"]

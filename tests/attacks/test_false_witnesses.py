"""Promise: a study that asks for k witnesses has no valid result without k nodes that signed this very ledger.

The coordinator rewrites the ledger without them, signs as a witness itself, moves a cosignature to another head, or counts a node twice.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attacks import refusals, rewrite
from epgfn.base.errors import EpgfnError
from epgfn.base.files import sha256_hex
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.cosignature import CosignerKey
from epgfn.ledger.log import TileLog
from epgfn.ledger.note import NoteSigner, split_note
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.conclusion import conclusion
from epgfn.run.cosigning import add_cosignatures, make_cosignature
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.predicates import WITNESS
from epgfn.sealing.statement import make_statement
from epgfn.study import Study
from run_directory import ROUND_ID, STUDY_TEXT, RunDirectory, opened

TWO_WITNESSES = STUDY_TEXT.replace("[training]", "[ledger]\nwitnesses = 2\n\n[training]", 1)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run of a study that asks for two witnesses; nobody has cosigned yet."""
    run = opened(tmp_path_factory.mktemp("asked") / "run", Study.from_bytes(TWO_WITNESSES.encode()))
    run.send("north")
    run.send("south")
    run.close()
    run.finish()
    return run


@pytest.fixture
def root(asked: RunDirectory, tmp_path: Path) -> Path:
    return Path(shutil.copytree(asked.root, tmp_path / "copy"))


def head_of(root: Path) -> Checkpoint:
    return Checkpoint.parse(split_note((root / "ledger/checkpoint").read_bytes())[0])


def cosigned(
    run: RunDirectory, node: str, folder: Path, head: Checkpoint, key: CosignerKey | None = None, signer: SigningKey | None = None,
    **changes: object,
) -> Path:  # fmt: skip
    """The file that `node` hands out; `key` in place of its own witness key, `signer` of its own key, `changes` to what it signs."""
    signer = signer or run.keys[node]
    key = key or CosignerKey.generate(f"{run.ledger.name}/witness/{node}")
    said = {
        "study_digest": run.study.digest,
        "round_id": ROUND_ID,
        "node_id": node,
        "sender_fingerprint": signer.public.fingerprint,
        "vkey": key.public.vkey,
        **changes,
    }
    statement = make_statement({"witness.vkey": sha256_hex(f"{key.public.vkey}\n".encode())}, WITNESS, said)
    path = folder / f"{len(list(folder.iterdir()))}.cosignature.json"
    path.write_bytes(make_cosignature(node, key.cosign(head), sign_statement(statement, signer)).to_bytes())
    return path


def test_without_its_witnesses_a_result_is_not_valid_and_with_them_it_is(
    asked: RunDirectory, root: Path, tmp_path: Path
) -> None:
    assert (
        "the study asks for 2 nodes that cosign the ledger; 0 of 3 nodes have" in refusals(root)["witnesses"]
    )
    head = head_of(root)
    add_cosignatures(root, [cosigned(asked, "north", tmp_path, head)])
    assert "1 of 3 nodes have cosigned" in refusals(root)["witnesses"]
    # west has sent nothing, and may witness all the same. Again is no second one.
    for node in ("west", "north"):
        assert add_cosignatures(root, [cosigned(asked, node, tmp_path, head)]) == [node]
    report = audit_run(root)
    assert report.ok, report.findings
    lines = " ".join(map(str, conclusion(report)))
    assert "cosigned by north and west: another history would need all of these as accomplices" in lines
    note = (root / "ledger/checkpoint").read_bytes()
    assert len(split_note(note)[1]) == 3


def test_a_rewritten_ledger_has_lost_its_witnesses(asked: RunDirectory, root: Path, tmp_path: Path) -> None:
    head = head_of(root)
    add_cosignatures(root, [cosigned(asked, node, tmp_path, head) for node in ("north", "south")])
    before = (root / "ledger/checkpoint").read_bytes()
    refused = [entry for entry in asked.entries if b"published" not in entry]
    rewrite(asked, root, [*refused, asked.entries[-1].replace(b"all is well", b"all is fine")])
    assert "named a witness key that has not signed this checkpoint" in refusals(root)["witnesses"]
    # The old cosignatures below the new head.
    lines = before.decode().rpartition("\n\n")[2].splitlines(keepends=True)[1:]
    path = root / "ledger/checkpoint"
    path.write_bytes(path.read_bytes() + "".join(lines).encode())
    assert "is not valid" in refusals(root)["witnesses"]


def refused(root: Path, path: Path) -> str:
    """Why a cosignature is not taken; the run directory stays as it was."""
    before = {file: file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}
    with pytest.raises(EpgfnError) as error:
        add_cosignatures(root, [path])
    assert before == {file: file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}
    return str(error.value)


def test_what_is_no_cosignature_of_this_node_and_ledger_is_not_taken(
    asked: RunDirectory, root: Path, tmp_path: Path
) -> None:
    head = head_of(root)
    older = Checkpoint(head.origin, 3, head.root)
    name = f"{asked.ledger.name}/witness/"
    for why, path in [
        ("signed with another key", cosigned(asked, "north", tmp_path, head, signer=asked.coordinator)),
        ("signed with another key", cosigned(asked, "south", tmp_path, head, signer=asked.keys["north"])),
        ("is not valid", cosigned(asked, "north", tmp_path, older)),
        ("wrong round", cosigned(asked, "north", tmp_path, head, round_id="round-2")),
        ("wrong study digest", cosigned(asked, "north", tmp_path, head, study_digest="0" * 64)),
        ("wrong node", cosigned(asked, "north", tmp_path, head, node_id="south")),
        (
            "wrong witness's name",
            cosigned(asked, "north", tmp_path, head, CosignerKey.generate(f"{name}south")),
        ),
        (
            "wrong witness's name",
            cosigned(asked, "north", tmp_path, head, CosignerKey.generate(asked.ledger.name)),
        ),
    ]:
        assert why in refused(root, path), why
    garbage = tmp_path / "garbage"
    for raw in (b"", b"{}", b"[" * 10_000, b"x" * (1 << 17)):
        garbage.write_bytes(raw)
        refused(root, garbage)


def test_a_true_cosignature_of_an_older_head_says_nothing_of_what_came_later(
    asked: RunDirectory, root: Path, tmp_path: Path
) -> None:
    """North has cosigned what the ledger was before its last entries. Handed in later, or below the newest head, it does not count."""
    older = TileLog(tmp_path / "older", asked.ledger).publish([bytes(entry) for entry in asked.entries][:-2])
    head = head_of(root)
    assert older.size == head.size - 2 and older.origin == head.origin
    key = CosignerKey.generate(f"{asked.ledger.name}/witness/north")
    (handed := tmp_path / "handed").mkdir()
    assert "is not valid" in refused(root, cosigned(asked, "north", handed, older, key))
    add_cosignatures(
        root, [cosigned(asked, "south", handed, head), cosigned(asked, "north", handed, head, key)]
    )
    assert audit_run(root).ok
    path = root / "ledger/checkpoint"
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b"/witness/north" in line)
    lines[at] = key.cosign(older)
    path.write_bytes(b"".join(lines))
    assert "is not valid" in refusals(root)["witnesses"]


def test_two_nodes_with_one_key_are_one_witness(asked: RunDirectory, root: Path, tmp_path: Path) -> None:
    head, seed = head_of(root), b"\x07" * 32
    for node in ("north", "south"):
        key = CosignerKey(f"{asked.ledger.name}/witness/{node}", seed)
        add_cosignatures(root, [cosigned(asked, node, tmp_path, head, key)])
    assert refusals(root) == {
        "witnesses": "two nodes name the same key as their witness's: they are one witness"
    }


def test_further_signatures_are_allowed_and_do_not_count(
    asked: RunDirectory, root: Path, tmp_path: Path
) -> None:
    head, path = head_of(root), root / "ledger/checkpoint"
    stranger = CosignerKey.generate(f"{asked.ledger.name}/witness/north").cosign(head)
    path.write_bytes(
        path.read_bytes() + stranger + NoteSigner.generate("elsewhere").sign(head.to_text()).split(b"\n\n")[1]
    )
    assert set(refusals(root)) == {"witnesses"}
    add_cosignatures(root, [cosigned(asked, node, tmp_path, head) for node in ("south", "west")])
    report = audit_run(root)
    assert report.ok
    said = next(f.message for f in report.findings if f.check == "witnesses")
    assert "2 further signatures are of keys that are not known here, and say nothing" in said


def test_a_statement_without_its_signature_or_of_a_stranger_is_refused(
    asked: RunDirectory, root: Path, tmp_path: Path
) -> None:
    head = head_of(root)
    add_cosignatures(root, [cosigned(asked, node, tmp_path, head) for node in ("north", "south")])
    (root / "witnesses/east.sigstore.json").write_bytes((root / "witnesses/north.sigstore.json").read_bytes())
    assert "witnesses/east.sigstore.json" in refusals(root)["files"]
    (root / "witnesses/east.sigstore.json").unlink()
    (root / "witnesses/west.sigstore.json").write_bytes((root / "witnesses/north.sigstore.json").read_bytes())
    assert "another key" in refusals(root)["witnesses"]


def test_a_run_that_does_not_verify_is_not_cosigned(asked: RunDirectory, root: Path, tmp_path: Path) -> None:
    file = cosigned(asked, "north", tmp_path, head_of(root))
    (root / "ledger/tile/0/000.p/12").write_bytes(b"")
    assert "nobody can cosign it" in refused(root, file)

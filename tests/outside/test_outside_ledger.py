"""A verifier that shares no line with ours accepts the ledger of a run, receipts and cosignatures included, and refuses one altered byte.

Beside it, RFC 9162's own definitions against our proofs of every size up to 40.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import independent_log as theirs
import pytest

from epgfn.base.files import sha256_hex
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.cosignature import CosignerKey
from epgfn.ledger.merkle import MerkleTree, leaf_hash
from epgfn.ledger.note import NoteSigner, split_note
from epgfn.run.cosigning import add_cosignatures, make_cosignature
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.predicates import WITNESS
from epgfn.sealing.statement import make_statement
from run_directory import ROUND_ID, RunDirectory, make_run

VERIFIER = Path(__file__).with_name("independent_log.py")


def cosign(run: RunDirectory, node: str, folder: Path) -> None:
    key = CosignerKey.generate(f"{run.ledger.name}/witness/{node}")
    head = Checkpoint.parse(split_note((run.root / "ledger/checkpoint").read_bytes())[0])
    said = {
        "study_digest": run.study.digest,
        "round_id": ROUND_ID,
        "node_id": node,
        "sender_fingerprint": run.keys[node].public.fingerprint,
        "vkey": key.public.vkey,
    }
    statement = make_statement({"witness.vkey": sha256_hex(f"{key.public.vkey}\n".encode())}, WITNESS, said)
    file = folder / f"{node}.json"
    file.write_bytes(
        make_cosignature(node, key.cosign(head), sign_statement(statement, run.keys[node])).to_bytes()
    )
    add_cosignatures(run.root, [file])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two uploads whose ledger one node has cosigned."""
    folder = tmp_path_factory.mktemp("outside")
    run = make_run(folder / "run")
    cosign(run, "north", folder)
    return run.root


def verdict(root: Path) -> tuple[int, dict[str, object]]:
    """Of a process of its own, isolated, so that neither our folder nor PYTHONPATH is looked at."""
    done = subprocess.run([sys.executable, "-I", VERIFIER, root], capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_it_accepts_a_run_and_loads_nothing_of_ours(root: Path) -> None:
    code, said = verdict(root)
    assert code == 0, said
    assert said["of_epgfn"] == []
    assert said["uploads"] == ["north", "south"] and said["witnesses"] == ["north"]
    size = said["size"]
    assert isinstance(size, int) and size > 8
    assert said["pairs"] == said["checkpoints"] * (said["checkpoints"] - 1) / 2 >= 6  # type: ignore[operator]


# In the checkpoint: the log's own signature and the witness's.
PLACES = {
    "a byte of the key": ("keys/ledger.vkey", -10),
    "the checkpoint's root": ("ledger/checkpoint", 30),
    "the cosignature": ("ledger/checkpoint", -100),
    "an upload": ("uploads/north/model.sealed", -1),
    "a statement": ("uploads/south/upload.sigstore.json", 40),
    "a receipt's proof": ("uploads/north/receipt.tlog-proof", 60),
    "a receipt's checkpoint": ("uploads/south/receipt.tlog-proof", -20),
}


@pytest.mark.parametrize("what", PLACES)
def test_it_refuses_one_altered_byte(root: Path, tmp_path: Path, what: str) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    name, place = PLACES[what]
    raw = bytearray((copy / name).read_bytes())
    raw[place] = ord("B") if raw[place] != ord("B") else ord("C")
    (copy / name).write_bytes(bytes(raw))
    with pytest.raises((theirs.Refused, theirs.InvalidSignature, ValueError)):
        theirs.verify_run(copy)
    if what == "the cosignature":
        assert verdict(copy)[0] == 1


def test_it_refuses_any_altered_byte_of_entries_and_tiles(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    for path in sorted((copy / "ledger/tile").rglob("*")):
        if path.is_dir():
            continue
        raw = path.read_bytes()
        for place in range(0, len(raw), 37):
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
            with pytest.raises((theirs.Refused, ValueError)):
                theirs.verify_run(copy)
        path.write_bytes(raw)
    theirs.verify_run(copy)


def test_it_refuses_a_ledger_that_was_rewritten_and_signed_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    entry = bytearray(run.entries[3])
    entry[-10] ^= 1
    tree = MerkleTree(leaf_hash(each) for each in [*run.entries[:3], bytes(entry), *run.entries[4:]])
    other = Checkpoint(run.ledger.name, tree.size, tree.root()).sign(run.ledger)
    theirs.read_checkpoint(other, run.ledger.verifier.vkey)  # signed by the right key
    (run.root / "ledger/checkpoint").write_bytes(other)
    with pytest.raises(theirs.Refused, match="do not hash to the checkpoint's root"):
        theirs.verify_run(run.root)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 32, 33, 40])
def test_the_rfcs_definitions_give_our_roots_and_proofs(size: int) -> None:
    entries = [f"entry {number}".encode() for number in range(size)]
    tree, leaves = MerkleTree(map(leaf_hash, entries)), [theirs.leaf(entry) for entry in entries]
    assert theirs.head(leaves) == tree.root()
    for index in range(size):
        path = tree.inclusion_proof(index, size)
        assert theirs.root_from_path(leaves[index], index, size, path) == tree.root()
    for old in range(1, size):
        proof = tree.consistency_proof(old, size)
        assert proof == theirs.consistency(old, leaves)
        roots = theirs.roots_from_consistency(old, size, proof, tree.root(old))
        assert roots == (tree.root(old), tree.root())


def test_a_note_of_another_key_of_the_same_name_is_refused() -> None:
    ours, other = NoteSigner.generate("test/log"), NoteSigner.generate("test/log")
    note = Checkpoint("test/log", 0, theirs.head([])).sign(other)
    with pytest.raises(theirs.Refused, match="has not signed"):
        theirs.read_checkpoint(note, ours.verifier.vkey)

"""Signed notes, checkpoints and receipts: the specifications' own examples verify, any change is refused."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.ledger import note as notes
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint, verify_extends
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.merkle import EMPTY_ROOT, MerkleTree, leaf_hash
from epgfn.ledger.note import NoteSigner, NoteVerifier
from epgfn.ledger.proof import make_proof, verify_proof

# From the signed-note specification.
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONnc"
    "AlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# From the tests of Go's golang.org/x/mod/sumdb/note.
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

SIGNER = NoteSigner("study.example/log", bytes(range(32)))
OTHER = NoteSigner("witness.example", bytes(32))
TEXT = "first line\n\nsecond line\n"
NOTE = SIGNER.sign(TEXT)


def test_the_specifications_example_verifies() -> None:
    verifier = NoteVerifier.from_vkey(SPEC_VKEY)
    assert notes.verify(SPEC_NOTE, verifier, strict=True) == "This is an example message.\n"
    assert verifier.vkey == SPEC_VKEY


def test_a_signer_key_written_by_go_loads_and_saves_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    path.write_text(GO_SIGNER + "\n")
    path.chmod(0o600)
    signer = NoteSigner.load(path)
    assert signer.verifier.vkey == GO_VKEY
    signer.save(tmp_path / "again.key")
    assert (tmp_path / "again.key").read_text() == GO_SIGNER + "\n"
    assert stat.S_IMODE((tmp_path / "again.key").stat().st_mode) == 0o600
    assert "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS" not in repr(signer)


def test_a_signer_key_under_a_passphrase_opens_with_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    SIGNER.save(path, "correct horse")
    raw = path.read_bytes()
    assert b"ENCRYPTED" in raw and b"PRIVATE+KEY+" not in raw and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert NoteSigner.load(path, "correct horse").verifier == SIGNER.verifier
    for typed in (None, "", "Tr0ub4dor"):
        with pytest.raises(EpgfnError, match="passphrase") as refused:
            NoteSigner.load(path, typed)
        assert "Tr0ub4dor" not in str(refused.value)


def test_a_signer_key_of_before_opens_beside_keys_that_have_a_passphrase(tmp_path: Path) -> None:
    SIGNER.save(tmp_path / "ledger.key")
    assert NoteSigner.load(tmp_path / "ledger.key", "correct horse").verifier == SIGNER.verifier


@pytest.mark.parametrize(
    "content", ["", "PRIVATE+KEY+a+b", GO_SIGNER[:-1], GO_SIGNER.replace("c74f", "c74e"), GO_VKEY, "é" * 9]
)
def test_a_damaged_signer_key_is_one_sentence_without_the_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ledger.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(UsageError) as refused:
        NoteSigner.load(path)
    assert "AYEK" not in str(refused.value)


def test_a_signer_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    SIGNER.save(path)
    path.chmod(0o640)
    with pytest.raises(EpgfnError):
        NoteSigner.load(path)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "a+b",
        SPEC_VKEY + "\n",
        SPEC_VKEY.replace("530d903a", "530D903A"),
        SPEC_VKEY.replace("530d903a", "530d903b"),
        SPEC_VKEY.replace("3U2k", "3U2l"),
        SPEC_VKEY.replace("+Aek", "+Bek"),
        SPEC_VKEY.replace("example.com/foo", "example.com/fo o"),
        SPEC_VKEY[:-4],
    ],
)
def test_a_damaged_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(LedgerError):
        NoteVerifier.from_vkey(vkey)


@given(at=st.integers(0, len(NOTE) - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_note_can_be_changed(at: int, bit: int) -> None:
    changed = bytearray(NOTE)
    changed[at] ^= 1 << bit
    with pytest.raises(LedgerError):
        notes.verify(bytes(changed), SIGNER.verifier, strict=True)


@given(raw=st.binary(max_size=200))
def test_no_bytes_crash_the_reader(raw: bytes) -> None:
    for note in (raw, b"text\n\n" + raw, NOTE + raw[:-1] + b"\n\n" * bool(raw)):
        try:
            notes.verify(note, SIGNER.verifier, strict=True)
        except LedgerError:
            continue
        assert note.startswith(NOTE)


def test_other_peoples_signatures_are_ignored() -> None:
    line = OTHER.sign(TEXT).split(b"\n\n")[-1]
    for strict in (False, True):
        assert notes.verify(NOTE + line, SIGNER.verifier, strict=strict) == TEXT
        assert notes.verify(NOTE + line, OTHER.verifier, strict=strict) == TEXT


def test_a_wrong_signature_beside_a_right_one_refuses_the_note() -> None:
    wrong = SIGNER.sign("other text\n").split(b"\n\n")[-1]
    with pytest.raises(LedgerError):
        notes.verify(NOTE + wrong, SIGNER.verifier)
    with pytest.raises(LedgerError):
        notes.verify(NOTE + NOTE.split(b"\n\n")[-1], SIGNER.verifier, strict=True)


@pytest.mark.parametrize("text", ["", "no newline", "tab\there\n", "bell\x07\n"])
def test_text_that_no_note_may_hold_is_not_signed(text: str) -> None:
    with pytest.raises(LedgerError):
        SIGNER.sign(text)


@pytest.mark.parametrize("name", ["", "two words", "plus+sign", "no\u00a0break", "line\nbreak"])
def test_a_name_that_no_key_may_have_is_refused(name: str) -> None:
    with pytest.raises(LedgerError):
        NoteSigner.generate(name)


TREE = MerkleTree(leaf_hash(str(i).encode()) for i in range(7))


def checkpoint(size: int) -> Checkpoint:
    return Checkpoint(SIGNER.name, size, TREE.root(size))


def test_a_checkpoint_reads_as_it_was_written() -> None:
    assert open_checkpoint(checkpoint(7).sign(SIGNER), SIGNER.verifier, strict=True) == checkpoint(7)
    assert Checkpoint.from_dict(checkpoint(7).as_dict()) == checkpoint(7)
    extended = dataclasses.replace(checkpoint(7), extensions=("more",))
    assert Checkpoint.parse(extended.to_text()) == extended


GOOD = checkpoint(7).to_text().split("\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n".join(GOOD[:3]),
        "\n".join(GOOD[:2]) + "\n",
        "\n".join(["", *GOOD[1:]]),
        "\n".join([GOOD[0], "07", *GOOD[2:]]),
        "\n".join([GOOD[0], "-7", *GOOD[2:]]),
        "\n".join([GOOD[0], "٧", *GOOD[2:]]),
        "\n".join([GOOD[0], "9" * 19, *GOOD[2:]]),
        "\n".join([GOOD[0], "0", *GOOD[2:]]),
        "\n".join([*GOOD[:2], GOOD[2][:-4], ""]),
        "\n".join([*GOOD[:2], GOOD[2].rstrip("="), ""]),
        "\n".join(GOOD) + "\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(LedgerError):
        Checkpoint.parse(text)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    foreign = dataclasses.replace(checkpoint(7), origin="elsewhere")
    with pytest.raises(LedgerError):
        foreign.sign(SIGNER)
    with pytest.raises(LedgerError):
        open_checkpoint(SIGNER.sign(foreign.to_text()), SIGNER.verifier)


@pytest.mark.parametrize(
    "value", [{}, {"origin": 1, "size": 7, "root": "x"}, {**checkpoint(7).as_dict(), "size": True}]
)
def test_a_malformed_quoted_checkpoint_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(LedgerError):
        Checkpoint.from_dict(value)


def test_a_log_that_grew_is_accepted_and_one_that_was_rewritten_or_cut_is_not() -> None:
    for size in range(1, 8):
        verify_extends(checkpoint(size), checkpoint(7), TREE.consistency_proof(size, 7))
    empty = Checkpoint(SIGNER.name, 0, EMPTY_ROOT)
    verify_extends(empty, checkpoint(7), [])
    rewritten = Checkpoint(SIGNER.name, 3, leaf_hash(b"another"))
    for old, new, proof in [
        (rewritten, checkpoint(7), TREE.consistency_proof(3)),
        (checkpoint(7), checkpoint(3), []),
        (empty, checkpoint(7), [EMPTY_ROOT]),
        (dataclasses.replace(checkpoint(3), origin="elsewhere"), checkpoint(7), TREE.consistency_proof(3)),
    ]:
        with pytest.raises(LedgerError):
            verify_extends(old, new, proof)


RECEIPT = make_proof(4, TREE.inclusion_proof(4), checkpoint(7).sign(SIGNER))


def test_a_receipt_proves_its_entry_and_no_other() -> None:
    assert verify_proof(RECEIPT, b"4", SIGNER.verifier, strict=True) == (4, checkpoint(7))
    for entry, verifier in [(b"5", SIGNER.verifier), (b"4", OTHER.verifier)]:
        with pytest.raises(LedgerError):
            verify_proof(RECEIPT, entry, verifier)
    one = MerkleTree([leaf_hash(b"only")])
    alone = make_proof(0, [], Checkpoint(SIGNER.name, 1, one.root()).sign(SIGNER))
    assert verify_proof(alone, b"only", SIGNER.verifier, strict=True)[0] == 0


@settings(max_examples=300)
@given(at=st.integers(0, len(RECEIPT) - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_receipt_can_be_changed(at: int, bit: int) -> None:
    changed = bytearray(RECEIPT)
    changed[at] ^= 1 << bit
    with pytest.raises(LedgerError):
        verify_proof(bytes(changed), b"4", SIGNER.verifier, strict=True)


@given(raw=st.binary(max_size=120))
def test_no_bytes_crash_the_receipt_reader(raw: bytes) -> None:
    for receipt in (raw, RECEIPT[:30] + raw, raw + RECEIPT[20:]):
        if receipt != RECEIPT:
            with pytest.raises(LedgerError):
                verify_proof(receipt, b"4", SIGNER.verifier, strict=True)


def test_an_extra_line_is_ignored_unless_strict() -> None:
    extra = RECEIPT.replace(b"index", b"extra aGVsbG8=\nindex", 1)
    assert verify_proof(extra, b"4", SIGNER.verifier)[0] == 4
    with pytest.raises(LedgerError):
        verify_proof(extra, b"4", SIGNER.verifier, strict=True)
    with pytest.raises(LedgerError):
        verify_proof(extra.replace(b"aGVsbG8=", b"aGVsbG9="), b"4", SIGNER.verifier)

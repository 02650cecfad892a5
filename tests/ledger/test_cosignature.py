"""C2SP tlog-cosignature and tlog-policy, against keys and signatures that other implementations made, and word by word."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from hypothesis import given
from hypothesis import strategies as st

from epgfn.base.errors import EpgfnError
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.cosignature import ED25519, ML_DSA_44, Cosigner, CosignerKey, cosignatures
from epgfn.ledger.encoding import from_base64, to_base64
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.note import NoteSigner, split_note
from epgfn.ledger.policy import parse_policy

LOG = NoteSigner("example.com/behind-the-sofa", bytes(32))
HEAD = Checkpoint(LOG.name, 20852163, hashlib.sha256(b"root").digest())
NOTE = HEAD.sign(LOG)
KEY = CosignerKey("witness.example.com/w1", bytes(32))
# github.com/FiloSottile/torchwood, cmd/litewitness/testdata/mldsa.txt: its seed, its vkey's key id, and a checkpoint that it signed.
TORCHWOOD = Path(__file__).parent / "vectors" / "mldsa44_checkpoint.note"
SEED = bytes.fromhex("2886adc2b0eabfce67c0472939127998bf886cf256bfee8ba76a253fce1146e0")
# github.com/transparency-dev/formats, note/note_cosigv1_test.go: a witness in use, and a signature's time.
REMORA = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
TIMED = (
    "ZGhGuQAAAABm/qTPeyKXD+R2rzyQsxPiP8mXum7qq/iF0u4vanlqJyocWODBt97w9uL+8qT7S5gxEHWWOworDcFiEBYJXORmnFBOBA=="
)
AT = 1727964367


def test_what_another_implementation_signed_with_ml_dsa_44_verifies() -> None:
    cosigner = CosignerKey("example.com/mldsa-log", SEED).public
    assert cosigner.key_id.hex() == "b5df45c5"
    text, [(name, signature)] = split_note(TORCHWOOD.read_bytes())
    assert (name, signature[:4]) == (cosigner.name, cosigner.key_id)
    checkpoint = Checkpoint.parse(text)
    assert cosigner.verify(checkpoint, signature[4:]) == 0
    other = Checkpoint(checkpoint.origin, 2, checkpoint.root)
    with pytest.raises(LedgerError):
        cosigner.verify(other, signature[4:])
    # As a witness's it would say nothing: it has no time.
    with pytest.raises(LedgerError, match="has no time"):
        cosignatures(TORCHWOOD.read_bytes(), [cosigner])


def test_a_key_in_use_is_read_and_written_as_it_is() -> None:
    cosigner = Cosigner.from_vkey(REMORA)
    assert (cosigner.kind, cosigner.vkey) == (ED25519, REMORA)
    assert Cosigner.from_vkey(KEY.public.vkey) == KEY.public and KEY.public.kind == ML_DSA_44


def ed25519(name: str) -> tuple[Cosigner, Ed25519PrivateKey]:
    key = Ed25519PrivateKey.generate()
    return Cosigner(name, ED25519, key.public_key().public_bytes_raw()), key


def by_ed25519(checkpoint: Checkpoint, cosigner: Cosigner, key: Ed25519PrivateKey, at: int) -> bytes:
    """As the specification writes it out."""
    lines = [
        "cosignature/v1",
        f"time {at}",
        checkpoint.origin,
        str(checkpoint.size),
        to_base64(checkpoint.root),
        *checkpoint.extensions,
    ]
    raw = key.sign("".join(f"{line}\n" for line in lines).encode())
    return f"— {cosigner.name} {to_base64(cosigner.key_id + at.to_bytes(8, 'big') + raw)}\n".encode()


def test_an_ed25519_cosignature_covers_time_and_text_word_by_word() -> None:
    assert int.from_bytes(from_base64(TIMED, "x")[4:12], "big") == AT
    cosigner, key = ed25519("witness.example.com/w2")
    head = Checkpoint(LOG.name, 7, HEAD.root, ("extension",))
    note = head.sign(LOG) + by_ed25519(head, cosigner, key, AT)
    assert cosignatures(note, [cosigner]) == {cosigner: AT}
    for changed in (
        head,
        Checkpoint(LOG.name, 7, HEAD.root),
        Checkpoint(LOG.name, 8, HEAD.root, ("extension",)),
    ):
        line = by_ed25519(head, cosigner, key, AT + (changed == head))
        if changed == head:
            line = line.replace(
                to_base64(cosigner.key_id + (AT + 1).to_bytes(8, "big"))[:8].encode(), b"AAAAAAAA"
            )
        found = changed.sign(LOG) + line
        try:
            assert cosignatures(found, [cosigner]) == {}
        except LedgerError as error:
            assert "is not valid" in str(error)


def test_an_ml_dsa_cosignature_covers_name_time_origin_size_and_root_word_by_word() -> None:
    line = KEY.cosign(HEAD, AT)
    _, signatures = split_note(NOTE + line)
    raw = dict(signatures)[KEY.public.name]
    name, origin = KEY.public.name.encode(), LOG.name.encode()
    message = b"".join([
        b"subtree/v1\n\0", bytes([len(name)]), name, AT.to_bytes(8, "big"), bytes([len(origin)]), origin,
        bytes(8), HEAD.size.to_bytes(8, "big"), HEAD.root,
    ])  # fmt: skip
    MLDSA44PublicKey.from_public_bytes(KEY.public.public_key).verify(raw[12:], message)
    assert cosignatures(NOTE + line, [KEY.public]) == {KEY.public: AT}
    with pytest.raises(LedgerError, match="extension lines"):
        KEY.cosign(Checkpoint(LOG.name, 7, HEAD.root, ("extension",)))
    with pytest.raises(LedgerError):
        KEY.public.verify(Checkpoint(LOG.name, 7, HEAD.root, ("extension",)), raw[4:])


COSIGNED = NOTE + KEY.cosign(HEAD, AT)


@given(at=st.integers(0, len(COSIGNED) - 1), bit=st.integers(0, 7))
def test_no_changed_bit_leaves_a_cosignature_that_counts(at: int, bit: int) -> None:
    changed = bytearray(COSIGNED)
    changed[at] ^= 1 << bit
    try:
        counted = cosignatures(bytes(changed), [KEY.public])
    except LedgerError:
        return
    # In the log's own line, which is checked elsewhere; or the witness's name or key id became another's.
    assert counted == {} or at < len(NOTE)


def test_signatures_of_others_say_nothing_and_false_ones_under_a_known_key_refuse_the_note() -> None:
    other = CosignerKey.generate("witness.example.com/w1")  # the same name, another key
    assert cosignatures(COSIGNED + other.cosign(HEAD, AT), [KEY.public]) == {KEY.public: AT}
    assert cosignatures(NOTE, [KEY.public]) == {}
    elsewhere = Checkpoint(LOG.name, 20852163, bytes(32))
    with pytest.raises(LedgerError, match="is not valid"):
        cosignatures(NOTE + KEY.cosign(elsewhere, AT), [KEY.public])


def test_a_private_key_is_kept_and_shown_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "witness.key"
    KEY.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert CosignerKey.load(path).public == KEY.public
    assert path.read_text().split("+")[-1].strip() not in repr(KEY)
    path.write_text(path.read_text().replace("w1+", "w2+"))
    with pytest.raises(EpgfnError, match="does not hold a witness's key"):
        CosignerKey.load(path)
    NoteSigner.generate("log").save(path)
    with pytest.raises(EpgfnError):
        CosignerKey.load(path)


@pytest.mark.parametrize(
    "vkey",
    ["", "a+b+c", REMORA[:-1], REMORA.replace("da77ade7", "da77ade8"), REMORA.replace("BOvN", "AevN"), REMORA + "\n", LOG.verifier.vkey,
     REMORA.replace("remora", "remora ")],
)  # fmt: skip
def test_a_damaged_key_is_refused(vkey: str) -> None:
    with pytest.raises(LedgerError):
        Cosigner.from_vkey(vkey)


# Policies -----------------------------------------------------------------------------------------------------------

KEYS = {name: CosignerKey(f"witness.example/{name}", name.encode() * 16) for name in ("X1", "X2", "X3", "Y1")}
LINES = [
    "# whom we trust", "", f"log {LOG.verifier.vkey} https://log.example/", *(f"witness\t{n} {k.public.vkey}" for n, k in KEYS.items()),
    "group X 2 X1 X2 X3", " group Y any Y1", "group X-and-Y all X Y ", "quorum X-and-Y",
]  # fmt: skip


def policy(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.mark.parametrize(
    ("signed", "enough"),
    [("X1 X2 Y1", True), ("X1 X2 X3 Y1", True), ("X1 X2 X3", False), ("X1 Y1", False), ("", False)],
)
def test_the_specifications_example_takes_two_of_three_and_one_of_the_others(
    signed: str, enough: bool
) -> None:
    note = NOTE + b"".join(KEYS[name].cosign(HEAD, AT) for name in signed.split())
    read = parse_policy(policy(*LINES))
    if enough:
        assert "the quorum X-and-Y is met" in read.check(note)
    else:
        with pytest.raises(LedgerError, match="asks for the quorum X-and-Y"):
            read.check(note)


def test_a_policy_may_ask_for_no_witness_and_then_for_its_log_alone() -> None:
    assert "no witness is asked for" in parse_policy(policy(LINES[2], "quorum none")).check(NOTE)
    assert "no witness" in parse_policy(policy("quorum none")).check(NOTE)
    stranger = NoteSigner.generate(LOG.name)
    with pytest.raises(LedgerError, match="no log of the policy"):
        parse_policy(policy(f"log {stranger.verifier.vkey}", "quorum none")).check(NOTE)


@pytest.mark.parametrize(
    "lines",
    [
        LINES[:-1],
        [*LINES, "quorum none"],
        [*LINES[:-1], "quorum Z"],
        [*LINES[:3], LINES[2], "quorum none"],
        [*LINES[:4], LINES[3].replace("X1", "X9"), "quorum none"],
        [LINES[3], "group G any X1", "group H any X1", "quorum G"],
        [LINES[3], "group G 2 X1", "quorum G"],
        [LINES[3], "group G 0 X1", "quorum G"],
        [LINES[3], "group G some X1", "quorum G"],
        ["group G any X1", LINES[3], "quorum G"],
        [LINES[3].replace("X1", "none"), "quorum none"],
        ["word", "quorum none"],
        ["quorum none", "bell\x07"],
        [f"log {REMORA}", "quorum none"],
    ],
)
def test_any_other_form_of_a_policy_is_refused(lines: list[str]) -> None:
    with pytest.raises(LedgerError):
        parse_policy(policy(*lines))

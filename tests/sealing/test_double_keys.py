"""A double key signs with P-256 and with ML-DSA-65, and whoever knows a party by it takes nothing with one of the two missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.sealing.bundle import one_signature_each, read_unverified, sign_statement, verify_bundle
from epgfn.sealing.keys import SigningKey, VerifyKey, reencrypted
from epgfn.sealing.rotation import read_rotation, sign_rotation

KEY, OTHER, SINGLE = SigningKey.generate(double=True), SigningKey.generate(double=True), SigningKey.generate()
PAYLOAD = b"what was said"
BUNDLE = sign_statement(PAYLOAD, KEY)
TIME = "2030-01-31T12:00:00Z"


def changed(change: Callable[[list[Any]], None], bundle: bytes = BUNDLE) -> bytes:
    value = json.loads(bundle)
    change(value["dsseEnvelope"]["signatures"])
    return canonical_json(value)


def signatures(bundle: bytes) -> list[Any]:
    found: list[Any] = json.loads(bundle)["dsseEnvelope"]["signatures"]
    return found


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as error:
        call()
    return error.value.reason


def test_both_halves_have_to_sign() -> None:
    assert verify_bundle(BUNDLE, KEY.public) == PAYLOAD
    assert [each["keyid"] for each in signatures(BUNDLE)] == KEY.public.keyids
    assert read_unverified(BUNDLE) == (PAYLOAD, KEY.public.keyids[0])
    for change, reason in (
        (lambda found: found.pop(), "signature-missing"),  # as if it were a key of P-256 alone
        (lambda found: found.pop(0), "malformed"),
        (lambda found: found.reverse(), "malformed"),
        (lambda found: found.append(found[1]), "malformed"),
        (lambda found: found.__setitem__(1, found[0]), "malformed"),
        (lambda found: found[1].update(sig=signatures(sign_statement(PAYLOAD, OTHER))[1]["sig"]), "bad-signature"),
        (lambda found: found[1].update(sig=signatures(sign_statement(b"other", KEY))[1]["sig"]), "bad-signature"),
        (lambda found: found[0].update(sig=signatures(sign_statement(b"other", KEY))[0]["sig"]), "bad-signature"),
    ):  # fmt: skip
        assert reason_of(lambda change=change: verify_bundle(changed(change), KEY.public)) == reason
    assert reason_of(lambda: verify_bundle(BUNDLE, OTHER.public)) == "wrong-key"


def test_a_party_with_one_key_is_as_ever() -> None:
    bundle = sign_statement(PAYLOAD, SINGLE)
    assert verify_bundle(bundle, SINGLE.public) == PAYLOAD and len(signatures(bundle)) == 1
    assert SINGLE.public.first == SINGLE.public and SINGLE.public.keyids == [SINGLE.public.fingerprint]
    assert reason_of(lambda: verify_bundle(BUNDLE, KEY.public.first)) == "malformed", (
        "two signatures are no one"
    )
    extended = changed(lambda found: found.append(signatures(BUNDLE)[1]), bundle)
    assert reason_of(lambda: verify_bundle(extended, SINGLE.public)) == "malformed"
    # A stripped bundle is what the P-256 half alone would have signed: only who knows both halves sees the difference.
    stripped = changed(lambda found: found.pop())
    assert verify_bundle(stripped, KEY.public.first) == PAYLOAD


def test_for_tools_that_take_one_signature_a_statement_is_written_once_for_each_of_p_256() -> None:
    alone = sign_statement(PAYLOAD, SINGLE)
    assert one_signature_each(alone) == {SINGLE.public.fingerprint: alone}
    first = one_signature_each(BUNDLE)
    assert list(first) == [KEY.public.keyids[0]]
    (single,) = first.values()
    assert verify_bundle(single, KEY.public.first) == PAYLOAD
    assert reason_of(lambda: verify_bundle(single, KEY.public)) == "signature-missing"
    rotation = sign_rotation("coordinator", KEY, OTHER, TIME, "a key a year")
    by_key = one_signature_each(rotation)
    assert list(by_key) == [KEY.public.keyids[0], OTHER.public.keyids[0]]
    for signer in (KEY, OTHER):
        verify_bundle(by_key[signer.public.keyids[0]], signer.public.first)
    # Key ids name the files that are written of these.
    elsewhere = BUNDLE.replace(KEY.public.keyids[0].encode(), b"../../" + b"e" * 58)
    assert reason_of(lambda: one_signature_each(elsewhere)) == "malformed"


def test_the_fingerprint_is_of_both_halves() -> None:
    first, second = (
        serialization.load_pem_public_key(block).public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for block in (KEY.public.first.pem, KEY.public.pem.removeprefix(KEY.public.first.pem))
    )
    assert KEY.public.fingerprint == hashlib.sha256(first + second).hexdigest()
    assert KEY.public.keyids == [hashlib.sha256(first).hexdigest(), hashlib.sha256(second).hexdigest()]
    mixed = VerifyKey.from_pem(KEY.public.first.pem + OTHER.public.pem[len(OTHER.public.first.pem) :])
    assert mixed.is_double and mixed.keyids[0] == KEY.public.keyids[0]
    assert mixed.fingerprint != KEY.public.fingerprint != KEY.public.first.fingerprint


@pytest.mark.parametrize(
    "pem",
    [
        KEY.public.pem[len(KEY.public.first.pem) :],  # the second half alone
        KEY.public.pem[len(KEY.public.first.pem) :] + KEY.public.first.pem,
        KEY.public.first.pem * 2,
        KEY.public.pem + KEY.public.first.pem,
        KEY.public.pem + b"\n",
        KEY.public.first.pem + b"\n" + KEY.public.pem[len(KEY.public.first.pem) :],
    ],
)
def test_a_key_has_one_form(pem: bytes) -> None:
    assert VerifyKey.from_pem(KEY.public.pem) == KEY.public
    assert reason_of(lambda: VerifyKey.from_pem(pem)) == "bad-key"


def test_a_signature_outside_bundles_is_both_too() -> None:
    signature = KEY.sign(PAYLOAD)
    KEY.public.verify(PAYLOAD, signature)
    for other in (KEY.first.sign(PAYLOAD), signature[:-1], signature + b"x", OTHER.sign(PAYLOAD), b""):
        assert reason_of(lambda other=other: KEY.public.verify(PAYLOAD, other)) == "bad-signature"


def test_it_is_kept_in_one_file_under_one_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    KEY.save(path)
    assert SigningKey.load(path).public == KEY.public
    raw = reencrypted(path, None, "correct horse")
    assert raw.count(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") == 2 and b"-----BEGIN PRIVATE" not in raw
    path.write_bytes(raw)
    assert SigningKey.load(path, "correct horse").public == KEY.public
    for passphrase in (None, "wrong"):
        with pytest.raises(EpgfnError):
            SigningKey.load(path, passphrase)
    path.write_bytes(reencrypted(path, "correct horse", None))
    assert SigningKey.load(path).private_pem() == KEY.private_pem()
    path.write_bytes(KEY.private_pem() + SINGLE.private_pem())
    with pytest.raises(EpgfnError, match="no P-256 key"):
        SigningKey.load(path)


def test_a_double_key_gives_way_to_double_keys_alone() -> None:
    upgrade = sign_rotation("coordinator", SINGLE, KEY, TIME, "for later")
    assert len(signatures(upgrade)) == 3 and read_rotation(upgrade).new == KEY.public
    onwards = sign_rotation("coordinator", KEY, OTHER, TIME, "a key a year")
    assert len(signatures(onwards)) == 4 and read_rotation(onwards).new == OTHER.public
    for number in (1, 3):  # without the word of one of the ML-DSA keys
        stripped = changed(lambda found, number=number: found.pop(number), onwards)
        assert reason_of(lambda stripped=stripped: read_rotation(stripped)) == "signature-missing"
    with pytest.raises(RefusedError, match="does not fit its type"):
        sign_rotation("coordinator", KEY, SINGLE, TIME, "less")

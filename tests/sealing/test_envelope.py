"""A sealed artifact opens with the right round key as what its sender bound it to, and in no other way."""

from __future__ import annotations

import base64
import dataclasses
import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import RefusedError
from epgfn.sealing.binding import Binding
from epgfn.sealing.envelope import MAGIC, MAX_HEADER_BYTES, open_sealed, seal, sealed_size
from epgfn.sealing.round_key import CLASSICAL, HYBRID, SUITES, RoundPrivateKey, RoundPublicKey

PLAINTEXT = b"tensors" * 3000  # two chunks


@cache
def round_key(suite: str) -> RoundPrivateKey:
    return RoundPrivateKey.generate(suite)


def binding(suite: str) -> Binding:
    return Binding("1" * 64, "round-1", "oslo", "2" * 64, round_key(suite).key_id)


@cache
def sealed_by(suite: str) -> bytes:
    return seal(PLAINTEXT, round_key(suite).public, binding(suite))


def reason(sealed: bytes, suite: str = HYBRID, as_what: Binding | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        open_sealed(sealed, round_key(suite), as_what or binding(suite))
    return caught.value.reason


def with_header(sealed: bytes, header: bytes) -> bytes:
    return MAGIC + header + b"\n" + sealed[len(MAGIC) :].partition(b"\n")[2]


def header_of(sealed: bytes) -> dict[str, str]:
    fields: dict[str, str] = json.loads(sealed[len(MAGIC) :].partition(b"\n")[0])
    return fields


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("size", [0, 1, 16384, 40000])
def test_it_opens_for_the_right_key_and_binding(suite: str, size: int) -> None:
    sealed = seal(PLAINTEXT[:1] * size, round_key(suite).public, binding(suite))
    assert open_sealed(sealed, round_key(suite), binding(suite)) == PLAINTEXT[:1] * size
    assert len(sealed) == sealed_size(suite, size)


@pytest.mark.parametrize("suite", SUITES)
def test_the_first_two_lines_say_what_the_file_is(suite: str) -> None:
    magic, header, _ = sealed_by(suite).split(b"\n", 2)
    assert magic == b"epgfn-sealed/v1"
    fields = json.loads(header)
    assert sorted(fields) == ["key", "nonce", "suite"] and fields["suite"] == suite
    assert len(base64.b64decode(fields["nonce"])) == 16


def test_sealing_twice_gives_nothing_to_compare() -> None:
    first, second = (seal(b"same", round_key(HYBRID).public, binding(HYBRID)) for _ in range(2))
    assert header_of(first)["key"] != header_of(second)["key"]
    assert header_of(first)["nonce"] != header_of(second)["nonce"]
    assert first[-20:] != second[-20:]


def test_no_plaintext_and_no_binding_is_in_the_file() -> None:
    for secret in (b"tensors", b"oslo", b"round-1", b"1" * 64):
        assert secret not in sealed_by(HYBRID)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Binding) if f.name != "round_key_id"])
def test_every_field_of_the_binding_counts(suite: str, field: str) -> None:
    other = dataclasses.replace(binding(suite), **{field: "3" * 64})
    assert reason(sealed_by(suite), suite, other) == "cannot-decrypt"


def test_another_round_key_is_refused() -> None:
    other = RoundPrivateKey.generate(HYBRID)
    with pytest.raises(RefusedError) as caught:
        open_sealed(sealed_by(HYBRID), other, binding(HYBRID))
    assert caught.value.reason == "wrong-round-key"
    with pytest.raises(RefusedError) as caught:
        open_sealed(sealed_by(HYBRID), other, dataclasses.replace(binding(HYBRID), round_key_id=other.key_id))
    assert caught.value.reason == "cannot-decrypt"
    with pytest.raises(RefusedError) as caught:
        seal(b"", other.public, binding(HYBRID))
    assert caught.value.reason == "wrong-round-key"


@pytest.mark.parametrize("suite", SUITES)
@given(data=st.data())
@settings(max_examples=60)
def test_any_flipped_bit_is_refused(suite: str, data: st.DataObject) -> None:
    sealed = bytearray(sealed_by(suite))
    # Half of the flips fall into magic and header, where the interesting parsers are.
    header_end = sealed.index(b"\n", len(MAGIC)) + 1
    index = data.draw(st.one_of(st.integers(0, header_end - 1), st.integers(0, len(sealed) - 1)))
    sealed[index] ^= 1 << data.draw(st.integers(0, 7))
    assert reason(bytes(sealed), suite) in {"malformed", "wrong-suite", "cannot-decrypt"}


@given(kept=st.floats(0, 1, exclude_max=True), tail=st.binary(max_size=40))
@settings(max_examples=60)
def test_any_truncation_or_extension_is_refused(kept: float, tail: bytes) -> None:
    sealed = sealed_by(HYBRID)
    reason(sealed[: int(kept * len(sealed))])
    if tail:
        reason(sealed + tail)


def test_header_and_chunks_of_two_artifacts_do_not_mix() -> None:
    first, second = sealed_by(HYBRID), seal(PLAINTEXT, round_key(HYBRID).public, binding(HYBRID))
    assert reason(with_header(first, canonical_json(header_of(second)))) == "cannot-decrypt"
    mixed = header_of(first) | {"nonce": header_of(second)["nonce"]}
    assert reason(with_header(first, canonical_json(mixed))) == "cannot-decrypt"


def test_only_the_canonical_header_is_taken() -> None:
    sealed = sealed_by(HYBRID)
    fields = header_of(sealed)
    line = canonical_json(fields)
    others = [
        json.dumps(fields).encode(),
        line.replace(b"{", b"{ ", 1),
        json.dumps(dict(reversed(fields.items())), separators=(",", ":")).encode(),
        canonical_json(fields | {"more": "1"}),
        canonical_json({"suite": fields["suite"], "nonce": fields["nonce"]}),
        line[:-1] + b',"suite":"' + HYBRID.encode() + b'"}',
        canonical_json(fields | {"nonce": fields["nonce"].rstrip("=")}),
        canonical_json(fields | {"nonce": fields["nonce"] + "\n"}),
        canonical_json(fields | {"nonce": base64.b64encode(bytes(17)).decode()}),
        canonical_json(fields | {"nonce": 7}),
        canonical_json(fields | {"key": fields["key"][:-4]}),
        canonical_json([fields]),
        b"",
        b"[" * 4000,
        b" " * MAX_HEADER_BYTES + line,
    ]
    for header in others:
        assert reason(with_header(sealed, header)) == "malformed", header[:60]


def test_base64_with_spare_bits_set_is_refused() -> None:
    sealed = sealed_by(HYBRID)
    nonce = header_of(sealed)["nonce"]  # 16 bytes: the letter before "==" has four spare bits
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = nonce[:-3] + alphabet[alphabet.index(nonce[-3]) + 1] + "=="
    assert base64.b64decode(spare) == base64.b64decode(nonce)
    assert reason(with_header(sealed, canonical_json(header_of(sealed) | {"nonce": spare}))) == "malformed"


def test_a_weaker_suite_cannot_be_slipped_in() -> None:
    assert reason(sealed_by(CLASSICAL), HYBRID) == "wrong-suite"
    fields = header_of(sealed_by(HYBRID)) | {"suite": CLASSICAL}
    assert reason(with_header(sealed_by(HYBRID), canonical_json(fields))) == "wrong-suite"


@pytest.mark.parametrize("suite", SUITES)
def test_round_keys_survive_their_files(suite: str) -> None:
    key = round_key(suite)
    again = RoundPrivateKey.from_bytes(key.to_bytes())
    assert again.public == key.public and again.key_id == key.public.key_id
    assert RoundPublicKey.from_bytes(suite, key.public.raw) == key.public
    assert open_sealed(sealed_by(suite), again, binding(suite)) == PLAINTEXT
    assert key.to_bytes().startswith(suite.encode() + b"\n")


def test_a_private_key_does_not_show_itself() -> None:
    key = RoundPrivateKey.generate(CLASSICAL)
    secret = key.to_bytes().partition(b"\n")[2]
    assert secret.hex() not in repr(key) and repr(secret)[2:-1] not in repr(key)


def test_the_key_id_tells_suites_apart() -> None:
    raw = RoundPrivateKey.generate(CLASSICAL).public.raw
    assert RoundPublicKey(CLASSICAL, raw).key_id != round_key(HYBRID).key_id
    assert len(round_key(HYBRID).key_id) == 64


@pytest.mark.parametrize(
    ("suite", "raw", "expected"),
    [
        ("RSA", b"", "wrong-suite"),
        ("", b"", "wrong-suite"),
        (CLASSICAL, b"short", "bad-key"),
        (HYBRID, bytes(1215), "bad-key"),
        (HYBRID, b"\xff" * 1216, "bad-key"),  # coefficients above the modulus, FIPS 203's check
    ],
)
def test_a_public_key_that_is_none_is_refused(suite: str, raw: bytes, expected: str) -> None:
    with pytest.raises(RefusedError) as caught:
        RoundPublicKey.from_bytes(suite, raw)
    assert caught.value.reason == expected


@pytest.mark.parametrize("point", [bytes(32), bytes([1]) + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")])
def test_a_point_of_small_order_is_no_key(point: bytes) -> None:
    """Nothing can be encrypted to it: told when the key is read, before anyone keeps it."""
    hybrid = RoundPrivateKey.generate(HYBRID).public.raw[:-32] + point
    for suite, raw in ((CLASSICAL, point), (HYBRID, hybrid)):
        with pytest.raises(RefusedError) as caught:
            RoundPublicKey.from_bytes(suite, raw)
        assert caught.value.reason == "bad-key"


@pytest.mark.parametrize("raw", [b"", b"X25519", b"X25519\n", b"X25519\n" + bytes(31), b"RSA\n" + bytes(32)])
def test_a_private_key_file_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(RefusedError):
        RoundPrivateKey.from_bytes(raw)


fields = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


@given(first=st.tuples(fields, fields, fields), second=st.tuples(fields, fields, fields))
@settings(max_examples=200)
def test_two_bindings_never_encode_alike(first: tuple[str, str, str], second: tuple[str, str, str]) -> None:
    def encode(values: tuple[str, str, str]) -> bytes:
        return Binding("1" * 64, values[0], values[1], "2" * 64, "3" * 64, values[2]).encode(bytes(16))

    assert (encode(first) == encode(second)) == (first == second)
    # The plain concatenation would not tell these two apart.
    assert encode(("ab", "c", "x")) != encode(("a", "bc", "x"))


@pytest.mark.parametrize("value", ["", "A" * 64, "1" * 63, "1" * 65, "1" * 63 + "\n", "g" * 64])
def test_a_digest_in_a_binding_must_be_one(value: str) -> None:
    with pytest.raises(RefusedError):
        dataclasses.replace(binding(CLASSICAL), study_digest=value)

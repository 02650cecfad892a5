"""Statements and bundles: one byte form, verified before use, and every changed byte refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.sealing.bundle import MEDIA_TYPE, PAYLOAD_TYPE, pae, sign_statement, verify_bundle
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.round_key import HYBRID, RoundPrivateKey
from epgfn.sealing.statement import (
    GLOBAL,
    ROUND,
    STUDY,
    UPLOAD,
    GlobalPredicate,
    RoundPredicate,
    StudyPredicate,
    UploadPredicate,
    make_statement,
    parse_statement,
    predicate_of,
)

KEY = SigningKey.generate()
ROUND_KEY = RoundPrivateKey.generate(HYBRID).public
A, B, C = "a" * 64, "b" * 64, "c" * 64
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CHECKPOINT = {"origin": "ledger.example", "size": 3, "root": base64.b64encode(bytes(32)).decode()}

PREDICATES: dict[str, dict[str, Any]] = {
    STUDY: {"study_digest": A, "name": "sachs"},
    ROUND: {
        "study_digest": A,
        "round_id": "round-1",
        "suite": HYBRID,
        "round_key": base64.b64encode(ROUND_KEY.raw).decode(),
        "round_key_id": ROUND_KEY.key_id,
        "ledger_vkey": "ledger.example+00000000+AAAA",
        "coordinator_fingerprint": KEY.public.fingerprint,
        "keep_round_key": False,
    },
    UPLOAD: {
        "study_digest": A,
        "round_id": "round-1",
        "node_id": "oslo",
        "sender_fingerprint": KEY.public.fingerprint,
        "round_key_id": ROUND_KEY.key_id,
        "suite": HYBRID,
        "payload_type": "application/vnd.epgfn.model+safetensors",
        "sealed_size": 2000,
        "model_size": 1000,
        "privacy": {"mode": "none"},
        "software": {"epgfn": "0.1.0"},
        "checkpoint": CHECKPOINT,
    },
    GLOBAL: {
        "study_digest": A,
        "round_id": "round-1",
        "aggregated": [{"node_id": "oslo", "sealed_sha256": B, "bundle_sha256": C}],
        "absent": ["bergen"],
        "seed": 7,
        "software": {"epgfn": "0.1.0"},
        "checkpoint": CHECKPOINT,
    },
}
MODELS = {STUDY: StudyPredicate, ROUND: RoundPredicate, UPLOAD: UploadPredicate, GLOBAL: GlobalPredicate}
PAYLOAD = make_statement({"model.sealed": B}, UPLOAD, PREDICATES[UPLOAD])
BUNDLE = sign_statement(PAYLOAD, KEY)


def statement(**changes: Any) -> bytes:
    value = json.loads(PAYLOAD) | changes
    return canonical_json({name: part for name, part in value.items() if part is not None})


def refused_statement(payload: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_statement(payload)
    assert caught.value.reason == "malformed"


def bundle_reason(bundle: bytes, key: SigningKey = KEY) -> str:
    with pytest.raises(RefusedError) as caught:
        verify_bundle(bundle, key.public)
    return caught.value.reason


def with_signature(raw: bytes) -> bytes:
    value = json.loads(BUNDLE)
    value["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    return canonical_json(value)


# The statement


@pytest.mark.parametrize("kind", PREDICATES)
def test_a_statement_reads_back_as_it_was_made(kind: str) -> None:
    payload = make_statement({"b.bin": B, "a.bin": A}, kind, PREDICATES[kind])
    read = parse_statement(payload)
    assert read == ({"a.bin": A, "b.bin": B}, kind, PREDICATES[kind])
    model = predicate_of(read, MODELS[kind])
    assert make_statement(read.subjects, kind, model) == payload  # type: ignore[arg-type]


def test_a_statement_is_in_toto_version_1() -> None:
    value = json.loads(PAYLOAD)
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["subject"] == [{"name": "model.sealed", "digest": {"sha256": B}}]
    assert value["predicateType"] == "urn:epgfn:upload:v1"


@pytest.mark.parametrize("kind", PREDICATES)
def test_every_field_is_needed_and_no_other_allowed(kind: str) -> None:
    for field in PREDICATES[kind]:
        less = {name: value for name, value in PREDICATES[kind].items() if name != field}
        with pytest.raises(RefusedError):
            make_statement({"x": A}, kind, less)
        with pytest.raises(RefusedError):
            make_statement({"x": A}, kind, PREDICATES[kind] | {field: None})
    with pytest.raises(RefusedError):
        make_statement({"x": A}, kind, PREDICATES[kind] | {"records": 440})


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (UPLOAD, "study_digest", "A" * 64),
        (UPLOAD, "study_digest", A + "\n"),
        (UPLOAD, "node_id", "Oslo"),
        (UPLOAD, "node_id", "../oslo"),
        (UPLOAD, "sealed_size", "2000"),
        (UPLOAD, "sealed_size", 2000.0),
        (UPLOAD, "sealed_size", True),
        (UPLOAD, "sealed_size", -1),
        (UPLOAD, "suite", "RSA"),
        (UPLOAD, "privacy", {}),
        (UPLOAD, "privacy", {"mode": 1}),
        (UPLOAD, "software", {"epgfn": 1}),
        (UPLOAD, "checkpoint", CHECKPOINT | {"root": "AAAA"}),
        (UPLOAD, "checkpoint", CHECKPOINT | {"time": 1}),
        (ROUND, "round_id", "round-1\nok   global"),
        (ROUND, "round_key_id", A),
        (ROUND, "round_key", "AAAA"),
        (ROUND, "suite", "X25519"),
        (ROUND, "keep_round_key", 0),
        (GLOBAL, "seed", "7"),
        (GLOBAL, "absent", ["oslo"]),
        (GLOBAL, "aggregated", PREDICATES[GLOBAL]["aggregated"] * 2),
        (GLOBAL, "aggregated", [{"node_id": "oslo"}]),
    ],
)
def test_a_field_of_the_wrong_form_is_refused(kind: str, field: str, value: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        make_statement({"x": A}, kind, PREDICATES[kind] | {field: value})
    assert caught.value.reason == "malformed"


def test_an_error_names_the_field_and_quotes_no_value() -> None:
    with pytest.raises(RefusedError) as caught:
        make_statement({"x": A}, UPLOAD, PREDICATES[UPLOAD] | {"node_id": "MARKER"})
    assert "node_id" in str(caught.value) and "MARKER" not in str(caught.value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        PAYLOAD + b"\n",
        PAYLOAD.replace(b":", b": ", 1),
        json.dumps(json.loads(PAYLOAD)).encode(),
        PAYLOAD[:-1] + b',"subject":[]}',
        PAYLOAD.replace(b"oslo", b"\xffslo"),
        PAYLOAD.replace(b"oslo", b"\\u006fslo"),
        PAYLOAD.replace(b":2000,", b":2e3,"),
        PAYLOAD.replace(b":2000,", b":NaN,"),
        PAYLOAD.replace(b":2000,", b":1" + b"0" * 5000 + b","),
        b'{"a":' * 100_000,
        b" " * (1 << 21),
        statement(_type="https://in-toto.io/Statement/v0.1"),
        statement(predicateType="urn:epgfn:upload:v2"),
        statement(predicateType=STUDY),
        statement(predicate=None),
        statement(predicate=[]),
        statement(subject=None),
        statement(subject=[]),
        statement(more=1),
        statement(subject=[{"name": "x", "digest": {"sha512": A}}]),
        statement(subject=[{"name": "x", "digest": {"sha256": A, "sha512": A}}]),
        statement(subject=[{"name": "x", "digest": {"sha256": A}, "uri": "x"}]),
        statement(subject=[{"name": "x", "digest": {"sha256": A.upper()}}]),
        statement(subject=[{"name": "", "digest": {"sha256": A}}]),
        statement(subject=[{"name": "x", "digest": {"sha256": A}}] * 2),
        statement(subject=[{"name": n, "digest": {"sha256": A}} for n in "ba"]),
    ],
    ids=lambda payload: payload[:30].decode("utf-8", "replace"),
)
def test_anything_but_the_canonical_statement_is_refused(payload: bytes) -> None:
    refused_statement(payload)


def test_a_statement_of_another_kind_is_not_taken_for_the_expected_one() -> None:
    with pytest.raises(RefusedError):
        predicate_of(parse_statement(PAYLOAD), GlobalPredicate)


def test_a_predicate_cannot_be_changed_after_it_was_checked() -> None:
    read = predicate_of(parse_statement(PAYLOAD), UploadPredicate)
    with pytest.raises(ValueError, match="frozen"):
        read.node_id = "bergen"


# The bundle


def test_a_bundle_gives_its_payload_to_who_holds_the_key() -> None:
    assert verify_bundle(BUNDLE, KEY.public) == PAYLOAD


def test_a_bundle_is_a_sigstore_bundle() -> None:
    value = json.loads(BUNDLE)
    assert value["mediaType"] == MEDIA_TYPE == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert value["dsseEnvelope"]["payloadType"] == PAYLOAD_TYPE == "application/vnd.in-toto+json"
    assert value["verificationMaterial"] == {"publicKey": {"hint": KEY.public.fingerprint}}


def test_the_signed_bytes_are_those_of_the_dsse_specification() -> None:
    # The example of the DSSE protocol document.
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=200)
def test_any_flipped_bit_is_refused(where: float, bit: int) -> None:
    broken = bytearray(BUNDLE)
    broken[int(where * len(broken))] ^= 1 << bit
    assert bundle_reason(bytes(broken)) in {"malformed", "bad-signature", "wrong-key"}


@given(data=st.data())
@settings(max_examples=60)
def test_truncation_and_extension_are_refused(data: st.DataObject) -> None:
    assert bundle_reason(BUNDLE[: data.draw(st.integers(0, len(BUNDLE) - 1))]) == "malformed"
    assert bundle_reason(BUNDLE + data.draw(st.binary(min_size=1, max_size=20))) == "malformed"


def test_another_key_is_refused_even_under_the_right_name() -> None:
    other = SigningKey.generate()
    assert bundle_reason(BUNDLE, other) == "wrong-key"
    claimed = sign_statement(PAYLOAD, other).replace(
        other.public.fingerprint.encode(), KEY.public.fingerprint.encode()
    )
    assert bundle_reason(claimed) == "bad-signature"


def test_another_payload_or_type_under_the_same_signature_is_refused() -> None:
    value = json.loads(BUNDLE)
    other = make_statement({"model.sealed": C}, UPLOAD, PREDICATES[UPLOAD])
    value["dsseEnvelope"]["payload"] = base64.b64encode(other).decode()
    assert bundle_reason(canonical_json(value)) == "bad-signature"
    value = json.loads(BUNDLE)
    value["dsseEnvelope"]["payloadType"] = "application/json"
    assert bundle_reason(canonical_json(value)) == "malformed"


def test_a_bundle_has_one_byte_form() -> None:
    value = json.loads(BUNDLE)
    two = json.loads(BUNDLE)
    two["dsseEnvelope"]["signatures"] *= 2
    none = json.loads(BUNDLE)
    none["dsseEnvelope"]["signatures"] = []
    with_log = json.loads(BUNDLE)
    with_log["verificationMaterial"]["tlogEntries"] = []
    others = [
        json.dumps(value).encode(),
        json.dumps(value, indent=1).encode(),
        BUNDLE + b"\n",
        canonical_json(two),
        canonical_json(none),
        canonical_json(with_log),
        canonical_json(value | {"more": 1}),
        canonical_json(value | {"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2"}),
        canonical_json([value]),
        b"",
        b" " * (3 << 20),
    ]
    for other in others:
        assert bundle_reason(other) == "malformed", other[:60]


def test_a_signature_has_one_byte_form() -> None:
    raw = base64.b64decode(json.loads(BUNDLE)["dsseEnvelope"]["signatures"][0]["sig"])
    r, s = decode_dss_signature(raw)
    assert s <= P256_ORDER // 2
    assert bundle_reason(with_signature(encode_dss_signature(r, P256_ORDER - s))) == "bad-signature"
    assert bundle_reason(with_signature(raw + b"\0")) == "bad-signature"
    assert bundle_reason(with_signature(b"")) == "bad-signature"
    longer = raw[:1] + bytes([raw[1] + 1, raw[2], raw[3] + 1, 0]) + raw[4:]  # r with a needless leading zero
    assert bundle_reason(with_signature(longer)) == "bad-signature"


def test_error_messages_quote_nothing_of_the_bundle() -> None:
    with pytest.raises(RefusedError) as caught:
        verify_bundle(BUNDLE.replace(b"DSSE", b"MARK").replace(b"dsse", b"MARK"), KEY.public)
    assert "MARK" not in str(caught.value) and caught.value.__cause__ is None


# Canonical JSON

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
@settings(max_examples=200)
def test_canonical_json_reads_back_and_stays_the_same(value: Any) -> None:
    raw = canonical_json(value)
    assert parse_canonical_json(raw) == value
    assert canonical_json(parse_canonical_json(raw)) == raw


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, {"a": {None: 1}}, b"", "\ud800", {1, 2}]
)
def test_what_is_no_json_has_no_canonical_form(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        canonical_json(value)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b"[1, 2]",
        b"NaN",
        b"[1e400]",
        b"1.0e0",
        b"01",
        b'"\\u0061"',
        b"\xef\xbb\xbf1",
    ],
)
def test_other_forms_of_json_are_refused(raw: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_canonical_json(raw)
    assert caught.value.reason == "malformed"

"""A model's signature for other people's tools: of this file, by this key, in one form; tests/outside has their own tool verify it."""

from __future__ import annotations

import base64
import json

import pytest

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.sealing.bundle import PAYLOAD_TYPE, pae
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.model_signing import is_model_signature, sign_model, verify_model

KEY = SigningKey.generate()
DIGEST = sha256_hex(b"a model")
SIGNATURE = sign_model("model.safetensors", DIGEST, KEY)


def reason(
    signature: bytes, name: str = "model.safetensors", digest: str = DIGEST, key: SigningKey = KEY
) -> str:
    with pytest.raises(RefusedError) as caught:
        verify_model(signature, name, digest, key.public)
    return caught.value.reason


def test_it_is_of_this_file_by_this_key() -> None:
    verify_model(SIGNATURE, "model.safetensors", DIGEST, KEY.public)
    assert is_model_signature(SIGNATURE)
    assert reason(SIGNATURE, digest=sha256_hex(b"another")) == "wrong-model"
    assert reason(SIGNATURE, name="other.safetensors") == "wrong-model"
    assert reason(SIGNATURE, key=SigningKey.generate()) == "malformed"  # it names its key


def test_it_says_what_model_signing_says_of_a_single_file() -> None:
    envelope = json.loads(SIGNATURE)["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    KEY.public.verify(pae(PAYLOAD_TYPE, payload), base64.b64decode(envelope["signatures"][0]["sig"]))
    said = json.loads(payload)
    assert said["predicateType"] == "https://model_signing/signature/v1.0"
    [subject], [resource] = said["subject"], said["predicate"]["resources"]
    assert resource == {"name": ".", "algorithm": "sha256", "digest": DIGEST}
    assert subject["digest"]["sha256"] == sha256_hex(bytes.fromhex(resource["digest"]))


def test_any_other_form_is_refused() -> None:
    value = json.loads(SIGNATURE)
    for change in (
        {"mediaType": "application/json"},
        {"dsseEnvelope": {**value["dsseEnvelope"], "signatures": []}},
        {
            "dsseEnvelope": {
                **value["dsseEnvelope"],
                "signatures": [{"keyid": "x", "sig": value["dsseEnvelope"]["signatures"][0]["sig"]}],
            }
        },
        {"dsseEnvelope": {**value["dsseEnvelope"], "payloadType": "text/plain"}},
        {"more": 1},
        {"verificationMaterial": {"publicKey": {"hint": "0" * 64}, "tlogEntries": []}},
    ):
        assert reason(canonical_json({**value, **change})) == "malformed", change
    assert reason(json.dumps(value, indent=2).encode()) == "malformed"
    assert reason(b"[]") == reason(b"{}") == reason(b" " * (1 << 17)) == "malformed"
    signature = bytearray(base64.b64decode(value["dsseEnvelope"]["signatures"][0]["sig"]))
    signature[-1] ^= 1
    value["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    assert reason(canonical_json(value)) == "bad-signature"
    for raw in (b"", b"[]", b"{", b'{"dsseEnvelope":1}', b"[" * 100_000):
        assert not is_model_signature(raw)

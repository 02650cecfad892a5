"""A model's signature in the form of OpenSSF Model Signing v1.0, which other people's tools verify (`model_signing verify key`).

A DSSE envelope in a Sigstore bundle v0.3, as our own are (`bundle.py`), over an in-toto statement of predicate type
https://model_signing/signature/v1.0: the model is one file, so it has one resource, called ".", and the subject's digest is the SHA-256 of
the resources' digests one after the other. The hint is the SHA-256 of the key's PEM. It says nothing of studies, rounds and uploads: for
that there is the project's own statement, of which this file is a subject.

Source: https://github.com/ossf/model-signing-spec, model_signing 1.1 (`_signing/signing.py`, `sign_ec_key.py`)
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from epgfn.base.canonical import canonical_json, parse_canonical_json, parse_json
from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.sealing.bundle import MEDIA_TYPE, PAYLOAD_TYPE, pae
from epgfn.sealing.encoding import from_base64, to_base64
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.statement import TYPE

PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
MAX_BYTES: Final = 64 << 10
_ONLY: Final = "."


def sign_model(name: str, digest: str, key: SigningKey) -> bytes:
    """The signature file of the model file called `name` whose SHA-256 is `digest` (hexadecimal)."""
    payload = _payload(name, digest)
    first = key.first  # these tools know of no other signature beside it
    return canonical_json(_bundle(payload, first.sign(pae(PAYLOAD_TYPE, payload)), first.public))


def verify_model(signature: bytes, name: str, digest: str, key: VerifyKey) -> None:
    """Check that `signature` is what `sign_model` makes of these.

    Raises:
        RefusedError: "malformed": it is no such file; "wrong-model": it is of another file; "bad-signature".
    """
    if len(signature) > MAX_BYTES:
        raise _malformed()
    found: Any = parse_canonical_json(signature)
    try:
        envelope = found["dsseEnvelope"]
        payload = from_base64(envelope["payload"], "payload of the model's signature")
        raw = from_base64(envelope["signatures"][0]["sig"], "model's signature")
    except (KeyError, IndexError, TypeError):
        raise _malformed() from None
    if payload != _payload(name, digest):
        raise RefusedError(
            "wrong-model", f"the signature by Model Signing is of another file than this {name}"
        )
    if found != _bundle(payload, raw, key.first):
        raise _malformed()
    key.first.verify(pae(PAYLOAD_TYPE, payload), raw)


def is_model_signature(raw: bytes) -> bool:
    """Whether a JSON file says that it is such a signature, of whatever and by whomever."""
    try:
        found: Any = parse_json(raw)
        payload = from_base64(found["dsseEnvelope"]["payload"], "payload of the model's signature")
        return bool(parse_json(payload)["predicateType"] == PREDICATE_TYPE)
    except (RefusedError, ValueError, RecursionError, KeyError, TypeError):
        return False


def _payload(name: str, digest: str) -> bytes:
    root = sha256(bytes.fromhex(digest)).hexdigest()
    return canonical_json(
        {
            "_type": TYPE,
            "subject": [{"name": name, "digest": {"sha256": root}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [],
                },
                "resources": [{"name": _ONLY, "algorithm": "sha256", "digest": digest}],
            },
        }
    )


def _bundle(payload: bytes, signature: bytes, key: VerifyKey) -> dict[str, Any]:
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": sha256_hex(key.pem)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": to_base64(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": "", "sig": to_base64(signature)}],
        },
    }


def _malformed() -> RefusedError:
    return RefusedError(
        "malformed", "the file is no signature by Model Signing v1.0 in the form that this software writes"
    )

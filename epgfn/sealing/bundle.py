"""A signed statement as a Sigstore bundle v0.3: a DSSE envelope and a hint which public key verifies it.

    {"dsseEnvelope":{"payload":"<base64>","payloadType":"application/vnd.in-toto+json",
                     "signatures":[{"keyid":"<fingerprint>","sig":"<base64 DER>"}]},
     "mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",
     "verificationMaterial":{"publicKey":{"hint":"<fingerprint>"}}}

Signed is DSSE's pre-authentication encoding of the payload's own bytes. For one payload, key and signature there is
exactly one file, so a file's SHA-256 stands for its meaning. The hint is no evidence: callers bring the key they trust.
"""

from __future__ import annotations

from typing import Any, Final

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.sealing.encoding import from_base64, to_base64
from epgfn.sealing.keys import SigningKey, VerifyKey

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_BYTES: Final = 2 << 20


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE pre-authentication encoding: "DSSEv1" SP len(type) SP type SP len(payload) SP payload."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_statement(payload: bytes, key: SigningKey) -> bytes:
    """The bundle file of the statement `payload` (from `make_statement`), signed with `key`."""
    signature = key.sign(pae(PAYLOAD_TYPE, payload))
    return _bundle(payload, signature, key.public.fingerprint)


def verify_bundle(bundle: bytes, key: VerifyKey) -> bytes:
    """The payload, once `key`'s signature on it is verified. Use these bytes only; never read the bundle again.

    Raises:
        RefusedError: "malformed": not the one byte form of such a bundle; "wrong-key": the bundle names another key;
            "bad-signature": the signature does not fit.
    """
    payload, signature, hint = _parse(bundle)
    if hint != key.fingerprint:
        raise RefusedError(
            "wrong-key",
            "the bundle is signed with another key than the expected one; compare key fingerprints",
        )
    key.verify(pae(PAYLOAD_TYPE, payload), signature)
    return payload


def read_unverified(bundle: bytes) -> tuple[bytes, str]:
    """The payload and the fingerprint of the key that the bundle says signed it, to be shown as what somebody claims: NOTHING is verified.

    Raises:
        RefusedError: "malformed": not the one byte form of such a bundle.
    """
    payload, _, hint = _parse(bundle)
    return payload, hint


def _bundle(payload: bytes, signature: bytes, fingerprint: str) -> bytes:
    return canonical_json(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": fingerprint}},
            "dsseEnvelope": {
                "payload": to_base64(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": fingerprint, "sig": to_base64(signature)}],
            },
        }
    )


def _parse(bundle: bytes) -> tuple[bytes, bytes, str]:
    """Payload, signature and hint, nothing of it verified yet."""
    if len(bundle) > MAX_BYTES:
        raise _malformed()
    value: Any = parse_canonical_json(bundle)
    try:
        hint = value["verificationMaterial"]["publicKey"]["hint"]
        envelope = value["dsseEnvelope"]
        text, signature_text = envelope["payload"], envelope["signatures"][0]["sig"]
    except (KeyError, IndexError, TypeError):
        raise _malformed() from None
    payload = from_base64(text, "payload of the bundle")
    signature = from_base64(signature_text, "signature of the bundle")
    # Building the file again from these three catches all the rest: other types, more fields, a second signature.
    if not isinstance(hint, str) or _bundle(payload, signature, hint) != bundle:
        raise _malformed()
    return payload, signature, hint


def _malformed() -> RefusedError:
    return RefusedError(
        "malformed",
        "the file is not a Sigstore bundle v0.3 with one signed statement; ask its sender for it again",
    )

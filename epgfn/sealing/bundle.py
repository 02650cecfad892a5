"""A signed statement as a Sigstore bundle v0.3: a DSSE envelope and a hint which public key verifies it.

    {"dsseEnvelope":{"payload":"<base64>","payloadType":"application/vnd.in-toto+json",
                     "signatures":[{"keyid":"<fingerprint>","sig":"<base64 DER>"}]},
     "mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",
     "verificationMaterial":{"publicKey":{"hint":"<fingerprint>"}}}

Signed is DSSE's pre-authentication encoding of the payload's own bytes. For one payload, key and signature there is
exactly one file, so a file's SHA-256 stands for its meaning. The hint is no evidence: callers bring the key they trust.

Where several keys sign, as the old and the new one do when a party changes its key, there is a signature of each, in the order in which
the verifier names them; a double key has two, P-256 first. The hint is the first one's. Who verifies says whose signatures there have to
be: of fewer or more nothing counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.sealing.encoding import from_base64, to_base64
from epgfn.sealing.keys import SigningKey, VerifyKey

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_BYTES: Final = 2 << 20
MAX_SIGNATURES: Final = 4
_LONGEST_P256: Final = 72
"""Bytes of a DER signature by P-256; one by ML-DSA-65 has 3,309."""
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE pre-authentication encoding: "DSSEv1" SP len(type) SP type SP len(payload) SP payload."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_statement(payload: bytes, key: SigningKey, *further: SigningKey) -> bytes:
    """The bundle file of the statement `payload` (from `make_statement`), signed with `key`, and with `further` ones after it."""
    encoded = pae(PAYLOAD_TYPE, payload)
    signed = [
        _Signature(keyid, raw)
        for each in (key, *further)
        for keyid, raw in zip(each.public.keyids, each.sign_each(encoded), strict=True)
    ]
    return _bundle(payload, signed, signed[0].keyid)


def verify_bundle(bundle: bytes, key: VerifyKey, *further: VerifyKey) -> bytes:
    """The payload, once the signatures of `key` and of all `further` ones on it are verified. Use these bytes only; never read the bundle
    again.

    Raises:
        RefusedError: "malformed": not the one byte form of such a bundle, or more signatures than belong there; "wrong-key": it names
            another key; "signature-missing": fewer than belong there; "bad-signature": one does not fit.
    """
    payload, found, hint = _parse(bundle)
    keys = (key, *further)
    expected = [keyid for each in keys for keyid in each.keyids]
    if hint != expected[0]:
        raise RefusedError(
            "wrong-key",
            "the bundle is signed with another key than the expected one; compare key fingerprints",
        )
    if len(found) < len(expected):
        raise RefusedError(
            "signature-missing",
            f"{len(expected)} signatures belong on the statement, and it has {len(found)}; ask its sender for the original",
        )
    if [each.keyid for each in found] != expected:
        raise _malformed()
    left = iter(found)
    for each in keys:
        each.verify_each(pae(PAYLOAD_TYPE, payload), [next(left).raw for _ in each.keyids])
    return payload


def read_unverified(bundle: bytes) -> tuple[bytes, str]:
    """The payload and the id of the key that the bundle says signed it first (`VerifyKey.keyids`), to be shown as what somebody
    claims: NOTHING is verified.

    Raises:
        RefusedError: "malformed": not the one byte form of such a bundle.
    """
    payload, _, hint = _parse(bundle)
    return payload, hint


def one_signature_each(bundle: bytes) -> dict[str, bytes]:
    """The same statement once for each P-256 signature on it, as bundles of that signature alone, which is what Sigstore's libraries take;
    by the id of the key that is said to have made it. NOTHING is verified, and `verify_bundle` takes none of them where more signatures
    belong there.

    Raises:
        RefusedError: "malformed": not the one byte form of such a bundle, or a key id is no fingerprint.
    """
    payload, found, _ = _parse(bundle)
    if not all(_FINGERPRINT.fullmatch(each.keyid) for each in found):
        raise _malformed()
    return {
        each.keyid: _bundle(payload, [each], each.keyid) for each in found if len(each.raw) <= _LONGEST_P256
    }


class _Signature(NamedTuple):
    """By the key with that fingerprint, as it says."""

    keyid: str
    raw: bytes


def _bundle(payload: bytes, signed: Sequence[_Signature], hint: str) -> bytes:
    return canonical_json(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": hint}},
            "dsseEnvelope": {
                "payload": to_base64(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": each.keyid, "sig": to_base64(each.raw)} for each in signed],
            },
        }
    )


def _parse(bundle: bytes) -> tuple[bytes, list[_Signature], str]:
    """Payload, signatures and hint, nothing of it verified yet."""
    if len(bundle) > MAX_BYTES:
        raise _malformed()
    value: Any = parse_canonical_json(bundle)
    try:
        hint = value["verificationMaterial"]["publicKey"]["hint"]
        envelope = value["dsseEnvelope"]
        text, listed = envelope["payload"], envelope["signatures"]
        if not 0 < len(listed) <= MAX_SIGNATURES:
            raise _malformed()
        payload = from_base64(text, "payload of the bundle")
        found = [
            _Signature(each["keyid"], from_base64(each["sig"], "signature of the bundle")) for each in listed
        ]
    except (KeyError, IndexError, TypeError):
        raise _malformed() from None
    # Building the file again from these catches all the rest: other types, more fields.
    if (
        not isinstance(hint, str)
        or not all(isinstance(each.keyid, str) for each in found)
        or found[0].keyid != hint
        or _bundle(payload, found, hint) != bundle
    ):
        raise _malformed()
    return payload, found, hint


def _malformed() -> RefusedError:
    return RefusedError(
        "malformed",
        "the file is not a Sigstore bundle v0.3 with one statement signed as expected; ask its sender for it again",
    )

"""A sealed artifact: a fresh key encrypts the plaintext in chunks, HPKE seals that key to the round key.

    epgfn-sealed/v1\\n
    {"key":"<base64 HPKE enc ‖ ct>","nonce":"<base64, 16 bytes>","suite":"ML-KEM-768+X25519"}\\n
    <C2SP chunked-encryption of the plaintext>

The binding (who, which study, which round, which keys) goes into HPKE's `info` and, with the SHA-256 of the header
line, into the chunks' context. It is not in the file: the reader must already know what the artifact has to be.
"""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from typing import Any

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.sealing import chunked
from epgfn.sealing.binding import NONCE_BYTES, Binding
from epgfn.sealing.encoding import from_base64, to_base64
from epgfn.sealing.round_key import RoundPrivateKey, RoundPublicKey, wrapped_size

MAGIC = b"epgfn-sealed/v1\n"
MAX_HEADER_BYTES = 4096

# The final zero byte keeps one label from being the beginning of another.
_KEY_LABEL = b"epgfn key v1\0"
_CHUNKS_LABEL = b"epgfn chunks v1\0"


def seal(plaintext: bytes, recipient: RoundPublicKey, binding: Binding) -> bytes:
    """Encrypt `plaintext` so that only the holder of the round key opens it, and only as what `binding` says.

    Two calls give different bytes: key, nonce and salt are fresh.

    Raises:
        RefusedError: "wrong-round-key": the binding names another round key than `recipient`;
            "bad-key": nothing can be encrypted to `recipient`.
    """
    _require_same_key(recipient.key_id, binding)
    nonce = os.urandom(NONCE_BYTES)
    key = os.urandom(chunked.KEY_BYTES)
    wrapped = recipient.wrap(key, _KEY_LABEL + binding.encode(nonce))
    header = canonical_json({"suite": recipient.suite, "nonce": to_base64(nonce), "key": to_base64(wrapped)})
    # Streams over memory: put together afterwards, the chunks would be copied as a whole.
    sealed = BytesIO()
    sealed.write(MAGIC + header + b"\n")
    chunked.encrypt_stream(BytesIO(plaintext), sealed, key, _chunk_context(binding, nonce, header))
    return sealed.getvalue()


def open_sealed(sealed: bytes, private: RoundPrivateKey, binding: Binding) -> bytes:
    """The plaintext that `seal` took, if every byte of `sealed` is as it was and `binding` is the sender's.

    Raises:
        RefusedError: "malformed": magic or header are not of the one allowed form; "wrong-suite": sealed with
            another suite than the round's; "wrong-round-key": the binding names another key than `private`;
            "cannot-decrypt": changed bytes, another key or another binding.
    """
    _require_same_key(private.key_id, binding)
    header = _header(sealed)
    fields = parse_canonical_json(header)
    if not isinstance(fields, dict) or set(fields) != {"suite", "nonce", "key"}:
        raise _malformed()
    _require_suite(fields, private.suite)
    nonce = from_base64(fields["nonce"], "nonce of the sealed file", NONCE_BYTES)
    size = wrapped_size(private.suite, chunked.KEY_BYTES)
    wrapped = from_base64(fields["key"], "key of the sealed file", size)
    key = private.unwrap(wrapped, _KEY_LABEL + binding.encode(nonce))
    if len(key) != chunked.KEY_BYTES:
        raise _malformed()
    body, plaintext = BytesIO(sealed), BytesIO()
    body.seek(len(MAGIC) + len(header) + 1)
    chunked.decrypt_stream(body, plaintext, key, _chunk_context(binding, nonce, header))
    return plaintext.getvalue()


def sealed_size(suite: str, size: int) -> int:
    """Bytes that `seal` returns for a plaintext of `size` bytes."""
    empty = {
        "suite": suite,
        "nonce": to_base64(bytes(NONCE_BYTES)),
        "key": to_base64(bytes(wrapped_size(suite, chunked.KEY_BYTES))),
    }
    return len(MAGIC) + len(canonical_json(empty)) + 1 + chunked.sealed_size(size)


def _header(sealed: bytes) -> bytes:
    """The header's line without its newline; behind that are the chunks."""
    if not sealed.startswith(MAGIC):
        raise _malformed()
    end = sealed.find(b"\n", len(MAGIC), len(MAGIC) + MAX_HEADER_BYTES)
    if end < 0:
        raise _malformed()
    return sealed[len(MAGIC) : end]


def _chunk_context(binding: Binding, nonce: bytes, header: bytes) -> bytes:
    return _CHUNKS_LABEL + binding.encode(nonce) + hashlib.sha256(header).digest()


def _require_same_key(key_id: str, binding: Binding) -> None:
    if binding.round_key_id != key_id:
        raise RefusedError(
            "wrong-round-key",
            "the artifact is bound to another round key; fetch the signed round manifest again",
        )


def _require_suite(fields: dict[str, Any], suite: str) -> None:
    if fields["suite"] != suite:
        raise RefusedError(
            "wrong-suite",
            f"the artifact is not sealed with this round's suite {suite}; seal and send it again",
        )


def _malformed() -> RefusedError:
    return RefusedError(
        "malformed", "the file is not a sealed artifact of version 1; ask the sender to seal and send again"
    )

"""Small encodings with one byte form each: standard base64 with padding, and length-prefixed fields."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from epgfn.base.errors import RefusedError


def to_base64(raw: bytes) -> str:
    """Standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(raw).decode("ascii")


def from_base64(text: object, what: str, length: int | None = None) -> bytes:
    """The bytes that `text` is the one right base64 form of; `what` names them in the error.

    Raises:
        RefusedError: "malformed": no text, another alphabet, missing padding, spare bits set, or not `length` bytes.
    """
    try:
        if not isinstance(text, str):
            raise ValueError
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raw = None
    # Base64 lets the last letter vary in bits that mean nothing; writing it again catches that.
    if raw is None or to_base64(raw) != text or (length is not None and len(raw) != length):
        raise RefusedError(
            "malformed", f"the {what} is not proper base64; ask its sender for an undamaged copy"
        )
    return raw


def length_prefixed(fields: Iterable[bytes]) -> bytes:
    """Each field behind its length as four big-endian bytes: no two lists of fields give the same bytes."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)

"""Small encodings with one byte form each: standard base64 with padding, and length-prefixed fields."""

from __future__ import annotations

from collections.abc import Iterable

from epgfn.base import encoding
from epgfn.base.encoding import to_base64
from epgfn.base.errors import RefusedError


def from_base64(text: object, what: str, length: int | None = None) -> bytes:
    """The bytes that `text` is the one right base64 form of; `what` names them in the error.

    Raises:
        RefusedError: "malformed": no text, another alphabet, missing padding, spare bits set, or not `length` bytes.
    """
    raw = encoding.from_base64(text)
    if raw is None or (length is not None and len(raw) != length):
        raise RefusedError(
            "malformed", f"the {what} is not proper base64; ask its sender for an undamaged copy"
        )
    return raw


def length_prefixed(fields: Iterable[bytes]) -> bytes:
    """Each field behind its length as four big-endian bytes: no two lists of fields give the same bytes."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


__all__ = ["from_base64", "length_prefixed", "to_base64"]

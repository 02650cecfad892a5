"""Standard base64 with exactly one spelling, so that no two texts mean the same."""

from __future__ import annotations

import base64
import binascii


def to_base64(raw: bytes) -> str:
    """Standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(raw).decode("ascii")


def from_base64(text: object) -> bytes | None:
    """The bytes that `text` is the one right base64 form of; None for anything else: no text, another alphabet, missing padding, or
    spare bits set."""
    if not isinstance(text, str):
        return None
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        return None
    # Base64 lets the last letter vary in bits that mean nothing; writing it again catches that.
    return raw if to_base64(raw) == text else None

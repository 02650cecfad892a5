"""Base64 and decimal numbers with exactly one spelling each, so that no two texts mean the same."""

from __future__ import annotations

import base64
import binascii
import re

from epgfn.ledger.errors import LedgerError

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
MAX_SIZE = 2**63 - 1


def to_base64(data: bytes) -> str:
    """Standard base64 (RFC 4648 section 4) with padding."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, what: str) -> bytes:
    """The bytes of `text`; `what` names it in the error.

    Raises:
        LedgerError: not standard base64, or not its one canonical spelling.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise LedgerError(f"the {what} is not base64") from None
    if to_base64(data) != text:  # spare bits in the last character could otherwise be set freely
        raise LedgerError(f"the {what} is not canonical base64")
    return data


def from_decimal(text: str, what: str) -> int:
    """The whole number 0 <= x < 2^63 that `text` spells without leading zeroes; LedgerError otherwise."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise LedgerError(f"the {what} is not a decimal number")
    return int(text)

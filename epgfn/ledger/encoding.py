"""Base64 and decimal numbers with exactly one spelling each, so that no two texts mean the same."""

from __future__ import annotations

import re

from epgfn.base import encoding
from epgfn.base.encoding import to_base64
from epgfn.ledger.errors import LedgerError

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
MAX_SIZE = 2**63 - 1


def from_base64(text: str, what: str) -> bytes:
    """The bytes of `text`; `what` names it in the error.

    Raises:
        LedgerError: not standard base64, or not its one canonical spelling.
    """
    data = encoding.from_base64(text)
    if data is None:
        raise LedgerError(f"the {what} is not canonical base64")
    return data


def from_decimal(text: str, what: str) -> int:
    """The whole number 0 <= x < 2^63 that `text` spells without leading zeroes; LedgerError otherwise."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise LedgerError(f"the {what} is not a decimal number")
    return int(text)


__all__ = ["MAX_SIZE", "from_base64", "from_decimal", "to_base64"]

"""The one error of the ledger."""

from __future__ import annotations

from epgfn.base.errors import RefusedError


class LedgerError(RefusedError):
    """A proof, a checkpoint, a tile or an entry is not what the log committed to. Its `reason` is "ledger"."""

    def __init__(self, message: str) -> None:
        super().__init__("ledger", message)

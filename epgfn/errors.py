"""Errors a user may see: one sentence that says what, where and what to do. Never a data value, never a secret."""

from __future__ import annotations


class EpgfnError(Exception):
    """Something could not be done. `str(error)` is the sentence to print; `exit_code` is the process's answer."""

    exit_code = 1


class RefusedError(EpgfnError):
    """A check that protects somebody failed.

    `reason` is a stable slug (such as `bad-signature`) that programs and the ledger may rely on; the sentence
    is for people and may change.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UsageError(EpgfnError):
    """The command, a file or a setting is not of the expected form; nothing was started."""

    exit_code = 2

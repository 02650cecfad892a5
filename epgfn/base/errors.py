"""Errors a user may see: one sentence that says what, where and what to do. Never a data value, never a secret."""

from __future__ import annotations

from typing import Final

from epgfn.base.invisible import visible

MAX_SENTENCE: Final = 2000
"""Characters of a sentence: longer ones would not fit the trailers of a gRPC call."""


def one_line(text: str) -> str:
    """`text` on one line, where whatever steers a terminal, turns the direction of reading or cannot be seen stands as its code
    (`visible`), cut to `MAX_SENTENCE` characters."""
    return visible("".join(" " if c.isspace() else c for c in text[:MAX_SENTENCE]))[:MAX_SENTENCE]


class EpgfnError(Exception):
    """Something could not be done. `str(error)` is the sentence to print; `exit_code` is the process's answer.

    A sentence may name what somebody else has sent, a field or a file; `one_line` keeps that from doing harm.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class RefusedError(EpgfnError):
    """A check that protects somebody failed.

    `reason` is a stable slug (such as `bad-signature`) that programs and the ledger may rely on; the sentence
    is for people and may change.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class WaitingError(RefusedError):
    """Nothing is wrong, and nothing more can be done here until somebody else does something: an operator says yes, other nodes send
    theirs, the coordinator publishes. Run the same command again then."""

    exit_code = 3


class NoRoomError(EpgfnError):
    """The system lets nothing more be written: the disk is full or read-only, a quota is used up, no file may be opened. It may pass, so
    whoever serves goes on serving and tries again."""


class UsageError(EpgfnError):
    """The command, a file or a setting is not of the expected form; nothing was started."""

    exit_code = 2

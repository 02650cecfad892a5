"""The passphrase of a party's private keys: from the environment, a file or descriptor that it names, or a person at the terminal.

Never from an argument, which every user of the machine can read. What was typed, or read from a descriptor, is kept in this process alone.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Final

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes
from epgfn.base.private_keys import ENCRYPTED

PASSPHRASE: Final = "EPGFN_KEY_PASSPHRASE"
PASSPHRASE_FILE: Final = "EPGFN_KEY_PASSPHRASE_FILE"
PASSPHRASE_FD: Final = "EPGFN_KEY_PASSPHRASE_FD"
NEW: Final = "EPGFN_NEW_KEY_PASSPHRASE"
"""What keys are to be encrypted with from now on: this, or the same with _FILE or _FD."""
SHORTEST: Final = 8
"""Characters of a passphrase that somebody chooses at the terminal."""
UNPROTECTED: Final = (
    "note: no passphrase protects the private keys: whoever can read their files has them "
    f"(set {PASSPHRASE_FILE} before init, or run init at a terminal, to have one)"
)
_MOST: Final = 4096
_kept: dict[
    str, str
] = {}  # "typed", or the descriptor's number: what it gave, since neither can be asked twice


def key_passphrase(opens: Path | None = None) -> str | None:
    """The passphrase of the private keys: EPGFN_KEY_PASSPHRASE, or the first line of EPGFN_KEY_PASSPHRASE_FILE or of the open descriptor
    EPGFN_KEY_PASSPHRASE_FD; None if unset. If `opens` is a file that needs one, a person at the terminal is asked, once a process.

    Raises:
        UsageError: the file or descriptor cannot be read, or more than one of them is set.
    """
    given = _given()
    if given is None:
        given = _kept.get("typed")
    if given is None and opens is not None and somebody_is_there() and _is_encrypted(opens):
        given = _kept["typed"] = getpass.getpass(f"Passphrase of {opens}: ", sys.stderr)
    return given or None


def new_passphrase(*, decline: bool = False) -> str | None:
    """What keys that are about to be made are to be encrypted with: as `key_passphrase`, else what a person at the terminal chooses. None
    where nobody is there to be asked, or on `decline`.

    Raises:
        UsageError: as `key_passphrase`; what was typed is too short, or another the second time; or one is given that is declined.
    """
    given = key_passphrase()
    if decline and given is not None:
        raise UsageError(
            f"--no-passphrase, but {PASSPHRASE} or one of its kind is set; unset it, or leave the option out"
        )
    if given is not None or decline or not somebody_is_there():
        return given
    _kept["typed"] = _chosen(" (--no-passphrase: none)")
    return _kept["typed"]


def changed_passphrase() -> str:
    """What keys that are there are to be encrypted with from now on: `NEW` or one of its kind, else what a person at the terminal chooses.

    Raises:
        UsageError: as `new_passphrase`; or nobody is there to be asked.
    """
    given = _given(NEW)
    if given is None and not somebody_is_there():
        raise UsageError(
            f"nobody is there to choose a new passphrase; set {NEW}_FILE to a file that holds it, or add --remove"
        )
    if given is not None and len(given) < SHORTEST:
        raise UsageError(f"the new passphrase has fewer than {SHORTEST} characters; choose a longer one")
    return _chosen("") if given is None else given


def _chosen(hint: str) -> str:
    print(
        f"Choose a passphrase for the private keys, of {SHORTEST} characters at least; without it they are lost.{hint}",
        file=sys.stderr,
    )
    chosen = getpass.getpass("New passphrase: ", sys.stderr)
    if len(chosen) < SHORTEST:
        raise UsageError(
            f"a passphrase has at least {SHORTEST} characters; run the command again, or add --no-passphrase"
        )
    if getpass.getpass("The same again: ", sys.stderr) != chosen:
        raise UsageError("these were two different passphrases; nothing was changed, run the command again")
    return chosen


def somebody_is_there() -> bool:
    """Whether a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _given(what: str = PASSPHRASE) -> str | None:
    named = [name for name in (what, f"{what}_FILE", f"{what}_FD") if os.environ.get(name)]
    if len(named) > 1:
        raise UsageError(f"{named[0]} and {named[1]} are both set; unset one of them")
    if not named:
        return None
    value = os.environ[named[0]]
    if named[0] == what:
        return value
    if named[0] == f"{what}_FD":
        return _from_descriptor(value, named[0])
    # Not read_secret: orchestrators mount secrets with modes of their own.
    return _first_line(read_bytes(Path(value), "passphrase file"), f"file {value}")


def _from_descriptor(number: str, name: str) -> str:
    if number not in _kept:
        try:
            with os.fdopen(int(number), "rb") as source:
                raw = source.read(_MOST)
        except (OSError, ValueError):
            raise UsageError(
                f"{name} is {number!r}, which cannot be read; give the number of an open descriptor, such as 3 with 3<FILE"
            ) from None
        _kept[number] = _first_line(raw, f"descriptor {number}")
    return _kept[number]


def _first_line(raw: bytes, what: str) -> str:
    lines = raw.decode("utf-8", "replace").splitlines()
    if not lines or not lines[0]:
        raise UsageError(f"the passphrase {what} is empty; write the passphrase on its first line")
    return lines[0]


def _is_encrypted(path: Path) -> bool:
    try:
        with path.open("rb") as source:
            return ENCRYPTED in source.read(_MOST)
    except OSError:
        return False  # whoever reads it says so

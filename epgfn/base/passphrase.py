"""The passphrase of a party's private keys: from the environment or a file it names, never from an argument."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes

PASSPHRASE: Final = "EPGFN_KEY_PASSPHRASE"
PASSPHRASE_FILE: Final = "EPGFN_KEY_PASSPHRASE_FILE"


def key_passphrase() -> str | None:
    """The passphrase of the private keys: EPGFN_KEY_PASSPHRASE, or the first line of EPGFN_KEY_PASSPHRASE_FILE; None if unset.

    Raises:
        UsageError: the file cannot be read, or both are set.
    """
    value, file = os.environ.get(PASSPHRASE), os.environ.get(PASSPHRASE_FILE)
    if value and file:
        raise UsageError(f"{PASSPHRASE} and {PASSPHRASE_FILE} are both set; unset one of them")
    if file:
        # Not read_secret: orchestrators mount secrets with modes of their own.
        lines = read_bytes(Path(file), "passphrase file").decode("utf-8", "replace").splitlines()
        value = lines[0] if lines else ""
        if not value:
            raise UsageError(f"the passphrase file {file} is empty; write the passphrase on its first line")
    return value or None

"""Promise: no byte of a run directory can be changed unseen. `keys/ledger.vkey` gains or loses a line feed, which nothing signs."""

from __future__ import annotations

from pathlib import Path

import pytest

from attacks import refusals


@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("", "\n\n"), ("\n", "\n"), ("", "\r\n"), (" ", "\n")]
)
def test_the_ledgers_key_has_one_form(copy: Path, before: str, after: str) -> None:
    path = copy / "keys/ledger.vkey"
    path.write_bytes(f"{before}{path.read_text().strip()}{after}".encode())
    assert refusals(copy)["round"] == (
        "keys/ledger.vkey is not the ledger key that the coordinator signed in round.sigstore.json"
    )

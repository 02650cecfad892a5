"""What a node's copy of a run may hold of what its coordinator sends, by the ledger: no other file is taken, and none that is larger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from epgfn.ledger.entries import (
    AcceptedEntry,
    CoordinatorRotatedEntry,
    Entry,
    RotatedEntry,
    WithdrawnByNodeEntry,
)
from epgfn.ledger.note import MAX_NOTE_BYTES
from epgfn.ledger.proof import MAX_PROOF_BYTES
from epgfn.ledger.tiles import CHECKPOINT_NAME, MAX_BUNDLE_BYTES, Tile
from epgfn.run.audit.aggregates import limits_of, published
from epgfn.run.audit.masked import signers
from epgfn.run.audit.rotations import rotation_file
from epgfn.run.layout import (
    LEAVE_ONE_OUT,
    LEDGER,
    MODEL,
    MODEL_BUNDLE,
    MODEL_SIGNATURE,
    RECEIPT,
    SAMPLES,
    SUMMARY,
    SUMS,
    TOTAL,
    UPLOAD_BUNDLE,
    UPLOADS,
    WITHDRAWALS,
)
from epgfn.sealing.bundle import MAX_BYTES as MAX_STATEMENT_BYTES
from epgfn.study import Study
from epgfn.study.parameters import is_masked

SIGNED_AND_LEDGER: Final = 64 << 20
"""Bytes of the ledger, and again of all statements and receipts together, at most, beside `A_NODE` for each node of the roster."""
A_NODE: Final = 64 << 10


def small_limit(study: Study) -> int:
    """How many bytes the ledger may have, and how many all statements and receipts together."""
    return SIGNED_AND_LEDGER + A_NODE * len(study.roster)


def ledger_limit(name: str) -> int | None:
    """How many bytes a file of the ledger may have; None of a path that is none."""
    path = name.removeprefix(f"{LEDGER}/")
    if path == name:
        return None
    if path == CHECKPOINT_NAME:
        return MAX_NOTE_BYTES
    return None if Tile.from_path(path) is None else MAX_BUNDLE_BYTES


def models_by_limit(study: Study, entries: Sequence[Entry]) -> dict[str, int]:
    """Files of the models that the ledger of a published round names, with at most how many bytes each has. Of models without a single
    node, which would tell that node's records, none."""
    limits = limits_of(study)
    names = (MODEL, MODEL_SIGNATURE, SAMPLES, SUMMARY, *((TOTAL,) if is_masked(study) else ()))
    return {
        f"{which.place}/{name}": limits[name]
        for which in published(list(entries))
        if not which.place.startswith(LEAVE_ONE_OUT)
        for name in names
    }


def statements_by_limit(entries: Sequence[Entry]) -> dict[str, int]:
    """What coordinator and nodes have signed, and receipts, by the ledger of a published round, with at most how many bytes each has."""
    found = {f"{which.place}/{MODEL_BUNDLE}": MAX_STATEMENT_BYTES for which in published(list(entries))}
    for index, entry in enumerate(entries):
        if isinstance(entry, AcceptedEntry):
            found[f"{UPLOADS}/{entry.node_id}/{UPLOAD_BUNDLE}"] = MAX_STATEMENT_BYTES
            found[f"{UPLOADS}/{entry.node_id}/{RECEIPT}"] = MAX_PROOF_BYTES
        elif isinstance(entry, WithdrawnByNodeEntry):
            found[f"{WITHDRAWALS}/{index}.sigstore.json"] = MAX_STATEMENT_BYTES
        elif isinstance(entry, CoordinatorRotatedEntry | RotatedEntry):
            found[rotation_file(index)] = MAX_STATEMENT_BYTES
    return found | {f"{SUMS}/{node}.sigstore.json": MAX_STATEMENT_BYTES for node in signers(entries)}

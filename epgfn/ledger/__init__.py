"""The append-only log: RFC 6962 Merkle tree, C2SP tiles, signed checkpoints and proofs. Knows nothing of GFlowNets.

Writers use `TileLog`, readers `read_log` and `verify_proof`, outside checkers `verify_inclusion` and
`verify_consistency`. docs/formats/ledger.md has the formats on one page.
"""

from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint, verify_extends
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.log import LogView, TileLog, export_log, read_log
from epgfn.ledger.merkle import verify_consistency, verify_inclusion
from epgfn.ledger.note import NoteSigner, NoteVerifier
from epgfn.ledger.proof import make_proof, verify_proof

__all__ = [
    "Checkpoint",
    "LedgerError",
    "LogView",
    "NoteSigner",
    "NoteVerifier",
    "TileLog",
    "export_log",
    "make_proof",
    "open_checkpoint",
    "read_log",
    "verify_consistency",
    "verify_extends",
    "verify_inclusion",
    "verify_proof",
]

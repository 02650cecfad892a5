"""Nodes as witnesses of the ledger: whose keys cosigned its checkpoint, and whether they are as many as the study asks for.

A node names its witness key in a statement that its enrolled key signs, and cosigns the checkpoint that it has seen to extend all it saw
before. Whoever would sign another history then needs these nodes too.
"""

from __future__ import annotations

from typing import NamedTuple

from epgfn.base.files import sha256_hex
from epgfn.ledger.cosignature import Cosigner, cosignatures
from epgfn.ledger.note import NoteVerifier, split_note
from epgfn.run.audit.rules import require, require_all
from epgfn.run.layout import WITNESS_KEY
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import RoundPredicate, WitnessPredicate
from epgfn.sealing.statement import parse_statement, predicate_of
from epgfn.study import Study


class Witness(NamedTuple):
    """A node, and the key with which it cosigns."""

    node: str
    cosigner: Cosigner


def witness_name(manifest: RoundPredicate, node: str) -> str:
    """What a node is called as a witness of this round's ledger, so that no two of them, nor the ledger itself, are called the same."""
    return f"{NoteVerifier.from_vkey(manifest.ledger_vkey).name}/witness/{node}"


def read_witness(bundle: bytes, node: str, key: VerifyKey, study: Study, manifest: RoundPredicate) -> Witness:
    """The witness key that `node` has named in `bundle`, signed with its enrolled `key`.

    Raises:
        RefusedError, Failed: another key has signed it, or it is of another round or node.
    """
    statement = parse_statement(verify_bundle(bundle, key))
    said = predicate_of(statement, WitnessPredicate)
    cosigner = Cosigner.from_vkey(said.vkey)
    found = {
        "witness's name": cosigner.name == witness_name(manifest, node),
        "witness key": statement.subjects == {WITNESS_KEY: sha256_hex(f"{said.vkey}\n".encode())},
        "study digest": said.study_digest == study.digest,
        "round": said.round_id == manifest.round_id,
        "node": said.node_id == node,
        "signing key": said.sender_fingerprint == key.fingerprint,
    }
    require_all(found, f"what {node} signed does not name a witness of this round")
    return Witness(node, cosigner)


def check_witnesses(note: bytes, witnesses: list[Witness], study: Study, has_result: bool) -> str:
    """The sentence: who has cosigned the checkpoint in `note`, and whether that is enough for the study.

    Raises:
        LedgerError, Failed: a cosignature of a known key is not valid, two nodes have one key, one that named its key has not signed, or
            they are too few.
    """
    keys = {witness.cosigner.public_key for witness in witnesses}
    require(
        len(keys) == len(witnesses), "two nodes name the same key as their witness's: they are one witness"
    )
    signed = cosignatures(note, [witness.cosigner for witness in witnesses])
    silent = [witness.node for witness in witnesses if witness.cosigner not in signed]
    require(not silent, f"{', '.join(silent)} named a witness key that has not signed this checkpoint")
    nodes, needed = sorted(witness.node for witness in witnesses), study.ledger.witnesses
    said = f"{len(nodes)} of {len(study.roster)} nodes have cosigned the ledger as the largest they had seen"
    said += f" ({', '.join(nodes)})" if nodes else ""
    require(
        len(nodes) >= needed or not has_result,
        f"the study asks for {needed} nodes that cosign the ledger; {said}: have more of them run epgfn-node cosign",
    )
    others = len(split_note(note)[1]) - 1 - len(signed)
    said += f"; the study asks for {needed}" if needed else "; the study asks for none"
    return said + (
        f"; {others} further signatures are of keys that are not known here, and say nothing"
        if others
        else ""
    )

"""What a node signs in one step of a masked sum: whose, of which round and step it is, and the SHA-256 of its bytes."""

from __future__ import annotations

from typing import Final

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.sealing.bundle import sign_statement, verify_bundle
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.predicates import SUM_PART, SumPartPredicate
from epgfn.sealing.statement import make_statement, parse_statement, predicate_of

SUBJECT: Final = "sum-part"
MAX_BYTES: Final = 1 << 20
"""Of what is said; shares for a hundred nodes take 30 KB."""


def sign_part(said: SumPartPredicate, payload: bytes, key: SigningKey) -> bytes:
    """The bundle in which `key`, whose fingerprint `said` names, says `payload`."""
    return sign_statement(make_statement({SUBJECT: sha256_hex(payload)}, SUM_PART, said), key)


def require_part(bundle: bytes, payload: bytes, expected: SumPartPredicate, key: VerifyKey) -> None:
    """Refuse all but what `key` has signed as `expected`, over these very bytes.

    Raises:
        RefusedError: "bad-signature", "malformed"; "wrong-part": it is of another node, round or step, or of other bytes.
    """
    statement = parse_statement(verify_bundle(bundle, key))
    found = predicate_of(statement, SumPartPredicate)
    if len(payload) > MAX_BYTES or found != expected or statement.subjects != {SUBJECT: sha256_hex(payload)}:
        raise RefusedError(
            "wrong-part",
            f"what is shown as said by {expected.node_id} in the step '{expected.step}' of the masked sum is not what it has signed for "
            "this round; nothing is done with it, tell the other nodes",
        )

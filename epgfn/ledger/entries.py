"""What the log's entries say: one canonical JSON object each, told apart by `kind`.

Entries hold digests, public keys and states, never plaintext. `encode` and `parse` are each other's inverse, byte for byte.

    study           the signed study the round is for
    round           the signed round manifest, with the round's public key
    coordinator-rotated   the coordinator's signing key took the place of another, before this round was opened
    enrolled        a node and the key that signs for it
    rotated         another key signs for a node from now on, as its old one says
    revoked         the node's keys are lost or stolen: they count no more, until it enrols with others
    accepted        an upload that passed every check
    refused         an upload that did not, and why (a stable slug)
    excluded        an accepted upload that cannot be combined with the others, and why (a stable slug)
    withdrawn       an accepted upload that must not count, by the coordinator's word
    withdrawn-by-node   the same by its node's signed word
    state           the round's state changed
    deadline        the operator extended the round's deadline
    sum-list        whose part counts in one step of a masked sum
    global          the signed global model; a later one is of a round that takes late models
    leave-one-out   the signed model of everybody but one node
    key-destroyed   the round's private key is gone, so no upload can be opened any more
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.tiles import MAX_ENTRY_BYTES

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NodeId = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
RoundId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]


def _is_moment(value: str) -> str:
    datetime.fromisoformat(value)  # ValueError where there is no such day or hour
    return value


Moment = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    AfterValidator(_is_moment),
]
Pem = Annotated[
    str,
    Field(
        max_length=4096,
        pattern=r"^(-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+-----END PUBLIC KEY-----\n){1,2}$",
    ),
]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class StudyEntry(_Entry):
    """The study's digest, and the SHA-256 of the bundle file that holds the coordinator's signature on it."""

    kind: Literal["study"] = "study"
    study_digest: Sha256
    bundle_sha256: Sha256


class RoundEntry(_Entry):
    """A round was opened; the SHA-256 of its signed manifest's bundle file."""

    kind: Literal["round"] = "round"
    round_id: RoundId
    bundle_sha256: Sha256


class EnrolledEntry(_Entry):
    """A node's signing key (PEM, SPKI) and its fingerprint (SHA-256 of the SPKI DER)."""

    kind: Literal["enrolled"] = "enrolled"
    node_id: NodeId
    signing_key: Pem
    fingerprint: Sha256


class CoordinatorRotatedEntry(_Entry):
    """Before the round was opened another signing key of the coordinator took the place of the one before; the SHA-256 of the bundle file
    that both have signed."""

    kind: Literal["coordinator-rotated"] = "coordinator-rotated"
    old_fingerprint: Sha256
    new_fingerprint: Sha256
    bundle_sha256: Sha256


class RotatedEntry(_Entry):
    """From now on another key signs for a node (PEM, SPKI), with that `fingerprint`; the SHA-256 of the bundle file that both have
    signed. What was accepted under the old key stands."""

    kind: Literal["rotated"] = "rotated"
    round_id: RoundId
    node_id: NodeId
    old_fingerprint: Sha256
    signing_key: Pem
    fingerprint: Sha256
    bundle_sha256: Sha256


class RevokedEntry(_Entry):
    """A node's keys count no more; `fingerprint` is that of its signing key. What was accepted under it stands."""

    kind: Literal["revoked"] = "revoked"
    round_id: RoundId
    node_id: NodeId
    fingerprint: Sha256


class AcceptedEntry(_Entry):
    """An upload counts: digests of the sealed model and of its bundle file, and the sealed model's size in bytes."""

    kind: Literal["accepted"] = "accepted"
    round_id: RoundId
    node_id: NodeId
    sealed_sha256: Sha256
    bundle_sha256: Sha256
    size: Annotated[int, Field(ge=0, lt=1 << 53)]


class RefusedEntry(_Entry):
    """An upload was refused for `reason`."""

    kind: Literal["refused"] = "refused"
    round_id: RoundId
    node_id: NodeId
    sealed_sha256: Sha256
    bundle_sha256: Sha256
    reason: Slug


class WithdrawnEntry(_Entry):
    """An accepted upload no longer counts."""

    kind: Literal["withdrawn"] = "withdrawn"
    round_id: RoundId
    node_id: NodeId
    sealed_sha256: Sha256


class WithdrawnByNodeEntry(_Entry):
    """An accepted upload no longer counts, because its node says so; the SHA-256 of the bundle file that holds its signature."""

    kind: Literal["withdrawn-by-node"] = "withdrawn-by-node"
    round_id: RoundId
    node_id: NodeId
    sealed_sha256: Sha256
    bundle_sha256: Sha256


class ExcludedEntry(_Entry):
    """An accepted upload does not count, because aggregation found that it cannot be combined with others, for `reason`."""

    kind: Literal["excluded"] = "excluded"
    round_id: RoundId
    node_id: NodeId
    sealed_sha256: Sha256
    reason: Slug


class StateEntry(_Entry):
    """The round entered `state`; `detail` says more in public words and numbers, nothing that depends on data."""

    kind: Literal["state"] = "state"
    round_id: RoundId
    state: Slug
    detail: dict[Slug, str | int] = {}


class DeadlineEntry(_Entry):
    """The operator extended the round's deadline, to a time in UTC such as 2030-01-31T12:00:00Z."""

    kind: Literal["deadline"] = "deadline"
    round_id: RoundId
    deadline: Moment


SumStep = Literal["keys", "shares", "uploads", "signing", "unmasking"]
"""Steps of a masked sum, in their order."""


class SumListEntry(_Entry):
    """In this step of a masked sum, exactly these nodes' parts count: SHA-256 of the bundle file that each has signed, by node."""

    kind: Literal["sum-list"] = "sum-list"
    round_id: RoundId
    step: SumStep
    statements: dict[NodeId, Sha256]


class GlobalEntry(_Entry):
    """The global model was published: digests of its bundle file and of the model file."""

    kind: Literal["global"] = "global"
    round_id: RoundId
    bundle_sha256: Sha256
    model_sha256: Sha256


class LeaveOneOutEntry(_Entry):
    """A model of everybody but `node_id` was made: digests of its bundle file and of the model file."""

    kind: Literal["leave-one-out"] = "leave-one-out"
    round_id: RoundId
    node_id: NodeId
    bundle_sha256: Sha256
    model_sha256: Sha256


class KeyDestroyedEntry(_Entry):
    """The round's private key was destroyed."""

    kind: Literal["key-destroyed"] = "key-destroyed"
    round_id: RoundId
    round_key_id: Sha256


Entry = (
    StudyEntry
    | RoundEntry
    | CoordinatorRotatedEntry
    | EnrolledEntry
    | RotatedEntry
    | RevokedEntry
    | AcceptedEntry
    | RefusedEntry
    | WithdrawnEntry
    | WithdrawnByNodeEntry
    | ExcludedEntry
    | StateEntry
    | DeadlineEntry
    | SumListEntry
    | GlobalEntry
    | LeaveOneOutEntry
    | KeyDestroyedEntry
)
_ADAPTER: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def encode(entry: Entry) -> bytes:
    """The entry's canonical JSON bytes, what is hashed into the log; LedgerError beyond 65,535 bytes."""
    raw = canonical_json(entry.model_dump())
    if len(raw) > MAX_ENTRY_BYTES:
        raise LedgerError(f"a ledger entry may have at most {MAX_ENTRY_BYTES} bytes, this one has {len(raw)}")
    return raw


def parse(raw: bytes) -> Entry:
    """The entry that `raw` encodes.

    Raises:
        LedgerError: not canonical JSON, an unknown kind, or a field missing, surplus or malformed.
    """
    try:
        entry = _ADAPTER.validate_python(parse_canonical_json(raw))
    except RefusedError as error:
        raise LedgerError(f"a ledger entry does not parse: {error}") from None
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "kind"
        raise LedgerError(f"a ledger entry is not of a known form: {where!a} is wrong") from None
    if encode(entry) != raw:  # a left-out default would be a second spelling
        raise LedgerError("a ledger entry leaves out a field")
    return entry

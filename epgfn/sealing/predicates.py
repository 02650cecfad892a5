"""What the signed statements say, one model a predicate type. Every field is required and no other is allowed."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from epgfn.base.errors import RefusedError
from epgfn.base.invisible import hidden_in
from epgfn.base.lookalikes import look
from epgfn.sealing.encoding import from_base64
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.round_key import RoundPublicKey

STUDY: Final = "urn:epgfn:study:v1"
ROUND: Final = "urn:epgfn:round:v1"
UPLOAD: Final = "urn:epgfn:upload:v1"
WITHDRAWAL: Final = "urn:epgfn:withdrawal:v1"
GLOBAL: Final = "urn:epgfn:global-model:v1"
LEAVE_ONE_OUT: Final = "urn:epgfn:leave-one-out-model:v1"
COMPARISON: Final = "urn:epgfn:comparison:v1"
WITNESS: Final = "urn:epgfn:witness:v1"
LETTER: Final = "urn:epgfn:letter:v1"
REPLY: Final = "urn:epgfn:reply:v1"
ROTATION: Final = "urn:epgfn:rotation:v1"
SUM_PART: Final = "urn:epgfn:sum-part:v1"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROUND_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # the same as a ledger's entries take
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_NODE_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # the same as a study's roster takes


def _digest(value: str) -> str:
    if not _SHA256.fullmatch(value):
        raise ValueError("not 64 lower-case hexadecimal digits")
    return value


def _node_id(value: str) -> str:
    if not _NODE_ID.fullmatch(value):
        raise ValueError("not a node id")
    return value


def _round_id(value: str) -> str:
    if not _ROUND_ID.fullmatch(value):
        raise ValueError("not a round id")
    return value


def _root(value: str) -> str:
    return _base64(value, 32)


def _base64(value: str, length: int | None = None) -> str:
    try:
        from_base64(value, "value", length)
    except RefusedError:
        raise ValueError("not proper base64") from None
    return value


Digest = Annotated[str, AfterValidator(_digest)]
NodeId = Annotated[str, AfterValidator(_node_id)]
RoundId = Annotated[str, AfterValidator(_round_id)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Size = Annotated[int, Field(ge=0, le=1 << 53)]
Suite = Literal["ML-KEM-768+X25519", "X25519"]


class _Claim(BaseModel):
    """Immutable, no unknown field, and no value is turned into another type on the way in."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CheckpointRef(_Claim):
    """The ledger's checkpoint the signer had seen last: origin, number of entries, base64 of the root hash."""

    origin: Name
    size: Size
    root: Annotated[str, AfterValidator(_root)]


class StudyPredicate(_Claim):
    """The coordinator offers this study. Subject: study.toml."""

    study_digest: Digest
    name: Name


class RoundPredicate(_Claim):
    """The coordinator opens a round of the study. Subject: study.toml."""

    study_digest: Digest
    round_id: RoundId
    suite: Suite
    round_key: Annotated[str, AfterValidator(_base64)]
    round_key_id: Digest
    ledger_vkey: Name
    coordinator_fingerprint: Digest
    keep_round_key: bool

    @property
    def public_key(self) -> RoundPublicKey:
        """The key to encrypt uploads to."""
        return RoundPublicKey.from_bytes(self.suite, from_base64(self.round_key, "round key"))

    @model_validator(mode="after")
    def _key_fits_its_id(self) -> Self:
        try:
            fits = self.public_key.key_id == self.round_key_id
        except RefusedError:
            fits = False
        if not fits:
            raise ValueError("round_key is not the key that round_key_id names")
        return self


def _approver(value: str) -> str:
    name, comma, role = value.partition(", ")
    if not (
        comma and name and role and value == " ".join(value.split()) and value.isprintable()
    ) or hidden_in(value):
        raise ValueError("not a name and a role, as in: Ada Lovelace, data manager")
    return value


Approver = Annotated[str, Field(max_length=160), AfterValidator(_approver)]


class Approval(_Claim):
    """Who at the institution said that the model may leave, as they called themselves: "NAME, ROLE" each, nobody twice. It is the word
    of whoever holds the node's key; no person signs it."""

    by: Annotated[tuple[Approver, ...], Field(min_length=1, max_length=8)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({person_of(approver) for approver in self.by}) != len(self.by):
            raise ValueError("a person is named twice")
        return self


def person_of(approver: str) -> str:
    """Whom "NAME, ROLE" names, however it is capitalised, and in whichever letters that look alike."""
    return unicodedata.normalize("NFKC", look(approver.partition(", ")[0])).casefold()


class UploadPredicate(_Claim):
    """A node sends its sealed local model. Subject: model.sealed. No time of day and nothing that depends on data. `approval` is left out
    where nobody has given a name."""

    study_digest: Digest
    round_id: RoundId
    node_id: NodeId
    sender_fingerprint: Digest
    round_key_id: Digest
    suite: Suite
    payload_type: Name
    sealed_size: Size
    model_size: Size
    privacy: dict[str, Any]
    software: dict[str, str]
    checkpoint: CheckpointRef
    approval: Approval | None = None

    @field_validator("approval")
    @classmethod
    def _never_null(cls, value: Approval | None) -> Approval | None:
        if value is None:  # what is not there has one form: not being there
            raise ValueError("null instead of being left out")
        return value

    @model_serializer(mode="wrap")
    def _without_null(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            name: value for name, value in handler(self).items() if name != "approval" or value is not None
        }

    @model_validator(mode="after")
    def _privacy_has_a_mode(self) -> Self:
        if not isinstance(self.privacy.get("mode"), str):
            raise ValueError("privacy.mode is missing")
        return self


class WithdrawalPredicate(_Claim):
    """A node takes back what it sent, before it is aggregated. Subject: model.sealed, as it was accepted."""

    study_digest: Digest
    round_id: RoundId
    node_id: NodeId
    sender_fingerprint: Digest
    checkpoint: CheckpointRef


class AggregatedUpload(_Claim):
    """One upload that went into the global model: digests of the sealed bytes and of the bundle's bytes."""

    node_id: NodeId
    sealed_sha256: Digest
    bundle_sha256: Digest


class GlobalPredicate(_Claim):
    """The coordinator publishes the global model. Subject: model.safetensors. No node is in both lists or twice."""

    study_digest: Digest
    round_id: RoundId
    aggregated: tuple[AggregatedUpload, ...]
    absent: tuple[NodeId, ...]
    seed: int
    software: dict[str, str]
    checkpoint: CheckpointRef

    @model_validator(mode="after")
    def _each_node_once(self) -> Self:
        nodes = [upload.node_id for upload in self.aggregated] + list(self.absent)
        if len(set(nodes)) != len(nodes):
            raise ValueError("a node is named twice")
        return self


class LeaveOneOutPredicate(GlobalPredicate):
    """A model of everybody but one node, to see how far that node moves the result. Subject: model.safetensors.

    A type of its own, so that it can never be shown as the global model. `left_out` is among the `absent`.
    """

    left_out: NodeId

    @model_validator(mode="after")
    def _left_out_is_absent(self) -> Self:
        if self.left_out not in self.absent:
            raise ValueError("the node that is left out is not among the absent")
        return self


class ComparisonPredicate(_Claim):
    """A simulation, which holds every party's records and keys, compares its global model with what the records together say. Subject:
    comparison.json. No coordinator of a real study can sign one."""

    study_digest: Digest
    round_id: RoundId
    model_sha256: Digest


class WitnessPredicate(_Claim):
    """A node names the key with which it cosigns this round's ledger. Subject: witness.vkey, the key as a line."""

    study_digest: Digest
    round_id: RoundId
    node_id: NodeId
    sender_fingerprint: Digest
    vkey: Annotated[str, Field(min_length=1, max_length=4096)]


class SumPartPredicate(_Claim):
    """What a node says in one step of a masked sum. Subject: sum-part, the bytes that it says."""

    study_digest: Digest
    round_id: RoundId
    node_id: NodeId
    sender_fingerprint: Digest
    step: Literal["keys", "shares", "signing", "unmasking"]


class LetterPredicate(_Claim):
    """A node writes to its coordinator, where there is no network. Subjects: the parts. The ledger's key names the round, since each
    has its own; `number` grows from one letter of a node to the next; the reply is sealed to `reply_key`, which is made for this letter."""

    kind: Literal["enrolment", "submission", "withdrawal", "question", "rotation"]
    study_digest: Digest
    ledger_vkey: Name
    node_id: NodeId
    sender_fingerprint: Digest
    number: Size
    suite: Suite
    reply_key: Annotated[str, AfterValidator(_base64)]

    @property
    def public_key(self) -> RoundPublicKey:
        """The key to encrypt the reply to.

        Raises:
            RefusedError: "bad-key".
        """
        return RoundPublicKey.from_bytes(self.suite, from_base64(self.reply_key, "reply key"))


class ReplyPredicate(_Claim):
    """The coordinator answers the letter whose bundle has that SHA-256. Subjects: the reply's parts, sealed to the letter's `reply_key`."""

    study_digest: Digest
    ledger_vkey: Name
    node_id: NodeId
    coordinator_fingerprint: Digest
    letter_sha256: Digest


COORDINATOR: Final = "coordinator"
_OF_NODE: Final = "node/"


def node_party(node_id: str) -> str:
    """What a rotation calls a node."""
    return _OF_NODE + node_id


def _party(value: str) -> str:
    if value != COORDINATOR:
        if not value.startswith(_OF_NODE):
            raise ValueError("neither the coordinator nor a node")
        _node_id(value.removeprefix(_OF_NODE))
    return value


def _public_key(value: str) -> str:
    try:
        VerifyKey.from_pem(value.encode())
    except RefusedError:
        raise ValueError("no public key") from None
    return value


def _moment(value: str) -> str:
    if not _MOMENT.fullmatch(value):
        raise ValueError("not a time such as 2030-01-31T12:00:00Z")
    datetime.fromisoformat(value)  # ValueError where there is no such day or hour
    return value


def _one_line(value: str) -> str:
    if not value.isprintable() or hidden_in(value) or value != value.strip():
        raise ValueError("not one line of printable characters")
    return value


PublicKey = Annotated[str, Field(max_length=4096), AfterValidator(_public_key)]
Reason = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]


class RotationPredicate(_Claim):
    """A party puts another signing key in the place of the one it has. Subject: signing.pem, the new key. Signed with both: by the old key,
    which others trust, and by the new one, which whoever signs therefore has. `party`: "coordinator", or "node/" and the node's id."""

    party: Annotated[str, AfterValidator(_party)]
    old_key: PublicKey
    old_fingerprint: Digest
    new_key: PublicKey
    new_fingerprint: Digest
    time: Annotated[str, AfterValidator(_moment)]
    reason: Reason

    @model_validator(mode="after")
    def _two_keys_and_their_fingerprints(self) -> Self:
        found = [VerifyKey.from_pem(key.encode()).fingerprint for key in (self.old_key, self.new_key)]
        if found != [self.old_fingerprint, self.new_fingerprint]:
            raise ValueError("a fingerprint is not that of its key")
        if self.old_fingerprint == self.new_fingerprint:
            raise ValueError("the old key is the new one")
        old, new = (VerifyKey.from_pem(key.encode()) for key in (self.old_key, self.new_key))
        if old.is_double and not new.is_double:
            raise ValueError("a key that signs with ML-DSA-65 too gives way to one that does not")
        return self


Predicate = (
    StudyPredicate
    | RoundPredicate
    | UploadPredicate
    | WithdrawalPredicate
    | GlobalPredicate
    | LeaveOneOutPredicate
    | ComparisonPredicate
    | WitnessPredicate
    | SumPartPredicate
    | LetterPredicate
    | ReplyPredicate
    | RotationPredicate
)
PREDICATES: Final[dict[str, type[Predicate]]] = {
    STUDY: StudyPredicate,
    ROUND: RoundPredicate,
    UPLOAD: UploadPredicate,
    WITHDRAWAL: WithdrawalPredicate,
    GLOBAL: GlobalPredicate,
    LEAVE_ONE_OUT: LeaveOneOutPredicate,
    COMPARISON: ComparisonPredicate,
    WITNESS: WitnessPredicate,
    SUM_PART: SumPartPredicate,
    LETTER: LetterPredicate,
    REPLY: ReplyPredicate,
    ROTATION: RotationPredicate,
}

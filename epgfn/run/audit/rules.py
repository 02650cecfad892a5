"""The rules of an audit that need no files: which stories a ledger may tell, and what must fit what.

That a statement fits its round is checked by the coordinator on arrival too (`epgfn_coordinator.verify`). The audit has rules of its own on
purpose: whoever distrusts a coordinator must not have to run its checks.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from epgfn.base.canonical import parse_canonical_json
from epgfn.base.errors import EpgfnError
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import (
    AcceptedEntry,
    DeadlineEntry,
    EnrolledEntry,
    Entry,
    ExcludedEntry,
    GlobalEntry,
    KeyDestroyedEntry,
    LeaveOneOutEntry,
    RevokedEntry,
    RoundEntry,
    StateEntry,
    StudyEntry,
    WithdrawnByNodeEntry,
    WithdrawnEntry,
)
from epgfn.ledger.log import LogView
from epgfn.run.layout import ABANDONED, AGGREGATING, FAILED, OPEN, PUBLISHED, WAITING
from epgfn.sealing.binding import MODEL_PAYLOAD
from epgfn.sealing.envelope import MAGIC, MAX_HEADER_BYTES, sealed_size
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import CheckpointRef, RoundPredicate, UploadPredicate
from epgfn.study import Study

if TYPE_CHECKING:
    from torch import Tensor

    from epgfn.learn.model import Model

T = TypeVar("T")

NEXT = {
    OPEN: {OPEN, AGGREGATING, WAITING, FAILED, ABANDONED},
    AGGREGATING: {PUBLISHED, WAITING, FAILED, ABANDONED},
    WAITING: {OPEN, FAILED, ABANDONED},
    PUBLISHED: set[str](),
    FAILED: set[str](),
    ABANDONED: set[str](),
}
"""The states a round may enter from each; its ledger says "open" once more at the beginning."""


class Failed(EpgfnError):
    """A check found what it must not find; the text is the finding."""


def require_story(entries: list[Entry], study: Study, manifest: RoundPredicate) -> None:
    """After study and round: nodes of the roster enrol, then send once while the round is open, then one result.

    A node's keys may be revoked: from then on it sends nothing until it has enrolled again, with another key. What was accepted stands.
    A node may take an upload back before it is aggregated, by its signed word, and send another one then, but never the same again.

    Uploads may be excluded while they are aggregated, by name, and do not count from then on. With fewer uploads than the quorum, or where
    they cannot be aggregated, a round may wait for its operator; only an extended deadline opens it again.
    Where the study takes late models, nodes may send after the result, too, and more results follow; where it asks for it,
    models without each node come between the first result and its publication. A round key is destroyed once: after the last
    model that needs it and before the result is published, or after the round ended without one.

    Raises:
        Failed: an entry that has no place in such a story.
    """
    enrolled: dict[str, str] = {}
    revoked: set[str] = set()
    accepted: dict[str, str] = {}
    left_out: set[str] = set()
    taken_back: set[str] = set()
    excluded: set[str] = set()
    takes_late = study.aggregation.late == "new-aggregate"
    deadline = study.aggregation.deadline
    state, is_open, extended, results, destroyed = OPEN, True, False, 0, False
    for place, entry in enumerate(entries, start=2):
        where = f"ledger entry {place}"
        require(not isinstance(entry, StudyEntry | RoundEntry), f"{where} begins a second study or round")
        node = getattr(entry, "node_id", None)
        require(node is None or node in study.roster, f"{where} is about a node that is not in the roster")
        round_id = getattr(entry, "round_id", manifest.round_id)
        require(round_id == manifest.round_id, f"{where} is about another round")
        if isinstance(entry, EnrolledEntry):
            require(entry.fingerprint not in revoked, f"{where} enrols a key that was revoked")
            require(
                enrolled.setdefault(entry.node_id, entry.fingerprint) == entry.fingerprint,
                f"{where} enrols {entry.node_id} with two keys, of which neither is revoked",
            )
        elif isinstance(entry, RevokedEntry):
            require(
                enrolled.pop(entry.node_id, None) == entry.fingerprint,
                f"{where} revokes a key of {entry.node_id} that does not count",
            )
            revoked.add(entry.fingerprint)
        elif isinstance(entry, AcceptedEntry):
            late = takes_late and state == PUBLISHED
            require(is_open or late, f"{where} accepts an upload after the round was closed")
            require(
                entry.node_id in enrolled,
                f"{where} accepts an upload of a node that had not enrolled, or whose key was revoked",
            )
            require(entry.node_id not in accepted, f"{where} accepts a second upload of {entry.node_id}")
            require(
                entry.sealed_sha256 not in taken_back,
                f"{where} accepts an upload that its node has withdrawn",
            )
            accepted[entry.node_id] = entry.sealed_sha256
        elif isinstance(entry, WithdrawnEntry):
            require(is_open, f"{where} withdraws an upload after the round was closed")
            require(
                accepted.pop(entry.node_id, None) == entry.sealed_sha256,
                f"{where} withdraws what was not accepted",
            )
        elif isinstance(entry, WithdrawnByNodeEntry):
            require(state in (OPEN, WAITING), f"{where} withdraws an upload of a round that is {state}")
            require(
                entry.node_id in enrolled,
                f"{where} withdraws an upload by the word of a node that had not enrolled, or whose key was revoked",
            )
            require(
                accepted.pop(entry.node_id, None) == entry.sealed_sha256 and entry.node_id not in excluded,
                f"{where} withdraws what was not accepted, or was excluded before",
            )
            taken_back.add(entry.sealed_sha256)
        elif isinstance(entry, ExcludedEntry):
            fits = (state == AGGREGATING and results == 0) or (takes_late and state == PUBLISHED)
            require(fits, f"{where} excludes an upload while nothing is aggregated")
            require(
                accepted.get(entry.node_id) == entry.sealed_sha256 and entry.node_id not in excluded,
                f"{where} excludes what was not accepted, or was excluded before",
            )
            excluded.add(entry.node_id)
        elif isinstance(entry, StateEntry):
            require(entry.state in NEXT[state], f"{where} takes the round from {state} to {entry.state}")
            enough = state == OPEN and len(accepted) - len(excluded) >= study.aggregation.quorum
            require(
                entry.state != WAITING or not enough, f"{where} lets a round wait that has enough uploads"
            )
            require(
                state != WAITING or entry.state != OPEN or extended,
                f"{where} opens a round again without a new deadline",
            )
            state, extended = entry.state, False
            is_open = state == OPEN
        elif isinstance(entry, DeadlineEntry):
            later = datetime.fromisoformat(entry.deadline)
            fits = (state == OPEN and deadline is not None) or state == WAITING
            require(fits, f"{where} extends the deadline of a round that is {state}, or has none")
            require(deadline is None or later > deadline, f"{where} puts the deadline earlier than it was")
            deadline, extended = later, True
        elif isinstance(entry, GlobalEntry):
            results += 1
            fits = state == (AGGREGATING if results == 1 else PUBLISHED) and (results == 1 or takes_late)
            require(fits, f"{where} publishes a second result, or one of a round that is not aggregating")
        elif isinstance(entry, LeaveOneOutEntry):
            fits = state == AGGREGATING and results == 1 and study.aggregation.leave_one_out and not destroyed
            require(fits, f"{where} leaves a node out where the study or the round does not ask for it")
            new = entry.node_id in accepted and entry.node_id not in left_out | excluded
            require(
                new, f"{where} leaves out {entry.node_id}, which is not in the result or was left out before"
            )
            left_out.add(entry.node_id)
        elif isinstance(entry, KeyDestroyedEntry):
            require(entry.round_key_id == manifest.round_key_id, f"{where} is about another round key")
            over = state in (FAILED, ABANDONED) or (state == AGGREGATING and results == 1)
            require(
                over and not destroyed,
                f"{where} says that the round key was destroyed before the uploads were aggregated, after the result was "
                "published, or a second time",
            )
            destroyed = True


def bindings(
    said: UploadPredicate,
    study: Study,
    manifest: RoundPredicate,
    node: str,
    key: VerifyKey,
    entry: AcceptedEntry,
) -> dict[str, bool]:
    """Each thing a node binds its upload to, and whether it is what this round has."""
    return {
        "study digest": said.study_digest == study.digest,
        "round": said.round_id == manifest.round_id,
        "node": said.node_id == node,
        "signing key": said.sender_fingerprint == key.fingerprint,
        "round key": said.round_key_id == manifest.round_key_id,
        "encryption suite": said.suite == manifest.suite,
        "payload type": said.payload_type == MODEL_PAYLOAD,
        "size": said.sealed_size == entry.size == sealed_size(manifest.suite, said.model_size),
        "size limit": said.sealed_size <= study.transport.max_upload_bytes,
    }


def require_privacy(said: UploadPredicate, study: Study, node: str) -> str:
    """The node's privacy claim adds up and is within the study's limits; what it says, for the finding, empty without privacy.

    Raises:
        Failed: it is not the study's, or does not add up.
    """
    from epgfn.privacy.of_study.agreement import (
        require_claim,  # here: a study without privacy needs no accountant
    )

    try:
        claim = require_claim(study, said.privacy, may_be_of_before=True)
    except EpgfnError as error:
        raise Failed(f"what {node} signed does not fit this round: wrong privacy claim: {error}") from None
    if claim is None:
        return ""
    return (
        f"; privacy recomputed from its claim: epsilon {claim.epsilon:.4g} at delta {claim.delta:.3g} per {claim.unit} "
        f"({claim.mode}, {claim.adjacency})"
    )


def require_header(sealed: bytes, suite: str, node: str) -> None:
    """The sealed file opens with the header of the round's suite; what is behind it cannot be read without the round key."""
    end = sealed.find(b"\n", len(MAGIC), len(MAGIC) + MAX_HEADER_BYTES)
    require(sealed.startswith(MAGIC) and end > 0, f"what {node} sent is not a sealed model")
    header = parse_canonical_json(sealed[len(MAGIC) : end])
    fits = isinstance(header, dict) and header.get("suite") == suite
    require(fits, f"what {node} sent is not sealed with the study's suite {suite}")


def require_model(raw: bytes, study: Study, name: str) -> tuple[Model, dict[str, Tensor]]:
    """The coordinator's model file `name` and its tensors: a policy of the study, by the rules by which `epgfn sample` takes it.

    Raises:
        Failed: it says that it is another model than a global one of this study.
        RefusedError: it holds no policy of the study.
    """
    from epgfn.learn.model import Model
    from epgfn.learn.policy import policy_spec
    from epgfn.sealing.model_file import read_model

    tensors, metadata = read_model(raw, policy_spec(study))
    fits = metadata.get("study_digest") == study.digest and metadata.get("role") == "global"
    require(fits, f"{name} does not say that it is a global model of this study")
    return Model(study, tensors), tensors


def quoted_checkpoint(ref: CheckpointRef) -> Checkpoint:
    """The checkpoint that a statement quotes."""
    return Checkpoint.from_dict(ref.model_dump())


def is_prefix(seen: Checkpoint, view: LogView) -> bool:
    """Whether `seen` is an earlier state of the very log in `view`, by computing that state's root from the entries."""
    same_log = seen.origin == view.checkpoint.origin and seen.size <= view.checkpoint.size
    return same_log and view.tree.root(seen.size) == seen.root


def require(condition: bool, message: str) -> None:
    """Fail with `message` unless `condition` holds."""
    if not condition:
        raise Failed(message)


def require_all(found: dict[str, bool], message: str) -> None:
    """Fail and name all that do not fit."""
    wrong = [what for what, fits in found.items() if not fits]
    require(not wrong, f"{message}: wrong {', '.join(wrong)}")


def given(value: T | None, check: str) -> T:
    """What an earlier check established, or the failure that says which one did not."""
    if value is None:
        raise Failed(f"cannot be checked before '{check}' passes")
    return value

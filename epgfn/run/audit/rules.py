"""The rules of an audit that need no files: what must fit what. Which stories a ledger may tell: `story.py`.

That a statement fits its round is checked by the coordinator on arrival too (`epgfn_coordinator.verify`). The audit has rules of its own on
purpose: whoever distrusts a coordinator must not have to run its checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from epgfn.base.canonical import parse_canonical_json
from epgfn.base.errors import EpgfnError
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import AcceptedEntry
from epgfn.ledger.log import LogView
from epgfn.sealing.envelope import MAGIC, MAX_HEADER_BYTES, sealed_size
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import CheckpointRef, RoundPredicate, UploadPredicate
from epgfn.study import Study
from epgfn.study.parameters import payload_of

if TYPE_CHECKING:
    from torch import Tensor

    from epgfn.learn.model import Model

T = TypeVar("T")


class Failed(EpgfnError):
    """A check found what it must not find; the text is the finding."""


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
        "payload type": said.payload_type == payload_of(study),
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

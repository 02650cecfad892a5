"""The outbox: what leaves this machine, after somebody said yes.

Approving encrypts the trained model to the round key, signs a statement over the encrypted bytes, and writes a note
bound to both digests and to the model's. Sending needs that note. Encryption is randomised, so the bytes are kept and
sent again as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError, WaitingError
from epgfn.base.files import read_bytes, read_secret, sha256_file, sha256_hex, write_atomic
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.run.layout import SEALED
from epgfn.sealing.binding import Binding
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.encoding import to_base64
from epgfn.sealing.envelope import seal, sealed_size
from epgfn.sealing.model_header import Form, read_header
from epgfn.sealing.predicates import Approval
from epgfn.sealing.statement import (
    UPLOAD,
    CheckpointRef,
    UploadPredicate,
    make_statement,
    parse_statement,
    predicate_of,
)
from epgfn.study.parameters import is_masked, payload_of
from epgfn_node import ledger
from epgfn_node import statistic as beside
from epgfn_node.approval import collect, named, suffices
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.privacy import KeptClaim, kept_claim
from epgfn_node.settings import NodeSettings
from epgfn_node.small_counts import require_consent
from epgfn_node.study import Agreement, require_accepted
from epgfn_node.training import withdraw_approval

if TYPE_CHECKING:
    from torch import Tensor

APPROVED: Final = "epgfn-approval/v1"
TO_MASK: Final = "epgfn-approval-to-mask/v1"
_SOFTWARE: Final = ("epgfn", "torch", "cryptography", "safetensors", "grpcio")


@dataclass(frozen=True)
class Package:
    """An approved artifact, its digests checked. `predicate` is what the signed statement says."""

    bundle: bytes
    predicate: UploadPredicate
    model_sha256: str
    sealed_sha256: str

    @property
    def bundle_sha256(self) -> str:
        """SHA-256 of the bundle's bytes, as the ledger records it."""
        return sha256_hex(self.bundle)


def read_local_model(home: NodeHome, agreement: Agreement, node_id: str) -> tuple[bytes, dict[str, Tensor]]:
    """The trained model's bytes and tensors, checked to be what the study prescribes and nothing else.

    Raises:
        EpgfnError: nothing is trained yet.
        RefusedError: the file was changed or is for another study.
    """
    from epgfn.learn.policy import upload_spec, validate_upload  # torch, which nobody else here needs
    from epgfn.sealing.model_file import read_model

    raw, _ = read_local_header(home, agreement)
    tensors, _ = read_model(raw, upload_spec(agreement.study))
    validate_upload(agreement.study, node_id, tensors)
    return raw, tensors


def read_local_header(home: NodeHome, agreement: Agreement) -> tuple[bytes, dict[str, Form]]:
    """The trained model's bytes, and dtype and shape of each tensor in them. Whether the numbers are a policy of the study is for
    `read_local_model` to say, before anything is approved.

    Raises:
        EpgfnError: nothing is trained yet.
        RefusedError: the file is not a whole model file or is for another study.
    """
    if not home.model.exists():
        raise EpgfnError(f"nothing is trained yet in {home.root}; run: epgfn-node train --home {home.root}")
    raw = read_secret(home.model)
    forms, metadata = read_header(raw)
    if (metadata["study_digest"], metadata["role"]) != (agreement.study.digest, "local"):
        raise RefusedError("wrong-study", f"{home.model} was trained for another study; train again")
    return raw, forms


def planned_predicate(
    connection: Connection, agreement: Agreement, model_size: int, kept: KeptClaim | None
) -> UploadPredicate:
    """What the statement will say: who, for which study and round, sizes, privacy claim, versions. Nothing about data.

    `kept` is the claim of the model it will be about, as `kept_claim` gives it.

    Raises:
        RefusedError: "too-large": more than the study lets a node send.
        EpgfnError: no checkpoint of the ledger was seen yet.
    """
    manifest, study = agreement.round, agreement.study
    seen = ledger.last_checkpoint(connection.home, connection.trust)
    if seen is None:
        raise EpgfnError("no checkpoint of the coordinator's ledger is kept yet; run epgfn-node enroll again")
    size = sealed_size(manifest.suite, model_size)
    if size > study.transport.max_upload_bytes:
        raise RefusedError(
            "too-large",
            f"the sealed model would have {size} bytes and the study allows {study.transport.max_upload_bytes}; ask the "
            "parties to agree on a smaller policy or a larger transport.max_upload_bytes",
        )
    return UploadPredicate(
        study_digest=study.digest,
        round_id=manifest.round_id,
        node_id=connection.node_id,
        sender_fingerprint=connection.keys.signing.public.fingerprint,
        round_key_id=manifest.round_key_id,
        suite=manifest.suite,
        payload_type=payload_of(study),
        sealed_size=size,
        model_size=model_size,
        privacy={"mode": study.privacy.mode} if kept is None else kept.claim.to_json(),
        software={name: version(name) for name in _SOFTWARE},
        checkpoint=_reference(seen),
    )


def approve(
    connection: Connection,
    agreement: Agreement,
    report: Reporter,
    expected: str | None = None,
    accept_small_counts: bool = False,
    accept_statistic: bool = False,
    approver: str | None = None,
) -> Package | None:
    """Seal and sign the trained model and record the approval. If that is done for this very model, it stays. Where sums are masked it is
    sealed when it is sent, once the other nodes' keys are there: None then.

    `expected` is the model's SHA-256 as `inspect` showed it; None approves whatever model is there. `accept_small_counts`: a table of
    categories with small counts may leave, now and for this study; `accept_statistic`: so may a statistic beside the model.
    `approver`: who approves, "NAME, ROLE"; it is signed.

    Raises:
        UsageError: `approver` is no name and role.
        WaitingError: "small-counts", "statistic": there are some, or there is one, and nobody has accepted that. "second-approval":
            another person has to approve, too.
        RefusedError: the study is not accepted, or the model is not the expected one or not what the study prescribes.
        EpgfnError: nothing is trained yet, or a file cannot be written.
    """
    home = connection.home
    require_accepted(home, agreement.study)
    raw, _ = read_local_model(home, agreement, connection.node_id)
    digest = sha256_hex(raw)
    if expected is not None and expected.strip().lower() != digest:
        raise RefusedError(
            "wrong-digest",
            f"the trained model is not the one you named: it is {digest}; inspect it again",
        )
    if home.approved.exists():
        try:
            package = load_package(connection, agreement)
        except (RefusedError, WaitingError):
            if home.receipt.exists():
                raise
        else:
            if approver is None or _is_named(package.predicate, named(approver)):
                return package
            if home.receipt.exists() or home.sending.exists():
                raise RefusedError(
                    "already-sent",
                    "what was sent is signed already, and names nobody else any more; withdraw it first if it is to be approved anew",
                )
    masked = is_masked(agreement.study)
    if masked and _to_mask(home, digest) is not None and approver is None:
        return None
    if not masked:  # else nobody reads what a node alone has counted
        require_consent(home, agreement.study, accept_small_counts)
    beside.require_consent(home, agreement.study, accept_statistic)
    approval = collect(home, digest, approver, NodeSettings.of(home).approvals)
    withdraw_approval(home)
    if masked:
        by = [] if approval is None else list(approval.by)
        write_atomic(home.approved, canonical_json({"format": TO_MASK, "model_sha256": digest, "by": by}))
        report.event("approved", "approved: the numbers are put under masks and sent by epgfn-node submit")
        return None
    _seal(connection, agreement, raw, approval)
    report.event("sealed", f"encrypted to the round key and signed: {home.sealed}")
    package = _noted(connection, digest)
    report.event(
        "approved", f"approved for sending: {package.sealed_sha256}", sealed_sha256=package.sealed_sha256
    )
    return package


def _noted(connection: Connection, model_sha256: str) -> Package:
    """What was sealed, once it is noted that this very thing may leave."""
    package = _read_package(connection, model_sha256)
    note = {
        "format": APPROVED,
        "model_sha256": model_sha256,
        "sealed_sha256": package.sealed_sha256,
        "bundle_sha256": package.bundle_sha256,
    }
    write_atomic(connection.home.approved, canonical_json(note))
    return package


def _to_mask(home: NodeHome, model_sha256: str) -> tuple[str, ...] | None:
    """Who has approved by name that these numbers are masked and sent; None where nobody has approved them, or they are masked."""
    if not home.approved.exists():
        return None
    note = parse_canonical_json(read_bytes(home.approved, "approval"))
    if not isinstance(note, dict) or (note.get("format"), note.get("model_sha256")) != (
        TO_MASK,
        model_sha256,
    ):
        return None
    return tuple(note["by"])


def is_masked_outside(home: NodeHome) -> bool:
    """Whether what leaves lies in the outbox, under masks and sealed."""
    if not home.approved.exists():
        return False
    note = parse_canonical_json(read_bytes(home.approved, "approval"))
    return isinstance(note, dict) and note.get("format") == APPROVED


def is_approved_to_mask(home: NodeHome, model_sha256: str) -> bool:
    """Whether these numbers may leave, as soon as they are under masks."""
    return _to_mask(home, model_sha256) is not None


def approved_to_mask(connection: Connection, agreement: Agreement) -> tuple[bytes, Approval | None]:
    """The file of the approved numbers, without masks, and who has approved by name.

    Raises:
        WaitingError: "not-approved".
        RefusedError: the file was changed.
    """
    home = connection.home
    require_accepted(home, agreement.study)
    raw, _ = read_local_header(
        home, agreement
    )  # the numbers in it were looked at when these bytes were approved
    by = _to_mask(home, sha256_hex(raw))
    needed = NodeSettings.of(home).approvals
    if by is None or (needed > 1 and len(by) < needed):
        raise _not_approved(home)
    return raw, Approval(by=by) if by else None


def seal_masked(
    connection: Connection, agreement: Agreement, masked: bytes, approval: Approval | None
) -> Package:
    """Seal and sign the file of masked numbers in the place of those that were approved."""
    _seal(connection, agreement, masked, approval)
    return _noted(connection, sha256_file(connection.home.model))


def load_package(connection: Connection, agreement: Agreement) -> Package:
    """The approved artifact, if every byte of it is what was approved.

    Raises:
        WaitingError: "not-approved": there is no approval.
        RefusedError: "not-approved": the model or the sealed bytes changed after it.
    """
    home = connection.home
    require_accepted(home, agreement.study)
    if not home.approved.exists():
        raise _not_approved(home)
    note = parse_canonical_json(read_bytes(home.approved, "approval"))
    if isinstance(note, dict) and note.get("format") == TO_MASK:
        raise WaitingError(
            "not-masked",
            f"the numbers are approved and not under masks yet; run: epgfn-node submit --home {home.root}",
        )
    if not home.model.exists() or not home.sealed.exists() or not home.upload_bundle.exists():
        raise _stale(home)
    package = _read_package(connection, sha256_file(home.model))
    found = {
        "format": APPROVED,
        "model_sha256": package.model_sha256,
        "sealed_sha256": package.sealed_sha256,
        "bundle_sha256": package.bundle_sha256,
    }
    named = (package.predicate.study_digest, package.predicate.round_id, package.predicate.node_id)
    if note != found or named != (agreement.study.digest, agreement.round.round_id, connection.node_id):
        raise _stale(home)
    needed = NodeSettings.of(home).approvals
    if not (home.receipt.exists() or home.sending.exists() or suffices(package.predicate, needed)):
        raise WaitingError(
            "not-approved",
            f"the approval is of fewer persons than this node's settings ask for (approvals = {needed}); each of them runs: epgfn-node "
            f'approve --home {home.root} --as "NAME, ROLE"',
        )
    return package


def _is_named(predicate: UploadPredicate, approver: str) -> bool:
    return predicate.approval is not None and approver in predicate.approval.by


def _seal(connection: Connection, agreement: Agreement, raw: bytes, approval: Approval | None) -> None:
    home, manifest = connection.home, agreement.round
    kept = kept_claim(home, agreement.study, sha256_hex(raw))
    planned = planned_predicate(connection, agreement, len(raw), kept)
    predicate = planned if approval is None else planned.model_copy(update={"approval": approval})
    binding = Binding(
        study_digest=predicate.study_digest,
        round_id=predicate.round_id,
        node_id=predicate.node_id,
        sender_fingerprint=predicate.sender_fingerprint,
        round_key_id=predicate.round_key_id,
        payload_type=predicate.payload_type,
    )
    sealed = seal(raw, manifest.public_key, binding)
    payload = make_statement({SEALED: sha256_hex(sealed)}, UPLOAD, predicate)
    write_atomic(home.sealed, sealed)
    write_atomic(home.upload_bundle, sign_statement(payload, connection.keys.signing))


def _read_package(connection: Connection, model_sha256: str) -> Package:
    home = connection.home
    bundle = read_bytes(home.upload_bundle, "signed statement")
    statement = parse_statement(connection.keys.verify_own(bundle))
    predicate = predicate_of(statement, UploadPredicate)
    sealed_sha256 = sha256_file(home.sealed)
    if statement.subjects != {SEALED: sealed_sha256} or home.sealed.stat().st_size != predicate.sealed_size:
        raise _stale(home)
    if (
        predicate.sender_fingerprint != connection.keys.signing.public.fingerprint
        and not home.receipt.exists()
    ):
        raise RefusedError(
            "not-approved",
            f"this node changed its signing key since the model in {home.root} was approved; run: epgfn-node approve --home {home.root}",
        )
    return Package(bundle, predicate, model_sha256, sealed_sha256)


def _reference(checkpoint: Checkpoint) -> CheckpointRef:
    return CheckpointRef(origin=checkpoint.origin, size=checkpoint.size, root=to_base64(checkpoint.root))


def _not_approved(home: NodeHome) -> WaitingError:
    return WaitingError(
        "not-approved",
        f"nobody has approved sending yet; look with: epgfn-node inspect --home {home.root}, then run: "
        f"epgfn-node approve --home {home.root}",
    )


def _stale(home: NodeHome) -> RefusedError:
    return RefusedError(
        "not-approved",
        f"the model or the sealed file in {home.root} changed after it was approved; inspect it and run: "
        f"epgfn-node approve --home {home.root}",
    )

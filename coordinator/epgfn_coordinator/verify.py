"""Every check on an artifact, in order: first what its signed statement says, later what its bytes hold.

Each check protects a promise: that this node sent it (signature), for this study and round (bindings), that the log it
saw is the one everybody sees (checkpoint), and that what is aggregated is a policy and nothing else (tensors).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.run.layout import SEALED
from epgfn.sealing.binding import Binding
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.encoding import from_base64
from epgfn.sealing.envelope import open_sealed, sealed_size
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import WithdrawalPredicate
from epgfn.sealing.round_key import RoundPrivateKey
from epgfn.sealing.statement import (
    CheckpointRef,
    RoundPredicate,
    UploadPredicate,
    parse_statement,
    predicate_of,
)
from epgfn.study import Study
from epgfn.study.parameters import is_shared, payload_of
from epgfn_coordinator.identity import Caller
from epgfn_coordinator.known_keys import require_not_replaced, signing_keys
from epgfn_coordinator.loading import load
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.store import Store

if TYPE_CHECKING:
    from torch import Tensor

MAX_BUNDLE_BYTES = 64 << 10


@dataclass(frozen=True)
class Announcement:
    """A verified upload statement."""

    bundle: bytes
    sealed_sha256: str
    predicate: UploadPredicate

    @property
    def bundle_sha256(self) -> str:
        """SHA-256 of the bundle's bytes, as the ledger records it."""
        return sha256_hex(self.bundle)


class Verifier:
    """The checks of one round of one study."""

    def __init__(self, study: Study, manifest: RoundPredicate, store: Store, log: PublishedLog) -> None:
        self._study, self._manifest, self._store, self._log = study, manifest, store, log

    def announcement(self, bundle: bytes, caller: Caller) -> Announcement:
        """Signature, kind, subject and every binding of an upload statement.

        Raises:
            RefusedError: the first check that fails, by reason: "malformed", "wrong-node", "wrong-key",
                "bad-signature", "wrong-study", "wrong-round", "wrong-round-key", "wrong-suite", "wrong-payload",
                "too-large", "wrong-privacy", "claim-wrong", "claim-too-weak", "claim-above-limit", "ledger-fork".
        """
        if len(bundle) > MAX_BUNDLE_BYTES:
            raise RefusedError(
                "malformed", f"a signed statement may not exceed {MAX_BUNDLE_BYTES} bytes; sign a smaller one"
            )
        statement = parse_statement(self._payload(bundle, caller))
        predicate = predicate_of(statement, UploadPredicate)
        if list(statement.subjects) != [SEALED]:
            raise RefusedError(
                "malformed", f"the statement must have the one subject {SEALED}; sign it again"
            )
        self._require_bindings(predicate, caller)
        self._require_size(predicate)
        self._require_privacy(predicate)
        self._require_same_ledger(predicate.checkpoint)
        return Announcement(bundle, statement.subjects[SEALED], predicate)

    def withdrawal(self, bundle: bytes, caller: Caller) -> tuple[str, int]:
        """SHA-256 of the sealed model that a signed withdrawal takes back, and how many ledger entries its node had seen.

        Raises:
            RefusedError: as `announcement`, as far as that is about who signed and for which round.
        """
        if len(bundle) > MAX_BUNDLE_BYTES:
            raise RefusedError(
                "malformed", f"a signed statement may not exceed {MAX_BUNDLE_BYTES} bytes; sign a smaller one"
            )
        statement = parse_statement(self._payload(bundle, caller))
        predicate = predicate_of(statement, WithdrawalPredicate)
        if list(statement.subjects) != [SEALED]:
            raise RefusedError(
                "malformed", f"the withdrawal must have the one subject {SEALED}; sign it again"
            )
        found = (predicate.node_id, predicate.sender_fingerprint)
        if found != (caller.node_id, caller.signing_key.fingerprint):
            raise _wrong_node(caller.node_id)
        if (predicate.study_digest, predicate.round_id) != (self._study.digest, self._manifest.round_id):
            raise RefusedError(
                "wrong-round", "the withdrawal is of another round; run epgfn-node withdraw again"
            )
        self._require_same_ledger(predicate.checkpoint)
        return statement.subjects[SEALED], predicate.checkpoint.size

    def model(
        self, sealed: bytes, node_id: str, signer: VerifyKey, bundle: bytes, key: RoundPrivateKey
    ) -> dict[str, Tensor]:
        """What is inside sealed bytes whose digest was checked, and of which `bundle`, signed by `signer`, is the statement. The plaintext
        stays in memory.

        Raises:
            RefusedError: see `opened` and `policy`.
        """
        return self.policy(self.opened(sealed, node_id, signer.fingerprint, key), node_id, signer, bundle)

    def opened(self, sealed: bytes, node_id: str, fingerprint: str, key: RoundPrivateKey) -> bytes:
        """The model file inside.

        Raises:
            RefusedError: it does not open under the binding of this node and round.
        """
        binding = Binding(
            self._study.digest,
            self._manifest.round_id,
            node_id,
            fingerprint,
            self._manifest.round_key_id,
            payload_of(self._study),
        )
        return open_sealed(sealed, key, binding)

    def policy(self, raw: bytes, node_id: str, signer: VerifyKey, bundle: bytes) -> dict[str, Tensor]:
        """What a node's model file holds: a policy, and where all sites share their parameters a statistic.

        Raises:
            RefusedError: it is not a policy of the study, or its statistic is not what the policy, or the claim in the statement, is of.
        """
        load()  # here: it takes seconds
        from epgfn.learn.policy import upload_spec, validate_upload
        from epgfn.sealing.model_file import read_model

        tensors, metadata = read_model(raw, upload_spec(self._study))
        self._require_metadata(metadata)
        validate_upload(self._study, node_id, tensors)
        if is_shared(self._study) and self._study.privacy.is_private:
            from epgfn.privacy.of_study.agreement import require_release

            stated = predicate_of(parse_statement(verify_bundle(bundle, signer)), UploadPredicate)
            require_release(self._study, node_id, tensors, stated.privacy)
        return tensors

    def _payload(self, bundle: bytes, caller: Caller) -> bytes:
        try:
            return verify_bundle(bundle, caller.signing_key)
        except RefusedError:
            require_not_replaced(self._store, caller.node_id, bundle)
            if any(_has_signed(key, bundle) for key in signing_keys(self._store, caller.node_id)[1:]):
                raise RefusedError(
                    "wrong-key",
                    f"the statement is signed with a key of {caller.node_id} that was revoked; train or approve it in the home that is "
                    "enrolled now",
                ) from None
            # Is it a statement of somebody else? That deserves a plainer answer than a signature that does not fit.
            for row in self._store.rows("SELECT * FROM nodes WHERE node_id != ?", caller.node_id):
                if _has_signed(VerifyKey.from_pem(bytes(row["signing_key"])), bundle):
                    raise _wrong_node(caller.node_id) from None
            raise

    def _require_bindings(self, predicate: UploadPredicate, caller: Caller) -> None:
        if predicate.node_id != caller.node_id:
            raise _wrong_node(caller.node_id)
        manifest = self._manifest
        for found, expected, reason, what in (
            (predicate.study_digest, self._study.digest, "wrong-study", "another study"),
            (predicate.round_id, manifest.round_id, "wrong-round", "another round"),
            (predicate.round_key_id, manifest.round_key_id, "wrong-round-key", "another round key"),
            (predicate.suite, manifest.suite, "wrong-suite", "another encryption suite"),
            (
                predicate.sender_fingerprint,
                caller.signing_key.fingerprint,
                "wrong-key",
                "another signing key",
            ),
            (predicate.payload_type, payload_of(self._study), "wrong-payload", "another kind of payload"),
        ):
            if found != expected:
                raise RefusedError(
                    reason,
                    f"the statement names {what} than this round's; fetch study and round again, then seal again",
                )

    def _require_size(self, predicate: UploadPredicate) -> None:
        limit = self._study.transport.max_upload_bytes
        if predicate.sealed_size > limit:
            raise RefusedError(
                "too-large",
                f"the artifact has {predicate.sealed_size} bytes and the study allows {limit}; "
                "use a smaller policy, or agree on a larger transport.max_upload_bytes",
            )
        if predicate.sealed_size != sealed_size(predicate.suite, predicate.model_size):
            raise RefusedError(
                "malformed", "the sizes in the statement do not fit each other; seal and sign again"
            )

    def _require_privacy(self, predicate: UploadPredicate) -> None:
        if not self._study.privacy.is_private and predicate.privacy == {"mode": "none"}:
            return
        load()
        from epgfn.privacy.of_study.agreement import (
            require_claim,  # here: a study without privacy needs no accountant
        )

        require_claim(self._study, predicate.privacy)

    def _require_same_ledger(self, seen: CheckpointRef) -> None:
        root = from_base64(seen.root, "root hash", 32)
        if not self._log.is_prefix(Checkpoint(seen.origin, seen.size, root)):
            raise RefusedError(
                "ledger-fork",
                "the ledger checkpoint in the statement is not an earlier state of this coordinator's ledger: one of the two "
                "was replaced or rolled back; compare checkpoints with the coordinator's operator before sending anything",
            )

    def _require_metadata(self, metadata: Mapping[str, str]) -> None:
        if metadata.get("study_digest") != self._study.digest or metadata.get("role") != "local":
            raise RefusedError(
                "wrong-study",
                "the model file was not made as a local model of this study; train and seal again",
            )


def _has_signed(key: VerifyKey, bundle: bytes) -> bool:
    try:
        verify_bundle(bundle, key)
    except RefusedError:
        return False
    return True


def _wrong_node(node_id: str) -> RefusedError:
    return RefusedError(
        "wrong-node",
        f"the statement is not {node_id}'s own: the certificate of one node cannot send the artifact of another; "
        "use the certificate and the signing key of the same node",
    )

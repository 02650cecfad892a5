"""The agreement: the signed study and the signed round manifest, checked against the pinned coordinator key.

Both are kept as files and verified again at each step, so that a file changed on disk is noticed as well as a
coordinator that changes its mind.
"""

from __future__ import annotations

from typing import NamedTuple

from epgfn.base.errors import RefusedError, WaitingError
from epgfn.base.files import read_bytes, sha256_hex, write_atomic
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.round_key import RoundPublicKey
from epgfn.sealing.statement import RoundPredicate, StudyPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.study.new import require_new
from epgfn.study.study import STUDY_NAME
from epgfn.v1 import study_pb2
from epgfn_node.client import Coordinator
from epgfn_node.home import NodeHome
from epgfn_node.trust import Trust


class Agreement(NamedTuple):
    """A verified study and the manifest of its round."""

    study: Study
    round: RoundPredicate

    @property
    def round_key(self) -> RoundPublicKey:
        """The key that uploads are encrypted to."""
        return self.round.public_key


def fetch_agreement(home: NodeHome, coordinator: Coordinator, trust: Trust, digest: str) -> Agreement:
    """Get study and manifest, verify them, and keep them; what is kept already must be the same, byte for byte.

    `digest` is the study's digest that the invitation names.

    Raises:
        RefusedError: "study-changed", "round-changed", "wrong-study": not what was agreed; or a check failed.
        EpgfnError: no answer, or a file cannot be written.
    """
    signed = coordinator.call(coordinator.study.GetStudy, study_pb2.GetStudyRequest())
    manifest = coordinator.call(coordinator.study.GetRound, study_pb2.GetRoundRequest())
    if sha256_hex(signed.study) != digest:
        raise RefusedError(
            "wrong-study",
            "the coordinator offers another study than the invitation names; ask its operator which one is right",
        )
    agreement = Agreement(
        _verified_study(signed.study, signed.bundle, trust.coordinator),
        _verified_round(manifest.bundle, digest, trust),
    )
    _require_consistent(agreement)
    files = [
        (home.study, signed.study, "study"),
        (home.study_bundle, signed.bundle, "study"),
        (home.round_bundle, manifest.bundle, "round"),
    ]
    for path, value, what in files:
        if path.exists() and path.read_bytes() != value:
            raise RefusedError(
                f"{what}-changed",
                f"the coordinator's {what} is not the one kept in {path}; a {what} never changes, so ask its operator why",
            )
    for path, value, _ in files:
        if not path.exists():
            write_atomic(path, value)
    return agreement


def load_agreement(home: NodeHome, trust: Trust) -> Agreement:
    """The agreement that `fetch_agreement` kept, verified again.

    Raises:
        RefusedError: a file was changed.
        EpgfnError: a file is missing.
    """
    raw = read_bytes(home.study, "study file")
    agreement = Agreement(
        _verified_study(raw, read_bytes(home.study_bundle, "study's signature"), trust.coordinator),
        _verified_round(read_bytes(home.round_bundle, "round manifest"), sha256_hex(raw), trust),
    )
    _require_consistent(agreement)
    return agreement


def kept_round_id(home: NodeHome, trust: Trust) -> str:
    """Which round the kept manifest is of.

    Raises:
        RefusedError: the file was changed.
        EpgfnError: it is missing.
    """
    return signed_round(read_bytes(home.round_bundle, "round manifest"), trust.coordinator).round_id


def signed_round(bundle: bytes, coordinator: VerifyKey) -> RoundPredicate:
    """A round manifest that the coordinator has signed, whichever.

    Raises:
        RefusedError: it has not.
    """
    return predicate_of(parse_statement(verify_bundle(bundle, coordinator)), RoundPredicate)


def accept_study(home: NodeHome, study: Study, digest: str) -> None:
    """Record that the operator has read and accepted the study with `digest`.

    Raises:
        RefusedError: "wrong-digest": this study has another digest.
        UsageError: it has no public scale, and was not accepted while studies needed none.
    """
    if digest.strip().lower() != study.digest:
        raise RefusedError(
            "wrong-digest",
            f"the digest given to --accept-study is not that of the study in {home.study}, which is {study.digest}; "
            "read that file and accept its digest only if you agree",
        )
    if not is_accepted(home, study):
        require_new(study)
    write_atomic(home.accepted_study, study.digest.encode("ascii") + b"\n")


def is_accepted(home: NodeHome, study: Study) -> bool:
    """Whether the operator has accepted this very study."""
    return home.accepted_study.exists() and home.accepted_study.read_text().strip() == study.digest


def require_accepted(home: NodeHome, study: Study) -> None:
    """Refuse to work for a study that the operator has not accepted.

    Raises:
        WaitingError: "study-not-accepted".
    """
    if not is_accepted(home, study):
        raise WaitingError(
            "study-not-accepted",
            f"nobody has accepted the study {study.name!r} with digest {study.digest}; read {home.study} and, "
            f"if you agree, add: --accept-study {study.digest}",
        )


def require_on_roster(study: Study, node_id: str) -> None:
    """Raises RefusedError "not-on-roster" if the study does not name this node."""
    if node_id not in study.roster:
        raise RefusedError(
            "not-on-roster",
            f"the study's roster does not name {node_id}; ask the coordinator's operator for an invitation to the right study",
        )


def _verified_study(raw: bytes, bundle: bytes, key: VerifyKey) -> Study:
    statement = parse_statement(verify_bundle(bundle, key))
    predicate = predicate_of(statement, StudyPredicate)
    digest = sha256_hex(raw)
    if statement.subjects != {STUDY_NAME: digest} or predicate.study_digest != digest:
        raise RefusedError(
            "wrong-study",
            "the coordinator's signature is on another study than the one at hand; fetch the signed study again",
        )
    study = Study.from_bytes(raw, "the coordinator's study")
    if predicate.name != study.name:
        raise RefusedError(
            "wrong-study",
            "the signed statement calls the study by another name; ask the coordinator's operator",
        )
    return study


def _verified_round(bundle: bytes, digest: str, trust: Trust) -> RoundPredicate:
    manifest = signed_round(bundle, trust.coordinator)
    pinned = (digest, trust.ledger_vkey, trust.coordinator.fingerprint)
    if (manifest.study_digest, manifest.ledger_vkey, manifest.coordinator_fingerprint) != pinned:
        raise RefusedError(
            "wrong-round",
            "the round manifest names another study, ledger key or coordinator than the pinned ones; send nothing and "
            "ask the coordinator's operator",
        )
    return manifest


def _require_consistent(agreement: Agreement) -> None:
    study, manifest = agreement
    wanted = (study.transport.suite, study.transport.keep_round_key)
    if (manifest.suite, manifest.keep_round_key) != wanted:
        raise RefusedError(
            "wrong-round",
            "the round manifest does not follow the study (encryption suite, or whether the round key is kept); send "
            "nothing and ask the coordinator's operator",
        )

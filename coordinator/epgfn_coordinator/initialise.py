"""`init`: keys, the signed study, the signed round manifest and the first ledger entries."""

from __future__ import annotations

import base64
import secrets

from epgfn.base.errors import UsageError
from epgfn.base.files import sha256_hex, write_atomic
from epgfn.base.passphrase import key_passphrase
from epgfn.learn.policy import require_possible
from epgfn.ledger.entries import RoundEntry, StateEntry, StudyEntry, encode
from epgfn.ledger.log import TileLog
from epgfn.ledger.note import NoteSigner
from epgfn.run.layout import OPEN
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority
from epgfn.sealing.round_key import RoundPrivateKey
from epgfn.sealing.statement import ROUND, STUDY, RoundPredicate, StudyPredicate, make_statement
from epgfn.study import Study
from epgfn.study.new import require_new
from epgfn.study.study import STUDY_NAME
from epgfn_coordinator import clock as clocks
from epgfn_coordinator import keys
from epgfn_coordinator.certificates import HEALTH_ID, INSTITUTION_FACT, issue
from epgfn_coordinator.clock import Clock, spelled
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.store import Store


def initialise(
    home: Home, study: Study, config: Config, authority: CertificateAuthority | None = None
) -> bool:
    """Make a coordinator for one round of `study` in `home`; False if it is there already, for the same study. `authority`: an
    institution's, instead of one that is made.

    Nothing counts until one transaction at the end, so after an interruption the same command starts afresh.

    Raises:
        UsageError: `home` holds a coordinator for another study, an address is none, the roster a reserved id, or nobody could
            train for the study, or send what was trained, or a new study has no scales or a deadline that has passed.
        EpgfnError: a file cannot be written.
    """
    config.require_addresses()
    if HEALTH_ID in study.roster:
        raise UsageError(
            f"the node id {HEALTH_ID} is reserved for the coordinator; rename that node in the study"
        )
    require_possible(study)
    home.keys.mkdir(parents=True, exist_ok=True)
    home.keys.chmod(0o700)
    store = Store(home.state)
    try:
        if digest := store.text("study_digest"):
            if digest != study.digest:
                raise UsageError(
                    f"{home.root} holds a coordinator for another study; choose another --home, one is for one round"
                )
            if home.config.exists():
                return False
        else:
            require_new(study)
            _require_time_left(study)
            _make(home, study, config, store, authority)
        config.save(home.config)  # last: whoever finds it finds a whole coordinator
    finally:
        store.close()
    return True


def _require_time_left(study: Study) -> None:
    deadline, time = study.aggregation.deadline, clocks.now()
    if deadline is not None and deadline <= time:
        raise UsageError(
            f"the study's deadline, {spelled(deadline)}, has passed by this machine's clock, which says {spelled(time)}; "
            "agree on a study with a later one, or put the clock right"
        )


def _make(home: Home, study: Study, config: Config, store: Store, given: CertificateAuthority | None) -> None:
    secret = key_passphrase()
    authority = given or CertificateAuthority.create()
    authority.save(home.keys, secret)
    issue(home, authority, config)
    signing = SigningKey.generate()
    signing.save(home.key(keys.SIGNING_KEY), secret)
    write_atomic(home.key(keys.SIGNING_PUBLIC), signing.public.pem)
    round_id = secrets.token_hex(16)
    ledger = NoteSigner.generate(f"epgfn/{study.digest[:16]}/{round_id[:16]}")
    ledger.save(home.key(keys.LEDGER_KEY))
    write_atomic(home.key(keys.LEDGER_PUBLIC), (ledger.verifier.vkey + "\n").encode("ascii"))
    round_key = RoundPrivateKey.generate(study.transport.suite)
    keys.write_round_key(home, round_key)

    study_bundle = sign_statement(
        make_statement(
            {STUDY_NAME: study.digest}, STUDY, StudyPredicate(study_digest=study.digest, name=study.name)
        ),
        signing,
    )
    manifest = RoundPredicate(
        study_digest=study.digest,
        round_id=round_id,
        suite=study.transport.suite,
        round_key=base64.b64encode(round_key.public.raw).decode("ascii"),
        round_key_id=round_key.key_id,
        ledger_vkey=ledger.verifier.vkey,
        coordinator_fingerprint=signing.public.fingerprint,
        keep_round_key=study.transport.keep_round_key,
    )
    round_bundle = sign_statement(make_statement({STUDY_NAME: study.digest}, ROUND, manifest), signing)
    write_atomic(home.study, study.raw)
    write_atomic(home.study_bundle, study_bundle)
    write_atomic(home.round_bundle, round_bundle)
    with store.transaction():
        store.append_entry(
            encode(StudyEntry(study_digest=study.digest, bundle_sha256=sha256_hex(study_bundle)))
        )
        store.append_entry(encode(RoundEntry(round_id=round_id, bundle_sha256=sha256_hex(round_bundle))))
        store.append_entry(encode(StateEntry(round_id=round_id, state=OPEN)))
        store.set_fact("round_id", round_id)
        store.set_fact("state", OPEN)
        store.set_fact("study_digest", study.digest)
        if given is not None:
            store.set_fact(INSTITUTION_FACT, given.fingerprint)
        Clock(store).believe()
    TileLog(home.ledger, ledger).publish(store.entries())

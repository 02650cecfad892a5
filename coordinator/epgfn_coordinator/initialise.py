"""`init` and `add`: keys, signed study and round manifest, first ledger entries; of the first round, or of a further one."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator

from epgfn.base import failpoints
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes, sha256_hex, sync_directory, write_atomic
from epgfn.base.passphrase import key_passphrase, new_passphrase
from epgfn.learn.policy import require_possible
from epgfn.ledger.entries import CoordinatorRotatedEntry, RoundEntry, StateEntry, StudyEntry, encode
from epgfn.ledger.log import TileLog
from epgfn.ledger.note import NoteSigner
from epgfn.run.layout import OPEN
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority
from epgfn.sealing.rotation import Rotation
from epgfn.sealing.round_key import RoundPrivateKey
from epgfn.sealing.statement import ROUND, STUDY, RoundPredicate, StudyPredicate, make_statement
from epgfn.study import Study
from epgfn.study.new import require_new
from epgfn.study.study import STUDY_NAME
from epgfn_coordinator import clock as clocks
from epgfn_coordinator import keys, rounds
from epgfn_coordinator.certificates import HEALTH_ID, INSTITUTION_FACT, issue
from epgfn_coordinator.clock import Clock, spelled
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.people import Member, share
from epgfn_coordinator.signing import SIGNING_KEY, SIGNING_PUBLIC, chain_to, load_signing
from epgfn_coordinator.store import Store


def initialise(
    home: Home,
    study: Study,
    config: Config,
    authority: CertificateAuthority | None = None,
    *,
    no_passphrase: bool = False,
    double: bool = False,
) -> bool:
    """Make a coordinator for one round of `study` in `home`; False if it is there already, for the same study. `authority`: an
    institution's, instead of one that is made. `no_passphrase`: nobody is asked for one. `double`: sign with ML-DSA-65 beside P-256.

    Nothing counts until one transaction at the end, so after an interruption the same command starts afresh.

    Raises:
        UsageError: `home` holds a coordinator for another study, an address is none, the roster a reserved id, or nobody could
            train for the study, or send what was trained, or a new study has no scales or a deadline that has passed.
        EpgfnError: a file cannot be written.
    """
    config.require_addresses()
    _require_fit(study)
    home.keys.mkdir(parents=True, exist_ok=True)
    for folder in (home.root, home.keys):  # whatever the umask, and whoever made it
        folder.chmod(0o700)
    store = Store(home.state)
    try:
        if digest := store.text("study_digest"):
            if digest != study.digest:
                raise UsageError(
                    f"{home.root} holds a coordinator for another study; epgfn-coordinator add puts a further study into the same home, or "
                    "choose another --home"
                )
            if home.config.exists():
                return False
        else:
            require_new(study)
            _require_time_left(study)
            _make(home, study, config, store, authority, no_passphrase, double)
        config.save(home.config)  # last: whoever finds it finds a whole coordinator
    finally:
        store.close()
    return True


def add(home: Home, study: Study, name: str | None = None) -> tuple[str, bool]:
    """Make a further round in the coordinator's directory `home`: of another study, or with a `name` of its own of one that has a round
    there already. What it is called, and whether it was made now; False if a round of that name is there, for the same study.

    It shares the coordinator's authority, certificates, signing key and addresses, and has its own ledger, with a key of its own, round key
    and state. Whoever is on its roster and has enrolled in another round is enrolled in it. Built beside its place and renamed, so it is
    whole or not there.

    Raises:
        UsageError: there is no coordinator in `home`, the name is none or taken by another study, or as `initialise`.
        EpgfnError: a file cannot be read or written.
    """
    home.require()
    _require_fit(study)
    with home.adding():
        chosen = _free_name(home, study, name)
        place = home.further(chosen)
        made = not place.root.exists()
        if made:
            require_new(study)
            _require_time_left(study)
            _build(home, study, place)
        with contextlib.ExitStack() as opened:
            share(list(_members(home, opened)))
    return chosen, made


def _require_fit(study: Study) -> None:
    if HEALTH_ID in study.roster:
        raise UsageError(
            f"the node id {HEALTH_ID} is reserved for the coordinator; rename that node in the study"
        )
    require_possible(study)


def _free_name(home: Home, study: Study, name: str | None) -> str:
    """What the round is to be called; that of a round for this very study where `name` says so.

    Raises:
        UsageError: it is no name, or another study's, or there is a round of this study and nobody has named the next.
    """
    if name is not None and not rounds.NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a round; use lower-case letters, digits and hyphens, such as {rounds.name_for(name)}"
        )
    taken = {
        rounds.name_of(each): sha256_hex(read_bytes(each.study, "study file"))
        for each in rounds.all_rounds(home)
    }
    first = rounds.name_of(Home(home.shared))
    wanted = name or rounds.name_for(study.name)
    if name is not None and name != first and taken.get(name, study.digest) == study.digest:
        return name
    of_it = [each for each, digest in taken.items() if digest == study.digest]
    number = next(number for number in range(2, len(taken) + 3) if _numbered(wanted, number) not in taken)
    following = f"--name {_numbered(wanted, number)}"
    if of_it:
        raise UsageError(
            f"{home.shared} holds a round of this study already, {', '.join(of_it)}; for another round of it add {following}"
        )
    if wanted in taken:
        raise UsageError(f"{home.shared} holds a round called {wanted} of another study; add {following}")
    return wanted


def _numbered(name: str, number: int) -> str:
    return f"{name[: rounds.MOST - 4].rstrip('-')}-{number}"


def _build(home: Home, study: Study, place: Home) -> None:
    """The whole round, beside `place` and then there."""
    try:
        home.rounds.mkdir(mode=0o700, exist_ok=True)
        for left in home.rounds.glob(".*"):  # by an `add` that was killed
            shutil.rmtree(left)
        building = Home(home.rounds / f".{place.root.name}", home.shared)
        building.root.mkdir(mode=0o700)
        try:
            building.round_keys.mkdir(mode=0o700)
            signing = load_signing(home)
            with contextlib.closing(Store(Home(home.shared).state)) as first:
                institution = first.fact(INSTITUTION_FACT)
            with contextlib.closing(Store(building.state)) as store:
                _open_round(building, study, store, signing, institution)
            failpoints.at("rename", place.root)
            os.rename(building.root, place.root)
            sync_directory(home.rounds)
            failpoints.at("renamed", place.root)
        finally:
            shutil.rmtree(building.root, ignore_errors=True)
    except OSError as error:
        raise EpgfnError(
            f"cannot make {place.root}: {error.strerror or 'input/output error'}; free some space or check the folder's permissions"
        ) from None


def _members(home: Home, opened: contextlib.ExitStack) -> Iterator[Member]:
    """All rounds; one that cannot be read is left out, and told what it missed when it is served again."""
    for each in rounds.all_rounds(home):
        with contextlib.suppress(EpgfnError):
            roster = frozenset(Study.load(each.study).roster)
            yield Member(opened.enter_context(contextlib.closing(Store(each.state))), roster)


def _require_time_left(study: Study) -> None:
    deadline, time = study.aggregation.deadline, clocks.now()
    if deadline is not None and deadline <= time:
        raise UsageError(
            f"the study's deadline, {spelled(deadline)}, has passed by this machine's clock, which says {spelled(time)}; "
            "agree on a study with a later one, or put the clock right"
        )


def _make(
    home: Home,
    study: Study,
    config: Config,
    store: Store,
    given: CertificateAuthority | None,
    no_passphrase: bool,
    double: bool,
) -> None:
    secret = new_passphrase(decline=no_passphrase)
    authority = given or CertificateAuthority.create()
    authority.save(home.keys, secret)
    issue(home, authority, config)
    signing = SigningKey.generate(double=double)
    signing.save(home.key(SIGNING_KEY), secret)
    write_atomic(home.key(SIGNING_PUBLIC), signing.public.pem)
    _open_round(home, study, store, signing, None if given is None else given.fingerprint.encode())


def _open_round(
    home: Home, study: Study, store: Store, signing: SigningKey, institution: bytes | None
) -> None:
    """A round's own keys, what is signed of it, and its state, in one transaction. `institution`: whose authority it is, if not ours."""
    round_id = secrets.token_hex(16)
    ledger = NoteSigner.generate(f"epgfn/{study.digest[:16]}/{round_id[:16]}")
    ledger.save(home.key(keys.LEDGER_KEY), key_passphrase())
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
        for each in chain_to(home, signing.public).rotations:
            _enter_rotation(store, each)
        store.append_entry(encode(StateEntry(round_id=round_id, state=OPEN)))
        store.set_fact("round_id", round_id)
        store.set_fact("state", OPEN)
        store.set_fact("study_digest", study.digest)
        if institution is not None:
            store.set_fact(INSTITUTION_FACT, institution)
        Clock(store).believe()
    TileLog(home.ledger, ledger).publish(store.entries())


def _enter_rotation(store: Store, rotation: Rotation) -> None:
    """The ledger says of which key the coordinator's took the place. Call inside a transaction."""
    entry = CoordinatorRotatedEntry(
        old_fingerprint=rotation.said.old_fingerprint,
        new_fingerprint=rotation.said.new_fingerprint,
        bundle_sha256=sha256_hex(rotation.bundle),
    )
    store.write(
        "INSERT INTO rotations (position, node_id, signing_fingerprint, signing_key, bundle) VALUES (?, NULL, ?, ?, ?)",
        store.append_entry(encode(entry)),
        rotation.said.old_fingerprint,
        rotation.old.pem,
        rotation.bundle,
    )

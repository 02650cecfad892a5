"""Offline verification of a run directory: who sent what, and that nothing was added, dropped, swapped or changed.

    report = audit_run(Path("runs/first"), coordinator_fingerprint="3f9a…")
    report.ok, [finding.message for finding in report.findings]

Trust starts at one key, the coordinator's; its fingerprint must come from the coordinator by another way than the run
directory. From there: the key signs study, round and global statement; the round names the ledger's key; the ledger
commits to each node's key and to each accepted upload; the nodes' keys sign the uploads.
docs/formats/run-directory.md lists the checks in words.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from epgfn.base.errors import EpgfnError, RefusedError, one_line
from epgfn.base.files import open_plain, sha256_hex
from epgfn.ledger.entries import (
    AcceptedEntry,
    CoordinatorRotatedEntry,
    DeadlineEntry,
    Entry,
    ExcludedEntry,
    KeyDestroyedEntry,
    RefusedEntry,
    RotatedEntry,
    RoundEntry,
    StudyEntry,
    WithdrawnByNodeEntry,
    WithdrawnEntry,
    parse,
)
from epgfn.ledger.log import LogView, read_log
from epgfn.ledger.note import NoteVerifier, split_note
from epgfn.ledger.policy import Policy
from epgfn.ledger.proof import verify_proof
from epgfn.run import layout
from epgfn.run.audit.aggregates import (
    Ground,
    check_aggregate,
    check_complete,
    live,
    published,
    require_result,
)
from epgfn.run.audit.enrolments import enrolled_at, enrolments, in_words, named
from epgfn.run.audit.kept import Kept, Own, check_kept, check_own
from epgfn.run.audit.masked import check_signatures, signers
from epgfn.run.audit.rotations import check_rotations, leading_to, rotation_file
from epgfn.run.audit.rules import (
    Failed,
    bindings,
    given,
    is_prefix,
    quoted_checkpoint,
    require,
    require_all,
    require_header,
    require_privacy,
)
from epgfn.run.audit.story import require_story
from epgfn.run.audit.witnesses import check_witnesses, read_witness
from epgfn.run.layout import (
    COMPARISON,
    COMPARISON_BUNDLE,
    EDGES_PNG,
    GLOBAL,
    INFLUENCE_PNG,
    LEAVE_ONE_OUT,
    LEDGER,
    MARGINALS_PNG,
    MODEL,
    MODEL_BUNDLE,
    MODEL_SIGNATURE,
    PARTICIPANT,
    POOLED_PNG,
    RECEIPT,
    REPORT,
    ROTATIONS,
    ROUND_BUNDLE,
    SAMPLES,
    SEALED,
    STUDY_BUNDLE,
    SUMMARY,
    SUMS,
    TOTAL,
    TRAINING_PNG,
    UPLOAD_BUNDLE,
    UPLOADS,
    WITHDRAWALS,
    WITNESSES,
)
from epgfn.run.participant import owner_of, run_directory
from epgfn.sealing.bundle import read_unverified, verify_bundle
from epgfn.sealing.envelope import MAGIC, MAX_HEADER_BYTES
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import (
    ComparisonPredicate,
    RoundPredicate,
    StudyPredicate,
    UploadPredicate,
    WithdrawalPredicate,
)
from epgfn.sealing.rotation import Chain
from epgfn.sealing.statement import Statement, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.study.parameters import is_masked
from epgfn.study.study import MAX_STUDY_BYTES

COORDINATOR_KEY = f"{layout.KEYS}/{layout.COORDINATOR_KEY}"
LEDGER_KEY = f"{layout.KEYS}/{layout.LEDGER_KEY}"
COMPARED = (f"{GLOBAL}/{COMPARISON}", f"{GLOBAL}/{COMPARISON_BUNDLE}")
FINGERPRINT_DIGITS = 64
MAX_SMALL_BYTES = 4 << 20  # keys, bundles, receipts
MAX_COMPARISON_BYTES = 256 << 20


@dataclass(frozen=True)
class Finding:
    """One line of the report: which check, whether it passed, and a sentence."""

    check: str
    ok: bool
    message: str


@dataclass(frozen=True)
class About:
    """What an audit was of, and what it was held against: for a conclusion in words.

    `pinned`: whether the coordinator's key is the one that the auditor gave. `kept`: how many receipts and checkpoints of others were held
    against it. `own`: the node that audits. `compared`: whether a simulation's comparison lies there. `witnesses`: nodes that have
    cosigned the ledger, whose signed checkpoint is `head`.
    """

    study: Study
    coordinator: str
    manifest: RoundPredicate
    head: bytes
    entries: list[Entry]
    pinned: bool
    kept: int
    own: str | None
    compared: bool
    witnesses: tuple[str, ...] = ()
    followed: Chain | None = None
    """From the key that the auditor gave to the coordinator's of this round, where that is another."""
    copy_of: str | None = None
    """The node whose copy of the run it was, which lacks what others sent sealed."""


@dataclass(frozen=True)
class AuditReport:
    """All findings, in the order of the checks."""

    findings: list[Finding]
    vouched: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path, in hexadecimal, of the files of models that are signed, and whose every check passed. What is shown of a run
    is taken from these."""
    about: About | None = None
    """None where not even study, round and ledger are known."""

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(finding.ok for finding in self.findings)


def audit_run(
    run_dir: Path | str,
    *,
    coordinator_fingerprint: str | None = None,
    kept: Sequence[Kept] = (),
    own: Own | None = None,
    policy: Policy | None = None,
) -> AuditReport:
    """Check every promise of a finished run from its files alone, without network and without any secret.

    `coordinator_fingerprint`: the SHA-256 of the coordinator's public key (SPKI DER, hexadecimal) as the auditor got
    it from the coordinator; without it the report says which one was found and that it must be compared.
    `kept`: receipts and checkpoints that others have (`epgfn.run.audit.kept.gather`), each of which gets a check of its own. `own`: what
    the node that audits knows of itself. `policy`: which logs and witnesses the auditor trusts.

    Of a node's home it is the copy of the run that the node has fetched; what cannot be checked there, since it lacks what other nodes sent
    sealed, is told by a check of its own.

    Never raises for what the files hold: a malformed file is a finding that is not ok.

    Raises:
        UsageError: `run_dir` is the home of a node that has no copy of the run.
    """
    audit = _Audit(run_directory(Path(run_dir)), coordinator_fingerprint, kept, own, policy)
    audit.run()
    return AuditReport(audit.findings, audit.vouched, audit.about())


def require_bound(run_dir: Path, coordinator_fingerprint: str, kept: Sequence[Kept]) -> None:
    """Every file of the node's copy in `run_dir` is one that the coordinator's key or the ledger vouches for, and the ledger extends what
    was `kept`: all that an audit checks but what takes drawing from models, and what is for others to do after publication (to cosign the
    ledger, to make the next model of late uploads).

    Raises:
        RefusedError: "not-verified": a check failed, and which.
    """
    audit = _Audit(run_dir, coordinator_fingerprint, kept, is_bound_only=True)
    audit.run()
    failed = [finding for finding in audit.findings if not finding.ok]
    if failed:
        raise RefusedError(
            "not-verified",
            f"what the coordinator sends as the run does not verify, and is not kept: {failed[0].check}: {failed[0].message}",
        )


@dataclass
class _Audit:
    """The checks, and what earlier ones established for later ones."""

    root: Path
    pin: str | None
    kept: Sequence[Kept] = ()
    own: Own | None = None
    policy: Policy | None = None
    is_bound_only: bool = False
    findings: list[Finding] = field(default_factory=list)
    coordinator: VerifyKey | None = None
    followed: Chain | None = None
    study: Study | None = None
    manifest: RoundPredicate | None = None
    view: LogView | None = None
    entries: list[Entry] = field(default_factory=list)
    nodes_enrolled: frozenset[str] = frozenset()
    witnesses: tuple[str, ...] = ()
    copy_of: str | None = None
    vouched: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """All checks in order; a check whose groundwork failed fails too and says which groundwork."""
        self._check("coordinator-key", self._coordinator_key)
        self._check("study", self._study)
        if os.path.lexists(self.root / PARTICIPANT):
            self._check("copy", self._copy)
        self._check("round", self._round)
        self._check("ledger", self._ledger)
        self._check("ledger-entries", self._ledger_entries)
        self._check("node-keys", self._node_keys)
        if self._any_rotated():
            self._check("rotations", self._rotations)
        if self._may_be_cosigned() and not self.is_bound_only:
            self._check("witnesses", self._witnesses)
        if self.policy is not None:
            self._check("policy", self._policy)
        for node in self._upload_nodes():
            self._check(f"upload {node}", lambda node=node: self._upload(node))  # type: ignore[misc]
        for index, entry in enumerate(self.entries):
            if isinstance(entry, WithdrawnByNodeEntry):
                self._check(
                    f"withdrawal {entry.node_id}",
                    lambda index=index, entry=entry: self._withdrawal(index, entry),  # type: ignore[misc]
                )
        if self.study is not None and is_masked(self.study):
            self._check("masked-sum", self._masked_sum)
        self._check("global", self._global)
        for which in published(self.entries)[1:]:
            self._check(
                which.place.replace("/", " "),
                lambda which=which: check_aggregate(self._ground_of_aggregates(), which),  # type: ignore[misc]
            )
        if (len(published(self.entries)) > 1 or self._asks_for_more()) and not self.is_bound_only:
            self._check("complete", lambda: check_complete(self._ground_of_aggregates()))
        if any((self.root / name).exists() for name in COMPARED):
            self._check("comparison", self._comparison)
        self._check("round-key", self._round_key)
        for each in self.kept:
            self._check(f"kept {ascii(each.name)[1:-1]}", lambda each=each: self._kept(each))  # type: ignore[misc]
        if self.own is not None:
            self._check("own", self._own)
        self._check("files", self._files)
        self._check("not-signed", self._not_signed)

    def about(self) -> About | None:
        """What was audited, as far as that is known."""
        if self.study is None or self.coordinator is None or self.manifest is None or self.view is None:
            return None
        if not self.entries:
            return None
        return About(
            study=self.study,
            coordinator=self.coordinator.fingerprint,
            manifest=self.manifest,
            head=self.view.note,
            entries=self.entries,
            pinned=self.pin is not None,
            kept=len(self.kept),
            own=None if self.own is None else self.own.node,
            compared=COMPARED[0] in self.vouched,
            witnesses=self.witnesses,
            followed=self.followed,
            copy_of=self.copy_of,
        )

    def _check(self, name: str, check: Callable[[], str]) -> None:
        try:
            # One line each, whatever names the files hold: a message must not look like the line of another check.
            finding = Finding(name, True, one_line(check()))
        except EpgfnError as error:
            finding = Finding(name, False, " ".join(str(error).split()))
        except Exception as error:  # an auditor must get a line for whatever bytes somebody puts there
            finding = Finding(name, False, f"the files of this check are malformed ({type(error).__name__})")
        self.findings.append(finding)

    # The groundwork ---------------------------------------------------------------------------------------------

    def _coordinator_key(self) -> str:
        key = VerifyKey.from_pem(self._bytes(COORDINATOR_KEY))
        both = " (P-256 and ML-DSA-65, both of which have to sign)" if key.is_double else ""
        if self.pin is None:
            self.coordinator = key
            return (
                f"{COORDINATOR_KEY} has the fingerprint {key.fingerprint}{both}; everything below rests on it, so compare "
                "it with the one the coordinator gives you over another channel"
            )
        given_ = "".join(self.pin.lower().replace(":", "").split())
        require(
            len(given_) >= FINGERPRINT_DIGITS or not key.fingerprint.startswith(given_),
            f"you gave only the first {len(given_)} of the {FINGERPRINT_DIGITS} digits of a fingerprint: {COORDINATOR_KEY} begins so, "
            f"and so may others; give all of it, as the coordinator's operator tells you. Here it is {key.fingerprint}",
        )
        require(
            len(given_) == FINGERPRINT_DIGITS and set(given_) <= set("0123456789abcdef"),
            f"what you gave is no fingerprint, which has {FINGERPRINT_DIGITS} hexadecimal digits; {COORDINATOR_KEY} has {key.fingerprint}",
        )
        if key.fingerprint != given_:
            self.followed = leading_to(key, given_, lambda name: (self.root / name).exists(), self._bytes)
        require(
            key.fingerprint == given_ or self.followed is not None,
            f"{COORDINATOR_KEY} has the fingerprint {key.fingerprint}, not the one you gave; do not rely on this run, unless the "
            "coordinator's operator tells you that this was its key then",
        )
        self.coordinator = key
        if self.followed is not None:
            steps = "; ".join(each.in_words for each in self.followed.rotations)
            return f"{COORDINATOR_KEY} is the successor of the key with the fingerprint you gave, as each key has signed: {steps}"
        return f"{COORDINATOR_KEY} is the key with the fingerprint you gave{both}"

    def _study(self) -> str:
        raw = self._bytes(layout.STUDY, MAX_STUDY_BYTES)
        statement = self._signed(STUDY_BUNDLE)
        predicate = predicate_of(statement, StudyPredicate)
        digest = sha256_hex(raw)
        require(
            statement.subjects == {layout.STUDY: digest} and predicate.study_digest == digest,
            f"{layout.STUDY} is not the study that the coordinator signed in {STUDY_BUNDLE}",
        )
        study = Study.from_bytes(raw)
        require(predicate.name == study.name, f"{STUDY_BUNDLE} names another study than {layout.STUDY}")
        self.study = study
        return f"{layout.STUDY} has the digest {digest} and the coordinator signed it"

    def _copy(self) -> str:
        """Whose copy this is; what is not in it is not known to be what was signed."""
        study = given(self.study, "study")
        self.copy_of = owner_of(self.root, study)
        without = " and, of models with one node left out, what the coordinator signed, not the models"
        return (
            f"for information: this is {self.copy_of}'s copy. Of other nodes it holds what they signed, not the sealed models"
            f"{without if study.aggregation.leave_one_out else ''}: that those are what was signed cannot be checked here, only in the run "
            "directory that the coordinator exports"
        )

    def _round(self) -> str:
        study = given(self.study, "study")
        statement = self._signed(ROUND_BUNDLE)
        manifest = predicate_of(statement, RoundPredicate)
        key = given(self.coordinator, "coordinator-key")
        found = {
            "study digest": manifest.study_digest == study.digest,
            "subject": statement.subjects == {layout.STUDY: study.digest},
            "encryption suite": manifest.suite == study.transport.suite,
            "rule for the round key": manifest.keep_round_key == study.transport.keep_round_key,
            "coordinator": manifest.coordinator_fingerprint == key.fingerprint,
        }
        require_all(found, f"{ROUND_BUNDLE} does not fit the study")
        require(
            self._bytes(LEDGER_KEY) == f"{manifest.ledger_vkey}\n".encode(),
            f"{LEDGER_KEY} is not the ledger key that the coordinator signed in {ROUND_BUNDLE}",
        )
        self.manifest = manifest
        return f"round {manifest.round_id} is signed and belongs to this study"

    def _ledger(self) -> str:
        verifier = NoteVerifier.from_vkey(given(self.manifest, "round").ledger_vkey)
        self.view = read_log(self.root / LEDGER, verifier)
        return f"all {self.view.checkpoint.size} entries hash to the root that {self.view.checkpoint.origin} signed"

    def _ledger_entries(self) -> str:
        view, study, manifest = self._ground()
        entries = [parse(raw) for raw in view.entries]
        expected = [
            StudyEntry(study_digest=study.digest, bundle_sha256=sha256_hex(self._bytes(STUDY_BUNDLE))),
            RoundEntry(round_id=manifest.round_id, bundle_sha256=sha256_hex(self._bytes(ROUND_BUNDLE))),
        ]
        require(
            entries[:2] == expected,
            f"the ledger does not begin with the digests of {STUDY_BUNDLE} and {ROUND_BUNDLE}",
        )
        require_story(entries[2:], study, manifest)
        self.entries = entries
        refused = sorted({entry.node_id for entry in entries if isinstance(entry, RefusedEntry)})
        said = f", with refused uploads of {', '.join(refused)}" if refused else ""
        moved = [entry.deadline for entry in entries if isinstance(entry, DeadlineEntry)]
        excluded = [
            f"{entry.node_id} ({entry.reason})" for entry in entries if isinstance(entry, ExcludedEntry)
        ]
        said += f", EXCLUDED from the result: {', '.join(excluded)}" if excluded else ""
        said += f", deadline extended to {moved[-1]}" if moved else ""
        return (
            f"the ledger records one round of this study in a possible order ({len(entries)} entries{said})"
        )

    def _node_keys(self) -> str:
        self._require_entries()
        prints = []
        for node, of_node in enrolments(self.entries).items():
            for each in of_node:
                key = VerifyKey.from_pem(each.pem)
                require(
                    key.fingerprint == each.entry.fingerprint, f"the ledger gives {node} a wrong fingerprint"
                )
                prints.append(key.fingerprint)
            name = f"keys/nodes/{node}.pem"
            require(
                self._bytes(name) == of_node[-1].pem, f"{name} is not the key that the ledger enrolled last"
            )
        require(len(set(prints)) == len(prints), "two nodes are enrolled with the same key")
        self.nodes_enrolled = frozenset(enrolments(self.entries))
        revoked = in_words(self.entries)
        said = f"; REVOKED: {'; '.join(revoked)}" if revoked else ""
        return f"{len(self.nodes_enrolled)} nodes are enrolled, each with the key in keys/nodes{said}"

    def _any_rotated(self) -> bool:
        """Whether there is anything to say of keys that took the place of others."""
        return (self.root / ROTATIONS).exists() or any(
            isinstance(entry, CoordinatorRotatedEntry | RotatedEntry) for entry in self.entries
        )

    def _rotations(self) -> str:
        self._require_entries()
        return check_rotations(self.entries, self._bytes, given(self.coordinator, "coordinator-key"))

    def _may_be_cosigned(self) -> bool:
        """Whether there is anything to say of witnesses."""
        asked = self.study is not None and self.study.ledger.witnesses > 0
        further = self.view is not None and len(split_note(self.view.note)[1]) > 1
        return asked or further or (self.root / WITNESSES).exists()

    def _witnesses(self) -> str:
        """Which nodes have cosigned the ledger's checkpoint, under witness keys that their enrolled keys name."""
        view, study, manifest = self._ground()
        self._require_entries()
        found = []
        for node in sorted(self.nodes_enrolled):
            path = layout.RunLayout(self.root).witness(node)
            if not path.exists():
                continue
            bundle = self._bytes(path.relative_to(self.root).as_posix())
            key = VerifyKey.from_pem(
                given(named(self.entries, node, read_unverified(bundle)[1]), "node-keys").pem
            )
            found.append(read_witness(bundle, node, key, study, manifest))
        said = check_witnesses(view.note, found, study, bool(published(self.entries)))
        self.witnesses = tuple(witness.node for witness in found)
        return said

    def _policy(self) -> str:
        view, _, _ = self._ground()
        assert self.policy is not None
        return self.policy.check(view.note)

    # Uploads ----------------------------------------------------------------------------------------------------

    def _upload_nodes(self) -> list[str]:
        """Nodes with an accepted upload in the ledger or a folder in uploads/."""
        nodes = {entry.node_id for entry in live(self.entries).values()}
        folder = self.root / UPLOADS
        with contextlib.suppress(OSError):  # no uploads; if the ledger has some, their own checks say so
            nodes |= {path.name for path in folder.iterdir()}
        return sorted(ascii(node)[1:-1] for node in nodes)

    def _upload(self, node: str) -> str:
        view, study, manifest = self._ground()
        self._require_entries()
        index, entry = self._accepted(node)
        name = f"{UPLOADS}/{node}/{SEALED}"
        # A node's copy has no sealed models of others; what is there has to be the right one.
        is_here = self.copy_of is None or os.path.lexists(self.root / name)
        head, size, digest = b"", entry.size, entry.sealed_sha256
        if is_here:
            head, size, digest = self._sealed(name, study.transport.max_upload_bytes)
        bundle = self._bytes(f"{UPLOADS}/{node}/{UPLOAD_BUNDLE}")
        require(
            (digest, size) == (entry.sealed_sha256, entry.size),
            f"{name} is not the file that the ledger accepted",
        )
        require(
            sha256_hex(bundle) == entry.bundle_sha256,
            f"{UPLOADS}/{node}/{UPLOAD_BUNDLE} is not the statement that the ledger accepted",
        )
        enrolment = enrolled_at(self.entries, node, index) if node in self.nodes_enrolled else None
        enrolled = given(enrolment, "node-keys")
        key = VerifyKey.from_pem(enrolled.pem)
        statement = parse_statement(verify_bundle(bundle, key))
        require(statement.subjects == {SEALED: digest}, f"{node} signed another file than {SEALED}")
        said = predicate_of(statement, UploadPredicate)
        require_all(
            bindings(said, study, manifest, node, key, entry), f"what {node} signed does not fit this round"
        )
        private = require_privacy(said, study, node)
        if is_here:
            require_header(head, manifest.suite, node)
        seen = quoted_checkpoint(said.checkpoint)
        require(
            seen.size <= index and is_prefix(seen, view),
            f"the ledger that {node} saw before it sent is not a beginning of this ledger; one of the two was rewritten",
        )
        receipt = self._bytes(f"{UPLOADS}/{node}/{RECEIPT}")
        verifier = NoteVerifier.from_vkey(manifest.ledger_vkey)
        place, proved = verify_proof(receipt, view.entries[index], verifier, strict=True)
        require(
            place == index and is_prefix(proved, view),
            f"the receipt of {node} was given by a ledger that is not a beginning of this one",
        )
        withdrawn = "" if index in live(self.entries) else self._withdrawn(node)
        if enrolled.until is not None:
            later = "replaced" if enrolled.replaced else "REVOKED"
            withdrawn += f"; that key was {later} later, by ledger entry {enrolled.until}"
        by = f"; approved, as {node} says, by {' and by '.join(said.approval.by)}" if said.approval else ""
        absent = "" if is_here else f"; the sealed model itself is not in {self.copy_of}'s copy"
        signed = f"signed by {node}'s key for this round"
        return f"{signed}, accepted as ledger entry {index}, the receipt proves it{private}{by}{withdrawn}{absent}"

    def _sealed(self, name: str, limit: int) -> tuple[bytes, int, str]:
        """The beginning of a sealed model, its size, its SHA-256. What is behind its header cannot be read here, and is not held."""
        with self._opened(name, limit) as (source, size):
            head = source.read(len(MAGIC) + MAX_HEADER_BYTES + 1)
            source.seek(0)
            return head, size, hashlib.file_digest(source, "sha256").hexdigest()

    def _withdrawal(self, index: int, entry: WithdrawnByNodeEntry) -> str:
        """The node has signed that it takes this upload back."""
        view, study, manifest = self._ground()
        node, name = entry.node_id, f"{WITHDRAWALS}/{index}.sigstore.json"
        bundle = self._bytes(name)
        require(
            sha256_hex(bundle) == entry.bundle_sha256, f"{name} is not the statement that the ledger names"
        )
        enrolment = enrolled_at(self.entries, node, index) if node in self.nodes_enrolled else None
        key = VerifyKey.from_pem(given(enrolment, "node-keys").pem)
        statement = parse_statement(verify_bundle(bundle, key))
        said = predicate_of(statement, WithdrawalPredicate)
        accepted = max(
            i
            for i, e in enumerate(self.entries[:index])
            if isinstance(e, AcceptedEntry) and e.node_id == node
        )
        seen = quoted_checkpoint(said.checkpoint)
        found = {
            "sealed model": statement.subjects == {SEALED: entry.sealed_sha256},
            "study digest": said.study_digest == study.digest,
            "round": said.round_id == manifest.round_id,
            "node": said.node_id == node,
            "signing key": said.sender_fingerprint == key.fingerprint,
            "ledger checkpoint": accepted < seen.size <= index and is_prefix(seen, view),
        }
        require_all(
            found, f"what {node} signed in {name} does not withdraw its upload of ledger entry {accepted}"
        )
        return f"{node} has signed that its upload of ledger entry {accepted} is WITHDRAWN: it is not in the global model"

    def _withdrawn(self, node: str) -> str:
        """What to say of an upload that was accepted and does not count: only the coordinator's word stands behind that, unless its node
        has signed it."""
        index, last = max(
            (i, e)
            for i, e in enumerate(self.entries)
            if isinstance(e, WithdrawnEntry | WithdrawnByNodeEntry | ExcludedEntry) and e.node_id == node
        )
        if isinstance(last, WithdrawnByNodeEntry):
            return f"; WITHDRAWN by ledger entry {index}, as {node} has signed: it is not in the global model"
        if isinstance(last, ExcludedEntry):
            return (
                f"; EXCLUDED by ledger entry {index}: the coordinator says that it cannot be combined with the others ({last.reason}), "
                "so it is not in the global model"
            )
        return (
            f"; WITHDRAWN by ledger entry {index}, which {node} has not signed: it is not in the global model, "
            f"so ask {node} whether it wanted that"
        )

    def _masked_sum(self) -> str:
        _, study, manifest = self._ground()
        self._require_entries()
        return check_signatures(self._bytes, self.entries, study, manifest)

    def _accepted(self, node: str) -> tuple[int, AcceptedEntry]:
        """The accepted entry that the node's files belong to: the one that counts, else the last withdrawn one."""
        for index, entry in live(self.entries).items():
            if entry.node_id == node:
                return index, entry
        for index, earlier in reversed(list(enumerate(self.entries))):
            if isinstance(earlier, AcceptedEntry) and earlier.node_id == node:
                return index, earlier
        raise Failed(f"{UPLOADS}/{node} was never accepted according to the ledger; it was added")

    # The result -------------------------------------------------------------------------------------------------

    def _global(self) -> str:
        ground = self._ground_of_aggregates()
        ended = require_result(self.entries)
        return ended or check_aggregate(ground, published(self.entries)[0])

    def _comparison(self) -> str:
        """A simulation's comparison with the exact posterior is the one that was signed, of this run's first model."""
        from epgfn.run.comparison.file import read_comparison

        _, study, manifest = self._ground()
        models = published(self.entries)
        require(bool(models), f"{COMPARED[0]} has no global model to compare")
        statement = self._signed(COMPARED[1])
        require(
            statement.subjects == {COMPARISON: self._digest(COMPARED[0], MAX_COMPARISON_BYTES)},
            f"{COMPARED[0]} is not the file that was signed",
        )
        raw = self._bytes(COMPARED[0], MAX_COMPARISON_BYTES)
        said = predicate_of(statement, ComparisonPredicate)
        found = {
            "study": said.study_digest == study.digest,
            "round": said.round_id == manifest.round_id,
            "model": said.model_sha256 == models[0].entry.model_sha256,
        }
        require_all(found, f"{COMPARED[1]} does not fit this run")
        read_comparison(raw, study)
        self.vouched[COMPARED[0]] = sha256_hex(raw)
        return (
            f"{COMPARED[0]} is signed with the coordinator's key: this run is a simulation by somebody who held every node's records, "
            "and the distance from the exact posterior is that person's word"
        )

    def _ground_of_aggregates(self) -> Ground:
        view, study, manifest = self._ground()
        self._require_entries()
        return Ground(
            view,
            study,
            manifest,
            self.entries,
            self._bytes,
            self._digest,
            self._signed,
            given(self.coordinator, "coordinator-key"),
            self.vouched,
            is_copy=self.copy_of is not None,
            draws=not self.is_bound_only,
        )

    def _round_key(self) -> str:
        _, _, manifest = self._ground()
        self._require_entries()
        destroyed = [e for e in self.entries if isinstance(e, KeyDestroyedEntry)]
        if manifest.keep_round_key:
            require(
                not destroyed,
                "the study keeps the round key for an auditor, but the ledger says it is destroyed",
            )
            return "the study keeps the round key for an auditor: whoever holds it can open every upload"
        require(
            bool(destroyed), "the ledger does not say that the round key was destroyed, as the study demands"
        )
        return "the ledger says that the round key was destroyed (this cannot be proved)"

    def _kept(self, each: Kept) -> str:
        view, _, manifest = self._ground()
        return check_kept(each, view, NoteVerifier.from_vkey(manifest.ledger_vkey))

    def _own(self) -> str:
        _, study, manifest = self._ground()
        self._require_entries()
        assert self.own is not None
        return check_own(self.own, self.entries, study.digest, manifest.round_id, manifest.ledger_vkey)

    def _asks_for_more(self) -> bool:
        """Whether a published round of this study may have more than the one global model."""
        if self.study is None or not published(self.entries):
            return False
        return self.study.aggregation.leave_one_out or self.study.aggregation.late == "new-aggregate"

    # Files ------------------------------------------------------------------------------------------------------

    def _files(self) -> str:
        """Nothing lies in the folder that no check above has read; the ledger's own folder is checked by `ledger`."""
        study = given(self.study, "study")
        known = {layout.STUDY, STUDY_BUNDLE, ROUND_BUNDLE, COORDINATOR_KEY, LEDGER_KEY}
        known |= {PARTICIPANT} if self.copy_of is not None else set()
        places = self._places()
        for place in places:
            if self.copy_of is not None and place.startswith(LEAVE_ONE_OUT):
                known.add(f"{place}/{MODEL_BUNDLE}")
                continue
            names = (MODEL, MODEL_BUNDLE, SUMMARY) + (() if place.startswith(LEAVE_ONE_OUT) else (SAMPLES,))
            known |= {f"{place}/{name}" for name in names}
            if not self._says_nothing_of(place, MODEL_SIGNATURE):  # models of before have none
                known.add(f"{place}/{MODEL_SIGNATURE}")
        known |= {f"keys/nodes/{node}.pem" for node in self.nodes_enrolled}
        known |= {f"{WITNESSES}/{node}.sigstore.json" for node in self.nodes_enrolled}
        known |= {
            f"{UPLOADS}/{node}/{name}" for node in study.roster for name in (SEALED, UPLOAD_BUNDLE, RECEIPT)
        }
        known |= {
            f"{WITHDRAWALS}/{index}.sigstore.json"
            for index, entry in enumerate(self.entries)
            if isinstance(entry, WithdrawnByNodeEntry)
        }
        known |= {
            rotation_file(index)
            for index, entry in enumerate(self.entries)
            if isinstance(entry, CoordinatorRotatedEntry | RotatedEntry)
        }
        if is_masked(study):
            known |= {f"{SUMS}/{node}.sigstore.json" for node in signers(self.entries)}
            known |= {f"{place}/{TOTAL}" for place in places}
        if GLOBAL in places:
            known |= set(COMPARED)
        count, folders, needed = 0, set[Path](), {self.root}
        pictures = self._pictures(study) if GLOBAL in places else set[str]()
        for path in sorted(self.root.rglob("*")):
            name, mode = path.relative_to(self.root).as_posix(), path.lstat().st_mode
            if stat.S_ISDIR(mode):
                folders.add(path)
                continue
            count += 1
            needed |= set(path.parents)
            fits = name in known or name.startswith("ledger/") or name in pictures
            require(
                fits and stat.S_ISREG(mode),
                f"{name!a} does not belong in a run directory or is not a plain file; nothing vouches for it",
            )
        empty = min(folders - needed, default=self.root)
        require(
            empty == self.root,
            f"the folder {empty.relative_to(self.root).as_posix()!a} does not belong in a run directory: it holds no file",
        )
        return f"{count} files, all in their places"

    def _pictures(self, study: Study) -> set[str]:
        """The page, and the pictures that a report of this run may have left beside it: nobody signed them, so there may be no others."""
        names = {REPORT, TRAINING_PNG, EDGES_PNG if study.kind.has_edges else MARGINALS_PNG}
        if study.kind.has_edges and (self.root / COMPARED[0]).exists():
            names.add(POOLED_PNG)
        if study.aggregation.leave_one_out:
            names.add(INFLUENCE_PNG)
        return {f"{GLOBAL}/{name}" for name in names}

    def _places(self) -> list[str]:
        """Folders of models: those the ledger names; as long as it cannot be read, the one that every round may have."""
        return [which.place for which in published(self.entries)] if self.entries else [GLOBAL]

    def _not_signed(self) -> str:
        said = (
            f"for information: {GLOBAL}/{REPORT} and its pictures are not signed; write them again with epgfn report, which takes every "
            "figure from signed files"
        )
        without = [name for name in (SAMPLES, SUMMARY) if self._unsigned(name)]
        if not without:
            return said
        names = " and ".join(f"{GLOBAL}/{name}" for name in without)
        return (
            f"{said}. {names} {'were' if len(without) > 1 else 'was'} not signed in this run, which was made by an earlier version: the "
            "report takes nothing from there, and leaves out what no signed file says"
        )

    def _unsigned(self, name: str) -> bool:
        """Whether a file lies beside a model whose statement does not name it."""
        return any(
            self._says_nothing_of(place, name) and (self.root / place / name).exists()
            for place in self._places()
        )

    def _says_nothing_of(self, place: str, name: str) -> bool:
        """Whether the statement on a model does not name that file; a statement that does not verify is the finding of its own check."""
        try:
            return name not in self._signed(f"{place}/{MODEL_BUNDLE}").subjects
        except EpgfnError:
            return False

    # Helpers ----------------------------------------------------------------------------------------------------

    def _bytes(self, name: str, limit: int = MAX_SMALL_BYTES) -> bytes:
        with self._opened(name, limit) as (source, size):
            raw = source.read(size + 1)
        require(len(raw) <= limit, f"{name} is larger than {limit} bytes")
        return raw

    def _digest(self, name: str, limit: int) -> str:
        """SHA-256 of a file, which takes no memory: whoever knows what it has to be reads it only then."""
        with self._opened(name, limit) as (source, _):
            return hashlib.file_digest(source, "sha256").hexdigest()

    @contextlib.contextmanager
    def _opened(self, name: str, limit: int) -> Iterator[tuple[BufferedReader, int]]:
        """A plain file, and its size, which is looked up first: nothing is read, and no memory taken, of one beyond `limit`."""
        path = self.root / name
        try:
            state = path.lstat()
            require(stat.S_ISREG(state.st_mode), f"{name} is not a plain file")
            require(state.st_size <= limit, f"{name} is larger than {limit} bytes")
            with open_plain(path) as source:
                yield source, state.st_size
        except OSError as error:
            raise Failed(
                f"{name} cannot be read: {error.strerror}; it was dropped or never exported"
            ) from None

    def _signed(self, name: str) -> Statement:
        """The statement in a bundle that the coordinator signed."""
        key = given(self.coordinator, "coordinator-key")
        raw = self._bytes(name)
        try:
            return parse_statement(verify_bundle(raw, key))
        except EpgfnError as error:
            raise Failed(f"{name}: {error}") from None

    def _ground(self) -> tuple[LogView, Study, RoundPredicate]:
        study, manifest = given(self.study, "study"), given(self.manifest, "round")
        return given(self.view, "ledger"), study, manifest

    def _require_entries(self) -> None:
        require(bool(self.entries), "cannot be checked before 'ledger-entries' passes")

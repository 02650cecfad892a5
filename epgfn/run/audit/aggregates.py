"""The part of an audit that is about models made of the uploads: which the ledger names, and whether each is what it says.

global/ is everybody whose upload was accepted while the round was open. Where the study allows it, aggregates/2, 3, … are
everybody accepted up to the checkpoint each quotes, and leave-one-out/<node> is everybody in global/ but that node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import (
    AcceptedEntry,
    Entry,
    ExcludedEntry,
    GlobalEntry,
    LeaveOneOutEntry,
    StateEntry,
    WithdrawnByNodeEntry,
    WithdrawnEntry,
)
from epgfn.ledger.log import LogView
from epgfn.run.audit.contents import (
    draw,
    require_agreement,
    require_relations,
    require_sampled,
    require_samples,
    require_summary,
)
from epgfn.run.audit.masked import require_total
from epgfn.run.audit.rules import Failed, is_prefix, quoted_checkpoint, require, require_all, require_model
from epgfn.run.layout import (
    ABANDONED,
    AGGREGATES,
    FAILED,
    GLOBAL,
    LEAVE_ONE_OUT,
    MODEL,
    MODEL_BUNDLE,
    MODEL_SIGNATURE,
    PUBLISHED,
    SAMPLES,
    SUMMARY,
    TOTAL,
)
from epgfn.run.summary import MAX_SUMMARY_BYTES
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.model_header import MAX_HEADER_BYTES
from epgfn.sealing.model_signing import MAX_BYTES as MAX_SIGNATURE_BYTES
from epgfn.sealing.model_signing import verify_model
from epgfn.sealing.predicates import GlobalPredicate, LeaveOneOutPredicate, RoundPredicate
from epgfn.sealing.statement import Statement, predicate_of
from epgfn.study import Study
from epgfn.study.parameters import is_masked

MAX_SAMPLES_BYTES = 1 << 30
SAMPLE_BYTES = 64 << 10
"""At most of each sample, beside a megabyte for all."""
ENDED_WITHOUT = (FAILED, ABANDONED)


@dataclass(frozen=True)
class Aggregate:
    """One model in a published round: its folder, and the ledger entry that names it with its index."""

    place: str
    index: int
    entry: GlobalEntry | LeaveOneOutEntry

    @property
    def number(self) -> int | None:
        """Of a further global model, from 2 on."""
        return int(self.place.removeprefix(f"{AGGREGATES}/")) if self.place.startswith(AGGREGATES) else None

    @property
    def left_out(self) -> str | None:
        """The node it is made without, if it is there to show what that node changes."""
        return self.entry.node_id if isinstance(self.entry, LeaveOneOutEntry) else None


@dataclass(frozen=True)
class Ground:
    """What earlier checks have established, and how to read the run directory."""

    view: LogView
    study: Study
    manifest: RoundPredicate
    entries: list[Entry]
    read: Callable[[str, int], bytes]
    """A file of at most so many bytes."""
    digest: Callable[[str, int], str]
    """Its SHA-256, without holding it."""
    signed: Callable[[str], Statement]
    coordinator: VerifyKey
    vouched: dict[str, str]
    """SHA-256 by path of every file in a statement whose check has passed."""
    is_copy: bool = False
    """Whether this is a node's copy, which has no models without a single node, only what was signed of them."""
    draws: bool = True
    """Whether to draw from each model, and hold its samples and its summary against that."""


def last_state(entries: list[Entry]) -> str:
    """The state the round ended in, as the ledger tells it."""
    states = [entry.state for entry in entries if isinstance(entry, StateEntry)]
    return states[-1] if states else "not open"


def published(entries: list[Entry]) -> list[Aggregate]:
    """The models a run directory must hold, the first before all others; none unless the round was published."""
    if last_state(entries) != PUBLISHED:
        return []
    found, number = [], 0
    for index, entry in enumerate(entries):
        if isinstance(entry, GlobalEntry):
            number += 1
            place = GLOBAL if number == 1 else f"{AGGREGATES}/{number}"
            found.append(Aggregate(place, index, entry))
        elif isinstance(entry, LeaveOneOutEntry):
            found.append(Aggregate(f"{LEAVE_ONE_OUT}/{entry.node_id}", index, entry))
    return found


def live(entries: list[Entry], before: int | None = None) -> dict[int, AcceptedEntry]:
    """Accepted, and neither withdrawn nor excluded, in the first `before` entries (None: all), by ledger index."""
    alive: dict[str, tuple[int, AcceptedEntry]] = {}
    for index, entry in enumerate(entries[:before]):
        if isinstance(entry, AcceptedEntry):
            alive[entry.node_id] = (index, entry)
        elif isinstance(entry, WithdrawnEntry | WithdrawnByNodeEntry | ExcludedEntry):
            alive.pop(entry.node_id, None)
    return dict(alive.values())


def check_aggregate(ground: Ground, which: Aggregate) -> str:
    """One model's files, signature, list of uploads and contents; the sentence of the finding.

    Raises:
        Failed: something does not fit.
    """
    place, entry = which.place, which.entry
    bundle = ground.read(f"{place}/{MODEL_BUNDLE}", 4 << 20)
    require(sha256_hex(bundle) == entry.bundle_sha256, f"{place}/{MODEL_BUNDLE} is not the one in the ledger")
    statement = ground.signed(f"{place}/{MODEL_BUNDLE}")
    files = _signed_files(ground, which, statement)
    kind = GlobalPredicate if which.left_out is None else LeaveOneOutPredicate
    said = predicate_of(statement, kind)
    uploads = _expected(ground, which, said)
    nodes = {upload.node_id for upload in uploads.values()}
    seen, study = quoted_checkpoint(said.checkpoint), ground.study
    used = {(a.node_id, a.sealed_sha256, a.bundle_sha256) for a in said.aggregated}
    accepted = {(e.node_id, e.sealed_sha256, e.bundle_sha256) for e in uploads.values()}
    enough = study.aggregation.quorum if which.left_out is None else 1
    found = {
        "study digest": said.study_digest == study.digest,
        "round": said.round_id == ground.manifest.round_id,
        "list of aggregated uploads (it is not exactly the accepted ones)": used == accepted,
        "list of absent nodes": set(said.absent) == set(study.roster) - nodes,
        "number of uploads (below the study's quorum)": len(used) >= enough,
        "ledger checkpoint": max(uploads, default=-1) < seen.size <= which.index
        and is_prefix(seen, ground.view),
        "seed (it is not the study's)": said.seed == study.seed,
        "node that is left out": getattr(said, "left_out", None) == which.left_out,
    }
    require_all(found, f"{place}/{MODEL_BUNDLE} does not fit the ledger and the study")
    if MODEL in files:
        _require_contents(ground, which, said, files)
        ground.vouched.update({f"{place}/{name}": digest for name, digest in statement.subjects.items()})
    named = ", ".join(sorted(nodes))
    if which.left_out is not None:
        here = "" if MODEL in files else "; the model itself is not in a node's copy"
        return f"the coordinator signed a model of the same uploads without that of {which.left_out} ({named}){here}"
    if which.place == GLOBAL:
        return f"the coordinator signed the global model of exactly the accepted uploads ({named})"
    return f"the coordinator signed a further global model of exactly the uploads accepted by then ({named})"


def _signed_files(ground: Ground, which: Aggregate, statement: Statement) -> dict[str, bytes]:
    """The files that a statement names, as they lie there. Models of before summaries were signed come without theirs, and of before
    samples were, without those."""
    place, entry = which.place, which.entry
    if ground.is_copy and which.left_out is not None:
        require(
            statement.subjects.get(MODEL) == entry.model_sha256,
            f"{place}/{MODEL_BUNDLE} is of another model than the ledger names",
        )
        return {}
    names = [MODEL] + [name for name in (MODEL_SIGNATURE, SAMPLES, SUMMARY) if name in statement.subjects]
    names += [TOTAL] if is_masked(ground.study) else []
    if which.left_out is not None and SAMPLES in names:
        names.remove(SAMPLES)
    limits = limits_of(ground.study)
    # What is not the signed file is not read, however much of it there is.
    found = {name: ground.digest(f"{place}/{name}", limits[name]) for name in names}
    wrong = [
        name for name in {*statement.subjects, *found} if statement.subjects.get(name) != found.get(name)
    ]
    named = ", ".join(f"{place}/{name}" for name in sorted(wrong)) or f"{place}/{MODEL}"
    require(
        not wrong and found[MODEL] == entry.model_sha256,
        f"{named} is not the file that the coordinator signed and the ledger names",
    )
    return {name: ground.read(f"{place}/{name}", limits[name]) for name in names}


def limits_of(study: Study) -> dict[str, int]:
    """How large the files of a model of `study` can be: whoever signs larger ones does not make an auditor read them."""
    from epgfn.learn.policy import largest_bytes

    return {
        MODEL: largest_bytes(study) + MAX_HEADER_BYTES + 8,
        SAMPLES: min(MAX_SAMPLES_BYTES, (1 << 20) + SAMPLE_BYTES * study.aggregation.samples),
        SUMMARY: MAX_SUMMARY_BYTES,
        MODEL_SIGNATURE: MAX_SIGNATURE_BYTES,
        TOTAL: largest_bytes(study) + MAX_HEADER_BYTES + 8,
    }


def _require_contents(
    ground: Ground, which: Aggregate, said: GlobalPredicate, files: dict[str, bytes]
) -> None:
    """The model is one of the study, and summary and samples, as far as they are signed, say what it says."""
    place, study = which.place, ground.study
    model, tensors = require_model(files[MODEL], study, f"{place}/{MODEL}")
    if MODEL_SIGNATURE in files:
        _require_signature(ground, files[MODEL_SIGNATURE], place, which.entry.model_sha256)
    if TOTAL in files:
        require_total(files[TOTAL], study, tensors, f"{place}/{TOTAL}")
    more = {"left_out": which.left_out, "number": which.number}
    summary = samples = None
    if SUMMARY in files:
        digest = which.entry.model_sha256
        summary = require_summary(files[SUMMARY], study, said, digest, more, f"{place}/{SUMMARY}")
    if SAMPLES in files:
        samples = require_samples(files[SAMPLES], study, f"{place}/{SAMPLES}")
    if summary is not None:
        require_relations(summary, None if samples is None else samples[0], study, f"{place}/{SUMMARY}")
    if not ground.draws or (summary is None and samples is None):
        return
    drawn = draw(model, tensors)
    if summary is not None:
        require_agreement(drawn, summary, f"{place}/{SUMMARY}")
    if samples is not None:
        require_sampled(drawn, *samples, summary, f"{place}/{SAMPLES}")


def _require_signature(ground: Ground, signature: bytes, place: str, digest: str) -> None:
    """What other people's tools verify is this very model, by the coordinator's key."""
    try:
        verify_model(signature, MODEL, digest, ground.coordinator)
    except RefusedError as error:
        raise Failed(f"{place}/{MODEL_SIGNATURE}: {error}") from None


def _expected(ground: Ground, which: Aggregate, said: GlobalPredicate) -> dict[int, AcceptedEntry]:
    """The uploads that must be in a model, by ledger index."""
    first, *others = published(ground.entries)
    whole = live(ground.entries, before=first.index)
    if which.left_out is not None:
        return {i: e for i, e in whole.items() if e.node_id != which.left_out}
    if which.place == GLOBAL:
        return whole
    uploads = live(ground.entries, before=said.checkpoint.size)
    earlier = max(a.index for a in (first, *others) if a.left_out is None and a.index < which.index)
    require(
        any(index > _seen(ground, earlier) for index in uploads),
        f"{which.place} holds no upload that the global model before it does not hold",
    )
    return uploads


def _seen(ground: Ground, index: int) -> int:
    """Ledger index of the newest upload in the global model that the entry at `index` names."""
    place = next(a.place for a in published(ground.entries) if a.index == index)
    said = predicate_of(ground.signed(f"{place}/{MODEL_BUNDLE}"), GlobalPredicate)
    return max(live(ground.entries, before=min(said.checkpoint.size, index)), default=-1)


def check_complete(ground: Ground) -> str:
    """Every late upload is in a model, and every node was left out once where the study asks for that.

    Raises:
        Failed: one is missing.
    """
    made = published(ground.entries)
    globals_ = [a for a in made if a.left_out is None]
    uploads = live(ground.entries)
    newest = max(uploads, default=-1)
    waiting = newest > _seen(ground, globals_[-1].index)
    require(
        not waiting,
        f"the upload of {uploads[newest].node_id if waiting else ''} is accepted and in no model yet; ask the coordinator, "
        "and audit again when it has made one",
    )
    wanted = {e.node_id for e in live(ground.entries, before=made[0].index).values()}
    left_out = {a.left_out for a in made if a.left_out is not None}
    if not ground.study.aggregation.leave_one_out or len(wanted) < 2:
        wanted = set()
    missing = ", ".join(sorted(wanted - left_out))
    require(not missing, f"the study asks for a model without each node, and there is none without {missing}")
    later = f"{len(globals_) - 1} further global models, " if len(globals_) > 1 else ""
    return f"every accepted upload is in a model ({later}{len(left_out)} models with a node left out)"


def require_result(entries: list[Entry]) -> str:
    """Empty if the round was published; the sentence for a round that ended without a result.

    Raises:
        Failed: it has not ended.
    """
    state = last_state(entries)
    if state in ENDED_WITHOUT:
        return f"the round ended as {state}: there is no global model, and nothing may be shown as one"
    if state != PUBLISHED or not published(entries):
        raise Failed(f"no global model is published: the round is {state}; audit again when it is published")
    return ""

"""What an audit comes to, in ten lines for somebody who is no cryptographer: what is proved, by whose keys, what rests on whose word, and
what nobody can know from a run directory."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final, NamedTuple

from epgfn.ledger.entries import EnrolledEntry, RefusedEntry, RevokedEntry, RotatedEntry
from epgfn.run.audit.aggregates import last_state, live, published
from epgfn.run.audit.audit import About, AuditReport
from epgfn.run.layout import GLOBAL, SAMPLES, SUMMARY
from epgfn.study import Study
from epgfn.study.lacks import notes_of
from epgfn.study.parameters import is_masked

PROVED: Final = "Proved"
KEYS: Final = "By the keys of"
WORD: Final = "On the word of"
UNKNOWN: Final = "Cannot be known"


class Line(NamedTuple):
    """What kind of knowledge it is, and the sentence."""

    kind: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind + ':':<17}{self.sentence}"


def conclusion(report: AuditReport) -> list[Line]:
    """The ten lines; where a check failed, what failed and that the rest is not to be relied on."""
    if not report.ok or report.about is None:
        failed = [finding.check for finding in report.findings if not finding.ok]
        return [
            Line("NOT proved", f"{len(failed)} of {len(report.findings)} checks failed: {', '.join(failed)}"),
            Line(
                "What to do",
                "do not rely on this run; show the lines that begin with FAIL to whoever gave it to you, and ask for the original",
            ),
        ]  # fmt: skip
    about = report.about
    return [*_proved(about, report.vouched), *_keys(about), *_words(about), *_unknown(about)]


def _proved(about: About, vouched: Container[str]) -> list[Line]:
    entries, study = about.entries, about.study
    models = published(entries)
    used = sorted(e.node_id for e in live(entries, before=models[0].index).values()) if models else []
    others = sorted(set(study.roster) - set(used))
    if models:
        what = "total of the masked numbers" if is_masked(study) else "models"
        result = f"the result is signed as one of the {what} of {_names(used)}"
        result += (
            f", and of no other node; {_names(others)} took no part in it"
            if others
            else ", which is the whole roster"
        )
        shown = _shown([name for name in (SAMPLES, SUMMARY) if f"{GLOBAL}/{name}" in vouched])
    else:
        result = f"the round ended as {last_state(entries)}; whatever is shown as its result is not"
        shown = Line(PROVED, "no model, sample or probability lies in the run directory")
    sent = sorted({e.node_id for e in live(entries).values()})
    unchanged = (
        f"not a byte of what {_names(sent)} sent was changed since, and the ledger has acknowledged each"
        if sent
        else "no node's model counts"
    )
    if about.copy_of is not None and sent:
        unchanged = f"what {_names(sent)} signed was not changed since, and the ledger has acknowledged each"
    kept = (
        f"the ledger of {len(entries)} entries is in one piece, signed as a whole"
        if not about.kept
        else f"the ledger of {len(entries)} entries is in one piece, and agrees with {_kept(about.kept)} of others"
    )
    if about.witnesses:
        kept += f", and is cosigned by {_names(about.witnesses)}: another history would need all of these as accomplices"
    return [Line(PROVED, result), shown, Line(PROVED, unchanged), Line(PROVED, kept)]


def _shown(signed: list[str]) -> Line:
    told = {SAMPLES: "samples", SUMMARY: "probabilities"}
    if len(signed) == len(told):
        return Line(
            PROVED,
            "samples and probabilities beside it are what the model gives, its draws or its scores: the auditor drew from it again",
        )
    missing = _names(name for key, name in told.items() if key not in signed)
    return Line(
        "NOT proved",
        f"the {missing} beside it, which this run of an earlier version did not sign: draw your own with epgfn sample",
    )


def _keys(about: About) -> list[Line]:
    nodes = sorted({e.node_id for e in about.entries if isinstance(e, EnrolledEntry)})
    revoked = sorted({e.node_id for e in about.entries if isinstance(e, RevokedEntry)})
    whose = (
        "which is the one you gave"
        if about.pinned
        else "which NOBODY HAS COMPARED: until you do, with the coordinator's operator, anyone could have made all this"
    )
    if about.followed is not None:
        first, last = about.followed.rotations[0].said, about.followed.rotations[-1].said
        whose = f"which signed all of this round, and took the place of the one you gave, {first.old_fingerprint}, on {last.time}"
    rotated = sorted({e.node_id for e in about.entries if isinstance(e, RotatedEntry)})
    again = f" (revoked, or replaced: {_names(revoked)})" if revoked else ""
    again += (
        f" (changed by the node itself, what it sent before being signed with the old one: {_names(rotated)})"
        if rotated
        else ""
    )
    own = f", of which {about.own}'s is this node's own" if about.own else ""
    return [
        Line(KEYS, f"the coordinator, {about.coordinator}, {whose}"),
        Line(KEYS, f"{_names(nodes)}{again}, as the coordinator enrolled them{own}: compare keys/nodes with what they tell you"),
    ]  # fmt: skip


def _words(about: About) -> list[Line]:
    refused = sorted({e.node_id for e in about.entries if isinstance(e, RefusedEntry)})
    masked = is_masked(about.study)
    of = (
        "that the total, from which the scores were computed here again, is that of the sealed uploads"
        if masked
        else "that the result was computed from these models"
    )
    said = [of] if published(about.entries) else []
    said += [
        "that it will not open them for itself although it keeps the round key"
        if about.manifest.keep_round_key
        else "that the round key is gone"
    ]
    said += [f"why uploads of {_names(refused)} were refused"] if refused else []
    said += ["how far the result is from the exact posterior (a simulation)"] if about.compared else []
    return [
        Line(WORD, f"the coordinator: {', '.join(said)}"),
        Line(
            WORD,
            "each node: that what it put under its masks is the statistic of its own records"
            if masked
            else f"each node: that it trained as agreed, on its own records{_privacy(about.study)}",
        ),
    ]


def _unknown(about: About) -> list[Line]:
    readable = (
        "who has read which model before: the coordinator could, and each tells what its node's records say"
        if not about.study.privacy.is_private
        else "who has read which model before: the coordinator could, up to the noise that its node has drawn"
    )
    if is_masked(about.study):
        t, nodes = about.study.aggregation.quorum, len(about.study.roster)
        readable = (
            f"whether {t} nodes or more have sided with the coordinator, or {2 * t - nodes} with one that lied: they could have read what "
            "single nodes sent; whether each name in the roster was another party; and what a node put under its masks"
        )
    dropped = "whether the records are true, or something was dropped before it came into the ledger"
    if about.copy_of is not None:
        dropped += f"; whether the sealed models of others, which are not in {about.copy_of}'s copy, are those that were signed"
    if not about.kept and not about.witnesses:
        dropped += "; whether others were shown another ledger (hold their receipts against it: --receipts)"
    models = published(about.entries)
    used = sorted(e.node_id for e in live(about.entries, before=models[0].index).values()) if models else []
    lacking = [Line(UNKNOWN, f"{note[0].lower()}{note[1:]}") for note in notes_of(about.study, used)]
    return [Line(UNKNOWN, readable), Line(UNKNOWN, dropped), *lacking]


def _kept(count: int) -> str:
    return "one receipt or checkpoint" if count == 1 else f"{count} receipts and checkpoints"


def _privacy(study: Study) -> str:
    return ", and drew the noise that it claims" if study.privacy.is_private else ""


def _names(nodes: Iterable[str]) -> str:
    names = list(nodes)
    if len(names) < 2:
        return names[0] if names else "nobody"
    return f"{', '.join(names[:-1])} and {names[-1]}"

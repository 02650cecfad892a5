"""What would leave this machine, in plain words, before anything does."""

from __future__ import annotations

import math
from typing import Any

from epgfn.base.errors import EpgfnError
from epgfn.base.files import sha256_hex
from epgfn.sealing.model_header import DTYPES
from epgfn.study.lacks import lacked_by, notes_of
from epgfn.study.parameters import is_masked, statistic_in_words
from epgfn.study.records.names import listed
from epgfn_node import statistic as beside
from epgfn_node.check import PRIVATE, said
from epgfn_node.check import kept as kept_check
from epgfn_node.enroll import Connection
from epgfn_node.exposure import exposed
from epgfn_node.exposure import in_words as exposed_in_words
from epgfn_node.outbox import is_approved_to_mask, load_package, planned_predicate, read_local_header
from epgfn_node.privacy import in_words as in_plain_words
from epgfn_node.privacy import kept_claim, operator_of
from epgfn_node.settings import NodeSettings
from epgfn_node.small_counts import FLAG, accepted
from epgfn_node.small_counts import found as small_counts
from epgfn_node.study import Agreement

RECORDS = "the file of your records"
"""And no more than that without a privacy mode: a good deal of it can be computed from the model."""
RECORDS_UNDER_PRIVACY = "the records, any single value or the number of rows"
NEVER = (
    "what the records look like (local/check.json)",
    "training losses and history (local/history.json), and what an unfinished training keeps (local/training.state)",
    "the private keys in keys/",
)

NOT_CHECKED = "they were not looked at when this model was trained; epgfn-node check does"
NEVER_UNMASKED = "the numbers above without masks, and the secrets of the masks (local/masked-sum.json)"
NEVER_UNDER_PRIVACY = (
    "the statistic without noise, and anything else computed from the records but the release",
    "the spending log and this node's key to it",
)


def inspect(connection: Connection, agreement: Agreement, settings: NodeSettings) -> dict[str, Any]:
    """Everything there is to know about what would leave, as JSON values. `status` is trained, approved or accepted.

    Raises:
        EpgfnError: nothing is trained yet.
        RefusedError: a file was changed.
    """
    home, study = connection.home, agreement.study
    raw, forms = read_local_header(home, agreement)
    digest = sha256_hex(raw)
    kept = kept_claim(home, study, digest)
    # Without a budget of the operator's, what was spent is held against the study's limit.
    operator = (
        operator_of(home, settings, study, settings.privacy_budget_epsilon or study.privacy.epsilon)
        if kept
        else None
    )
    predicate = planned_predicate(connection, agreement, len(raw), kept)
    status, sealed_sha256 = "trained", None
    try:
        package = load_package(connection, agreement)
        predicate, sealed_sha256 = package.predicate, package.sealed_sha256
        status = "accepted" if home.receipt.exists() else "approved"
    except EpgfnError:
        if is_masked(study) and is_approved_to_mask(home, digest):
            status = "approved"
        # else not approved, or no longer: `status` says so
    found = None if study.privacy.is_private else kept_check(home, study)
    return {
        "status": status,
        "study": study.name,
        "study_digest": study.digest,
        "node": connection.node_id,
        "coordinator": connection.address,
        "model_file": str(home.model),
        "model_sha256": digest,
        "sealed_sha256": sealed_sha256,
        "tensors": [
            {"name": name, "shape": list(shape), "dtype": DTYPES[dtype], "numbers": math.prod(shape)}
            for name, (dtype, shape) in sorted(forms.items())
        ],
        "privacy": in_plain_words(study, kept, operator),
        "notice": study.notice,
        "resemblance": study.resemblance,
        "disclosure": study.disclosure,
        "caution": study.caution,
        "one_way": study.one_way,
        "of_lacks": notes_of(study),
        "foreign_code": study.foreign,
        "statement": predicate.model_dump(mode="json"),
        "records_check": found,
        "lacks": lacked_by(study, connection.node_id),
        "small_counts": (not is_masked(study) and small_counts(home, study)) or None,
        "small_counts_accepted": accepted(home, study),
        "statistic": statistic_in_words(study) or None,
        "masked": is_masked(study),
        "statistic_accepted": beside.accepted(home, study),
        "unchecked": PRIVATE if study.privacy.is_private else NOT_CHECKED,
        "exposed": exposed(study, raw, forms, None if found is None else int(found["records"])),
        "never_leaves": [
            RECORDS_UNDER_PRIVACY if kept else RECORDS, *NEVER, *(NEVER_UNDER_PRIVACY if kept else ()),
            *((NEVER_UNMASKED,) if is_masked(study) else ()),
        ],
    }  # fmt: skip


def in_words(facts: dict[str, Any]) -> str:
    """The facts of `inspect` as text for people."""
    statement = facts["statement"]
    status = {
        "trained": "Nothing has left this machine, and nothing will until you approve.",
        "approved": "Approved: `epgfn-node submit` sends it.",
        "accepted": "Sent and accepted by the coordinator.",
    }[facts["status"]]
    what = "these numbers, under masks" if facts["masked"] else "the trained model"
    lines = [
        f"Study        {facts['study']}",
        f"  digest     {facts['study_digest']}",
        f"Node         {facts['node']}",
        f"Coordinator  {facts['coordinator']}",
        "",
        status,
        "",
        "What leaves, once, in two files",
        f"  1. {what}, {statement['model_size']} bytes, encrypted to {statement['sealed_size']} bytes",
        f"     SHA-256 before {'masks and ' if facts['masked'] else ''}encryption {facts['model_sha256']}",
    ]
    if facts["sealed_sha256"]:
        lines.append(f"     SHA-256 as sent           {facts['sealed_sha256']}")
    for tensor in facts["tensors"]:
        shape = " x ".join(str(n) for n in tensor["shape"]) or "scalar"
        lines.append(f"     - {tensor['name']}: {shape} {tensor['dtype']} ({tensor['numbers']} numbers)")
    if facts["statistic"]:
        lines += [
            "     A statistic of your records, of which the coordinator reads the total over all nodes that take part:"
            if facts["masked"]
            else "     In the same file, beside the model, a statistic of your records (the tensors named statistic.*):",
            f"     {facts['statistic']}.",
        ]
        if not facts["statement"]["privacy"].get("epsilon"):
            lines.append(
                "     You have accepted that it leaves."
                if facts["statistic_accepted"]
                else f"     To let it leave: {beside.FLAG}"
            )
    if facts["lacks"]:
        lines.append(
            f"     It says nothing of {listed(facts['lacks'])}, which this node does not have (data.lacks)."
        )
    if facts["masked"]:
        lines += [
            "     Before that, in messages of their own: keys made for this sum, and shares of them sealed to the other nodes. After it:",
            "     whose total it is, signed, and what takes the masks off that total. None of these depends on your records.",
        ]
    lines.append("  2. a signed statement, readable by everyone who audits the study, which says")
    lines += [f"     - {name}: {_short(value)}" for name, value in statement.items() if name != "privacy"]
    lines += [f"     - privacy: {_claim(statement['privacy'])}"]
    lines += ["", f"Privacy mode  {facts['privacy']}"]
    told = exposed_in_words(facts["exposed"])
    heading = "What the coordinator learns" if facts["masked"] else "What can be computed from the model"
    lines += ["", heading, *told] if told else []
    notes = (
        facts["foreign_code"],
        facts["notice"],
        facts["resemblance"],
        facts["disclosure"],
        facts["caution"],
        facts["one_way"],
        *facts["of_lacks"],
    )
    for note in filter(None, notes):
        lines += ["", f"Note: {note}."]
    lines += ["", "What never leaves"]
    lines += [f"  - {item}" for item in facts["never_leaves"]]
    lines += ["", "Your records, for your eyes alone"]
    found = facts["records_check"]
    lines += [f"  {line}" for line in (said(found) if found else [facts["unchecked"]])]
    if small := facts["small_counts"]:
        word = (
            "You have accepted that they leave."
            if facts["small_counts_accepted"]
            else f"To let them leave: {FLAG}"
        )
        lines += [f"  Small counts: {small}. {word}"]
    if facts["status"] == "trained":
        lines += ["", f"To approve this very model: epgfn-node approve --model {facts['model_sha256']}"]
    return "\n".join(lines)


def _claim(stated: dict[str, Any]) -> str:
    if "epsilon" not in stated:
        return _short(stated)
    if stated["subsampling"] is not None:
        said = stated["subsampling"]
        parts = (
            f"{said['steps']} steps, each record in one with probability {said['rate']:.4g}, clip {said['clip']:.4g} "
            f"({said['clip_source']}), "
            f"noise multiplier {said['noise_multiplier']:.6g}"
        )
    else:
        parts = "; ".join(map(_stage, stated["stages"])) + " (grid steps)"
    return (
        f"the claim, from which anyone recomputes epsilon: {stated['mode']}, {stated['mechanism']}, epsilon {stated['epsilon']:.6g}, "
        f"delta {stated['delta']:.3g}, mu {stated['mu']:.6g}, adjacency {stated['adjacency']}, unit {stated['unit']}, {parts}; every "
        "field with --json"
    )


def _stage(stage: dict[str, Any]) -> str:
    noise = ", ".join(f"{part['kind']} {part['scale']:.4g}" for part in stage["noise"])
    if not stage["norm_bound"]:
        return f"{stage['name']}: {stage['clip_source']}, noise {noise}"
    return f"{stage['name']}: clip {stage['norm_bound'] / 2 ** stage['grid_bits']:.4g} ({stage['clip_source']}), noise {noise}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)

"""The disclosure dossier: a record of what would leave, what it tells and to whom, and who decides, for whoever checks outputs here.

It is made by `epgfn-node inspect --dossier DIR` and stays with the institution: it is computed from the records, without noise. Its form is
docs/formats/disclosure-dossier.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_secret, sha256_file, write_secret
from epgfn.run.report.html import (
    Markup,
    bullets,
    facts,
    fragment,
    hash_text,
    page,
    paragraph,
    section,
    table,
    tag,
)
from epgfn.sealing.model_header import read_header
from epgfn.study import Study
from epgfn.study.lacks import held_by, of_node
from epgfn.study.parameters import agreement_in_words, is_masked
from epgfn_node.approval import begun
from epgfn_node.exposure import TABLE, exposed_table
from epgfn_node.exposure import in_words as exposed_in_words
from epgfn_node.home import NodeHome
from epgfn_node.settings import NodeSettings

if TYPE_CHECKING:
    from epgfn_node.study import Agreement

FORMAT: Final = "epgfn-disclosure-dossier/v1"
RECORD, PAGE = "dossier.json", "dossier.html"
LOCAL: Final = "Computed from the records, without noise: for this institution alone."
KNOWS: Final = {
    "reconstruction": "the model, opened, and the study; of more than 300 records of categories also their number",
    "membership-all-but-one": "the model, opened, and every record but the one in question",
    "membership-population": "what is usual among such records, and models of random halves of them",
}


def make(
    home: NodeHome, agreement: Agreement, settings: NodeSettings, found: Mapping[str, Any], data: Path | None
) -> dict[str, Any]:
    """The record, from what `epgfn_node.inspection.inspect` has `found`. `data`: the records, for attacks that need them."""
    study, statement = agreement.study, found["statement"]
    approval = statement.get("approval") or {"by": begun(home, found["model_sha256"])}
    check = found["records_check"]
    shared = (
        agreement_in_words(study) if study.privacy.is_private else ""
    )  # else it is among what can be computed
    return {
        "format": FORMAT,
        "satre": {"version": "2", "technical_controls": "3.3.07", "disclosure_check_record": "3.3.09"},
        "made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "local_only": True,
        "output": {
            "study": {"name": found["study"], "digest": found["study_digest"]},
            "round_id": statement["round_id"],
            "node_id": found["node"],
            "recipient": found["coordinator"],
            "model": {"sha256": found["model_sha256"], "size": statement["model_size"], "tensors": found["tensors"]},
            "sealed": {"sha256": found["sealed_sha256"], "size": statement["sealed_size"]},
        },
        "technical_controls": {
            "encryption": {"suite": statement["suite"], "round_key_id": statement["round_key_id"]},
            "round_key_is_kept": agreement.round.keep_round_key,
            "signing_key": statement["sender_fingerprint"],
            "ledger": statement["checkpoint"]["origin"],
            "largest_upload": study.transport.max_upload_bytes,
            "outputs_in_this_round": 1,
        },
        "privacy": {"claim": statement["privacy"], "in_words": found["privacy"]},
        "disclosure": {
            "readable_by": _readers(agreement),
            "can_be_computed": found["exposed"]["words"],
            "never_leaves": found["never_leaves"],
            "notes": [note for note in (shared, found["disclosure"], found["caution"], found["foreign_code"]) if note],
        },
        "attacks": _attacks(home, study, found["node"], found, data),
        "records_check": {
            "records": None if check is None else check["records"],
            "warnings": [] if check is None else check["warnings"],
            "unchecked": None if check is not None else found["unchecked"],
            "small_counts": found["small_counts"],
            "small_counts_accepted": found["small_counts_accepted"],
        },
        "software": statement["software"],
        "decision": {
            "status": found["status"],
            "approvals_needed": settings.approvals,
            "approved_by": list(approval["by"]),
        },
    }  # fmt: skip


def write(folder: Path, record: Mapping[str, Any]) -> list[Path]:
    """Write record and page, readable by their owner alone; what is there of before is replaced.

    Raises:
        EpgfnError: they cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EpgfnError(
            f"cannot make the folder {folder}: {error.strerror}; choose another --dossier"
        ) from None
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_secret(folder / RECORD, text.encode("utf-8"))
    write_secret(folder / PAGE, as_page(record).encode("utf-8"))
    return [folder / RECORD, folder / PAGE]


def _readers(agreement: Agreement) -> list[str]:
    if is_masked(agreement.study):
        return [
            "this node's numbers without masks: nobody",
            "under masks: the coordinator, who holds the round key until it destroys it, and to whom they are uniform noise",
            "their total over the nodes that take part: the coordinator, and everybody who gets the result",
            "the signed statement about them: everybody who audits the study",
        ]
    model = "the model: the coordinator, who holds the round key"
    model += (
        ", keeps it after the round, and may give it to an auditor"
        if agreement.round.keep_round_key
        else " until it destroys it"
    )
    return [model, "the signed statement about it: everybody who audits the study"]


def _attacks(
    home: NodeHome, study: Study, node_id: str, found: Mapping[str, Any], data: Path | None
) -> list[dict[str, Any]]:
    if study.privacy.is_private:
        return [_bounded(found["statement"]["privacy"])]
    if is_masked(study):
        why = "what leaves is uniform, whatever the records, to whoever lacks the masks; the total is of all nodes, and not to be had here"
        return [_tried("reconstruction", "this artifact", None, why)]
    told = exposed_in_words(found["exposed"])
    made = {key: value for key, value in found["exposed"].items() if key != "words" and value is not None}
    reconstruction = _tried(
        "reconstruction", "this artifact", made or None, "it does not come out, or nothing here tries to"
    )
    if made:
        reconstruction["in_words"] = " ".join(line.strip() for line in told[1:])
    raw = read_secret(home.model)
    numbers = exposed_table(raw, read_header(raw)[0]) if study.kind.carries_scores else None
    if numbers is None:
        why = f"the model carries no {TABLE}, and nothing here attacks the flow alone"
        return [reconstruction, _tried("membership-all-but-one", "this artifact", None, why)]
    records, why = _records(home, study, node_id, data)
    if records is None:
        return [
            reconstruction,
            _tried("membership-all-but-one", "this artifact", None, why),
            _tried("membership-population", "models of halves of the records", None, why),
        ]
    from epgfn.privacy.of_study import membership

    # What the node lacks is blank throughout.
    other = membership.population(of_node(study, node_id), records[:, held_by(study, node_id)], seed=0)
    try:
        known = membership.as_json(membership.all_but_one(study, numbers, records, seed=0))
    except EpgfnError:  # one record less, and there are too few for a score
        known = None
    return [
        reconstruction,
        _tried("membership-all-but-one", "this artifact", known, "there are too few records"),
        _tried(
            "membership-population",
            "models of halves of the records",
            None if other is None else membership.as_json(other),
            "there are too few records",
        ),
    ]


def _tried(name: str, on: str, result: dict[str, Any] | None, why_not: str = "") -> dict[str, Any]:
    done = {"name": name, "on": on, "attacker_knows": KNOWS[name], "result": result}
    return done if result is not None else {**done, "why_not": why_not}


def _bounded(claim: Mapping[str, Any]) -> dict[str, Any]:
    """Under differential privacy the claim bounds every attack, and none is tried on the release: a second look at the records would be."""
    result = None
    if claim.get("mu"):
        from scipy.special import ndtr, ndtri

        power = float(ndtr(ndtri(0.01) + float(claim["mu"])))
        result = {"bound": True, "true_positive_rate_at_1_percent": round(power, 4)}
    return {
        "name": "membership-all-but-one",
        "on": "the release, by its claim",
        "attacker_knows": KNOWS["membership-all-but-one"],
        "result": result,
        **({} if result else {"why_not": "the claim says epsilon and delta, and no mu"}),
    }


def _records(home: NodeHome, study: Study, node_id: str, data: Path | None) -> tuple[Any, str]:
    """The records the model was trained on, and otherwise why not."""
    if data is None or not data.is_file():
        return None, "the file of the records is not named; add --data FILE"
    try:
        if sha256_file(data).encode("ascii") != read_secret(home.records_digest):
            return None, "the file is not the one that the model was trained on"
        from epgfn.study.records.tables import load_records

        return load_records(data, study, node_id), ""
    except EpgfnError:
        return None, "the file of the records cannot be read"


def as_page(record: Mapping[str, Any]) -> str:
    """The record as an HTML page, complete in itself."""
    output, controls, check, decision = (
        record[key] for key in ("output", "technical_controls", "records_check", "decision")
    )
    tensors = table(
        "Tensors of the model",
        ("name", "shape", "type", "numbers"),
        (
            [each["name"], " x ".join(map(str, each["shape"])) or "scalar", each["dtype"], each["numbers"]]
            for each in output["model"]["tensors"]
        ),
        numeric=("numbers",),
    )
    warnings = [f"{'WARNING' if each['loud'] else 'Note'}: {each['text']}" for each in check["warnings"]]
    small = check["small_counts"]
    accepted = "accepted" if check["small_counts_accepted"] else "not accepted"
    body = [
        tag("h1", f"Disclosure dossier: {output['study']['name']}, {output['node_id']}"),
        paragraph(tag("strong", LOCAL)),
        paragraph(f"Made {record['made_at']}. The record for programs is {RECORD}, beside this page."),
        section(
            "What would leave",
            facts(
                [
                    ("Study", output["study"]["name"]),
                    ("Digest of the study", hash_text(output["study"]["digest"])),
                    ("Round", output["round_id"]),
                    ("Sent to", output["recipient"]),
                    ("Model, SHA-256", hash_text(output["model"]["sha256"])),
                    ("Model, bytes", output["model"]["size"]),
                    ("As sent, SHA-256", hash_text(output["sealed"]["sha256"])),
                    ("As sent, bytes", output["sealed"]["size"]),
                ]
            ),
            tensors,
        ),
        section(
            "Technical controls",
            facts(
                [
                    ("Encrypted to", f"the round key, {controls['encryption']['suite']}"),
                    ("Round key", hash_text(controls["encryption"]["round_key_id"])),
                    ("Kept after the round", "yes" if controls["round_key_is_kept"] else "no"),
                    ("Signed with", hash_text(controls["signing_key"])),
                    ("Entered in the ledger", controls["ledger"]),
                    ("Largest upload, bytes", controls["largest_upload"]),
                ]
            ),
        ),
        section("Privacy", paragraph(record["privacy"]["in_words"])),
        section(
            "What it tells, and whom",
            bullets(record["disclosure"]["readable_by"]),
            paragraph(record["disclosure"]["can_be_computed"])
            if record["disclosure"]["can_be_computed"]
            else "",
            bullets(record["disclosure"]["notes"]) if record["disclosure"]["notes"] else "",
            tag("h3", "What never leaves"),
            bullets(record["disclosure"]["never_leaves"]),
        ),
        section("Attacks, tried here", *(_shown(each) for each in record["attacks"])),
        section(
            "The records",
            paragraph(check["unchecked"])
            if check["unchecked"]
            else paragraph(f"{check['records']} records."),
            bullets(warnings) if warnings else "",
            paragraph(f"Small counts: {small}; {accepted}.") if small else "",
        ),
        section("Software", facts(sorted(record["software"].items()))),
        section(
            "Decision",
            facts(
                [
                    ("State", decision["status"]),
                    ("Persons who have to approve", decision["approvals_needed"]),
                    ("Approved by", "; ".join(decision["approved_by"]) or "nobody by name"),
                ]
            ),
        ),
    ]
    return page("Disclosure dossier", Markup("\n".join(fragment(part) for part in body)))


def _shown(attack: Mapping[str, Any]) -> Markup:
    result = attack["result"]
    figures = [("On", attack["on"]), ("Who attacks knows", attack["attacker_knows"])]
    if result is None:
        figures.append(("Result", f"not measured: {attack['why_not']}"))
    elif "in_words" in attack:
        figures.append(("Result", attack["in_words"]))
    else:
        figures += [(name.replace("_", " "), value) for name, value in result.items()]
    return Markup(tag("h3", attack["name"]) + facts(figures))

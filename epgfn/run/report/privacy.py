"""What each node promised about its records, and what the claims add up to when they are computed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes
from epgfn.privacy.of_study.agreement import require_claim
from epgfn.run.layout import UPLOAD_BUNDLE, RunLayout
from epgfn.run.report.html import Markup, chapter, paragraph, table, tag
from epgfn.run.report.verified import Verified
from epgfn.run.report.words import words_of
from epgfn.sealing.bundle import MAX_BYTES as MAX_BUNDLE_BYTES
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import UploadPredicate
from epgfn.sealing.statement import parse_statement, predicate_of
from epgfn.study import Study
from epgfn.study.parameters import is_masked
from epgfn.study.privacy import meaning

NONE = (
    "Mode “none”: no differential privacy.",
    "Records never left a node, and uploads were encrypted on the way. But a trained policy carries its subposterior: whoever "
    "can open a node's upload, such as the coordinator, can read that node's posterior over {objects}. It is a summary of its "
    "records, and nothing bounds what it gives away about one of them.",
)
MASKED = (
    "Mode “none”: no differential privacy, and sums are masked.",
    "Records never left a node, and no node sent a model. Each sent sums over its records under masks, of which the coordinator read the "
    "total of all nodes, as long as too few of them sided with it. The total is published, exactly: nothing bounds what it gives away "
    "about one record of all nodes together.",
)
HEAD = ("node", "epsilon", "delta", "mechanism")
ASSUMES = (
    "The claim is computed again here from the node's clipping bounds and noise alone. It holds if the node did what it signed: "
    "nobody else can see its noise. A person who appears in several records, or in the records of several nodes, is protected less; and "
    "the bound is for this study, not for what else was ever published about the same records."
)


class Promise(NamedTuple):
    """One node's claim: `epsilon` and `delta` as its parameters give them; or, in `problem`, why they do not count."""

    node_id: str
    epsilon: float = 0.0
    delta: float = 0.0
    mechanism: str = ""
    problem: str = ""


def read_promises(verified: Verified, study: Study) -> list[Promise]:
    """The signed claim of each node whose upload is there; none in a study without privacy."""
    if not study.privacy.is_private:
        return []
    nodes = [node for node in study.roster if RunLayout(verified.root).upload(node).is_dir()]
    problems = {
        node: verified.problem("ledger", "ledger-entries", "node-keys", f"upload {node}") for node in nodes
    }
    return [
        Promise(node, problem=problem) if problem else _promise(verified.root, study, node)
        for node, problem in problems.items()
    ]


def _promise(run_dir: Path, study: Study, node: str) -> Promise:
    try:
        key = VerifyKey.from_pem(
            read_bytes(RunLayout(run_dir).node_key(node), "node's key", MAX_BUNDLE_BYTES)
        )
        bundle = read_bytes(
            RunLayout(run_dir).upload(node) / UPLOAD_BUNDLE, "node's statement", MAX_BUNDLE_BYTES
        )
        said = predicate_of(parse_statement(verify_bundle(bundle, key)), UploadPredicate)
        claim = require_claim(study, said.privacy, may_be_of_before=True)
    except UsageError:
        return Promise(node, problem="its statement is missing")
    except EpgfnError as error:
        return Promise(node, problem=str(error))
    assert claim is not None
    return Promise(node, claim.epsilon, claim.delta, claim.mechanism)


def privacy(study: Study, promises: Sequence[Promise]) -> Markup:
    """The privacy mode in words, and each node's epsilon."""
    asked = study.privacy
    words = words_of(study)
    key = paragraph(
        "The study keeps the key that opens the uploads, for an auditor: whoever holds it can read every node's model."
        if study.transport.keep_round_key
        else "The study has the key that opens the uploads destroyed after aggregation; the ledger records when."
    )
    if asked.epsilon is None or asked.delta is None:
        headline, text = MASKED if is_masked(study) else NONE
        return chapter(
            "privacy",
            "Privacy",
            paragraph(tag("strong", headline), " ", text.format(objects=words.objects)),
            key,
        )
    rows = [
        [p.node_id, "–", "–", f"does not count: {p.problem}"]
        if p.problem
        else [p.node_id, f"{p.epsilon:.4g}", f"{p.delta:.3g}", p.mechanism]
        for p in promises
    ]
    return chapter(
        "privacy",
        "Privacy",
        paragraph(
            tag(
                "strong",
                f"Mode “{asked.mode}”: differential privacy for each {study.protected} of each node.",
            ),
            " The study allows ",
            meaning(asked.epsilon, asked.delta, asked.adjacency, study.protected),
        ),
        table(
            "What each node claims, computed again from its clip bounds and noise.",
            HEAD,
            rows,
            numeric=("epsilon", "delta"),
        ),
        paragraph(ASSUMES),
        key,
    )

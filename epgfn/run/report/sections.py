"""The sections of the report, one function each, from a `Run` to HTML. Figures are handed in as PNG bytes."""

from __future__ import annotations

import numpy as np

from epgfn.ledger.entries import RoundEntry
from epgfn.run.comparison.graphs import Comparison
from epgfn.run.comparison.objects import ObjectComparison
from epgfn.run.layout import COMPARISON, GLOBAL
from epgfn.run.report.found import Found
from epgfn.run.report.html import (
    Markup,
    bullets,
    facts,
    folded,
    hash_text,
    join,
    link,
    paragraph,
    picture,
    subsection,
    table,
    tag,
    tiles,
)
from epgfn.run.report.run import Run, Upload
from epgfn.run.report.text import number, plain, size
from epgfn.run.report.verdict import compared, verdict
from epgfn.run.report.words import columns, words_of
from epgfn.study.design import in_words as design_in_words
from epgfn.study.knowledge import prior_in_words
from epgfn.study.lacks import in_words as lacks_in_words
from epgfn.study.lacks import notes_of
from epgfn.study.missing import in_words as blanks_in_words
from epgfn.study.missing import not_in_figures
from epgfn.study.parameters import is_masked, is_shared

SIMULATED = (
    "This run is a simulation by somebody who held all records, and so can say how far the global model is from the exact posterior; no "
    f"party of a real study can. It is in {GLOBAL}/{COMPARISON}, signed with the simulated coordinator's key once the round was over."
)


AT_ONCE = ("poor", "open")
"""Where a result is not to be believed, or nobody knows, the reasons stand with the answer."""
CHAPTERS = (
    ("found", "What was found"),
    ("believe", "Whether to believe it"),
    ("privacy", "Privacy"),
    ("provenance", "Where it comes from"),
)


def header(run: Run, told: Markup | str) -> Markup:
    """Name, description, the answer in a sentence, and in four short ones what was `told`."""
    said = verdict(run)
    nodes = f"{len(run.aggregated)} of {len(run.uploads)}"
    called, names = columns(run.study)
    audited = "passed" if run.findings and not run.failures else "FAILED"
    return join([
        tag("header", tag("h1", run.study.name), tag("p", run.study.description or "A federated study.", class_="lead")),
        _warning(run),
        _box(said.tone, said.headline, said.found, said.detail if said.tone in AT_ONCE else ""),
        told,
        tiles([("nodes in the product", nodes), (called, str(len(names))), ("audit", audited)]),
        tag("nav", *(link(name, title) for name, title in CHAPTERS), aria_label="On this page"),
    ])  # fmt: skip


def believe(run: Run) -> Markup:
    """The coordinator's own judgement, and a simulation's, in words."""
    said, beside = verdict(run), compared(run)
    errors: list[tuple[str, str]] = []
    if run.found is not None and run.found.comparison is not None:
        errors = _distance_tiles(run.found, run.found.comparison)
    if run.comparison is not None:
        errors = _error_tiles(run, run.comparison)
    return join([
        "" if said.tone in AT_ONCE else paragraph(said.detail),
        paragraph(SIMULATED) if beside is not None or errors else "",
        _box(beside.tone, beside.headline, beside.detail) if beside is not None else "",
        tiles(errors) if errors else "",
    ])  # fmt: skip


def _box(tone: str, headline: str, *details: str) -> Markup:
    return tag(
        "div",
        tag("strong", headline),
        *(paragraph(detail) for detail in details if detail),
        class_=f"verdict {tone}",
    )


def _warning(run: Run) -> Markup | str:
    """What does not verify."""
    if not run.failures:
        return ""
    first = "The ledger does not verify. " if run.ledger.problem else "This run does not verify. "
    said = paragraph(tag("strong", first), "What is not shown below is left out for that. epgfn audit says:")
    return tag("div", said, bullets(run.failures), class_="warning")


def _error_tiles(run: Run, comparison: Comparison) -> list[tuple[str, str]]:
    if run.edges is None:
        return []
    pairs = []
    if comparison.exact_edges is not None:
        mean, largest = comparison.against_exact(run.edges)
        pairs = [
            ("mean error of a published edge probability", number(mean, 4)),
            ("largest error of one", number(largest)),
            ("mean error of an empty graph", number(comparison.null_edge_mae, 4)),
        ]
    if comparison.reference_edges is not None:
        exact = (
            "" if comparison.exact_edges is None else f" (exact posterior: {number(comparison.auroc_exact)})"
        )
        pairs.append((f"AUROC against the published network{exact}", number(comparison.auroc(run.edges))))
    return pairs


def _distance_tiles(found: Found, comparison: ObjectComparison) -> list[tuple[str, str]]:
    if not comparison.is_exact:
        return []
    return [
        (
            f"L1 of the global model from the exact posterior over {comparison.noun}, 0 to 2",
            number(comparison.global_l1, 4),
        ),
        ("the same of the uniform distribution", number(comparison.uniform_l1)),
        ("largest error of a published marginal", number(comparison.against_exact(found.marginals)[1])),
    ]


def pooled(png: bytes, comparison: Comparison) -> Markup:
    """The lecture's figure."""
    count = len(comparison.pooled_global)
    median = float(np.median(comparison.pooled_global))
    lower = [node for node, scores in comparison.pooled_local.items() if float(np.median(scores)) < median]
    said = (
        f"The global model's median graph fits all records together better than that of {len(lower)} of "
        f"{len(comparison.pooled_local)} local models."
    )
    if lower and len(lower) == len(comparison.pooled_local):
        said = (
            "The global model's median graph fits all records together better than that of every local model."
        )
    sizes = [float(comparison.local_edges[node].sum()) for node in comparison.pooled_local]
    density = f" Its graphs have {number(float(comparison.global_edges.sum()), 1)} edges on average"
    density += f", the local ones {number(min(sizes), 1)} to {number(max(sizes), 1)}." if sizes else "."
    return subsection(
        "How well the graphs of each model explain all records together",
        paragraph(
            said, density, " A node sees its own records only, so its graphs need not suit the others'."
        ),
        picture(
            png,
            f"Histograms of the pooled score of {count} graphs drawn from each local model and from the global one. {said}",
            f"Score(G) = Σᵢ max over θ of log P(Dᵢ | G, θᵢ), D being the records of all nodes and the variance fixed; {count:,} graphs "
            "from each model. It has no penalty: one more edge never lowers it, so look at the number of edges, too.",
        ),
    )


def sent(run: Run) -> Markup:
    """Who sent what."""
    rows = [_sent_row(upload) for upload in run.uploads]
    head = ["node", "in the product", "size", "SHA-256 of the sealed model", "ledger entry", "receipt"]
    notes: list[object] = [
        f"Refused, entry {index}: an upload of {entry.node_id} ({plain(entry.reason)})." for index, entry in run.refused
    ]  # fmt: skip
    notes += [f"Withdrawn, entry {index}: the upload of {entry.node_id}." for index, entry in run.withdrawn]
    notes += [
        f"Withdrawn, entry {index}: {entry.node_id} took its upload back, and has signed that."
        for index, entry in run.taken_back
    ]
    notes += [
        f"Excluded, entry {index}: the upload of {entry.node_id}, which could not be combined with the others ({plain(entry.reason)})."
        for index, entry in run.excluded
    ]
    notes += [f"Keys revoked: {said}." for said in run.revocations]
    notes += [
        f"The operator extended the deadline to {entry.deadline}, entry {index}."
        for index, entry in run.deadlines
    ]
    beside = " and a statistic of its records" if is_shared(run.study) else ""
    what = "a statistic of its records under masks" if is_masked(run.study) else f"its trained model{beside}"
    return subsection(
        "Who sent what",
        paragraph(
            f"Each node sent one file: {what}, sealed to the round's key and signed. ",
            f"No {words_of(run.study).unit} was sent.",
            _absent(run),
        ),
        table("One row per node of the roster.", head, rows, numeric=("size", "ledger entry")),
        bullets(notes) if notes else "",
    )


def _absent(run: Run) -> str:
    if not run.absent:
        return ""
    if is_masked(run.study):
        return f" {', '.join(run.absent)} {'is' if len(run.absent) == 1 else 'are'} not in the total."
    share = f"{len(run.absent)}/{len(run.uploads)}"
    return (
        f" {', '.join(run.absent)} {'is' if len(run.absent) == 1 else 'are'} not in the product. Each model carries "
        f"1/{len(run.uploads)} of the prior, so the coordinator added the missing {share} of it: "
        "the result is the posterior given the others' records."
    )


def _sent_row(upload: Upload) -> list[object]:
    used = "yes" if upload.aggregated else "no"
    if upload.problem:
        return [upload.node_id, used, "–", f"does not verify: {upload.problem}", "–", "–"]
    if upload.sealed_sha256 is None:
        return [
            upload.node_id,
            used,
            "–",
            "sent nothing" if not upload.aggregated else "file is missing",
            "–",
            "–",
        ]
    entry = "not found" if upload.ledger_index is None else str(upload.ledger_index)
    return [
        upload.node_id,
        used,
        size(upload.size or 0),
        hash_text(upload.sealed_sha256),
        entry,
        upload.receipt,
    ]


def audited(run: Run) -> Markup:
    """What the audit of this run directory checked when the page was written."""
    passed = sum(finding.ok for finding in run.findings)
    said = f"All {passed} checks of epgfn audit passed when this page was written."
    if passed < len(run.findings):
        said = f"{len(run.findings) - passed} of {len(run.findings)} checks of epgfn audit failed when this page was written."
    rows = [("passed" if f.ok else "FAILED", f.check, f.message) for f in run.findings]
    return subsection(
        "Audit",
        paragraph(
            tag("strong", said), " A page proves nothing by itself: whoever doubts it runs the audit again."
        ),
        folded(
            f"The {len(run.findings)} checks",
            table(
                "What was checked, offline, from the files of the run alone.",
                ("result", "check", "what was found"),
                rows,
            ),
        ),
    )


def ledger(run: Run) -> Markup:
    """Checkpoint and key fingerprints."""
    view = run.ledger.view
    keys = [
        ("coordinator, signs", hash_text(run.coordinator_fingerprint)),
        ("ledger", hash_text(run.ledger.vkey)),
    ]
    keys += [(upload.node_id, hash_text(upload.fingerprint)) for upload in run.uploads]
    keys += [(whose, hash_text(fingerprint)) for whose, fingerprint in run.earlier_keys]
    count = paragraph("The ledger could not be read: ", run.ledger.problem)
    note: object = ""
    if view is not None:
        count = paragraph(
            f"The ledger holds {view.checkpoint.size} entries, and every one is committed to by this signed checkpoint. Compare it with "
            "the one a node has kept: an equal size must have an equal root."
        )
        note = tag("pre", Markup(join(view.note.decode("utf-8", "replace").splitlines(), "\n")))
    return subsection(
        "Ledger and keys",
        count,
        note,
        tag("h4", "Fingerprints of the signing keys"),
        paragraph("SHA-256 of the public key. Ask its owner for it over another channel than this page."),
        facts(keys),
    )


def meaning(run: Run) -> Markup:
    """What the page shows and what it does not."""
    comparison, words = run.comparison, words_of(run.study)
    target = (
        "the posterior of all nodes' records together"
        if is_shared(run.study)
        else "the product of the nodes' posteriors"
    )
    shows: list[object] = [
        f"The probability of each {words.question} under {target}, as the coordinator signed it: the run was "
        "audited for this page, and the model drawn from again.",
        "Who contributed, with the digest of what was sent and its place in the ledger.",
    ]
    shows_not: list[object] = [
        run.study.kind.assumes,
        "Whose key signed. Everything rests on the coordinator's key: compare its fingerprint with the one that the coordinator gives you "
        "over another channel.",
        *run.left_out,
    ]
    if run.edges is not None and len(run.aggregated) > 1 and is_shared(run.study):
        shows_not.append(
            "That the sites are one population: it takes that for granted, so differences between sites count as dependence."
        )
    elif run.edges is not None and len(run.aggregated) > 1:
        shows_not.append(
            "The posterior of the pooled records. Every node has coefficients of its own, so "
            f"{len(run.aggregated)} nodes are less certain of an edge than the same records at one: this posterior expects "
            f"{number(float(run.edges.sum()))} edges."
        )
    if is_masked(run.study):
        shows_not.append(
            "That the total is that of the sealed uploads, that each is the statistic of a node's own records, and that too few nodes have "
            "sided with the coordinator to read single ones: masks hide all of that from everybody."
        )
    if run.copy_of is not None:
        shows_not.append(
            f"Whether what other nodes sent sealed is what they signed: this is the report of {run.copy_of}'s copy, which does not hold it."
        )
    left_out = run.study.kind.left_out(run.study)
    if left_out:
        shows_not.append(left_out)
    if one_way := run.study.one_way:
        shows_not.append(f"Which way edges between categories and numbers go: {one_way}.")
    shows_not += [f"{note}." for note in notes_of(run.study, run.aggregated)]
    if blanks := not_in_figures(run.study):
        shows_not.append(f"What blanks cost: {blanks}.")
    simulated = run.found.comparison if run.found is not None else None
    if comparison is not None or (simulated is not None and simulated.is_exact):
        how = ""
        if comparison is not None:
            how = f" and that of {comparison.samples:,} graphs drawn from each model"
        shows.append(
            f"The distance of what is published from the exact posterior{how}, as the simulation signed it. It could be computed only "
            "because one machine held all records. In a real study nobody does."
        )
        if comparison is not None and comparison.reference_edges is not None:
            shows_not.append(
                "That the published network is the truth: it is what the literature agreed on, and not what these records alone say."
            )
    else:
        shows_not.append("How far the global model is from the exact posterior.")
    if run.absent:
        shows_not.append(f"The records of {', '.join(run.absent)}, whose models are not part of the product.")
    columns = tag(
        "div",
        tag("div", tag("h4", "It shows"), bullets(shows)),
        tag("div", tag("h4", "It does not show"), bullets(shows_not)),
        class_="two",
    )
    return subsection("What this page shows, and what it does not", columns)


def settings(run: Run) -> Markup:
    """The study and the software."""
    study = run.study
    called, names = columns(study)
    prior = prior_in_words(study, words_of(study).objects)
    designed = design_in_words(study)
    software = ", ".join(f"{plain(k)} {plain(v)}" for k, v in dict(run.summary.get("software") or {}).items())
    return subsection(
        "Study and software",
        facts([
            ("study digest", hash_text(study.digest)),
            ("round", next((entry.round_id for _, entry in run.ledger.numbered(RoundEntry)), "–")),
            (called, ", ".join(names)),
            ("space", study.kind.in_words(study)),
            (study.kind.reward, study.target_kind.words),
            ("prior", prior),
            *([("design", designed)] if designed else []),
            *([("lacks", lacks)] if (lacks := lacks_in_words(study)) else []),
            *([("blanks", blanks)] if (blanks := blanks_in_words(study)) else []),
            ("encryption", study.transport.suite),
            ("seed", str(study.seed)),
            ("software", software or "–"),
        ]),
    )  # fmt: skip


def footer(run: Run) -> Markup:
    """How to check."""
    words = words_of(run.study)
    return tag(
        "footer",
        f"Written by epgfn report from the run directory. It holds no {words.unit}. To check the run: ",
        tag("code", "epgfn audit RUN_DIR"),
        f". To draw {words.objects}: ",
        tag("code", "epgfn sample RUN_DIR -n 1000"),
        ".",
    )


def _arrow(parent: str, child: str) -> Markup:
    return join([parent, tag("span", "→", class_="arrow"), child], "")

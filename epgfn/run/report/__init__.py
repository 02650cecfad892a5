"""The report: one HTML file, complete in itself, that says what a run found, how far to trust it, and who sent what.

write_report(Path("runs/first"))        -> runs/first/global/report.html, with the figures as PNG files beside it
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epgfn.base.files import write_atomic
from epgfn.run.comparison.graphs import Comparison
from epgfn.run.layout import EDGES_PNG, INFLUENCE_PNG, MARGINALS_PNG, POOLED_PNG, TRAINING_PNG, RunLayout
from epgfn.run.participant import run_directory
from epgfn.run.report import (
    agreement,
    answer,
    diagnostics,
    edges,
    figures,
    influence,
    later,
    objects,
    privacy,
    sections,
    trees,
)
from epgfn.run.report.html import Markup, chapter, join, page
from epgfn.run.report.run import Run, read_run
from epgfn.run.report.words import words_of


def write_report(run_dir: Path | str, *, out: Path | str | None = None) -> Path:
    """Write the report of `run_dir` to `out` (default: its global/report.html), its figures beside it; returns the path.

    The run is audited first, and figures come from files that verify; what does not is named at the top of the page and left out. The
    page loads nothing and runs no script. A comparison with the exact posterior that a simulation signed is shown as
    the simulation's; a real federated run has none, and the page then says what is not known.

    Raises:
        UsageError: the run directory lacks study.toml, or it is malformed.
        RefusedError: study and round are not what the coordinator signed, so that there is nothing to show.
        EpgfnError: the report cannot be written.
    """
    run_dir = run_directory(Path(run_dir))
    target = RunLayout(run_dir).report if out is None else Path(out)
    html, pictures = report_of(read_run(run_dir))
    for name, png in pictures.items():
        write_atomic(target.parent / name, png)
    write_atomic(target, html.encode("utf-8"))
    return target


def report_of(run: Run) -> tuple[str, dict[str, bytes]]:
    """The page, and its figures as PNG files by name."""
    pictures = _figures(run)
    return _page(run, pictures), pictures


def _figures(run: Run) -> dict[str, bytes]:
    comparison, names = run.comparison, run.study.variable_names
    pictures: dict[str, bytes] = {}
    if run.found is not None and run.found.marginals:
        pictures[MARGINALS_PNG] = objects.draw(run.study, run.found)
    if run.edges is not None:
        exact = None if comparison is None else comparison.exact_edges
        local = {} if comparison is None else comparison.local_edges
        pictures[EDGES_PNG] = figures.edge_marginals(names, run.edges, exact, local)
        if comparison is not None and len(comparison.pooled_global):
            pictures[POOLED_PNG] = _pooled(comparison)
    if figures.has_points(run.history):
        pictures[TRAINING_PNG] = figures.training_curves(run.history, run.local_histories)
    if run.influence is not None and run.influence.nodes:
        pictures[INFLUENCE_PNG] = influence.draw(run.influence, words_of(run.study))
    return pictures


def _pooled(comparison: Comparison) -> bytes:
    learned = figures.Pooled("global", comparison.pooled_global, float(comparison.global_edges.sum()))
    local = [
        figures.Pooled(node, scores, float(comparison.local_edges[node].sum()))
        for node, scores in comparison.pooled_local.items()
    ]
    return figures.pooled_scores(learned, local)


def _page(run: Run, pictures: dict[str, bytes]) -> str:
    told = answer.answers(run, edges.pairs(run) if run.edges is not None else []) if run.has_result else ""
    parts = [
        sections.header(run, told),
        chapter("found", "What was found", *_found(run, pictures)) if run.has_result else "",
        chapter("believe", "Whether to believe it", *_believe(run, pictures)),
        privacy.privacy(run.study, run.promises),
        chapter(
            "provenance",
            "Where it comes from",
            sections.audited(run),
            sections.sent(run),
            sections.settings(run),
            sections.ledger(run),
        ),
        sections.footer(run),
    ]
    return page(f"{run.study.name}: report", join(part for part in parts if part))


def _found(run: Run, pictures: dict[str, bytes]) -> Iterator[Markup | str]:
    if run.found is not None:
        drawn = trees.trees(run.study, run.counts) if run.study.kind.has_trees else ""
        yield objects.objects(run.study, run.found, pictures.get(MARGINALS_PNG), drawn)
    if run.edges is not None:
        yield edges.edges(run)


def _believe(run: Run, pictures: dict[str, bytes]) -> Iterator[Markup | str]:
    words = words_of(run.study)
    yield sections.believe(run)
    yield sections.meaning(run)
    yield agreement.agreement(run)
    if run.comparison is not None and EDGES_PNG in pictures:
        yield edges.beside_the_exact(run.comparison, pictures[EDGES_PNG])
    if run.found is not None:
        yield objects.beside_the_exact(run.study, run.found)
    if run.comparison is not None and POOLED_PNG in pictures:
        yield sections.pooled(pictures[POOLED_PNG], run.comparison)
    if run.influence is not None:
        yield influence.leave_one_out(run.influence, pictures.get(INFLUENCE_PNG), words)
    if run.later:
        yield later.later_models(run.later, words)
    yield diagnostics.training(run, pictures.get(TRAINING_PNG))

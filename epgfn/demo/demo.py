"""What `epgfn demo` and `epgfn simulate` do around a simulation: cut the example's data, compare with the exact posterior, report."""

from __future__ import annotations

import csv
import json
import math
import string
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import write_atomic
from epgfn.demo.simulation import COORDINATOR, Simulation, coordinator_key, simulate
from epgfn.demo.view import View
from epgfn.learn.model import Model
from epgfn.run.audit.audit import audit_run
from epgfn.run.comparison.file import write_comparison
from epgfn.run.comparison.graphs import Comparison, compare
from epgfn.run.comparison.objects import ObjectComparison, compare_objects
from epgfn.run.directions import adjacent_probabilities, compelled_probabilities
from epgfn.run.layout import RunLayout
from epgfn.run.model import load_model
from epgfn.run.report import write_report
from epgfn.run.report.found import read_found
from epgfn.run.report.objects import CERTAIN, shown_of
from epgfn.run.samples import counted
from epgfn.study import Study
from epgfn.study.lacks import cautious, notes_of, of_node
from epgfn.study.missing import not_in_figures
from epgfn.study.new import require_new
from epgfn.study.parameters import is_masked, privacy_in_words
from epgfn.study.records.examine import examine
from epgfn.study.records.table import Table
from epgfn.study.records.tables import bounded_of, load_table, records_of, split_table, with_lacked
from epgfn.study.study import STUDY_NAME

COMPARISON_SAMPLES = 20_000
TOP = 12
MOST_NAMED = 6
QUICK_STEPS = 20


def example_dir(name: str = "sachs") -> Path:
    """The folder of a bundled example: in a checkout `examples/<name>`, in an installed package the copy beside it.

    Raises:
        EpgfnError: neither is there.
    """
    for root in (
        Path(__file__).resolve().parents[2] / "examples",
        Path(str(resources.files("epgfn"))) / "examples",
    ):
        if (root / name / STUDY_NAME).is_file():
            return root / name
    raise EpgfnError(f"the example {name} is missing from this installation; reinstall epgfn")


def node_names(count: int) -> list[str]:
    """clinic-a, clinic-b, ... ; numbered beyond 26."""
    if count <= len(string.ascii_lowercase):
        return [f"clinic-{letter}" for letter in string.ascii_lowercase[:count]]
    return [f"clinic-{number:03d}" for number in range(1, count + 1)]


def demo_study(nodes: int, seed: int, quick: bool = False) -> Study:
    """The example's study with a roster of `nodes`; `quick`: only `QUICK_STEPS` of training."""
    study = Study.load(example_dir() / STUDY_NAME).with_changes(
        {"roster": node_names(nodes), "seed": seed, "aggregation": {"quorum": max(1, (3 * nodes + 3) // 4)}}
    )
    brief = {"steps": QUICK_STEPS}
    return study.with_changes({"training": brief, "aggregation": brief}) if quick else study


def demo_records(nodes: int, seed: int) -> dict[str, bytes]:
    """Each node's part of the example's records, as a CSV file."""
    parts = split_table(example_dir() / "sachs.csv", nodes, seed)
    return {
        name: part.to_csv(index=False).encode() for name, part in zip(node_names(nodes), parts, strict=True)
    }


def run_demo(nodes: int, out: Path, seed: int, quiet: bool, quick: bool = False) -> dict[str, Any]:
    """The Sachs study over `nodes` nodes in `out`; returns what `epgfn demo --json` prints. `quick`: only `QUICK_STEPS` of training.

    Raises:
        UsageError: `nodes` is out of range or `out` is not empty.
        EpgfnError: a party failed.
    """
    if not 1 <= nodes <= 64:
        raise UsageError("the demo runs 1 to 64 nodes; choose --nodes in that range")
    study, parts = demo_study(nodes, seed, quick), demo_records(nodes, seed)
    data_dir = out.with_name(out.name + ".data")
    if data_dir.exists() and any(data_dir.iterdir()):
        raise UsageError(f"{data_dir} is not empty; choose another folder with --out")
    files = {name: data_dir / f"{name}.csv" for name in parts}
    for name, part in parts.items():
        write_atomic(files[name], part)
    with (example_dir() / "consensus_edges.csv").open(newline="") as table:
        reference = [(row["cause"], row["effect"]) for row in csv.DictReader(table)]
    figures = run_study(study, files, out, quiet=quiet, reference=reference)
    if quick:
        figures["notes"].append(
            f"models were trained for {QUICK_STEPS} steps, which shows the procedure and not how good it gets"
        )
    return figures


def run_study(
    study: Study,
    data: Mapping[str, Path],
    out: Path,
    *,
    quiet: bool,
    reference: list[tuple[str, str]] | None = None,
    accept_warnings: bool = False,
) -> dict[str, Any]:
    """Simulate `study`, compare with the exact posterior where it is computable, audit, report; returns the figures."""
    # Read every file first: a mistake in the last one must not cost the training of the others.
    require_new(study)
    records, odd = {}, []
    for node, path in data.items():
        held = of_node(study, node)
        table = load_table(path, held)
        records[node] = with_lacked(_records(table, path, held), study, node)
        odd += [f"{path}: {text}" for text in examine(table, held).loud]
    if not (accept_warnings or study.privacy.is_private):
        _require_nothing_odd(odd)
    torch.set_num_threads(
        1
    )  # the parties are processes of their own; more threads here would only take their cores
    with View([COORDINATOR, *data], quiet=quiet) as view:
        simulation = simulate(study, data, out, view, accept_warnings)
        view.event(COORDINATOR, {"phase": "comparing"})
        summary = json.loads(RunLayout(out).summary.read_bytes())
        models = {
            node: load_model(simulation.homes[node] / "local" / "model.safetensors", study)
            for node in summary["aggregated"]
            if not is_masked(study)  # whose nodes train no model
        }
        known = {node: records[node] for node in summary["aggregated"]}
        comparison = _compare(study, known, models, load_model(out), reference)
        histories = {
            node: json.loads((home / "local" / "history.json").read_bytes())
            for node, home in simulation.homes.items()
        }
        round_id = str(summary["round_id"])
        write_comparison(out, study, round_id, comparison, histories, coordinator_key(simulation))
        report = write_report(out)
        view.event(COORDINATOR, {"phase": "done"})
    found = (
        _found_objects(out, study, comparison, summary)
        if isinstance(comparison, ObjectComparison)
        else _found_edges(study, comparison, summary, _counted(out, study))
    )
    return {**_figures(study, simulation, report), **_graded(study, summary), **found}


def _records(table: Table, path: Path, study: Study) -> Any:
    """As a node of the study reads its file."""
    if study.privacy.is_private:
        return bounded_of(table, study).scaled
    return records_of(table, path, study)


def _require_nothing_odd(found: list[str]) -> None:
    """As a node that nobody watches.

    Raises:
        RefusedError: "warnings".
    """
    if found:
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise RefusedError(
            "warnings",
            f"records do not look as the study expects: {'; '.join(found[:MOST_NAMED])}{more}. Nothing was trained; look with epgfn-node "
            "check --study STUDY --data FILE, correct file or study, or add --accept-warnings if they are as they should be",
        )


def _compare(
    study: Study,
    records: Mapping[str, Any],
    models: Mapping[str, Model],
    global_model: Model,
    reference: list[tuple[str, str]] | None,
) -> Comparison | ObjectComparison:
    samples, seed = COMPARISON_SAMPLES, study.seed
    if study.kind.has_edges:
        return compare(study, records, models, global_model, reference, samples=samples, seed=seed)
    return compare_objects(study, records, models, global_model, samples=samples, seed=seed)


def _figures(study: Study, simulation: Simulation, report: Path) -> dict[str, Any]:
    audit = audit_run(simulation.run_dir)
    return {
        "run_dir": str(simulation.run_dir),
        "nodes": len(simulation.homes),
        "duration_s": round(simulation.duration, 1),
        "noun": study.kind.noun,
        "variables": study.variable_names,
        "designed": study.design.column is not None,
        "noise": study.privacy.is_private,
        "privacy": privacy_in_words(study),
        "notes": _notes(study),
        "audit_ok": audit.ok,
        "audit_checks": len(audit.findings),
        "pids": simulation.pids,
        "report": str(report),
    }


def _graded(study: Study, summary: dict[str, Any]) -> dict[str, Any]:
    """What the coordinator found of its model; None where it has nothing to compare it with."""
    trust = summary["diagnostics"].get("trust", {})
    return {
        "verdict": None
        if (grade := trust.get("verdict")) is None
        else cautious(study, grade, summary["aggregated"]),
        "khat": trust.get("khat"),
        "contradictions": summary["diagnostics"].get("overlap", {}).get("contradictions", []),
        "probabilities_from": summary["probabilities_from"],
    }


def _notes(study: Study) -> list[str]:
    noise = "the exact posterior is that of the records without noise, so what privacy costs is part of the distance from it"
    return [
        note
        for note in (
            study.notice,
            study.resemblance,
            study.disclosure,
            study.caution,
            study.one_way,
            noise if study.privacy.is_private else "",
            not_in_figures(study),
            *notes_of(study),
        )
        if note
    ]


def _found_edges(
    study: Study, comparison: Comparison, summary: dict[str, Any], counts: dict[str, int]
) -> dict[str, Any]:
    keys = ("global_edge_mae", "global_edge_max_error", "null_edge_mae", "null_edge_max_error", "local_edge_mae",
            "local_edge_max_error", "auroc_exact", "auroc_global")  # fmt: skip
    known, edges = comparison.to_json(), np.array(summary["edge_probabilities"])
    mean, largest = comparison.against_exact(edges)
    published = {
        "published_edge_mae": mean,
        "published_edge_max_error": largest,
        "auroc_published": comparison.auroc(edges),
    }
    return {
        **{key: None if math.isnan(x) else x for key, x in published.items()},
        "global_edges_weighted": comparison.weighted,
        **{key: known[key] for key in keys},
        "edges": _top_edges(study, summary, counts),
    }


def _counted(run_dir: Path, study: Study) -> dict[str, int]:
    return counted(RunLayout(run_dir).samples.read_bytes(), study.kind.column)


def _found_objects(
    run_dir: Path, study: Study, comparison: ObjectComparison, summary: dict[str, Any]
) -> dict[str, Any]:
    """The figures, the most probable objects, and the most probable of the published marginals that are neither 0 nor 1; which are."""
    exact, published = comparison.exact_marginals or {}, summary["marginals"]
    marginals = [
        {"name": name, "probability": p, "exact": exact.get(name)}
        for name, p in published.items()
        if CERTAIN < p < 1 - CERTAIN
    ]
    mean, largest = comparison.against_exact(published)
    found = read_found(study, summary, _counted(run_dir, study), comparison)
    top = [] if found is None else found.top
    return {
        **comparison.figures(),
        "published_marginal_mae": None if math.isnan(mean) else mean,
        "published_marginal_max_error": None if math.isnan(largest) else largest,
        "top_from": "published" if found is not None and found.published else "samples",
        "top": [
            {"object": text, "probability": p, "exact": None if math.isnan(truth) else truth}
            for text, p, truth in shown_of(top[:TOP])
        ],
        "marginals": sorted(marginals, key=lambda row: -float(str(row["probability"])))[:TOP],
        "marginals_open": len(marginals),
        "certain": sorted(name for name, p in published.items() if p >= 1 - CERTAIN),
        "impossible": sum(p <= CERTAIN for p in published.values()),
    }


def _top_edges(
    study: Study, summary: dict[str, Any], counts: dict[str, int], count: int = TOP
) -> list[dict[str, Any]]:
    """The most probable edges; beside each, how probable it is that the two are adjacent, and that the edge is compelled."""
    names, p = study.variable_names, np.array(summary["edge_probabilities"])
    adjacent, compelled = adjacent_probabilities(p), compelled_probabilities(summary, counts, p, study)
    edges: list[dict[str, Any]] = [
        {
            "parent": names[i],
            "child": names[j],
            "probability": float(p[i, j]),
            "adjacent": float(adjacent[i, j]),
            "compelled": None if compelled is None else float(compelled[i, j]),
        }
        for i in range(len(names))
        for j in range(len(names))
        if i != j
    ]
    return sorted(edges, key=lambda edge: -edge["probability"])[:count]

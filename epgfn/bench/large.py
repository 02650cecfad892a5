"""`epgfn bench large`: a federated study of more variables than can be summed over, from records to the published probabilities, beside
long Markov chains on the sum of the nodes' score tables, with seeds of their own.

Of each case, on one thread:

    tables_cpu_s          of one node's score table, on average
    local_cpu_s           of one node's training, table and verdict included, on average
    coordinator_cpu_s     of training, judging and whatever else is published
    basis                 what the published probabilities come from
    mean_error, max_error of what is published against the reference
    model_mean, model_max of the global model's own samples against it, and share, the effective one of them once weighted
    reference_apart       how far halves of the reference are from each other, and reference_cpu_s
    peak_rss_mb           most memory this process has held until then, MiB
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.bench.instances.large_dag import linear_gaussian
from epgfn.bench.instances.networks import read_bif
from epgfn.bench.peers.blocks import peak_rss_mb
from epgfn.bench.truth import delivered
from epgfn.gflownet.measure.exact import edge_errors
from epgfn.gflownet.measure.structure_chains import Annealed, Chains, run
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.model import Model
from epgfn.learn.scores import score_table
from epgfn.learn.trust import edge_matrix
from epgfn.study import Study

POPULATIONS: Final = 8
ENOUGH: Final = 0.005
"""Of the reference: twice as many chains as a study's own, until halves are so near."""
ROUNDS: Final = 20
SAMPLES: Final = 10_000
T = TypeVar("T")


class Case(NamedTuple):
    """A study, and the records of each of its nodes."""

    study: Study
    records: list[np.ndarray]


def large(
    networks: Sequence[Path] = (),
    made: Sequence[int] = (),
    *,
    nodes: int = 5,
    records: int = 1000,
    max_parents: int = 3,
    seed: int = 0,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """One row a case.

    Args:
        networks: files in the Bayesian Interchange Format, from which categories are drawn. made: numbers of variables of linear-Gaussian
            networks that are made up. nodes, records: how many, and of each node. seed: of networks, records and training.
        on_row: called with each row as soon as it is there. say: with a line for each step of one that takes long.

    Raises:
        UsageError: no case, a number below 1, or a file that is no network.
    """
    if not networks and not made:
        raise UsageError("name a network, or a number of variables")
    if min(nodes, records, max_parents) < 1:
        raise UsageError("nodes, records and parents are 1 or more")
    cases = [_of_network(path, nodes, records, max_parents, seed) for path in networks]
    cases += [_made(variables, nodes, records, max_parents, seed) for variables in made]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for case in cases:
            row = _row(case, seed, say or (lambda _: None))
            rows.append(row)
            if on_row is not None:
                on_row(row)
        return rows
    finally:
        torch.set_num_threads(threads)


def _of_network(path: Path, nodes: int, records: int, max_parents: int, seed: int) -> Case:
    network, rng = read_bif(path), np.random.default_rng(seed)
    variables = [
        {"name": name, "categories": list(categories)}
        for name, categories in zip(network.names, network.categories, strict=True)
    ]
    study = _study(path.name.split(".")[0], variables, nodes, max_parents, "bdeu")
    return Case(study, [network.draw(records, rng) for _ in range(nodes)])


def _made(variables: int, nodes: int, records: int, max_parents: int, seed: int) -> Case:
    x, _ = linear_gaussian(variables, seed, nodes * records)
    named = [{"name": f"x{i}", "centre": 0.0, "scale": 1.0} for i in range(variables)]
    study = _study(f"linear-Gaussian, {variables} variables", named, nodes, max_parents, "bge")
    return Case(study, np.split(x, nodes))


def _study(name: str, variables: list[dict[str, Any]], nodes: int, max_parents: int, target: str) -> Study:
    return Study.model_validate(
        {
            "name": name,
            "roster": [f"node-{number}" for number in range(nodes)],
            "variables": variables,
            "space": {"max_parents": max_parents},
            "target": {"kind": target},
        }
    )


def _row(case: Case, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    study, n = case.study, len(case.records)
    tables, tables_s = _timed(lambda: torch.stack([score_table(study, x, n) for x in case.records]).sum(0))
    local, local_s = {}, 0.0
    for number, (node, x) in enumerate(zip(study.roster, case.records, strict=True)):
        local[node], spent = _timed(partial(train_local, study, x, seed=1000 * seed + number))
        local_s += spent
        say(f"{study.name}: {node} trained, {spent:.0f} CPU-s")
    result, coordinator_s = _timed(
        lambda: train_global(study, {node: found.tensors for node, found in local.items()}, seed=seed)
    )
    say(f"{study.name}: the global model trained and judged, {coordinator_s:.0f} CPU-s")
    peak = peak_rss_mb()
    reference, reference_s = _timed(lambda: _reference(tables, study.space.max_parents, seed))
    plain = Model(study, result.tensors).marginals(SAMPLES, seed=seed, weighted=False)
    published, basis = delivered(result, plain)
    mean, largest = edge_errors(_edges(study, published), reference.edges.numpy())
    model_mean, model_max = edge_errors(_edges(study, plain), reference.edges.numpy())
    trust = result.judged.trust
    return {
        "case": study.name,
        "variables": len(study.variables),
        "sets": tables.shape[1],
        "nodes": n,
        "records": sum(len(x) for x in case.records),
        "tables_cpu_s": tables_s / n,
        "local_cpu_s": local_s / n,
        "local_verdicts": [(found.trust or {}).get("verdict") for found in local.values()],
        "coordinator_cpu_s": coordinator_s,
        "basis": basis,
        "verdict": trust["verdict"],
        "mean_error": mean,
        "max_error": largest,
        "model_mean": model_mean,
        "model_max": model_max,
        "share": trust.get("effective_share"),
        "reference_apart": reference.apart,
        "reference_cpu_s": reference_s,
        "peak_rss_mb": peak,
    }


def _reference(table: Tensor, max_parents: int, seed: int) -> Annealed:
    return run(Chains(table, max_parents), 7919 + seed, populations=POPULATIONS, rounds=ROUNDS, enough=ENOUGH)


def _edges(study: Study, probabilities: Any) -> np.ndarray:
    return np.asarray(edge_matrix(study, probabilities))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    return work(), time.process_time() - started

"""`epgfn bench truth`: whether what a study delivers at its defaults is right, and whether its verdict says so.

Each case is a study whose exact posterior is known, its nodes' records, and whatever training its defaults ask for. From the sampled
cases the exact sums are withheld, so that models are judged as where they are out of reach. A verdict is wrong where it is "good" and
a probability of the model's samples, or one that is delivered, is off by more than `WRONG`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch

from epgfn.base.errors import UsageError
from epgfn.base.files import sha256_hex
from epgfn.bench.separable import distance_at_most, reward_of, truth_of
from epgfn.bench.truth_cases import CASES, Case
from epgfn.gflownet.measure import exact as sums
from epgfn.gflownet.measure.trust import Verdict
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.training.loop import LocalResult
from epgfn.learn import exact
from epgfn.learn.aggregate import GlobalResult, train_global
from epgfn.learn.local import train_local, train_on_target
from epgfn.learn.model import Model
from epgfn.learn.scores import score_table, study_sets
from epgfn.learn.target import Target
from epgfn.learn.trust import errors
from epgfn.privacy.of_study.synthetic import worlds_of
from epgfn.study import Study
from epgfn.study.knowledge import HARD
from epgfn.study.objects import questions, space_of
from epgfn.study.settings import PriorSettings

WRONG: Final = 0.1
MOST_VARIABLES: Final = 16
"""Of any case."""
SAMPLES: Final = 10_000
Probabilities = Mapping[str, float]


def truth(
    only: Sequence[str] = (),
    *,
    count: int | None = None,
    seed: int = 0,
    kept: Path | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """One row a case, on one thread.

    Args:
        only: sorts of cases from `CASES`; none for all. count: of each sort (None: its own number). seed: of the first of each.
        kept: a file of one JSON object a line, to which each row is added as soon as it is there; what it holds is not worked out again.
        on_row: called with each row as soon as it is there.

    Returns:
        rows with `case, seed, kind, variables, nodes, records` (of all nodes), `mean_error` and `max_error` of the delivered
        probabilities, which come `from` where it says, `model_error`, the largest of the global model's own samples as they are,
        `verdict` and `khat` (None where there is none), `local_verdicts` and `local_steps` of each node's own model, `steps` of the global
        one, `contradictions` the pairs of nodes that contradict one another, and `cpu_s` of all training and judging. Where all
        objects' rewards can be added up, however many, `tv_at_most`, of the model and the truth, and its standard error `tv_error`.

    Raises:
        UsageError: a sort that is not there, or a count below 1.
    """
    for name in only:
        if name not in CASES:
            raise UsageError(f"there is no case {name!r}; choose one of {', '.join(CASES)}")
    if count is not None and count < 1:
        raise UsageError("a benchmark needs at least one case")
    held = {} if kept is None or not kept.exists() else {_named(row): row for row in read_rows(kept)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for name in only or CASES:
            make, usual = CASES[name]
            for number in range(seed, seed + (count or usual)):
                row = held.get((name, number))
                if row is None:
                    row = {"case": name, "seed": number, **_row(make(number), number)}
                    _keep(row, kept)
                rows.append(row)
                if on_row is not None:
                    on_row(row)
        return rows
    finally:
        torch.set_num_threads(threads)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What `kept` holds.

    Raises:
        UsageError: it is no file of rows.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [row for row in rows if _named(row)]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is no file of rows that this benchmark wrote; name another") from None


def _named(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["case"], row["seed"]


def _keep(row: Mapping[str, Any], kept: Path | None) -> None:
    if kept is not None:
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often the verdict was good, and how often that was wrong; the 95th percentile of the largest error, delivered and of the models'
    own samples."""
    good = [row for row in rows if row["verdict"] == "good"]
    return {
        "cases": len(rows),
        "good": len(good),
        "wrongly_good": sum(_worst(row) > WRONG for row in good),
        "max_error_p95": float(np.quantile([row["max_error"] for row in rows], 0.95)),
        "model_error_p95": float(np.quantile([row["model_error"] for row in rows], 0.95)),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a sort of cases, and one of all of them."""
    sorts = {str(row["case"]): [r for r in rows if r["case"] == row["case"]] for row in rows}
    lines = [
        "| Cases | Number | Variables | Records | Delivered from | Largest error delivered | Of samples | Good | Usable | Not "
        "| Wrongly good | CPU-s, median |",
        "|" + "---|" * 12,
        *(_line(name, some) for name, some in sorts.items()),
        _line("**all**", rows),
    ]
    return "\n".join(lines)


def _line(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    grades = [row["verdict"] for row in rows]
    wrong = sum(_worst(row) > WRONG for row in rows if row["verdict"] == "good")
    columns = [
        name,
        len(rows),
        _range([row["variables"] for row in rows]),
        _range([row["records"] for row in rows]),
        ", ".join(sorted({str(row["from"]) for row in rows})),
        _points(max(row["max_error"] for row in rows)),
        _points(max(row["model_error"] for row in rows)),
        *(grades.count(grade) for grade in get_args(Verdict)),
        wrong,
        f"{float(np.median([row['cpu_s'] for row in rows])):.0f}",
    ]
    return "| " + " | ".join(map(str, columns)) + " |"


def _worst(row: Mapping[str, Any]) -> float:
    return float(max(row["max_error"], row["model_error"]))


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _points(error: float) -> str:
    return "below .0001" if error < 1e-4 else f"{error:.4f}".removeprefix("0")


def _row(case: Case, seed: int) -> dict[str, Any]:
    study, started = case.study, time.process_time()
    with _without_sums() if case.is_sampled else nullcontext():
        local = {node: _local(case, number, 1000 * seed + number) for number, node in enumerate(study.roster)}
        result = train_global(study, {node: found.tensors for node, found in local.items()}, seed=seed)
    spent = time.process_time() - started
    known = _exact(case)
    plain = Model(study, result.tensors).marginals(SAMPLES, seed=seed, weighted=False)
    given, source = delivered(result, plain)
    mean, largest = errors(given, known)
    trust = result.judged.trust
    return {
        "kind": study.space.kind,
        "variables": len(study.variables),
        "nodes": len(study.roster),
        "records": sum(len(records) for records in case.records),
        "mean_error": mean,
        "max_error": largest,
        "from": source,
        "model_error": errors(plain, known)[1],
        "verdict": trust["verdict"],
        "khat": trust["khat"],
        "trust": trust,
        "spread": {node: row["spread_nats"] for node, row in result.diagnostics["nodes"].items()},
        "local_verdicts": [(found.trust or {}).get("verdict") for found in local.values()],
        "local_steps": [len(found.history) for found in local.values()],
        "steps": len(result.history),
        "contradictions": len(result.diagnostics.get("overlap", {}).get("contradictions", [])),
        "cpu_s": round(spent, 1),
        **_distance(case, result, seed),
    }


def _local(case: Case, number: int, seed: int) -> LocalResult:
    """The model of one node."""
    if case.tables is None:
        return train_local(case.study, case.records[number], seed=seed)
    table = case.tables[number]
    target = Target(None, reward_of(case.study, table), sha256_hex(table.tobytes()))
    return train_on_target(case.study, target, seed=seed)


def _distance(case: Case, result: GlobalResult, seed: int) -> dict[str, float]:
    """`tv_at_most` and its standard error `tv_error`, where all objects' rewards can be added up."""
    if case.tables is None:
        return {}
    space, table = space_of(case.study), np.sum(case.tables, axis=0)
    policy, log_z = make_policy(space, [result.tensors]), truth_of(case.study, table).log_z
    bound, error = distance_at_most(policy, space, reward_of(case.study, table), log_z, SAMPLES, seed)
    return {"tv_at_most": bound, "tv_error": error}


@contextmanager
def _without_sums() -> Iterator[None]:
    """As if there were more variables than exact sums can take, and more objects than can be listed."""
    known = exact.MAX_VARIABLES, exact.MAX_LISTED, exact.MAX_LISTED_VARIABLES
    exact.MAX_VARIABLES, exact.MAX_LISTED, exact.MAX_LISTED_VARIABLES = 0, 0, 0
    try:
        yield
    finally:
        exact.MAX_VARIABLES, exact.MAX_LISTED, exact.MAX_LISTED_VARIABLES = known


@contextmanager
def _sums_up_to(variables: int) -> Iterator[None]:
    """Exact sums take so many variables, if they take less: time and memory grow fourfold and threefold with each."""
    known = exact.MAX_VARIABLES, sums.MAX_VARIABLES
    exact.MAX_VARIABLES, sums.MAX_VARIABLES = (max(most, variables) for most in known)
    try:
        yield
    finally:
        exact.MAX_VARIABLES, sums.MAX_VARIABLES = known


def delivered(result: GlobalResult, plain: Probabilities) -> tuple[Probabilities, str]:
    """What a study publishes, and what that comes from: `plain` are the probabilities of the model's own samples."""
    found = result.judged
    return (plain if found.basis == "samples" else found.probabilities), found.basis


def _left_out(
    study: Study, table: torch.Tensor, possible: Callable[[str, frozenset[str]], bool]
) -> torch.Tensor:
    """(V, K) `table` without the sets of parents that are not possible."""
    names, table = study.variable_names, table.clone()
    for k, members in enumerate(study_sets(study).tolist()):
        parents = frozenset(name for name, there in zip(names, members, strict=True) if there)
        for j, child in enumerate(names):
            if child not in parents and not possible(child, parents):
                table[j, k] = -torch.inf
    return table


def _by_families(case: Case, node: int) -> torch.Tensor:
    """(V, K) log-likelihoods of a node's records (nats), one by one."""
    assert case.families is not None
    sets = study_sets(case.study)
    out = torch.full((sets.shape[1], len(sets)), -torch.inf, dtype=torch.float64)
    for k, members in enumerate(sets):
        parents = tuple(members.nonzero()[:, 0].tolist())
        for j in range(len(out)):
            if j not in parents:
                out[j, k] = case.families(node, j, parents)
    return out


def _exact(case: Case) -> Probabilities:
    """The posterior of all records together; where not all sets of parents are `possible`, by that and not by what the study says."""
    study, parts = case.study, case.plain or case.records
    if case.tables is not None:
        return truth_of(study, np.sum(case.tables, axis=0)).probabilities
    if study.target_kind.is_modular:
        if case.possible is not None:
            # Without what [prior] rules out, what nodes lack would be refused.
            lacks: dict[str, Any] = {"data": {"lacks": {}}} if study.data.lacks else {}
            study = study.with_changes(
                {"prior": {name: getattr(PriorSettings(), name) for name in HARD}, **lacks}
            )
        if case.families is not None:
            total = torch.stack([_by_families(case, node) for node in range(len(parts))]).sum(0)
        else:
            total = torch.stack([score_table(study, records, len(parts)) for records in parts]).sum(0)
        if case.possible is not None:
            total = _left_out(study, total, case.possible)
        with _sums_up_to(MOST_VARIABLES):
            found = exact.exact_of_table(study, total)
        if found is None:
            raise ValueError("the cases have no more variables than exact sums can take")
        return found.probabilities
    worlds = worlds_of(study)
    answers = worlds.posterior([worlds.exact(torch.as_tensor(records)) for records in parts]).answers
    names = questions(study, space_of(study).initial(1)).names
    return dict(zip(names, answers.tolist(), strict=True))

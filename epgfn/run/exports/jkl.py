"""Jaakkola's format of local scores: how many variables; of each its name and how many sets of parents; a line a set: score, size, names.

The posterior is proportional to exp of the sum of one score a variable over acyclic choices, so a solver such as GOBNILP finds its mode,
and BiDAG's samplers can be run on the very same target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from epgfn.run.exports.options import Options, require_graphs, tokens

if TYPE_CHECKING:
    from epgfn.run.result import RunResult


def jkl(run: RunResult, options: Options) -> bytes:
    """The scores that the global model carries, each variable's best being 0 (nats); sets that the study rules out are left out.

    Raises:
        UsageError: the study is not about graphs, or its policy carries no scores.
    """
    require_graphs(run, "jkl")
    names = tokens(run.study.variable_names, "jkl")
    scores = run.model.local_scores()
    called = [
        " ".join([str(int(row.sum())), *(names[i] for i in row.nonzero().flatten().tolist())])
        for row in scores.sets
    ]
    lines = [str(len(names))]
    for name, row in zip(names, scores.table, strict=True):
        there = row.isfinite().nonzero().flatten().tolist()
        lines.append(f"{name} {len(there)}")
        lines += [f"{float(row[k]):.10g} {called[k]}" for k in there]
    return "\n".join([*lines, ""]).encode("ascii")

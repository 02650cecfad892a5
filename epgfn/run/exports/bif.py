"""BIF, the interchange format of Bayesian networks (Cozman, 1998): the most probable graph over categories, with uniform tables.

A posterior over graphs has no tables of probabilities in it, and BIF knows no network without them.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from epgfn.base.errors import UsageError
from epgfn.run.exports.options import Options, require_graphs, tokens, words

if TYPE_CHECKING:
    from epgfn.run.result import RunResult

MOST_ROWS = 100_000
"""Of the table of one variable."""


def bif(run: RunResult, options: Options) -> bytes:
    """The graph that `Model.most_probable` puts first.

    Raises:
        UsageError: a variable is no category, or a table would be too long.
    """
    require_graphs(run, "bif")
    variables = run.study.variables
    if any(variable.is_number for variable in variables):
        raise UsageError(
            "BIF knows categories alone, and this study is about numbers too; choose graphml, dot or cpdag-csv"
        )
    names = tokens(run.study.variable_names, "BIF")
    values = [words(variable.categories or [], "BIF") for variable in variables]
    graph = run.model.most_probable(1, n=options.draws, seed=options.seed)
    lines = [
        f"network {tokens([run.study.name], 'BIF')[0]} {{",
        '  property "tables = uniform, not estimated" ;',
        *([f'  property "caveat = {_plain(run.caveat)}" ;'] if run.caveat else []),
        "}",
    ]
    for name, states in zip(names, values, strict=True):
        lines += [f"variable {name} {{", f"  type discrete [ {len(states)} ] {{ {', '.join(states)} }};", "}"]
    for child, (name, states) in enumerate(zip(names, values, strict=True)):
        parents = graph.graphs[0, :, child].nonzero().flatten().tolist()
        if math.prod(len(values[parent]) for parent in parents) > MOST_ROWS:
            raise UsageError(
                f"the table of {variables[child].name} would have more than {MOST_ROWS:,} rows; choose graphml, dot or cpdag-csv"
            )
        share = ", ".join(f"{p:.10g}" for p in [1 / len(states)] * len(states))
        given = f" | {', '.join(names[parent] for parent in parents)}" if parents else ""
        lines.append(f"probability ( {name}{given} ) {{")
        if not parents:
            lines.append(f"  table {share};")
        else:
            lines += [
                f"  ({', '.join(row)}) {share};"
                for row in itertools.product(*(values[parent] for parent in parents))
            ]
        lines.append("}")
    return "\n".join([*lines, ""]).encode("ascii")


def _plain(text: str) -> str:
    """For between quotes, in ASCII, of which BIF knows no other."""
    return text.replace('"', "'").encode("ascii", "replace").decode("ascii")

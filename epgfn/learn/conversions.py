"""A posterior in the forms that other libraries work with: pandas, networkx, ArviZ.

edge_rows(names, edges, compelled)       a table, one row an ordered pair of variables
marginal_rows(marginals, asked)          the same of other objects, one row a question
as_network(rows, names, least)           networkx: variables as nodes, edges with their probabilities
as_inference_data(study, samples)        ArviZ: each edge or marginal a variable of zeros and ones
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from epgfn.base.errors import UsageError
from epgfn.learn.samples import Samples
from epgfn.study import Study
from epgfn.study.objects import questions

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

LEAST: Final = 0.05
"""An edge that is less probable is in no drawing and no network unless it is asked for."""
NO_ARVIZ: Final = "ArviZ is not installed here; install it with: pip install 'epgfn[arviz]'"


def edge_rows(names: Sequence[str], edges: np.ndarray, compelled: np.ndarray | None) -> pd.DataFrame:
    """One row for each ordered pair of `names`, the most probable first: parent, child, `probability` of the edge from (V, V) `edges`,
    `adjacent` (an edge, whichever way) and, where it is known, `compelled` (the edge, and in all equivalent graphs)."""
    import pandas as pd

    i, j = np.nonzero(~np.eye(len(names), dtype=bool))
    called = np.array(names, dtype=object)
    told = {} if compelled is None else {"compelled": compelled[i, j]}
    rows = pd.DataFrame(
        {
            "parent": called[i],
            "child": called[j],
            "probability": edges[i, j],
            "adjacent": np.minimum(edges[i, j] + edges[j, i], 1.0),
            **told,
        }
    )
    return rows.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def marginal_rows(marginals: Mapping[str, float], asked: str) -> pd.DataFrame:
    """One row a question, called `asked` ("clade", "item", ...), with its `probability`; the most probable first."""
    import pandas as pd

    rows = pd.DataFrame(
        {asked: list(marginals), "probability": np.array(list(marginals.values()), dtype=np.float64)}
    )
    return rows.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def as_network(rows: pd.DataFrame, names: Sequence[str], least: float = LEAST) -> nx.DiGraph:
    """All variables, and each edge of `edge_rows` whose probability is at least `least`, with the figures of its row as attributes. Where
    both directions are probable both are there, so the graph may have cycles: it is a table of probabilities, no single graph."""
    import networkx as nx

    network = nx.DiGraph()
    network.add_nodes_from(names)
    figures = [column for column in rows.columns if column not in ("parent", "child")]
    for row in rows[rows["probability"] >= least].to_dict("records"):
        network.add_edge(row["parent"], row["child"], **{name: float(row[name]) for name in figures})
    return network


def as_inference_data(study: Study, samples: Samples, chains: int = 1) -> Any:
    """ArviZ's InferenceData of objects that were drawn: in `posterior`, of graphs `edge` (chain, draw, parent, child), of other objects
    `answer` (chain, draw, question), both 0 or 1; in `sample_stats` `lp`, the model's own log-probability (nats). Independent draws are
    shared out among `chains` evenly, and what is left over is left out.

    Raises:
        UsageError: ArviZ is not installed, there are fewer objects than chains, or only their texts are known.
    """
    try:
        with warnings.catch_warnings():  # of what its next version will change
            warnings.simplefilter("ignore", FutureWarning)
            import arviz
    except ImportError:
        raise UsageError(NO_ARVIZ) from None
    if not 1 <= chains <= len(samples):
        raise UsageError(f"{len(samples)} objects cannot be shared out among {chains} chains")
    if samples.state is None:
        raise UsageError(
            "only the texts of these objects are known; draw them from the model: model.to_inference_data()"
        )
    draws = len(samples) // chains
    names = study.variable_names
    if study.kind.has_edges:
        called, dims, coords = "edge", ["parent", "child"], {"parent": names, "child": names}
        drawn = samples.adjacency
    else:
        asked, answers = questions(study, samples.state)
        called, dims, coords = "answer", ["question"], {"question": asked}
        drawn = answers.numpy()
    shared_out = drawn.astype(np.int8)[: draws * chains].reshape(chains, draws, *drawn.shape[1:])
    stats = {"lp": samples.log_prob[: draws * chains].reshape(chains, draws)}
    return arviz.from_dict(
        posterior={called: shared_out}, sample_stats=stats, dims={called: dims}, coords=coords
    )

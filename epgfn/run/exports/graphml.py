"""GraphML (Brandes et al., 2002): variables, and each probable edge with its figures as attributes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from epgfn.run.exports.options import Options, require_graphs

if TYPE_CHECKING:
    from epgfn.run.result import RunResult


def graphml(run: RunResult, options: Options) -> bytes:
    """What `RunResult.to_networkx` gives, with the study's name and digest."""
    require_graphs(run, "graphml")
    import networkx as nx

    network = run.to_networkx(options.least)
    network.graph.update(study=run.study.name, study_digest=run.study.digest)
    if run.caveat:
        network.graph.update(caveat=run.caveat)
    sink = io.BytesIO()
    nx.write_graphml(network, sink, encoding="utf-8", prettyprint=True)
    return sink.getvalue()

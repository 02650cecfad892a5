"""What a run's published samples say of graphs beyond single edges: who is upstream of whom, whose Markov blanket is whose, which
v-structures there are, and which graphs and classes are probable as a whole.

Everything is a share of the objects in samples.parquet, counted and not estimated, so that whoever has these counts the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.measure.graph_relations import adjacent, ancestors, blankets, classes
from epgfn.run.samples import adjacency
from epgfn.study import Study

RELATIONS: Final = "graph_relations"
"""Of a summary of graphs with samples beside it. Earlier versions did not write it."""
ANCESTORS: Final = "ancestor_probabilities"
BLANKETS: Final = "blanket_probabilities"
V_STRUCTURES: Final = "v_structures"
MOST_V_STRUCTURES: Final = 100
MOST_GRAPHS: Final = 10
BLOCK: Final = 256
"""Graphs that are looked at together."""


def relations_of(counts: Mapping[str, int], study: Study) -> dict[str, Any]:
    """From texts of graphs and how often each was drawn, as a summary has it:

    `ancestor_probabilities` (V, V) [i][j]: a directed path leads from i to j; `blanket_probabilities` (V, V), symmetric: i is in the Markov
    blanket of j; `v_structures`: the 100 most probable, each `[one, middle, other, share]`; `graphs` and `classes`: the 10 most frequent,
    each with its `share`, its `directed` edges and, of classes, the `undirected` ones, whose direction no observation tells, and
    `different_graphs` and `different_classes`: how many there are.

    Raises:
        ValueError: a text is no graph of the study.
    """
    names, v = study.variable_names, len(study.variable_names)
    rows = sum(counts.values())
    upstream, blanket = torch.zeros(v, v, dtype=torch.int64), torch.zeros(v, v, dtype=torch.int64)
    colliders, graphs, alike = Counter[tuple[int, int, int]](), Counter[bytes](), Counter[bytes]()
    for found, weight in _blocks(counts, study):
        upstream += _counted(ancestors(found), weight)
        blanket += _counted(blankets(found), weight)
        _add_colliders(found, weight, colliders)
        _add_graphs(found, weight, graphs)
        _add_graphs(classes(found), weight, alike)
    return {
        ANCESTORS: (upstream.double() / rows).tolist(),
        BLANKETS: (blanket.double() / rows).tolist(),
        V_STRUCTURES: [
            [names[a], names[c], names[b], count / rows]
            for (a, c, b), count in _most(colliders, MOST_V_STRUCTURES)
        ],
        "different_graphs": len(graphs),
        "different_classes": len(alike),
        "graphs": [_described(raw, count / rows, names) for raw, count in _most(graphs, MOST_GRAPHS)],
        "classes": [_described(raw, count / rows, names) for raw, count in _most(alike, MOST_GRAPHS)],
    }


def _blocks(counts: Mapping[str, int], study: Study) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, V, V) bool graphs, and (B,) int64 how often each was drawn."""
    texts = list(counts)
    for first in range(0, len(texts), BLOCK):
        some = texts[first : first + BLOCK]
        found = adjacency(some, study.variable_names, study.space.max_parents)
        yield found, torch.tensor([counts[text] for text in some], dtype=torch.int64)


def _counted(relation: Tensor, weight: Tensor) -> Tensor:
    """How many of the graphs have it, (V, V) int64, from (B, V, V) bool."""
    return (relation.long() * weight[:, None, None]).sum(0)


def _add_colliders(graphs: Tensor, weight: Tensor, found: Counter[tuple[int, int, int]]) -> None:
    """a -> c <- b, a before b and not adjacent to it."""
    apart = ~adjacent(graphs)
    for c in range(graphs.shape[1]):
        parents = graphs[:, :, c].any(0).nonzero().flatten()
        of = graphs[:, parents, c]
        both = of[:, :, None] & of[:, None, :] & apart[:, parents[:, None], parents[None, :]]
        shares = _counted(both, weight).triu(1)
        for i, j in shares.nonzero().tolist():
            found[int(parents[i]), c, int(parents[j])] += int(shares[i, j])


def _add_graphs(graphs: Tensor, weight: Tensor, found: Counter[bytes]) -> None:
    packed = np.packbits(graphs.flatten(1).numpy(), axis=1)
    for raw, count in zip(packed, weight.tolist(), strict=True):
        found[raw.tobytes()] += count


def _most(found: Counter[Any], most: int) -> list[tuple[Any, int]]:
    """The most frequent, of equals the first by what they are, so that everybody names the same."""
    return sorted(found.items(), key=lambda each: (-each[1], each[0]))[:most]


def _described(raw: bytes, share: float, names: list[str]) -> dict[str, Any]:
    v = len(names)
    bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=v * v)
    graph = torch.from_numpy(bits.reshape(v, v).astype(bool))
    either = graph & graph.mT
    directed = [[names[i], names[j]] for i, j in (graph & ~either).nonzero().tolist()]
    undirected = [[names[i], names[j]] for i, j in either.triu().nonzero().tolist()]
    return {"share": share, "directed": directed, **({"undirected": undirected} if undirected else {})}

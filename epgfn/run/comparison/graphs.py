"""How far learned posteriors are from the truth, for whoever happens to hold all records: `epgfn demo` and `epgfn simulate`.

No party of a real study can compute this, since it takes everyone's records. It answers three questions:

    exact      How far are learned edge probabilities from the exact ones? Mean and largest |p - p_exact| over the
               V (V - 1) ordered pairs, for the global model against the product posterior and for each local model
               against its own subposterior. The null is the empty graph, which says 0 for every edge.
    reference  How well do exact and learned probabilities rank the edges of a published network? AUROC.
    pooled     How good are the graphs of each model for all records together?
               Score(G) = sum_i max_theta log P(D_i | G, theta_i), D pooled, sigma fixed (nats). Not for categories.

`epgfn.run.comparison.objects` is the same for objects other than graphs.

    comparison = compare(study, records, local_models, global_model, reference_edges, samples=20_000, seed=1)
    comparison.global_edge_mae, comparison.to_json()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch

from epgfn.gflownet.measure.exact import MAX_VARIABLES, auroc, edge_errors, edge_marginals
from epgfn.learn.scores import prior_table, score_table, study_masks
from epgfn.learn.trust import edge_matrix as named_matrix
from epgfn.study import Study
from epgfn.study.parameters import is_shared
from epgfn.targets.likelihood import pooled_profile_score

if TYPE_CHECKING:
    from epgfn.learn.model import Model

POOLED_SAMPLES = 500  # graphs a model in the figure; each costs as much as twenty for edges, as it comes with its log-probability

Array = npt.NDArray[np.float64]
Records = npt.NDArray[Any]
Edge = tuple[str, str]
Progress = Callable[[int, int], None]


def compare(
    study: Study,
    records: Mapping[str, Records],
    local_models: Mapping[str, Model],
    global_model: Model,
    reference_edges: Sequence[Edge] | None,
    samples: int,
    seed: int,
    progress: Progress | None = None,
) -> Comparison:
    """Compare the models of one run with the exact posteriors of its records.

    Args:
        records: of every node whose model is in the product, (n, V) as `load_records` gives them, by node id.
        local_models: the nodes' own models, by node id. global_model: trained on their product.
        reference_edges: (parent, child) of a published network, or None.
        samples: graphs drawn from each model for its edge probabilities, so their standard error is at most 1 / (2 sqrt(samples)).
        seed: of those draws.
        progress: called with (models compared, models to compare).

    Raises:
        UsageError: `samples` is below 1. EpgfnError: the records give no finite scores.
    """
    nodes = sorted(local_models)
    models = [*(local_models[node] for node in nodes), global_model]
    tell: Progress = progress or (lambda done, of: None)
    tell(0, len(models))
    exact, exact_local = _exact_edges(study, records)
    edges, scores, weighted = [], [], False
    for done, model in enumerate(models, start=1):
        found, weighted = model.estimated(samples, seed)
        edges.append(np.array(named_matrix(study, found)))
        scores.append(_pooled_scores(study, records, model, min(samples, POOLED_SAMPLES), seed))
        tell(done, len(models))
    return Comparison(
        variables=study.variable_names,
        samples=samples,
        global_edges=edges.pop(),
        local_edges=dict(zip(nodes, edges, strict=True)),
        exact_edges=exact,
        exact_local_edges=exact_local,
        reference_edges=None if reference_edges is None else list(reference_edges),
        pooled_global=scores.pop(),
        pooled_local=dict(zip(nodes, scores, strict=True)) if _has_pooled(study) else {},
        weighted=weighted,
    )


def _has_pooled(study: Study) -> bool:
    """Categories have no such score; a design would have to leave out other rows for each variable; blanks, and what a node lacks, count
    for none."""
    whole = study.data.missing == "refuse" and not study.data.lacks
    return study.columns.numeric and study.design.column is None and whole


def _pooled_scores(
    study: Study, records: Mapping[str, Records], model: Model, samples: int, seed: int
) -> Array:
    """(samples,) nats; empty where there is no such score."""
    if not _has_pooled(study):
        return np.zeros(0)
    pooled = torch.as_tensor(np.concatenate([records[node] for node in sorted(records)]))
    graphs = torch.as_tensor(model.sample(samples, seed=seed).adjacency)
    return np.asarray(pooled_profile_score(pooled, graphs, study.target.sigma, study.target.mean).numpy())


def _exact_edges(study: Study, records: Mapping[str, Records]) -> tuple[Array | None, dict[str, Array]]:
    """Exact marginals of the product, or of all records together where sites share their parameters, and of each subposterior; None and
    nothing beyond `MAX_VARIABLES`."""
    if len(study.variables) > MAX_VARIABLES:
        return None, {}
    masks = study_masks(study)
    tables = {node: score_table(study, x, n_parties=len(study.roster)) for node, x in records.items()}
    local = {node: edge_marginals(table, masks) for node, table in tables.items()}
    if is_shared(study):
        together = np.concatenate([records[node] for node in sorted(records)])
        return edge_marginals(score_table(study, together, n_parties=1), masks), local
    # Whoever is absent brings no share of the prior; the coordinator adds it, so that the product holds the prior once.
    absent = 1 - len(tables) / len(study.roster)
    product = torch.stack([tables[node] for node in sorted(tables)]).sum(0) + absent * prior_table(study)
    return edge_marginals(product, masks), local


def edge_matrix(edges: Sequence[Edge], variables: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(V, V) bool with [i, j] true for each edge i -> j; edges that name no variable of the study are left out."""
    index = {name: i for i, name in enumerate(variables)}
    matrix = np.zeros((len(variables), len(variables)), dtype=bool)
    for parent, child in edges:
        if parent in index and child in index:
            matrix[index[parent], index[child]] = True
    return matrix


@dataclass(frozen=True)
class Comparison:
    """Learned against exact. Matrices are (V, V) float64, [i, j] = P(i -> j); every figure is derived from them.

    `exact_edges` is None and `exact_local_edges` empty where the exact posterior is out of reach; `reference_edges` is None where no
    published network is known. `weighted`: whether `global_edges` are of samples weighted towards the scores that the model carries, or
    of samples as they are; None where that was not noted. They are not what a round publishes. Pooled scores are in nats, one a
    sampled graph.
    """

    variables: list[str]
    samples: int
    global_edges: Array
    local_edges: dict[str, Array]
    exact_edges: Array | None = None
    exact_local_edges: dict[str, Array] = field(default_factory=dict)
    reference_edges: list[Edge] | None = None
    pooled_global: Array = field(default_factory=lambda: np.zeros(0))
    pooled_local: dict[str, Array] = field(default_factory=dict)
    weighted: bool | None = None

    @property
    def global_edge_mae(self) -> float:
        """Mean |p - p_exact| of the global model; NaN where the exact posterior is out of reach."""
        return self.against_exact(self.global_edges)[0]

    @property
    def global_edge_max_error(self) -> float:
        """Largest |p - p_exact| of the global model."""
        return self.against_exact(self.global_edges)[1]

    @property
    def null_edge_mae(self) -> float:
        """Mean |0 - p_exact|: the error of saying that there is no edge at all."""
        return self.against_exact(np.zeros_like(self.global_edges))[0]

    @property
    def null_edge_max_error(self) -> float:
        """Largest |0 - p_exact|."""
        return self.against_exact(np.zeros_like(self.global_edges))[1]

    @property
    def local_edge_mae(self) -> dict[str, float]:
        """Mean |p - p_exact| of each local model against its own subposterior."""
        return {node: error[0] for node, error in self._local_errors().items()}

    @property
    def local_edge_max_error(self) -> dict[str, float]:
        """Largest |p - p_exact| of each local model against its own subposterior."""
        return {node: error[1] for node, error in self._local_errors().items()}

    @property
    def auroc_exact(self) -> float:
        """AUROC of the exact edge probabilities against the reference network; NaN if either is unknown."""
        return math.nan if self.exact_edges is None else self.auroc(self.exact_edges)

    @property
    def auroc_global(self) -> float:
        """AUROC of the global model's edge probabilities against the reference network; NaN if there is none."""
        return self.auroc(self.global_edges)

    def to_json(self) -> dict[str, Any]:
        """A JSON value: the figures, then the matrices and scores they come from. NaN becomes null."""
        return {
            "global_edge_mae": _number(self.global_edge_mae),
            "global_edge_max_error": _number(self.global_edge_max_error),
            "null_edge_mae": _number(self.null_edge_mae),
            "null_edge_max_error": _number(self.null_edge_max_error),
            "local_edge_mae": {node: _number(x) for node, x in self.local_edge_mae.items()},
            "local_edge_max_error": {node: _number(x) for node, x in self.local_edge_max_error.items()},
            "auroc_exact": _number(self.auroc_exact),
            "auroc_global": _number(self.auroc_global),
            "variables": self.variables,
            "samples": self.samples,
            "global_edges": self.global_edges.tolist(),
            "local_edges": {node: edges.tolist() for node, edges in self.local_edges.items()},
            "exact_edges": None if self.exact_edges is None else self.exact_edges.tolist(),
            "exact_local_edges": {node: edges.tolist() for node, edges in self.exact_local_edges.items()},
            "reference_edges": None if self.reference_edges is None else [list(e) for e in self.reference_edges],
            "weighted": self.weighted,
            "pooled_global": _rounded(self.pooled_global),
            "pooled_local": {node: _rounded(scores) for node, scores in self.pooled_local.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The comparison that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is of another form.
        """
        variables = [str(name) for name in value["variables"]]
        shape = (len(variables), len(variables))
        exact, reference = value["exact_edges"], value["reference_edges"]
        return cls(
            variables=variables,
            samples=int(value["samples"]),
            global_edges=_matrix(value["global_edges"], shape),
            local_edges={node: _matrix(x, shape) for node, x in value["local_edges"].items()},
            exact_edges=None if exact is None else _matrix(exact, shape),
            exact_local_edges={node: _matrix(x, shape) for node, x in value["exact_local_edges"].items()},
            reference_edges=None if reference is None else [(str(a), str(b)) for a, b in reference],
            pooled_global=_matrix(value["pooled_global"], None),
            pooled_local={node: _matrix(x, None) for node, x in value["pooled_local"].items()},
            weighted=value["weighted"] if isinstance(value.get("weighted"), bool) else None,
        )

    def against_exact(self, learned: Array) -> tuple[float, float]:
        """Mean and largest |p - p_exact| of (V, V) probabilities; NaN where the exact posterior is out of reach."""
        return (math.nan, math.nan) if self.exact_edges is None else edge_errors(learned, self.exact_edges)

    def _local_errors(self) -> dict[str, tuple[float, float]]:
        unknown = (math.nan, math.nan)
        return {
            node: edge_errors(edges, self.exact_local_edges[node]) if node in self.exact_local_edges else unknown
            for node, edges in self.local_edges.items()
        }  # fmt: skip

    def auroc(self, probability: Array) -> float:
        """Of (V, V) probabilities against the reference network; NaN if there is none."""
        if self.reference_edges is None:
            return math.nan
        return auroc(probability, edge_matrix(self.reference_edges, self.variables))


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _rounded(array: Array) -> list[Any]:
    # Scores are drawn, not computed with. Probabilities must stay whole: rounding makes ties, and AUROC counts ties.
    values: list[Any] = np.round(array, 3).tolist()
    return values


def _matrix(value: Any, shape: tuple[int, int] | None) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if (array.ndim != 1 if shape is None else array.shape != shape) or not np.isfinite(array).all():
        raise ValueError("an array of another shape, or not finite")
    return array

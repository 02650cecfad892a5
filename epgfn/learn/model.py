"""Using a trained model: draw objects, and say how probable each edge, item, letter or clade is.

model = epgfn.load_model("results/sachs")            # a run directory
model.edge_probabilities()                           # graphs: (V, V), [i, j] = P(i -> j)
model.marginals()                                    # whatever the objects are: {"a->b": 0.93, ...}
model.sample(1000, seed=1).rows()                    # pandas: edges (or object), log_prob
model.probability("a is an ancestor of b")           # graphs: whatever `epgfn.learn.questions` lists
model.most_probable(5, classes=True).rows()          # graphs: those drawn most often, or their equivalence classes
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.diagnostics import log_terminating
from epgfn.gflownet.measure.equivalence import compelled_given_edge
from epgfn.gflownet.measure.estimates import own_samples
from epgfn.gflownet.measure.graph_relations import classes as classes_of
from epgfn.gflownet.measure.graph_relations import distinct
from epgfn.gflownet.measure.sweep import Terminating, terminating_mass
from epgfn.gflownet.measure.trust import CHAINS_AGREE, LARGEST_ERROR, pareto_khat, weights_hold
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.order_potential import scores_of
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces.base import LogReward, joined, take
from epgfn.learn.conversions import LEAST, as_inference_data, as_network, edge_rows, marginal_rows
from epgfn.learn.elsewhere import ChainAnswer, GraphChains
from epgfn.learn.exact import MAX_VARIABLES, exact_of_table, graphs_of_table
from epgfn.learn.policy import family_of, validate_policy
from epgfn.learn.questions import Answer, answered, question
from epgfn.learn.samples import Samples
from epgfn.learn.shared import apart
from epgfn.learn.trust import Basis, edge_matrix, errors, own_probabilities, table_target
from epgfn.study import Study
from epgfn.study.objects import marginals, space_of, written

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

BLOCK = 1024
"""Objects drawn at once; bounds memory."""
LEAST_LOG_PROB = -1e6
"""Nats, of objects drawn elsewhere that the model is as good as sure not to draw: tables of samples hold finite numbers."""
WEIGHED = 20_000
"""Objects of a model that are weighted, if no more are asked for, where some are drawn by their weights."""
CHAINS_WORTH = 256
"""Independent graphs that those of chains count as: as many as there are chains."""
TRAJECTORIES = 16
"""Backward trajectories behind each estimate of log p_T."""


class DrawnGraphs(NamedTuple):
    """(n, V, V) bool `graphs`, the `basis` they were drawn on as `Answer` has it, and of how many independent ones they are `effective`ly
    worth."""

    graphs: Tensor
    basis: str
    effective: float


class Frequent(NamedTuple):
    """(k, V, V) bool `graphs` of variables `names`, or with `classes` what stands for an equivalence class, [i, j] and [j, i] where the
    direction cannot be told; most frequent first, and the `share` (k,) of all that were drawn."""

    names: list[str]
    graphs: Tensor
    share: np.ndarray
    basis: str
    classes: bool

    def rows(self) -> pd.DataFrame:
        """One row each: `edges` such as "a->b;b-c" (b-c: either way), and `share`."""
        import pandas as pd

        texts = [";".join(self._edges(graph.numpy())) for graph in self.graphs]
        return pd.DataFrame({"edges": texts, "share": self.share})

    def _edges(self, graph: np.ndarray) -> list[str]:
        pairs = [(int(i), int(j)) for i, j in np.argwhere(graph) if not (graph[j, i] and j < i)]
        return [f"{self.names[i]}{'-' if graph[j, i] else '->'}{self.names[j]}" for i, j in pairs]


class LocalScores(NamedTuple):
    """(V, K) float64 `table` of each variable given each of the K `sets` of parents, (K, V) bool, less the variable's best (nats); -inf
    where the study rules a set out."""

    sets: Tensor
    table: Tensor


class Model:
    """A trained GFlowNet over the objects of a study. Read-only; safe to use from one thread at a time.

    >>> model = epgfn.load_model("runs/first")
    >>> model
    Model of 'small': graphs over 3 variables, policy order-potential
    >>> model.sample(1000, seed=1).adjacency.shape
    (1000, 3, 3)
    >>> round(float(model.probability("a - b")), 1)
    0.9
    """

    def __init__(self, study: Study, tensors: Mapping[str, Tensor]) -> None:
        """`tensors` of one model of `study`; a statistic among them is left aside.

        Raises:
            RefusedError: they are not a policy of this study.
        """
        tensors, _ = apart(tensors)
        validate_policy(study, tensors, older=True)
        self.study = study
        self.space = space_of(study)
        self.policy = make_policy(self.space, [tensors])

    def __repr__(self) -> str:
        kind, n = self.study.kind, len(self.variable_names)
        return f"Model of {self.study.name!r}: {kind.noun} over {n} {kind.components}, policy {self.study.policy.kind}"

    @property
    def variable_names(self) -> list[str]:
        """Names of the study's variables, in its order."""
        return self.study.variable_names

    def sample(self, n: int, seed: int | None = None, basis: Basis = "samples") -> Samples:
        """`n` objects drawn from p_T, and for each an importance-weighted estimate of log p_T (nats).

        With another `basis` they are drawn from what the model's score table says instead, as `summary.json` has it under `samples_from`:
        "exact" independently from the exact answer (graphs of up to 14 variables); "weighted" from 20,000 objects of the model or `n`,
        in proportion to their weights; "chains" from Markov chains on the table, several from each. log p_T is the model's all the same.
        `seed` None takes fresh randomness; a number makes the draw repeatable.

        Raises:
            UsageError: nothing can be drawn on that basis.
        """
        generator = _generator(seed)
        elsewhere = None if basis == "samples" else self._drawn_elsewhere(n, basis, generator)
        states, texts, log_prob, done = [], [], [], 0
        for size in _blocks(n):
            rows = torch.arange(done, done + size)
            final = self._draw(size, generator) if elsewhere is None else take(elsewhere, rows)
            done += size
            estimate, _ = log_terminating(self.policy, self.space, final, TRAJECTORIES, generator)
            states.append(final)
            texts += written(self.study, final)
            log_prob.append(estimate[0].clamp_min(LEAST_LOG_PROB).numpy())
        return Samples(texts, np.concatenate(log_prob), joined(states), self.study.kind.column)

    def marginals(self, n: int = 10_000, seed: int | None = 0, weighted: bool = True) -> dict[str, float]:
        """The probability of each edge, item, letter, coordinate or clade (`epgfn.study.objects.questions`), from `n` objects.

        A model that carries the scores it was trained on is asked by them: exactly up to 14 variables; beyond, its objects are weighted
        towards them, and where the weights cannot be relied on, or say something else than Markov chains, these answer, if they agree among
        themselves: what no sample shows, weights do not either. All other models, and all without `weighted`, give shares.
        """
        table = self._scores() if weighted else None
        exact = None if table is None else exact_of_table(self.study, table)
        if exact is not None:
            return dict(exact.probabilities)
        found, holds = self.estimated(n, seed, weighted)
        if table is None:
            return found
        answer = GraphChains(self.study, table).answer()
        return answer.named(found) if _chains_know_better(answer, found, holds) else found

    def estimated(
        self, n: int = 10_000, seed: int | None = 0, weighted: bool = True
    ) -> tuple[dict[str, float], bool]:
        """`marginals` of the objects alone, and whether these are weighted."""
        generator, target = _generator(seed), self._target() if weighted else None
        if target is not None and n >= 1:
            own = own_samples(self.policy, self.space, target, n, generator)
            plain, better = own_probabilities(self.study, own)
            holds = weights_hold(own.effective_share * n, pareto_khat(own.log_weight))
            return (better if holds else plain), holds
        found: dict[str, float] = {}
        for size in _blocks(n):
            for name, share in marginals(self.study, self._draw(size, generator)).items():
                found[name] = found.get(name, 0.0) + share * size / n
        return found, False

    def edge_probabilities(self, n: int = 10_000, seed: int | None = 0, weighted: bool = True) -> np.ndarray:
        """(V, V) float64, [i, j] = P(i -> j): `marginals` as a matrix. The standard error of shares is at most 1 / (2 sqrt(n)).

        Raises:
            UsageError: the study is not about graphs.
        """
        self._require_graphs()
        return np.array(edge_matrix(self.study, self.marginals(n, seed, weighted)))

    def to_pandas(self, n: int = 10_000, seed: int | None = 0) -> pd.DataFrame:
        """`marginals` as a table, the most probable first. Of graphs one row an ordered pair of variables: parent, child, `probability`,
        `adjacent` (an edge, whichever way), `compelled` (the edge, and in all equivalent graphs); of other objects one a question.

        >>> table = epgfn.load_model("runs/first").to_pandas()
        >>> list(table.columns)
        ['parent', 'child', 'probability', 'adjacent', 'compelled']
        >>> bool((table.compelled <= table.probability).all())
        True
        """
        if not self.study.kind.has_edges:
            return marginal_rows(self.marginals(n, seed), self.study.kind.asked(self.study))
        edges = self.edge_probabilities(n, seed)
        graphs = self.graphs(n, seed).graphs
        told = compelled_given_edge(graphs, torch.ones(len(graphs), dtype=torch.float64)).numpy()
        return edge_rows(self.variable_names, edges, edges * told)

    def to_networkx(self, least: float = LEAST, n: int = 10_000, seed: int | None = 0) -> nx.DiGraph:
        """Variables, and each edge whose probability is at least `least`, as a networkx graph; the figures of `to_pandas` are the
        edges' attributes. Where both directions are probable both are there, so it may have cycles.

        >>> network = epgfn.load_model("runs/first").to_networkx(least=0.5)
        >>> sorted(network.nodes)
        ['a', 'b', 'c']
        >>> all(figures["probability"] >= 0.5 for _, _, figures in network.edges(data=True))
        True

        Raises:
            UsageError: the study is not about graphs.
        """
        self._require_graphs()
        return as_network(self.to_pandas(n, seed), self.variable_names, least)

    def to_inference_data(
        self, n: int = 1000, seed: int | None = 0, basis: Basis = "samples", chains: int = 4
    ) -> Any:
        """`n` objects, drawn as `sample` draws them, as ArviZ's InferenceData: `posterior` holds each edge or marginal as 0 or 1,
        `sample_stats` the model's own log-probability (nats).

        Raises:
            UsageError: ArviZ, which is optional, is not installed; or nothing can be drawn on that basis.
        """
        return as_inference_data(self.study, self.sample(n, seed, basis), chains)

    def probability(self, text: str, n: int = 20_000, seed: int | None = 0) -> Answer:
        """How probable it is of a graph what `text` says, such as "a is an ancestor of b" (`epgfn.learn.questions` lists the forms), from
        `n` graphs on the best basis there is: see `graphs`.

        >>> answer = epgfn.load_model("runs/first").probability("a is an ancestor of b", n=2000)
        >>> 0 <= answer.probability <= 1 and answer.basis
        'exact'

        Raises:
            UsageError: the study is not about graphs, or the text is none of the forms.
        """
        self._require_graphs()
        asked = question(text, self.variable_names)
        found = self.graphs(n, seed)
        return answered(found.graphs, asked, found.basis, found.effective)

    def most_probable(
        self, k: int = 10, classes: bool = False, n: int = 20_000, seed: int | None = 0
    ) -> Frequent:
        """The `k` graphs that are drawn most often of `n`, as `graphs` draws them, or with `classes` the Markov equivalence classes.

        >>> classes = epgfn.load_model("runs/first").most_probable(2, classes=True)
        >>> list(classes.rows().columns), bool(classes.share[0] >= classes.share[1])
        (['edges', 'share'], True)

        Raises:
            UsageError: the study is not about graphs.
        """
        found = self.graphs(n, seed)
        kept = distinct(classes_of(found.graphs) if classes else found.graphs)
        return Frequent(self.variable_names, kept.graphs[:k], kept.share[:k].numpy(), found.basis, classes)

    def graphs(self, n: int = 20_000, seed: int | None = 0) -> DrawnGraphs:
        """`n` graphs from the posterior that the model's score table says: independent and exact up to 14 variables; beyond, drawn by the
        weights of as many of the model's own where these hold and say what Markov chains say; else from the chains, if those agree among
        themselves. Models without scores, and all others, give their own samples. `basis` says which it was.

        Raises:
            UsageError: the study is not about graphs.
        """
        self._require_graphs()
        table, number = self._scores(), int(torch.randint(1 << 31, (), generator=_generator(seed)))
        if table is not None and self.space.n_variables <= MAX_VARIABLES:
            return DrawnGraphs(graphs_of_table(self.study, table, n, number), "exact", float(n))
        generator = _generator(number)
        if table is None:
            drawn = [self._draw(size, generator).adjacency for size in _blocks(n)]
            return DrawnGraphs(torch.cat(drawn), "samples", float(n))
        own = own_samples(self.policy, self.space, table_target(self.space, table), n, generator)
        effective, chains = own.effective_share * n, GraphChains(self.study, table)
        plain, weighted = own_probabilities(self.study, own)
        holds = weights_hold(effective, pareto_khat(own.log_weight))
        if _chains_know_better(chains.answer(), weighted if holds else plain, holds):
            return DrawnGraphs(chains.drawn(n, number), "chains", float(min(n, CHAINS_WORTH)))
        if not holds:
            return DrawnGraphs(own.final.adjacency, "samples", float(n))
        weight = torch.softmax(own.log_weight.double(), 0)
        rows = torch.multinomial(weight, n, replacement=True, generator=generator)
        return DrawnGraphs(own.final.adjacency[rows], "weighted", effective)

    def local_scores(self) -> LocalScores:
        """What each variable adds to the log-posterior of a graph by its parents, as the model carries it.

        Raises:
            UsageError: the model carries no scores, as all but those of graphs by sinks.
        """
        table = self.carried_scores().masked_fill(~self.space.admissible, -torch.inf)
        return LocalScores(self.space.parents, table - table.amax(1, keepdim=True))

    def carried_scores(self) -> Tensor:
        """(V, K) float64 scores as the model carries them. Raises as `local_scores`."""
        table = self._scores()
        if table is None:
            raise UsageError("this model carries no scores of parents; those of graphs by sinks do")
        return table.double()

    def _require_graphs(self) -> None:
        if not self.study.kind.has_edges:
            raise UsageError("only a study of graphs has edges; ask for marginals")

    def _scores(self) -> Tensor | None:
        """The (V, K) score table that the model carries, if it does."""
        name = family_of(self.study).scores
        if not self.study.target_kind.is_modular or name is None:
            return None
        return scores_of(self.space, self.policy.tensors()[name])

    def _target(self) -> LogReward[Any] | None:
        """The log-reward that the model carries; None where it carries none."""
        table = self._scores()
        return None if table is None else table_target(self.space, table)

    def _drawn_elsewhere(self, n: int, basis: Basis, generator: torch.Generator) -> Any:
        """`n` finished states from what the score table says."""
        table, seed = self._scores(), int(torch.randint(1 << 31, (), generator=generator))
        if table is not None and basis == "exact" and self.space.n_variables <= MAX_VARIABLES:
            return self.space.terminal(graphs_of_table(self.study, table, n, seed))
        if table is not None and basis == "weighted":
            target = table_target(self.space, table)
            own = own_samples(self.policy, self.space, target, max(n, WEIGHED), generator)
            weight = torch.softmax(own.log_weight.double(), 0)
            return take(own.final, torch.multinomial(weight, n, replacement=True, generator=generator))
        if table is not None and basis == "chains":
            return self.space.terminal(GraphChains(self.study, table).drawn(n, seed))
        raise UsageError(f'nothing can be drawn from this model on the basis {basis!r}; use "samples"')

    @torch.no_grad()
    def _draw(self, n: int, generator: torch.Generator) -> Any:
        return sample(self.policy, self.space, n, generator=generator).trajectories.final


def _chains_know_better(answer: ChainAnswer, found: Mapping[str, float], holds: bool) -> bool:
    """As `trust.judge` has it of what is published: chains that agree among themselves, where weights do not hold or say something else."""
    if answer.apart > CHAINS_AGREE:
        return False
    return not holds or errors(found, answer.named(found))[1] > LARGEST_ERROR


def _generator(seed: int | None) -> torch.Generator:
    return torch.Generator().manual_seed(secrets.randbits(62) if seed is None else seed)


def _blocks(n: int) -> list[int]:
    if n < 1:
        raise UsageError(f"asked for {n} objects; ask for at least 1")
    return [min(BLOCK, n - start) for start in range(0, n, BLOCK)]


def terminating_distribution(model: Model) -> Terminating[Any]:
    """All objects, and the probability with which `model` samples each.

    Raises:
        UsageError: there are too many objects to list.
    """
    most = model.study.kind.listed_up_to
    if most is not None and len(model.variable_names) > most:
        raise UsageError(
            f"the study has {len(model.variable_names)} variables; all graphs can be listed for "
            f"{most} or fewer: sample instead"
        )
    return terminating_mass(model.space, model.policy)

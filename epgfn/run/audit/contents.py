"""Whether a model's signed summary and samples say what the model itself says: everything here is worked out from the signed files.

A signature shows who said it. Here the auditor draws from the model again, and adds up its score table where it carries one, so that
numbers which another model, or nobody, would give are found although they are signed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epgfn.base.errors import RefusedError
from epgfn.run.audit.rules import require, require_all
from epgfn.run.lacking import summarised
from epgfn.run.samples import adjacency, counted
from epgfn.run.summary import (
    MARGINAL_SAMPLES,
    SAMPLES_FROM,
    TOP,
    compelled_of,
    probabilities_of,
    read_summary,
    top_of,
)
from epgfn.sealing.predicates import GlobalPredicate
from epgfn.study import Study

if TYPE_CHECKING:
    from torch import Tensor

    from epgfn.learn.model import Model

DRAWS = 4096
"""Objects that the audit draws from a model."""
FALSE_ALARM = 1e-6
"""At most the chance that a true run is called false, all probabilities of a model together."""
EXACT_VARIABLES = 12
"""Up to which exact probabilities are worked out again: with more it takes longer than an audit should."""
ROUNDING: Final = {"float64": 1e-6, "float32": 5e-3}
"""How far exact probabilities may be from those of the model file's score table, by its dtype: files of before are rounded to float32."""
WEIGHTED_SLACK = 0.02
"""Weighted averages scatter more than shares; what they may differ by beyond that."""
MOST_FREQUENT = 20
SAME: Final = 1e-9
"""By how much shares that are counted twice may differ."""
ELSEWHERE = {
    "product": "exact_largest_error",
    "weighted": "moved_by_weights",
    "chains": "chains_largest_error",
}
"""Probabilities that rest on the nodes' own models, which an auditor does not have, and the figure beside them that says how far they
are from the global model's at most."""


class Drawn(NamedTuple):
    """What the auditor drew from a model.

    texts: shares of objects by text, where they are no graphs. shares: probabilities by question, of the objects as they are. weighted:
    the same weighted towards the score table that the model carries, where weights can be relied on; `effective` objects are behind it.
    exact: from that table, where it can be worked out; `rounding`, how far it may be from what was published. compelled: of graphs drawn in
    each of these ways, (V, V) share of those with an edge in which it is compelled, by basis. chains: the auditor's own Markov chains on
    that table, run when asked: (V, V) P(i -> j), and how far halves of them are apart. made_of: whether a summary's statistic of all
    records gives that table.
    """

    texts: dict[str, float]
    shares: dict[str, float]
    weighted: dict[str, float] | None = None
    effective: float = 0.0
    exact: dict[str, float] | None = None
    compelled: Mapping[str, Tensor] = {}
    rounding: float = 0.0
    chains: Callable[[], tuple[Tensor, float]] | None = None
    made_of: Callable[[Mapping[str, Any]], bool] | None = None


def require_summary(
    raw: bytes, study: Study, said: GlobalPredicate, model_sha256: str, more: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """The summary `name`, which must be of the model that the statement with predicate `said` is about; `more` it must say beside that.

    Raises:
        Failed: it is of another model, or of another form.
    """
    form = f"{name} is not of the form that a coordinator writes"
    try:
        summary = read_summary(raw)
        probabilities_of(summary)
        compelled_of(summary)
        top_of(summary)
    except (ValueError, KeyError, TypeError, AttributeError):
        require(False, form)
        raise
    expected = {
        "study_digest": study.digest,
        "round_id": said.round_id,
        "model_sha256": model_sha256,
        "aggregated": sorted(upload.node_id for upload in said.aggregated),
        "absent": sorted(said.absent),
        "seed": said.seed,
        "samples": study.aggregation.samples,
        "variables": study.variable_names,
        "noun": study.kind.noun,
        **summarised(study, sorted(upload.node_id for upload in said.aggregated)),
        **more,
    }
    right_kind = not (study.kind.has_edges and TOP in summary)
    right_kind &= ("edge_probabilities" in summary) == study.kind.has_edges != ("marginals" in summary)
    found = {key: summary.get(key) == value for key, value in expected.items()}
    require_all({**found, "probabilities": right_kind}, f"{name} is not of the model that lies beside it")
    return summary


def require_samples(raw: bytes, study: Study, name: str) -> tuple[dict[str, int], dict[str, float] | None]:
    """How often each object is among the samples `name`; of graphs, the share of each edge too.

    Raises:
        Failed: it is no such table, of another number of rows, or holds an object that the study does not have.
    """
    try:
        counts = counted(raw, study.kind.column, study.aggregation.samples)
        shares = _edge_shares(counts, study) if study.kind.has_edges else None
    except ValueError as error:
        require(False, f"{name} does not hold what a model of this study samples: {error}")
        raise
    return counts, shares


def require_relations(
    summary: Mapping[str, Any], counts: Mapping[str, int] | None, study: Study, name: str
) -> None:
    """What the summary `name` says of graphs beyond their edges is what the samples beside it, `counts` by text, say; summaries of earlier
    versions say nothing of it.

    Raises:
        Failed: it is not, or there are no samples.
    """
    from epgfn.run.relations import RELATIONS, relations_of

    if RELATIONS not in summary:
        return
    known = counts is not None and study.kind.has_edges
    require(
        known and _alike(summary[RELATIONS], relations_of(counts or {}, study)),
        f"{name} does not say of graphs what the samples beside it say",
    )


def _alike(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same but for the rounding of numbers."""
    if isinstance(other, float):
        return isinstance(one, int | float) and not isinstance(one, bool) and abs(one - other) <= SAME
    if type(one) is not type(other):
        return False
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in other)
    if isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


def draw(model: Model, tensors: Mapping[str, Tensor]) -> Drawn:
    """What `model`, made of `tensors`, says when it is asked again."""
    import torch

    from epgfn.gflownet.measure.equivalence import compelled_given_edge
    from epgfn.gflownet.measure.estimates import defended_samples, own_samples
    from epgfn.gflownet.measure.trust import pareto_khat, weights_hold
    from epgfn.gflownet.policies import untrained
    from epgfn.gflownet.policies.order_potential import scores_of
    from epgfn.learn.exact import exact_of_table
    from epgfn.learn.policy import family_of
    from epgfn.learn.trust import own_probabilities, table_target
    from epgfn.study.objects import written

    study, name = model.study, family_of(model.study).scores
    table = None
    if name is not None and study.target_kind.is_modular:
        table = scores_of(model.space, tensors[name])
    generator = torch.Generator().manual_seed(study.seed)
    if table is None:
        own = own_samples(model.policy, model.space, _no_reward, DRAWS, generator)
        shares, _ = own_probabilities(study, own)
        texts: dict[str, float] = {}
        for text in [] if study.kind.has_edges else written(study, own.final):
            texts[text] = texts.get(text, 0.0) + 1 / DRAWS
        if not study.kind.has_edges:
            return Drawn(texts, shares)
        alike = torch.ones(DRAWS, dtype=torch.float64)
        return Drawn(texts, shares, compelled={"samples": compelled_given_edge(own.final.adjacency, alike)})
    exact = exact_of_table(study, table) if len(study.variables) <= EXACT_VARIABLES else None
    defence = untrained(model.policy) if exact is None else None
    drawing = (model.space, table_target(model.space, table), DRAWS, generator)
    own = (
        own_samples(model.policy, *drawing)
        if defence is None
        else defended_samples(model.policy, defence, *drawing)
    )
    shares, weighted = own_probabilities(study, own, DRAWS)
    effective = own.effective_share * len(own.log_weight)
    holds = weights_hold(effective, pareto_khat(own.log_weight))
    if (
        exact is None and not holds
    ):  # the auditor has to know from somewhere, where the model itself does not tell
        exact = exact_of_table(study, table)
    alike, graphs = torch.ones(DRAWS, dtype=torch.float64), own.final.adjacency
    compelled = {"samples": compelled_given_edge(graphs[:DRAWS], alike)}
    if holds:
        compelled["weighted"] = compelled_given_edge(graphs, torch.softmax(own.log_weight.double(), 0))
    if exact is not None and exact.drawn is not None:
        compelled["exact"] = compelled_given_edge(exact.drawn(DRAWS, study.seed), alike)
    return Drawn(
        {},
        shares,
        weighted if holds else None,
        effective,
        None if exact is None else dict(exact.probabilities),
        compelled,
        ROUNDING[str(table.dtype).removeprefix("torch.")],
        partial(_own_chains, table.cpu(), study.space.max_parents, study.seed),
        partial(_made_of, study, table.cpu()),
    )


def _made_of(study: Study, table: Tensor, statistic: Mapping[str, Any]) -> bool:
    from epgfn.learn.effects import is_of, statistic_read

    try:
        return is_of(study, statistic_read(study, statistic), table)
    except RefusedError:
        return False


def _own_chains(table: Tensor, max_parents: int, seed: int) -> tuple[Tensor, float]:
    """Others than the coordinator's, whose seed is of the table."""
    from epgfn.gflownet.measure.structure_chains import Chains, run

    found = run(Chains(table, max_parents), seed)
    return found.edges, found.apart


def require_agreement(drawn: Drawn, summary: Mapping[str, Any], name: str) -> None:
    """The probabilities of the summary `name`, and its error where that is known, are those of the model.

    Raises:
        Failed: they are not, or nobody could have worked them out.
    """
    from epgfn.learn.best_target import FEW_SAMPLES

    given = _by_question(summary)
    basis = summary.get("probabilities_from")
    if basis == "samples":
        _require_near(given, MARGINAL_SAMPLES, drawn.shares, DRAWS, name)
    elif basis == "exact" and drawn.exact is not None:
        worst = _worst(given, drawn.exact)
        require(worst[1] <= drawn.rounding, _differs(name, worst[0], given, drawn.exact))
    elif basis in ("weighted", "exact") and drawn.effective:
        _require_weighted(given, drawn.effective * MARGINAL_SAMPLES / DRAWS, drawn, summary, name)
    elif basis == "chains" and drawn.chains is not None:
        _require_chains(given, drawn.chains, _figure(summary, "chains_apart"), name)
    elif basis in ELSEWHERE and (basis != "chains" or not drawn.compelled):
        moved = _figure(summary, ELSEWHERE[basis])
        require(moved is not None, f"{name} does not say how far its probabilities are from the model's own")
        _require_near(given, FEW_SAMPLES, drawn.shares, DRAWS, name, moved or 0.0)
    else:
        require(False, f"{name} says that its probabilities are {basis!a}, which this model cannot give")
    _require_error(drawn, summary, name)
    _require_compelled(drawn, summary, name)
    _require_top(drawn, summary, name)
    _require_statistic(drawn, summary, name)


def _require_statistic(drawn: Drawn, summary: Mapping[str, Any], name: str) -> None:
    """A statistic of all records, of which effects are made, is what the model was made of, too."""
    parameters = (
        summary["diagnostics"].get("parameters") if isinstance(summary.get("diagnostics"), dict) else None
    )
    statistic = parameters.get("statistic") if isinstance(parameters, dict) else None
    if statistic is not None:
        sound = isinstance(statistic, dict) and drawn.made_of is not None and drawn.made_of(statistic)
        require(sound, f"{name} holds a statistic of all records that its model was not made of")


def _require_weighted(
    given: Mapping[str, float], m: float, drawn: Drawn, summary: Mapping[str, Any], name: str
) -> None:
    """Weighted averages over `m` objects, effectively, are the auditor's; where his weights do not hold, what is exact; and else what his
    Markov chains say, from which those of a coordinator that publishes weighted averages differ little."""
    from epgfn.gflownet.measure.trust import LARGEST_ERROR, LEAST_SAMPLES

    if drawn.weighted is not None:
        _require_near(given, m, drawn.weighted, drawn.effective, name, WEIGHTED_SLACK)
        return
    m = max(m, LEAST_SAMPLES)  # with fewer nobody publishes weighted averages
    if drawn.exact is not None:
        _require_near(given, m, drawn.exact, math.inf, name, LARGEST_ERROR)
    elif drawn.chains is not None:
        _require_chains(given, drawn.chains, _figure(summary, "chains_apart") or 0.0, name, m, LARGEST_ERROR)


def _require_chains(
    given: Mapping[str, float],
    chains: Callable[[], tuple[Tensor, float]],
    said: float | None,
    name: str,
    rows: float = math.inf,
    slack: float = 0.0,
) -> None:
    """Probabilities of the coordinator's Markov chains, which it says are `said` apart, or shares among `rows` graphs, are those of the
    auditor's, as far as both agree among themselves."""
    from epgfn.gflownet.measure.trust import CHAINS_AGREE

    require(said is not None, f"{name} does not say how far its Markov chains are apart")
    edges, apart = chains()
    v = len(edges)
    order = [(i, j) for i in range(v) for j in range(v) if i != j]
    found = {edge: float(edges[i, j]) for edge, (i, j) in zip(given, order, strict=True)}
    most = min(said or 0.0, CHAINS_AGREE) + apart + WEIGHTED_SLACK + slack
    _require_near(given, rows, found, math.inf, name, most)


def _require_compelled(drawn: Drawn, summary: Mapping[str, Any], name: str) -> None:
    """Edges that the summary says are compelled are so as often as the model has it, among graphs on the basis of the probabilities.

    What rests on the nodes' own models is only held against the edges, which it may not exceed.
    """
    from epgfn.learn.best_target import FEW_SAMPLES

    told, basis = compelled_of(summary), summary.get("probabilities_from")
    if basis == "exact" and "exact" not in drawn.compelled:
        basis = "weighted"
    if told is None or basis not in drawn.compelled:
        return
    given, found = _by_question(summary), drawn.compelled[str(basis)].tolist()
    order = [(i, j) for i in range(len(found)) for j in range(len(found)) if i != j]
    said = {f"{edge} compelled": told[i][j] for edge, (i, j) in zip(given, order, strict=True)}
    expected = {
        f"{edge} compelled": p * found[i][j] for (edge, p), (i, j) in zip(given.items(), order, strict=True)
    }
    weighted = basis == "weighted"
    n = drawn.effective if weighted else DRAWS
    m = FEW_SAMPLES if basis == "samples" else n
    _require_near(said, m, expected, n, name, WEIGHTED_SLACK if weighted else 0.0)


def _require_top(drawn: Drawn, summary: Mapping[str, Any], name: str) -> None:
    """What the summary calls the most probable objects is as probable by the model, no further off than it says."""
    said = top_of(summary)
    if not said:
        return
    moved = _figure(summary, "exact_largest_error")
    require(moved is not None, f"{name} does not say how far its probabilities are from the model's own")
    found = {text: drawn.texts.get(text, 0.0) for text in said}
    _require_near(said, MARGINAL_SAMPLES, found, DRAWS, name, moved or 0.0)


def require_sampled(
    drawn: Drawn,
    counts: Mapping[str, int],
    shares: Mapping[str, float] | None,
    summary: Mapping[str, Any] | None,
    name: str,
) -> None:
    """The samples `name`, `counts` by text, come from where the summary says: of the model's own the share of each edge, or of what shows
    most often, is the model's; of those drawn from what its score table says, they are what that says.

    Raises:
        Failed: they do not.
    """
    rows = sum(counts.values())
    basis = "samples" if summary is None else summary.get(SAMPLES_FROM, "samples")
    if basis != "samples":
        known = shares is not None and summary is not None and basis == summary.get("probabilities_from")
        require(known, f"{name} is said to hold objects from {basis!a}, which the probabilities are not from")
        _require_drawn(drawn, rows, shares or {}, str(basis), summary or {}, name)
        return
    if shares is not None:
        _require_near(shares, rows, drawn.shares, DRAWS, name)
        return
    found = {text: count / rows for text, count in counts.items()}
    often = {
        text
        for of in (found, drawn.texts)
        for text in sorted(of, key=lambda text: (-of[text], text))[:MOST_FREQUENT]
    }
    one, other = ({text: of.get(text, 0.0) for text in often} for of in (found, drawn.texts))
    _require_near(one, rows, other, DRAWS, name)


def _require_drawn(
    drawn: Drawn,
    rows: int,
    shares: Mapping[str, float],
    basis: str,
    summary: Mapping[str, Any],
    name: str,
) -> None:
    """Shares of edges among `rows` graphs are what the model's score table says, as far as the auditor can work that out."""
    if basis == "exact" and drawn.exact is not None:
        _require_near(shares, rows, drawn.exact, math.inf, name, drawn.rounding)
    elif basis in ("exact", "weighted") and drawn.effective:
        m = rows if basis == "exact" else min(rows, drawn.effective)
        _require_weighted(shares, m, drawn, summary, name)
    elif basis == "chains" and drawn.chains is not None:
        # Graphs of one chain are a little alike, so that they count for fewer than there are.
        _require_chains(shares, drawn.chains, _figure(summary, "chains_apart"), name, rows / 2)
    else:
        require(False, f"{name} is said to hold objects from {basis!a}, which this model cannot give")


def _require_error(drawn: Drawn, summary: Mapping[str, Any], name: str) -> None:
    """What the summary says of the model's largest error is its error, where that can be worked out again."""
    said = _figure(summary, "exact_largest_error")
    if said is None or drawn.exact is None:
        return
    _, error = _worst(drawn.shares, drawn.exact)
    noise = max(_noise(p, MARGINAL_SAMPLES, p, DRAWS, len(drawn.exact)) for p in drawn.shares.values())
    require(
        abs(said - error) <= noise + drawn.rounding,
        f"{name} says that the model is off by {said:.3f} at most; it is off by {error:.3f}",
    )


def _figure(summary: Mapping[str, Any], key: str) -> float | None:
    """What the summary says of the model's trustworthiness under `key`; None where it says no such number."""
    diagnostics = summary.get("diagnostics")
    trust = diagnostics.get("trust") if isinstance(diagnostics, dict) else None
    said = trust.get(key) if isinstance(trust, dict) else None
    return float(said) if isinstance(said, int | float) and 0 <= said <= 1 else None


def _no_reward(state: Any) -> Tensor:
    """Of a model that carries no scores: its samples are taken as they are."""
    import torch

    return torch.zeros(len(state[0]), dtype=torch.float64)


def _edge_shares(counts: Mapping[str, int], study: Study) -> dict[str, float]:
    """Of the graphs in `counts`, the share that has each edge."""
    import torch

    from epgfn.study.objects import space_of

    names = study.variable_names
    graphs = adjacency(list(counts), names, study.space.max_parents)
    rules = space_of(study).rules
    if rules is not None and not bool(rules.admits(graphs).all()):
        raise ValueError("a graph that the study's [prior] rules out")
    weight = torch.tensor(list(counts.values()), dtype=torch.float64)
    shares = torch.einsum("b,bij->ij", weight / weight.sum(), graphs.double()).tolist()
    return {f"{a}->{b}": shares[i][j] for i, a in enumerate(names) for j, b in enumerate(names) if i != j}


def _by_question(summary: Mapping[str, Any]) -> dict[str, float]:
    """The probabilities of a summary by the names of `epgfn.study.objects.questions`."""
    pairs = probabilities_of(summary).items()
    return {name if isinstance(name, str) else "->".join(name): p for name, p in pairs}


def _require_near(
    one: Mapping[str, float], m: float, other: Mapping[str, float], n: float, name: str, slack: float = 0.0
) -> None:
    """Shares among `m` and among `n` objects differ by no more than chance."""
    questions = {**one, **other}
    for question in questions:
        p, q = one.get(question, 0.0), other.get(question, 0.0)
        require(
            abs(p - q) <= _noise(p, m, q, n, len(questions)) + slack, _differs(name, question, one, other)
        )


def _noise(p: float, m: float, q: float, n: float, questions: int) -> float:
    """Bernstein's bound on |p - q|, shares among `m` and `n` objects of one probability, of any of so many `questions`; of infinitely many
    objects a share is the probability."""
    if math.isinf(m):
        return 0.0 if math.isinf(n) else _noise(q, n, p, m, questions)
    chance = math.log(2 * questions / FALSE_ALARM)
    mean = min(max(q if math.isinf(n) else (m * p + n * q) / (m + n), 0.0), 1.0)
    each = 1 / m + 1 / n
    return math.sqrt(2 * chance * mean * (1 - mean) * each) + chance * each


def _worst(one: Mapping[str, float], other: Mapping[str, float]) -> tuple[str, float]:
    """The question where they differ most, and by how much."""
    differences = {name: abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in {**one, **other}}
    name = max(differences, key=lambda found: differences[found])
    return name, differences[name]


def _differs(name: str, question: str, one: Mapping[str, float], other: Mapping[str, float]) -> str:
    return (
        f"{name} does not say what the signed model says: {question!a} has {one.get(question, 0.0):.3f} there, and "
        f"{other.get(question, 0.0):.3f} by the model"
    )
